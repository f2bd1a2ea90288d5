"""Trial of a PyTorch checkpoint before PyTorch opens it: how much it unpacks to, and how much its pickles ask for."""

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from vitruvian.assets import limits
from vitruvian.assets.borders import border
from vitruvian.assets.pickles import check_pickle
from vitruvian.errors import WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE_BYTES = 16 * limits.MEGABYTE


def check_torch_file(path: Path) -> None:
    """Refuse a checkpoint that would take more memory or time than an honest one.

    `torch.load(weights_only=True)` executes nothing, but it unpacks whatever is packed, allocates whatever a file from
    before version 1.6 declares, and follows nested keys without end.

    Raises:
        WeightsError: the file is missing, too large, or no checkpoint.
    """
    what = "a PyTorch checkpoint"
    with (
        limits.open_file(path, WeightsError, limit=limits.MAX_WEIGHTS_BYTES, what=what) as stream,
        border(WeightsError, path, what=what),
    ):
        is_zip = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        if is_zip:
            _check_archive(stream, path.name)
        else:
            _check_legacy(stream, path)


def _check_archive(stream: BinaryIO, name: str) -> None:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise WeightsError(f"{name} is packed, which PyTorch does not do", expected="a file of torch.save")
        size = sum(member.file_size for member in members)
        limits.check_array_bytes(size, WeightsError, limit=limits.MAX_WEIGHTS_BYTES, name=name)
        pickles = [member for member in members if member.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
            raise WeightsError(f"{name} is no PyTorch checkpoint", seen=f"{len(pickles)} pickles in it")
        check_pickle(io.BytesIO(archive.read(pickles[0])), error=WeightsError, name=name)


def _check_legacy(stream: BinaryIO, path: Path) -> None:
    """Magic number, version, system, content, keys: five pickles, then the numbers (PyTorch before 1.6)."""
    if check_pickle(stream, error=WeightsError, name=path.name).value != _LEGACY_MAGIC:
        raise WeightsError(f"{path.name} is no PyTorch checkpoint")
    storages: dict[str, int] = {}
    for _ in range(4):
        for reference in check_pickle(stream, error=WeightsError, name=path.name).references:
            storages[_key(reference)] = int(reference[4])
    numbers = sum(storages.values())
    if min(storages.values(), default=0) < 0 or numbers > path.stat().st_size:
        raise WeightsError(f"{path.name} declares more numbers than it holds", seen=f"{numbers:,}")


def _key(reference: Any) -> str:
    """Name of a storage in `("storage", type, key, device, number of elements, ...)`."""
    if not isinstance(reference, tuple) or len(reference) < 5 or not isinstance(reference[2], str):
        raise ValueError("a reference that is no storage")
    return reference[2]
