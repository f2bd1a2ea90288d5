"""Find everyone in a photograph, fit them, and lay the bodies over the photograph.

python examples/fit_photograph.py photo.jpg overlay.png
"""

import sys

from PIL import Image

import vitruvian as vt
from vitruvian.view.render import overlay


def main(photo: str, picture: str) -> None:
    image = vt.read_image(photo)
    people = vt.detect(image)
    body = vt.open_body()
    fits = vt.fit(body, people)
    meshes = fits[fits.usable].pose(body).mesh()
    camera = image.camera().resize(width=image.pixels.shape[1], height=image.pixels.shape[0])
    Image.fromarray(overlay(image.pixels, meshes, camera)).save(picture)
    print(f"{len(fits)} people: {', '.join(fits.status)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
