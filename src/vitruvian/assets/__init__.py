"""Files from outside the package: where they lie, whether they are whole, and what is in them; never executed."""

from vitruvian.assets.arrays import file_digest, packaged_arrays, read_arrays, read_plain_arrays
from vitruvian.assets.borders import border
from vitruvian.assets.pickle_records import numeric_array
from vitruvian.assets.pickles import read_pickle
from vitruvian.assets.registry import AddedFile, added_files, find_added, home, register
from vitruvian.assets.sources import OPEN_BODY_LICENCE, SOURCES, ModelSource

__all__ = [
    "OPEN_BODY_LICENCE",
    "SOURCES",
    "AddedFile",
    "ModelSource",
    "added_files",
    "border",
    "file_digest",
    "find_added",
    "home",
    "numeric_array",
    "packaged_arrays",
    "read_arrays",
    "read_pickle",
    "read_plain_arrays",
    "register",
]
