"""The colour of a body in pictures, viewers and files, by its gender."""

from collections.abc import Mapping
from types import MappingProxyType

BODY_COLOURS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"neutral": (0.60, 0.74, 0.90), "female": (0.78, 0.77, 0.75), "male": (0.78, 0.77, 0.75)}
)
"""sRGB, 0-1: a neutral body is blue, a gendered one grey."""


def body_colour(gender: str) -> tuple[float, float, float]:
    """Colour of a body; that of the neutral one where the gender is another word."""
    return BODY_COLOURS.get(gender, BODY_COLOURS["neutral"])
