"""Make the picture of the README from what `vitruvian demo` wrote: python docs/make_demo_image.py out."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vitruvian.apps.demo import RENDERED, sample_photograph
from vitruvian.view.drawing import jpeg_bytes, side_by_side

HEIGHT = 420


def main(out: str) -> None:
    overlays = Path(out) / "overlays"
    rendered, photograph = Path(RENDERED).stem, sample_photograph().stem
    files = [
        sample_photograph(),
        overlays / f"{photograph}.png",
        Path(out) / "photos" / RENDERED,
        overlays / f"{rendered}.png",
        overlays / f"{rendered}_side.png",
    ]
    pictures = []
    for file in files:
        with Image.open(file) as image:
            size = (round(image.width * HEIGHT / image.height), HEIGHT)
            pictures.append(np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)))
    target = Path(__file__).parent / "images" / "demo.jpg"
    target.write_bytes(jpeg_bytes(side_by_side(pictures), quality=88))


if __name__ == "__main__":
    main(*sys.argv[1:])
