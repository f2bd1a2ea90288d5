"""Face landmarks on the surface: 51 that stay on their triangles and 17 of the contour that move with head yaw."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton
from vitruvian.tensors import TensorRecord

MAX_YAW_DEG = 39


@dataclass(frozen=True, eq=False)
class FaceLandmarks(TensorRecord):
    """Corners `(…, 3)` of the triangles that carry the landmarks, and barycentric coordinates in them.

    `contour_corners (79, 17, 3)` has one row per degree of yaw: rows 0 to 39 for the head turned by 0 to 39 degrees
    to one side, rows 40 to 78 for 1 to 39 degrees to the other; None where the family has no contour.
    """

    corners: Int[Tensor, "landmark 3"]
    barycentric: Float[Tensor, "landmark 3"]
    contour_corners: Int[Tensor, "79 17 3"] | None = None
    contour_barycentric: Float[Tensor, "79 17 3"] | None = None

    @staticmethod
    def from_faces(
        faces: Int[Tensor, "face 3"],
        face_ids: Int[Tensor, "landmark"],
        barycentric: Float[Tensor, "landmark 3"],
        contour_face_ids: Int[Tensor, "79 17"] | None = None,
        contour_barycentric: Float[Tensor, "79 17 3"] | None = None,
    ) -> "FaceLandmarks":
        """Build from the keys `lmk_faces_idx`, `lmk_bary_coords`, `dynamic_lmk_*` of the model files."""
        return FaceLandmarks(
            faces[face_ids],
            barycentric,
            None if contour_face_ids is None else faces[contour_face_ids],
            contour_barycentric,
        )

    @cached_property
    @torch.inference_mode(False)
    def _vertices_and_rows(self) -> tuple[Tensor, Tensor]:
        corners = self.corners.flatten()
        if self.contour_corners is not None:
            corners = torch.cat((corners, self.contour_corners.flatten()))
        return torch.unique(corners, return_inverse=True)

    @property
    def vertex_ids(self) -> Int[Tensor, "vertex"]:
        """The vertices that `place` needs."""
        return self._vertices_and_rows[0]

    def place(
        self,
        vertices: Float[Tensor, "*batch vertex 3"],
        rotations: Float[Tensor, "*#batch joint 3 3"],
        skeleton: Skeleton,
    ) -> Float[Tensor, "*batch landmark 3"]:
        """Landmarks, inner then contour, from the positions of `vertex_ids` and the local rotations of all joints."""
        rows = self._vertices_and_rows[1]
        inner = rows[: self.corners.numel()].view(-1, 3)
        points = (vertices[..., inner, :] * self.barycentric[..., None]).sum(-2)
        if self.contour_corners is None or self.contour_barycentric is None:
            return points
        row = contour_row(rotations, skeleton)
        batch = torch.broadcast_shapes(vertices.shape[:-2], row.shape)
        corner_rows = rows[self.corners.numel() :].view(self.contour_corners.shape)[row]  # (*batch, 17, 3)
        index = corner_rows.flatten(-2)[..., None].expand(*batch, -1, 3)
        corners = torch.gather(vertices.expand(*batch, *vertices.shape[-2:]), -2, index).unflatten(-2, (-1, 3))
        contour = (corners * self.contour_barycentric[row][..., None]).sum(-2)
        return torch.cat((points.expand(*batch, *points.shape[-2:]), contour), dim=-2)


def contour_row(rotations: Float[Tensor, "*batch joint 3 3"], skeleton: Skeleton) -> Int[Tensor, "*batch"]:
    """Row of the contour tables for the yaw of the head against the pelvis, clamped to 39 degrees.

    A head turned to the person's right (negative angle about y) reads rows 0 to 39, to the left rows 40 to 78.
    """
    head = "head" if "head" in skeleton.names else "neck"
    chain = skeleton.chains[skeleton.index(head)][1:]
    relative = rotations[..., chain[0], :, :]
    for joint in chain[1:]:
        relative = relative @ rotations[..., joint, :, :]
    sin = -relative[..., 2, 0]
    cos = torch.sqrt(relative[..., 0, 0] ** 2 + relative[..., 1, 0] ** 2)
    degrees = torch.round(-torch.atan2(sin, cos) * 180 / math.pi).nan_to_num(0)
    degrees = degrees.clamp(-MAX_YAW_DEG, MAX_YAW_DEG).long()
    return torch.where(degrees >= 0, degrees, MAX_YAW_DEG - degrees)
