"""Fit the people of an OpenPose file and export them.

python examples/fit_keypoints.py people_keypoints.json 1920 1080 out
"""

import sys
from pathlib import Path

import vitruvian as vt


def main(keypoint_file: str, width: str, height: str, out: str) -> None:
    body = vt.open_body()
    people = vt.read_keypoints(keypoint_file)
    camera = vt.Camera.from_image_size(float(width), float(height))
    fits = vt.fit(body, people, camera)
    for person, fit in enumerate(fits):
        print(f"person {person}: {fit.status}, {float(fit.reprojection_px):.1f} px")
    fits.save(Path(out) / "fits.npz")
    vt.export(fits, Path(out) / "people.glb")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
