"""The latent of VPoser as a pose space of the fitting engine."""

from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.priors.pose_spaces import PoseEvaluation
from vitruvian.priors.vposer import BODY_POSE_JOINTS, VPoser, VPoserDecoder
from vitruvian.tensors import filled_up


class VPoserSpace:
    """The 21 body joints moved through the latent z of a VPoser; the prior on z is the unit Gaussian.

    Args:
        vposer: a trained network; its weights are copied as they are now.
        joints: rows of the skeleton that the network's joints are.
    """

    def __init__(self, vposer: VPoser, *, joints: tuple[int, ...] = BODY_POSE_JOINTS) -> None:
        self._vposer = vposer.eval()
        self._joints = joints
        self._decoders: dict[tuple[torch.dtype, torch.device], VPoserDecoder] = {}

    @property
    def joints(self) -> tuple[int, ...]:
        return self._joints

    @property
    def num_parameters(self) -> int:
        return self._vposer.settings.latent

    def _decoder(self, like: Tensor) -> VPoserDecoder:
        key = (like.dtype, like.device)
        if key not in self._decoders:
            weights = self._vposer.decoder_weights()
            self._decoders[key] = weights.to(dtype=like.dtype, device=like.device)
        return self._decoders[key]

    def select(self, index: Int[Tensor, "kept"]) -> Self:
        return self

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch D"]:
        """z = 0, the most probable pose."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def decode(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch k 3 3"]:
        return self._decoder(state).decode(state)

    def differential(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch three_k D"]:
        return self._decoder(state).decode_with_differential(state)[1]

    def evaluate(self, state: Float[Tensor, "batch D"], *, with_jacobian: bool = True) -> PoseEvaluation:
        if not with_jacobian:
            return PoseEvaluation(self.decode(state), None)
        return PoseEvaluation(*self._decoder(state).decode_with_differential(state))

    def retract(self, state: Float[Tensor, "batch D"], step: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state + step

    @torch.no_grad()
    def encode(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch D"]:
        """Mean of the encoder's distribution."""
        weights = next(self._vposer.parameters())
        mean = self._vposer.encode(filled_up(rotations.to(weights)))[0]
        return mean[: len(rotations)].to(rotations)

    def residual(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state

    def residual_jacobian(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D D"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        return identity.expand(state.shape[0], -1, -1)
