"""Motion capture archives of a few clips, cut out of the shared ones, so that tests build a data set in seconds."""

import zipfile
from pathlib import Path

MEMBERS = {
    "cmu_asf_amc_30hz.zip": ("02/02.asf", "02/02_05.amc", "09/09.asf", "09/09_01.amc", "14/14.asf", "14/14_24.amc"),
    "cmu_bvh_30hz.zip": ("35/35_01.bvh", "35/35_17.bvh", "13/13_09.bvh"),
    "cmu_expmap_30hz.zip": ("train/running/running_1.txt",),
}


def write_small_archives(shared_data: Path, folder: Path) -> Path:
    """Archives of the same names and layout with only `MEMBERS`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in MEMBERS.items():
        with zipfile.ZipFile(shared_data / name) as source, zipfile.ZipFile(folder / name, "w") as target:
            for member in members:
                target.writestr(member, source.read(member))
    return folder
