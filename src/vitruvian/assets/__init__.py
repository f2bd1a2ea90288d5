"""Files from outside the package: where they lie, whether they are whole, and what is in them; never executed."""

from vitruvian.assets.arrays import file_digest, read_arrays
from vitruvian.assets.pickles import read_pickle
from vitruvian.assets.registry import AddedFile, added_files, find_added, home, register
from vitruvian.assets.sources import SOURCES, ModelSource

__all__ = [
    "SOURCES",
    "AddedFile",
    "ModelSource",
    "added_files",
    "file_digest",
    "find_added",
    "home",
    "read_arrays",
    "read_pickle",
    "register",
]
