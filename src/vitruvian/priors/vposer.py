"""VPoser: a variational autoencoder of body poses with a latent Gaussian of 32 numbers (SMPLify-X, section 3.3)."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.assets.weights import build_strictly, config_from, read_weights
from vitruvian.errors import WeightsError
from vitruvian.geometry.rotations import matrix_to_axis_angle, six_d_to_matrix
from vitruvian.priors.six_d import six_d_differential
from vitruvian.tensors import TensorRecord, row_product

BODY_POSE_JOINTS = tuple(range(1, 22))
"""Rows of the SMPL-X skeleton that VPoser describes: the body without the root."""


@dataclass(frozen=True)
class VPoserSettings:
    """Architecture of the autoencoder; the defaults are this project's."""

    num_joints: int = 21
    latent: int = 32
    hidden: int = 512
    """Width of the encoder's layers."""
    decoder_hidden: int = 256
    """Width of the decoder's layers; the differential, which a fit spends its time on, costs the square of this."""
    features: Literal["axis-angle", "matrix"] = "matrix"
    """What the encoder sees of each joint: 3 or 9 numbers."""
    second_layer: Literal["activation", "linear"] = "activation"
    """What follows the encoder's second layer: an activation, or a third linear layer (second published version)."""
    negative_slope: float = 0.2
    """Slope of the LeakyReLU below zero."""
    dropout: float = 0.1


@dataclass(frozen=True, eq=False)
class VPoserDecoder(TensorRecord):
    """Weights of the decoder: latent → hidden → hidden → 6 numbers a joint, LeakyReLU between."""

    weight1: Float[Tensor, "hidden latent"]
    bias1: Float[Tensor, "hidden"]
    weight2: Float[Tensor, "hidden hidden"]
    bias2: Float[Tensor, "hidden"]
    weight3: Float[Tensor, "six_k hidden"]
    bias3: Float[Tensor, "six_k"]
    negative_slope: float

    def six_d(self, z: Float[Tensor, "batch latent"]) -> tuple[Float[Tensor, "batch k 6"], Tensor, Tensor]:
        """Network output before it is made a rotation, and the two layers' activations before the LeakyReLU."""
        first = row_product(z, self.weight1.T) + self.bias1
        second = row_product(self._activate(first), self.weight2.T) + self.bias2
        out = row_product(self._activate(second), self.weight3.T) + self.bias3
        return out.unflatten(-1, (-1, 6)), first, second

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch k 3 3"]:
        """Rotations of a latent."""
        return six_d_to_matrix(self.six_d(z)[0])

    def decode_with_differential(
        self, z: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch k 3 3"], Float[Tensor, "batch three_k latent"]]:
        """Rotations, and their right perturbations per unit of each latent number, in closed form."""
        six_d, first, second = self.six_d(z)
        batch, latent = z.shape
        # Tangents with the hidden units first, so that the large product is one matrix multiplication.
        tangent = self._slopes(first).T[:, :, None] * self.weight1[:, None, :]
        tangent = (self.weight2 @ tangent.flatten(1)).view(-1, batch, latent)
        tangent = self._slopes(second).T[:, :, None] * tangent
        tangent = (self.weight3 @ tangent.flatten(1)).view(-1, 6, batch, latent).permute(2, 0, 1, 3)
        turns = six_d_differential(six_d) @ tangent
        return six_d_to_matrix(six_d), turns.flatten(1, 2)

    def _activate(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x, self.negative_slope)

    def _slopes(self, x: Tensor) -> Tensor:
        one = torch.ones((), dtype=x.dtype, device=x.device)
        return torch.where(x > 0, one, self.negative_slope * one)


class VPoser(nn.Module):
    """The autoencoder. Encoder and decoder have two hidden layers; the decoder's output is made rotations from 6D."""

    def __init__(self, settings: VPoserSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or VPoserSettings()
        num_inputs = s.num_joints * (3 if s.features == "axis-angle" else 9)
        tail = nn.LeakyReLU(s.negative_slope) if s.second_layer == "activation" else nn.Linear(s.hidden, s.hidden)
        self.encoder = nn.Sequential(
            nn.BatchNorm1d(num_inputs), nn.Linear(num_inputs, s.hidden), nn.LeakyReLU(s.negative_slope),
            nn.BatchNorm1d(s.hidden), nn.Dropout(s.dropout), nn.Linear(s.hidden, s.hidden), tail,
        )  # fmt: skip
        self.mean = nn.Linear(s.hidden, s.latent)
        self.log_scale = nn.Linear(s.hidden, s.latent)
        self.decoder = nn.Sequential(
            nn.Linear(s.latent, s.decoder_hidden), nn.LeakyReLU(s.negative_slope), nn.Dropout(s.dropout),
            nn.Linear(s.decoder_hidden, s.decoder_hidden), nn.LeakyReLU(s.negative_slope),
            nn.Linear(s.decoder_hidden, 6 * s.num_joints),
        )  # fmt: skip

    def encode(self, rotations: Float[Tensor, "batch k 3 3"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (batch, latent), of the latent of body poses."""
        matrix = self.settings.features == "matrix"
        features = rotations.flatten(1) if matrix else matrix_to_axis_angle(rotations).flatten(1)
        hidden = self.encoder(features)
        return self.mean(hidden), nn.functional.softplus(self.log_scale(hidden))

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch k 3 3"]:
        """Rotations of the body joints."""
        return six_d_to_matrix(self.decoder(z).unflatten(-1, (-1, 6)))

    def forward(
        self, rotations: Float[Tensor, "batch k 3 3"], noise: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch k 3 3"], Tensor, Tensor]:
        """Reconstruction from a latent drawn with standard normal `noise`; and the latent's mean and deviation."""
        mean, std = self.encode(rotations)
        return self.decode(mean + std * noise), mean, std

    def decoder_weights(self) -> VPoserDecoder:
        """The decoder's weights, detached, for fast evaluation with its differential."""
        first, second, third = (layer for layer in self.decoder if isinstance(layer, nn.Linear))
        return VPoserDecoder(
            first.weight, first.bias, second.weight, second.bias, third.weight, third.bias, self.settings.negative_slope
        ).detach()

    @classmethod
    @cache
    def learnt(cls) -> "VPoser":
        """The network trained by this project, for evaluation, float32, on the CPU (see resources/priors/card.md).

        Raises:
            WeightsError: where the package lacks the weights.
        """
        source = files("vitruvian") / "resources" / "priors" / "vposer.safetensors"
        if not source.is_file():
            raise WeightsError("the VPoser weights are missing from the installation", hint="reinstall vitruvian")
        with as_file(source) as path:
            return read_vposer(path)


def read_vposer(path: Path | str) -> VPoser:
    """Read a VPoser that `vitruvian train vposer` wrote, in evaluation mode.

    Raises:
        WeightsError: where the file is missing, or its tensors do not fit its settings.
    """
    weights = read_weights(path, hint="vitruvian train vposer")
    settings = config_from(VPoserSettings, weights.described("settings"), name=weights.name)
    return build_strictly(lambda: VPoser(settings), weights)


def settings_as_json(settings: VPoserSettings) -> str:
    """Settings in the form that weight files carry."""
    return json.dumps(asdict(settings))
