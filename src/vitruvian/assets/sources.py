"""What is known of each licensed model family: its licence, and where a user gets the files."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSource:
    """Where the files of a family come from.

    Attributes:
        title: the family's own name.
        site: the official project page, on which one registers and accepts the licence.
        licence: what the licence allows, in a few words.
        files: names under which the files are distributed.
    """

    title: str
    site: str
    licence: str
    files: tuple[str, ...]

    def hint(self, family: str) -> str:
        """What to do to have this family."""
        return (
            f"register at {self.site}, accept the licence ({self.licence}), download for example {self.files[0]}, "
            f"then run `vitruvian body add FILE`; `--body open` needs no file instead of {family}"
        )


OPEN_BODY_LICENCE = "CC0 1.0 (public domain): the open body of vitruvian, learnt from MakeHuman data"
"""Of the files of the open body, and of every file that is made of them."""

_MPI = "non-commercial research, from the Max Planck Society"

SOURCES: Mapping[str, ModelSource] = {
    "smpl": ModelSource(
        "SMPL",
        "smpl.is.tue.mpg.de",
        _MPI,
        ("SMPL_NEUTRAL.pkl", "basicmodel_f_lbs_10_207_0_v1.1.0.pkl", "basicmodel_m_lbs_10_207_0_v1.1.0.pkl"),
    ),
    "smplh": ModelSource("SMPL+H", "mano.is.tue.mpg.de", _MPI, ("neutral/model.npz", "SMPLH_FEMALE.pkl")),
    "smplx": ModelSource(
        "SMPL-X", "smpl-x.is.tue.mpg.de", _MPI, ("SMPLX_NEUTRAL.npz", "SMPLX_FEMALE.npz", "SMPLX_MALE.npz")
    ),
    "mano": ModelSource("MANO", "mano.is.tue.mpg.de", _MPI, ("MANO_RIGHT.pkl", "MANO_LEFT.pkl")),
    "flame": ModelSource(
        "FLAME",
        "flame.is.tue.mpg.de",
        f"{_MPI}; some releases are freer, see the page",
        ("FLAME_NEUTRAL.pkl", "generic_model.pkl", "flame2023.pkl"),
    ),
}
