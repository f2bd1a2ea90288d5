"""One body model in stages for every family: BodyModel → ShapedBody → PosedBody → mesh."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.points import SkinnedPoints, skin_points
from vitruvian.bodies.skeletons import Skeleton
from vitruvian.bodies.skinning import blend_skin, forward_kinematics, pose_features
from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.meshes import Mesh
from vitruvian.tensors import TensorRecord, row_product, without_autocast


@dataclass(frozen=True, eq=False)
class HandBases(TensorRecord):
    """Mean and principal components of the 15 finger rotations of each hand, axis-angle in radians (MANO)."""

    left_mean: Float[Tensor, "45"]
    left_components: Float[Tensor, "left_component 45"]
    right_mean: Float[Tensor, "45"]
    right_components: Float[Tensor, "right_component 45"]


@dataclass(frozen=True, eq=False)
class BodyModel(TensorRecord):
    """A statistical body model, M(β, θ, ψ) = W(T̄ + B_S(β) + B_E(ψ) + B_P(θ), J(β, ψ), θ, 𝒲) (SMPL-X, eq. 1-2).

    Families (SMPL, SMPL+H, SMPL-X, MANO, FLAME, the open body) differ only in these data. Joints are linear in shape
    and expression, so they cost no mesh.
    """

    family: str
    gender: str
    skeleton: Skeleton
    template: Float[Tensor, "vertex 3"]
    shape_dirs: Float[Tensor, "vertex 3 shape"]
    expression_dirs: Float[Tensor, "vertex 3 expression"]
    correctives: PoseCorrectives | None
    joint_template: Float[Tensor, "joint 3"]
    joint_shape_dirs: Float[Tensor, "joint 3 shape"]
    joint_expression_dirs: Float[Tensor, "joint 3 expression"]
    joint_regressor: Float[Tensor, "joint vertex"]
    skinning_weights: Float[Tensor, "vertex joint"]
    faces: Int[Tensor, "face 3"]
    hands: HandBases | None = None
    face_landmarks: FaceLandmarks | None = None
    vertex_ids: Mapping[str, int] = field(default_factory=dict)
    """Vertices on the surface that are keypoints, by name (`nose`, `left_big_toe`, `right_index_tip`, ...)."""
    part_names: tuple[str, ...] = ()
    vertex_parts: Int[Tensor, "vertex"] | None = None
    """Row in `part_names` of the body part that each vertex belongs to."""
    uv: Float[Tensor, "corner 2"] | None = None
    uv_faces: Int[Tensor, "face 3"] | None = None
    digest: str = ""
    """First characters of the SHA-256 of the file that the model came from."""
    licence: str = ""
    """What the file says of its own licence; empty for official files, whose licence is that of their family."""

    @property
    def num_vertices(self) -> int:
        return self.template.shape[0]

    @property
    def num_joints(self) -> int:
        return len(self.skeleton)

    @property
    def num_shape(self) -> int:
        return self.shape_dirs.shape[-1]

    @property
    def num_expression(self) -> int:
        return self.expression_dirs.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return self.template.dtype

    @property
    def device(self) -> torch.device:
        return self.template.device

    @without_autocast
    def with_shape(
        self,
        betas: Float[Tensor, "*#batch shape"] | None = None,
        expression: Float[Tensor, "*#batch expression"] | None = None,
    ) -> "ShapedBody":
        """Choose the person: shape and expression coefficients in standard deviations.

        Fewer coefficients than the model has leave the rest at zero; None leaves all at zero.

        Raises:
            ShapeError: more coefficients than the model has.
        """
        betas = self._coefficients(betas, self.num_shape, "shape")
        expression = self._coefficients(expression, self.num_expression, "expression")
        joints = self.joint_template
        for values, dirs in ((betas, self.joint_shape_dirs), (expression, self.joint_expression_dirs)):
            count = values.shape[-1]
            if count:
                joints = joints + row_product(values, dirs[..., :count].reshape(-1, count).T).unflatten(-1, (-1, 3))
        return ShapedBody(self, betas, expression, joints)

    def pose(self, params: BodyParams) -> "PosedBody":
        """The body with these parameters; the same as `with_shape` followed by `with_pose`."""
        return self.with_shape(params.betas, params.expression).with_pose(params.rotations, params.transl)

    def points(self, vertex_ids: Int[Tensor, "point"]) -> SkinnedPoints:
        """Precompute what `PosedBody.points` needs to follow these vertices without the mesh."""
        num_points = len(vertex_ids)
        combination = torch.sparse_coo_tensor(
            torch.stack((torch.arange(num_points, device=self.device), vertex_ids.to(self.device))),
            torch.ones(num_points, dtype=self.dtype, device=self.device),
            (num_points, self.num_vertices),
            check_invariants=True,
        )
        return self.regressed_points(combination)

    def regressed_points(
        self,
        vertex_weights: Tensor,
        joint_weights: Float[Tensor, "point joint"] | None = None,
    ) -> SkinnedPoints:
        """Precompute points that are linear combinations of vertices and of joints, to be followed without the mesh.

        Args:
            vertex_weights: `(K, V)`, sparse COO (or dense), weight of each vertex in each point.
            joint_weights: `(K, J)`, weight of each joint in each point. The weights of a point should sum to one.
        """
        return skin_points(self, vertex_weights, joint_weights)

    @cached_property
    @torch.inference_mode(False)
    def landmark_points(self) -> SkinnedPoints:
        """The vertices that the face landmarks need, precomputed; families without landmarks raise InputError."""
        if self.face_landmarks is None:
            raise InputError(f"the {self.family} model has no face landmarks")
        return self.points(self.face_landmarks.vertex_ids)

    def _coefficients(self, values: Tensor | None, available: int, name: str) -> Tensor:
        if values is None:
            return self.template.new_zeros(0)
        if values.shape[-1] > available:
            raise ShapeError(
                f"too many {name} coefficients for this {self.family} model",
                seen=values.shape[-1],
                expected=f"at most {available}",
            )
        return values


@dataclass(frozen=True, eq=False)
class ShapedBody(TensorRecord):
    """A person of chosen shape and expression, not yet posed; what was left out has no batch axes of its own."""

    model: BodyModel
    betas: Float[Tensor, "*#batch shape"]
    expression: Float[Tensor, "*#batch expression"]
    joints: Float[Tensor, "*batch joint 3"]

    @cached_property
    @without_autocast
    def vertices(self) -> Float[Tensor, "*batch vertex 3"]:
        """Vertices in the rest pose, without pose correctives."""
        model = self.model
        rest = model.template
        for coefficients, dirs in ((self.betas, model.shape_dirs), (self.expression, model.expression_dirs)):
            count = coefficients.shape[-1]
            if count:
                flat = row_product(coefficients, dirs[..., :count].reshape(-1, count).T)
                rest = rest + flat.view(*coefficients.shape[:-1], *model.template.shape)
        return rest

    def expand(self, *batch: int) -> "ShapedBody":
        """The same person or people for a larger batch."""
        betas, expression = (x.expand(*batch, x.shape[-1]) for x in (self.betas, self.expression))
        return ShapedBody(self.model, betas, expression, self.joints.expand(*batch, *self.joints.shape[-2:]))

    def __getitem__(self, index: Any) -> "ShapedBody":
        """Some people of the batch."""
        full = self.expand(*self.joints.shape[:-2])
        return ShapedBody(self.model, full.betas[index], full.expression[index], full.joints[index])

    def mesh(self) -> Mesh:
        """The mesh in the rest pose."""
        return Mesh(self.vertices, self.model.faces)

    def with_pose(
        self,
        rotations: Float[Tensor, "*#batch joint 3 3"] | None = None,
        transl: Float[Tensor, "*#batch 3"] | None = None,
    ) -> "PosedBody":
        """Pose the body: local rotation matrices of all joints, root first, and a translation added after skinning.

        Raises:
            ShapeError: the number of rotations is not the number of joints of the family.
        """
        skeleton = self.model.skeleton
        if rotations is None:
            rotations = torch.eye(3, dtype=self.joints.dtype, device=self.joints.device).expand(len(skeleton), 3, 3)
        if rotations.shape[-3:] != (len(skeleton), 3, 3):
            raise ShapeError(
                "rotations do not match the skeleton",
                seen=tuple(rotations.shape),
                expected=f"(..., {len(skeleton)}, 3, 3) matrices for {self.model.family}",
                hint="vitruvian.geometry.rotations converts axis-angle, 6D and quaternions to matrices",
            )
        G, joints = forward_kinematics(skeleton, rotations, self.joints, transl)
        return PosedBody(self, rotations, transl, G, joints)


@dataclass(frozen=True, eq=False)
class PosedBody(TensorRecord):
    """A posed person. Joints are there at once; points and mesh are made when asked for.

    `world_rotations` and `joints` are the world rotation G_j and position t_j of every joint.
    """

    shaped: ShapedBody
    rotations: Float[Tensor, "*#batch joint 3 3"]
    transl: Float[Tensor, "*#batch 3"] | None
    world_rotations: Float[Tensor, "*batch joint 3 3"]
    joints: Float[Tensor, "*batch joint 3"]

    @property
    def model(self) -> BodyModel:
        return self.shaped.model

    @cached_property
    @without_autocast
    def vertices(self) -> Float[Tensor, "*batch vertex 3"]:
        """All vertices of the posed mesh, in metres."""
        shaped = self.shaped
        rest = shaped.vertices
        if self.model.correctives is not None:
            rest = rest + self.model.correctives.offsets(pose_features(self.rotations))
        return blend_skin(rest, self.model.skinning_weights, self.world_rotations, self.joints, shaped.joints)

    def mesh(self) -> Mesh:
        """The posed mesh, pose correctives included."""
        return Mesh(self.vertices, self.model.faces)

    def points(self, points: SkinnedPoints | Int[Tensor, "point"]) -> Float[Tensor, "*batch point 3"]:
        """Chosen points of the surface, without the mesh.

        `points` are vertex ids, or (faster when used again) what `BodyModel.points` or `regressed_points` made of them.
        """
        if isinstance(points, Tensor):
            points = self.model.points(points)
        features = pose_features(self.rotations) if points.pose_dirs is not None else None
        return points.place(self.world_rotations, self.joints, self.shaped.betas, self.shaped.expression, features)

    def landmarks(self) -> Float[Tensor, "*batch landmark 3"]:
        """Face landmarks: the 51 inner ones in the order of the 68-point face, then the 17 of the contour.

        The contour follows the yaw of the head against the trunk (SMPL-X). Families without landmarks raise InputError.
        """
        vertices = self.points(self.model.landmark_points)
        assert self.model.face_landmarks is not None
        return self.model.face_landmarks.place(vertices, self.rotations, self.model.skeleton)

    def __getitem__(self, index: Any) -> "PosedBody":
        """Some people of the batch."""
        batch = self.joints.shape[:-2]
        transl = None if self.transl is None else self.transl.expand(*batch, 3)[index]
        return PosedBody(
            self.shaped.expand(*batch)[index],
            self.rotations.expand(*batch, *self.rotations.shape[-3:])[index],
            transl,
            self.world_rotations[index],
            self.joints[index],
        )
