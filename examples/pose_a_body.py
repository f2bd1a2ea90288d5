"""Shape and pose the open body by hand, follow two points of its surface, and draw it.

python examples/pose_a_body.py body.png
"""

import math
import sys

import torch
from PIL import Image

import vitruvian as vt
from vitruvian.geometry.rotations import axis_angle_to_matrix
from vitruvian.view.render import turned_view


def main(picture: str) -> None:
    body = vt.open_body(gender="female")
    pose = torch.zeros(body.num_joints, 3)
    pose[body.skeleton.index("pelvis")] = torch.tensor([math.pi, 0.0, 0.0])  # upright before a camera, whose y is down
    pose[body.skeleton.index("left_shoulder")] = torch.tensor([0.0, 0.0, -1.1])
    pose[body.skeleton.index("right_elbow")] = torch.tensor([0.0, 1.4, 0.0])
    posed = body.with_shape(torch.tensor([1.0, -0.5])).with_pose(axis_angle_to_matrix(pose))
    names = ("nose", "left_heel")
    points = posed.points(torch.tensor([body.vertex_ids[name] for name in names]))
    for name, point in zip(names, points.tolist(), strict=True):
        print(name, [round(x, 3) for x in point])
    Image.fromarray(turned_view(posed.mesh(), angle_deg=-30, size=(480, 640), colors="female")).save(picture)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
