"""The numbers that a flow speaks of, and the rotations of joints that they mean: six a joint, or our chart."""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.rotations import matrix_to_six_d, six_d_to_matrix
from vitruvian.priors.six_d import six_d_differential
from vitruvian.recovery.chart import (
    CHART_SIZE,
    NUM_BODY,
    chart_differential,
    chart_from_rotations,
    rotations_from_chart,
    world_rotations,
)

CoordinatesName = Literal["six-d", "chart"]


@runtime_checkable
class PoseCoordinates(Protocol):
    """A parametrisation of the local rotations of some joints.

    `base` is a pose of each person by its local rotations, for coordinates that start from one.
    """

    @property
    def num_joints(self) -> int: ...

    @property
    def num_features(self) -> int: ...

    @property
    def needs_base(self) -> bool:
        """Whether the coordinates start from a base pose."""
        ...

    def rotations(
        self, features: Float[Tensor, "*batch D"], base: Float[Tensor, "*batch joint 3 3"] | None
    ) -> Float[Tensor, "*batch joint 3 3"]:
        """Local rotations of coordinates."""
        ...

    def features(
        self, rotations: Float[Tensor, "*batch joint 3 3"], base: Float[Tensor, "*batch joint 3 3"] | None
    ) -> Float[Tensor, "*batch D"]:
        """Coordinates of local rotations."""
        ...

    def differential(
        self,
        features: Float[Tensor, "*batch D"],
        base: Float[Tensor, "*batch joint 3 3"] | None,
        tangents: Float[Tensor, "*batch D direction"],
    ) -> Float[Tensor, "*batch three_joints direction"]:
        """Right perturbations of the local rotations for given derivatives of the coordinates."""
        ...


class SixD:
    """Six numbers a joint, the first two columns of its rotation one after the other, as ProHMR lays them out.

    The density of a flow over them is one over all pairs of columns, orthonormal or not; Gram-Schmidt makes rotations.

    Args:
        num_joints: 24 for SMPL.
    """

    needs_base = False

    def __init__(self, num_joints: int) -> None:
        self.num_joints = num_joints
        self.num_features = 6 * num_joints

    def rotations(self, features: Tensor, base: Tensor | None = None) -> Float[Tensor, "*batch joint 3 3"]:
        return six_d_to_matrix(self.by_rows(features))

    def features(self, rotations: Tensor, base: Tensor | None = None) -> Float[Tensor, "*batch D"]:
        return matrix_to_six_d(rotations).unflatten(-1, (3, 2)).transpose(-1, -2).flatten(-3)

    def differential(self, features: Tensor, base: Tensor | None, tangents: Tensor) -> Tensor:
        direction = tangents.shape[-1]
        rates = tangents.unflatten(-2, (self.num_joints, 2, 3)).transpose(-3, -2).flatten(-3, -2)
        return (six_d_differential(self.by_rows(features)) @ rates.view(*rates.shape[:-2], 6, direction)).flatten(
            -3, -2
        )

    def by_rows(self, features: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch joint 6"]:
        """The same numbers in the order of this project: the 3 × 2 matrix of the columns, row by row."""
        return features.unflatten(-1, (self.num_joints, 2, 3)).transpose(-1, -2).flatten(-2)


class Chart:
    """Turns of the 22 body bones about the camera's axes, away from a base pose (recovery/chart.py)."""

    needs_base = True
    num_joints = NUM_BODY
    num_features = CHART_SIZE

    def rotations(self, features: Tensor, base: Tensor | None) -> Float[Tensor, "*batch 22 3 3"]:
        return rotations_from_chart(features, self._world(base))

    def features(self, rotations: Tensor, base: Tensor | None) -> Float[Tensor, "*batch 66"]:
        return chart_from_rotations(rotations, self._world(base))

    def differential(self, features: Tensor, base: Tensor | None, tangents: Tensor) -> Tensor:
        world = self._world(base)
        return chart_differential(features, world, rotations_from_chart(features, world), tangents)

    @staticmethod
    def _world(base: Tensor | None) -> Float[Tensor, "*batch 22 3 3"]:
        assert base is not None
        with torch.autocast(base.device.type, enabled=False):
            return world_rotations(base)


def pose_coordinates(name: CoordinatesName, num_joints: int) -> PoseCoordinates:
    """The coordinates of a name; the chart always has the 22 body joints."""
    return SixD(num_joints) if name == "six-d" else Chart()
