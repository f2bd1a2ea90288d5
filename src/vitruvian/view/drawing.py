"""Keypoints drawn over a photograph, and pictures made small enough for a page."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vitruvian.keypoints.observations import Keypoints

GROUP_COLOURS = {
    "body": (255, 196, 61),
    "left_hand": (86, 204, 242),
    "right_hand": (242, 119, 170),
    "face": (168, 224, 99),
}


def draw_keypoints(
    image: UInt8[np.ndarray, "height width 3"], people: Keypoints, *, min_confidence: float = 0.1
) -> UInt8[np.ndarray, "height width 3"]:
    """The photograph with the seen keypoints of all people, joined by lines; fainter where confidence is low.

    Keypoints are in pixels of `image`.
    """
    height, width = image.shape[:2]
    canvas = Image.fromarray(image).convert("RGB")
    draw = ImageDraw.Draw(canvas, "RGBA")
    thickness = max(1, round(max(width, height) / 400))
    definition = people.definition
    colours = [(255, 255, 255)] * len(definition)
    for group, rows in definition.groups.items():
        for row in rows:
            colours[row] = GROUP_COLOURS.get(group, (255, 255, 255))
    positions = people.positions.reshape(-1, len(definition), 2).cpu().double().numpy()
    confidence = people.confidence.reshape(-1, len(definition)).cpu().double().numpy()
    for points, sure in zip(positions, confidence, strict=True):
        shown = (sure >= min_confidence) & np.isfinite(points).all(-1) & (np.abs(points) < 1e5).all(-1)
        alpha = (90 + 165 * sure.clip(0, 1)).astype(int)
        for a, b in definition.edges:
            if shown[a] and shown[b]:
                colour = (*colours[b], int(min(alpha[a], alpha[b])))
                draw.line([*points[a], *points[b]], fill=colour, width=thickness)
        for row in np.flatnonzero(shown):
            x, y = points[row]
            radius = thickness * (1.5 if row in definition.groups.get("body", ()) else 0.8)
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(*colours[row], int(alpha[row])))
    return np.asarray(canvas)


def fit_within(
    image: UInt8[np.ndarray, "height width channel"], longest: int
) -> UInt8[np.ndarray, "height width channel"]:
    """The picture made smaller, never larger, so that its longer side has at most `longest` pixels."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def jpeg_bytes(image: UInt8[np.ndarray, "height width 3"], *, quality: int = 85) -> bytes:
    """The picture as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def side_by_side(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]], *, gap: int = 6, background: int = 255
) -> UInt8[np.ndarray, "height width 3"]:
    """Pictures in one row, brought to the height of the first."""
    height = pictures[0].shape[0]
    tiles = []
    for picture in pictures:
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        if picture.shape[0] != height:
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
        tiles += [picture, np.full((height, gap, 3), background, dtype=np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)
