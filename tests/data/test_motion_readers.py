"""Readers of BVH, ASF/AMC and exponential maps, on files written by the tests with known content."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vitruvian.data.motion import euler_to_matrix, forward_kinematics
from vitruvian.data.readers.asf_amc import read_amc, read_asf
from vitruvian.data.readers.bvh import read_bvh
from vitruvian.data.readers.cmu_expmap import read_cmu_expmap
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT Leg
  {
    OFFSET 0 -40 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -45 5
    }
  }
  JOINT Back
  {
    OFFSET 0 20 0
    CHANNELS 3 Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0 30 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.025
1 2 3 0 0 0 0 0 0 0 0 0
10 90 -5 90 0 0 0 90 0 10 20 30
"""

ASF = """:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name femur
     direction 0 -1 0
     length 10
     axis 0 0 20 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name tibia
     direction 0 -1 0
     length 8
     axis 0 90 0 XYZ
    dof rx
    limits (-10.0 170.0)
  end
:hierarchy
  begin
    root femur
    femur tibia
  end
"""
AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
femur 0 0 0
tibia 0
2
root 1 2 3 10 20 30
femur 40 50 60
tibia 90
"""


def turn(axis: str, degrees: float) -> torch.Tensor:
    return euler_to_matrix(torch.tensor([math.radians(degrees)], dtype=torch.float64), axis)


def test_euler_product_is_in_the_order_written() -> None:
    angles = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
    z, y, x = (
        exp_so3(a * torch.eye(3, dtype=torch.float64)["xyz".index(n)]) for a, n in zip(angles, "zyx", strict=True)
    )
    torch.testing.assert_close(euler_to_matrix(angles, "zyx"), z @ y @ x)


def test_bvh_channels_apply_in_file_order_and_units_convert(tmp_path: Path) -> None:
    path = tmp_path / "clip.bvh"
    path.write_text(BVH)
    motion = read_bvh(path)
    assert motion.names == ("Hips", "Leg", "Back")
    assert motion.parents == (-1, 0, 0)
    assert motion.frame_rate == pytest.approx(40)
    torch.testing.assert_close(motion.root_positions[1], torch.tensor([0.1, 0.9, -0.05], dtype=torch.float64))
    torch.testing.assert_close(motion.tips[1], torch.tensor([0.0, -0.45, 0.05], dtype=torch.float64))
    torch.testing.assert_close(motion.rotations[1, 2], turn("x", 10) @ turn("y", 20) @ turn("z", 30))
    _, positions = motion.world()
    # The hips turn by 90° about z, so the leg, which hung down, points to +x; its own turn by 90° moves its tip.
    torch.testing.assert_close(positions[1, 1], torch.tensor([0.5, 0.9, -0.05], dtype=torch.float64))
    rotations, _ = motion.world()
    tip = rotations[1, 1] @ motion.tips[1]
    torch.testing.assert_close(tip, torch.tensor([0.05, 0.0, -0.45], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "not a BVH"),
        (BVH.replace("30\n", ""), "cut short"),
        (BVH.replace("Frames: 2", "Frames: x"), "cannot be read"),
        (BVH.replace("Frames:", "Frame"), "frame count"),
        (BVH.replace("OFFSET 0 20 0", "OFSET 0 20 0"), "unexpected line"),
    ],
)
def test_broken_bvh_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "clip.bvh"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_bvh(path)


def test_acclaim_axes_and_units(tmp_path: Path) -> None:
    (tmp_path / "a.asf").write_text(ASF)
    (tmp_path / "a.amc").write_text(AMC)
    skeleton = read_asf(tmp_path / "a.asf")
    motion = read_amc(tmp_path / "a.amc", skeleton, frame_rate=30)
    unit = 0.0254 / 0.5
    assert motion.names == ("root", "femur", "tibia")
    torch.testing.assert_close(motion.root_positions[0], unit * torch.tensor([1.0, 2, 3], dtype=torch.float64))
    identity = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(motion.rotations[0], identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(motion.rotations[1, 0], turn("z", 30) @ turn("y", 20) @ turn("x", 10))
    # L = C · Rz Ry Rx · C⁻¹, C the frame of the bone.
    C = turn("z", 20)
    local = turn("z", 60) @ turn("y", 50) @ turn("x", 40)
    torch.testing.assert_close(motion.rotations[1, 1], C @ local @ C.T)
    # The tibia's own x axis lies along −z of the world, so its 90° turn there is about −z.
    torch.testing.assert_close(motion.rotations[1, 2], turn("z", -90), rtol=0, atol=1e-12)
    _, positions = motion.world()
    lengths = (positions[1, 2] - positions[1, 1]).norm()
    assert float(lengths) == pytest.approx(10 * unit)


def test_amc_of_another_skeleton_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.asf").write_text(ASF)
    skeleton = read_asf(tmp_path / "a.asf")
    for text, message in ((AMC.replace("tibia", "fibula"), "fibula"), (AMC.replace("tibia 90", "tibia 90 1"), "fit")):
        (tmp_path / "a.amc").write_text(text)
        with pytest.raises(InputError, match=message):
            read_amc(tmp_path / "a.amc", skeleton)
    (tmp_path / "b.asf").write_text(ASF.replace("length 10", "lenth 10"))
    with pytest.raises(InputError, match="ASF"):
        read_asf(tmp_path / "b.asf")
    with pytest.raises(InputError, match="not found"):
        read_asf(tmp_path / "none.asf")


def test_expmap_refuses_other_layouts(tmp_path: Path) -> None:
    (tmp_path / "a.asf").write_text(ASF)
    np.savetxt(tmp_path / "a.txt", np.zeros((2, 99)), delimiter=",")
    with pytest.raises(InputError, match="layout"):
        read_cmu_expmap(tmp_path / "a.txt", read_asf(tmp_path / "a.asf"))


def test_forward_kinematics_of_a_chain(generator: torch.Generator) -> None:
    rotations = exp_so3(torch.randn(2, 3, 3, generator=generator, dtype=torch.float64))
    offsets = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    root = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    turned, positions = forward_kinematics(rotations, offsets, (-1, 0, 1), root)
    R0, R1, R2 = rotations.unbind(1)
    torch.testing.assert_close(turned[:, 2], R0 @ R1 @ R2)
    torch.testing.assert_close(positions[:, 2], root + R0 @ offsets[1] + (R0 @ R1) @ offsets[2])
