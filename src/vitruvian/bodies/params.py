"""Pose, shape, expression and place of people as one record, and its conversion at file borders."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import PoseBlock, Skeleton
from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class BodyParams(BatchRecord):
    """Parameters of people, all of the same batch shape.

    Attributes:
        rotations: local rotation matrices of all joints of a skeleton, root first.
        betas: shape coefficients in standard deviations.
        expression: expression coefficients in standard deviations.
        transl: translation in metres, added after skinning.
    """

    rotations: Float[Tensor, "*batch joint 3 3"]
    betas: Float[Tensor, "*batch shape"]
    expression: Float[Tensor, "*batch expression"]
    transl: Float[Tensor, "*batch 3"]

    @staticmethod
    def from_axis_angle_blocks(
        skeleton: Skeleton,
        *,
        betas: Float[Tensor, "*batch shape"] | None = None,
        expression: Float[Tensor, "*batch expression"] | None = None,
        transl: Float[Tensor, "*batch 3"] | None = None,
        **blocks: Float[Tensor, "..."],
    ) -> "BodyParams":
        """Build from the pose blocks of the skeleton by name, axis-angle in radians.

        A block of one joint (`global_orient`, `jaw_pose`) is `(*batch, 3)`; one of n joints (`body_pose`) is
        `(*batch, n, 3)` or flattened, `(*batch, 3n)`. Blocks left out are identity, coefficients left out are none,
        `transl` left out is zero. Batch shapes are equal, or empty for what all people share.

        Raises:
            InputError: a block that the skeleton does not have, or nothing but None.
            ShapeError: a block of the wrong size, or batch shapes that differ.
        """
        for name in blocks:
            skeleton.block(name)
        given = {name: _unflatten(skeleton.block(name), value) for name, value in blocks.items()}
        batches = {name: value.shape[:-2] for name, value in given.items()}
        for name, tensor in (("betas", betas), ("expression", expression), ("transl", transl)):
            if tensor is not None:
                batches[name] = tensor.shape[:-1]
        batch = _common_batch(batches)
        like = next((t for t in (*given.values(), betas, expression, transl) if t is not None), None)
        if like is None:
            raise InputError("no pose block and no coefficient is given", expected=_names(skeleton))
        parts = []
        for block in skeleton.blocks:
            axis_angle = given.get(block.name)
            if axis_angle is None:
                parts.append(_identity(like, (*batch, len(block))))
            else:
                parts.append(axis_angle_to_matrix(axis_angle).expand(*batch, len(block), 3, 3))
        return BodyParams(
            torch.cat(parts, dim=-3),
            _expanded(betas, batch, 0, like),
            _expanded(expression, batch, 0, like),
            _expanded(transl, batch, 3, like),
        )

    def axis_angle_blocks(self, skeleton: Skeleton) -> dict[str, Tensor]:
        """The pose blocks by name, axis-angle in radians: `(*batch, 3)` for one joint, else `(*batch, n, 3)`.

        Raises:
            ShapeError: the rotations are not those of this skeleton.
        """
        _check_joints(self.rotations, skeleton)
        out = {}
        for block in skeleton.blocks:
            axis_angle = matrix_to_axis_angle(self.rotations[..., block.start : block.stop, :, :])
            out[block.name] = axis_angle[..., 0, :] if len(block) == 1 else axis_angle
        return out

    def to_skeleton(self, source: Skeleton, target: Skeleton) -> "BodyParams":
        """The same pose for another family: joints of the same name keep their rotations, others are identity.

        Shape and expression are left out, because their coefficients mean something else in every family.

        Raises:
            InputError: the roots differ, as between a body and a hand.
        """
        if source == target:
            return self
        rotations = convert_rotations(self.rotations, source, target)
        none = rotations.new_zeros(*rotations.shape[:-3], 0)
        return BodyParams(rotations, none, none, self.transl)


def convert_rotations(
    rotations: Float[Tensor, "*batch source 3 3"], source: Skeleton, target: Skeleton
) -> Float[Tensor, "*batch target 3 3"]:
    """Rotations of the joints of `target`: those of the same name in `source`, identity for the rest.

    Raises:
        InputError: the roots differ, as between a body and a hand, so that the root's rotation means something else.
        ShapeError: the rotations are not those of `source`.
    """
    _check_joints(rotations, source)
    if source.names[0] != target.names[0]:
        raise InputError(
            "poses are converted between families of the same root only", seen=source.names[0], expected=target.names[0]
        )
    rows = [source.names.index(name) if name in source.names else -1 for name in target.names]
    padded = torch.cat((rotations, _identity(rotations, (*rotations.shape[:-3], 1))), dim=-3)
    return padded[..., [row if row >= 0 else len(source) for row in rows], :, :]


def _identity(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device).expand(*shape, 3, 3)


def _expanded(values: Tensor | None, batch: torch.Size, size: int, like: Tensor) -> Tensor:
    """The values for the whole batch; `size` zeros where there are none."""
    return like.new_zeros(*batch, size) if values is None else values.expand(*batch, values.shape[-1])


def _names(skeleton: Skeleton) -> str:
    return ", ".join(block.name for block in skeleton.blocks)


def _check_joints(rotations: Tensor, skeleton: Skeleton) -> None:
    if rotations.shape[-3:] != (len(skeleton), 3, 3):
        raise ShapeError(
            "rotations do not match the skeleton", seen=tuple(rotations.shape), expected=f"(..., {len(skeleton)}, 3, 3)"
        )


def _unflatten(block: PoseBlock, value: Tensor) -> Tensor:
    size = len(block)
    if size > 1 and value.shape[-2:] == (size, 3):
        return value
    if value.dim() and value.shape[-1] == 3 * size:
        return value.unflatten(-1, (size, 3))
    expected = "(*batch, 3)" if size == 1 else f"(*batch, {size}, 3) or (*batch, {3 * size})"
    raise ShapeError(f"{block.name} has the wrong shape", seen=tuple(value.shape), expected=expected)


def _common_batch(batches: dict[str, torch.Size]) -> torch.Size:
    sizes = {batch for batch in batches.values() if batch}
    if len(sizes) > 1:
        raise ShapeError(
            "the batch shapes differ",
            seen=", ".join(f"{name} {tuple(batch)}" for name, batch in batches.items()),
            expected="one batch shape, or none, for all",
        )
    return next(iter(sizes), torch.Size())
