"""The checker of annotations that the import hook of the tests puts on the functions of vitruvian."""

from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

HOUSES = (
    "geometry.rotations",
    "geometry.cameras",
    "geometry.meshes",
    "bodies",
    "keypoints",
    "priors",
    "flows",
    "flow_layers",
    "fitting",
    "recovery",
    "evaluation",
)
"""Where the mathematics of tensors is; elsewhere shapes are few, and checks would only cost time; and
what warp compiles cannot be wrapped."""

_checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is asked for is fine


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check functions that say something about shapes, except for methods with `Self`, which beartype refuses."""
    hints = [hint for annotation in function.__annotations__.values() for hint in _parts(annotation)]
    return _checker(function) if any(map(_is_array, hints)) and Self not in hints else function


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for argument in get_args(hint) for part in _parts(argument))]


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)
