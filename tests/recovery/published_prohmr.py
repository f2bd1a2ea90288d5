"""Checkpoints in the layout of ProHMR with random values, and a slow network that computes what their names say."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vitruvian.recovery.encoders.resnet import resnet50
from vitruvian.recovery.image_network import PUBLISHED_FLOW, ImageNetworkConfig

WIDTH, CONTEXT, SIZE, HIDDEN = 2, 64, 144, 8
SMALL = ImageNetworkConfig(width=WIDTH, head_hidden=12, flow=replace(PUBLISHED_FLOW, hidden=HIDDEN))


def checkpoint(
    generator: torch.Generator, *, config: ImageNetworkConfig = SMALL, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """All tensors of a training module, with random values."""
    hidden, context = config.flow.hidden, config.flow.context_features

    def draw(*shape: int, spread: float = 0.3, mean: float = 0.0) -> Tensor:
        return mean + spread * torch.randn(shape, generator=generator, dtype=dtype)

    tensors: dict[str, Tensor] = {"initialized": torch.tensor(True), "smpl.v_template": draw(5, 3)}
    for name, tensor in resnet50(width=config.width).state_dict().items():
        if not tensor.is_floating_point():
            tensors[f"backbone.{name}"] = torch.tensor(3)
            continue
        value = draw(*tensor.shape, spread=0.1, mean=float(name.endswith("weight") and tensor.dim() == 1))
        tensors[f"backbone.{name}"] = value.square() + 0.5 if name.endswith("running_var") else value
    for layer in range(config.flow.num_layers):
        norm, linear, net = (f"flow.flow._transform._transforms.{3 * layer + k}." for k in range(3))
        net += "transform_net."
        passed = len(range(layer % 2, SIZE, 2))
        tensors |= {
            f"{norm}initialized": torch.tensor(True),
            f"{norm}log_scale": draw(SIZE),
            f"{norm}shift": draw(SIZE),
        }
        coupling = f"flow.flow._transform._transforms.{3 * layer + 2}."
        tensors[f"{coupling}identity_features"] = torch.arange(layer % 2, SIZE, 2)
        tensors[f"{coupling}transform_features"] = torch.arange(1 - layer % 2, SIZE, 2)
        triangle = SIZE * (SIZE - 1) // 2
        tensors |= {
            f"{linear}lower_entries": draw(triangle, spread=0.03),
            f"{linear}upper_entries": draw(triangle, spread=0.03),
        }
        tensors |= {f"{linear}unconstrained_upper_diag": draw(SIZE), f"{linear}bias": draw(SIZE)}
        tensors |= {
            f"{net}initial_layer.weight": draw(hidden, passed + context),
            f"{net}initial_layer.bias": draw(hidden),
        }
        for block in range(config.flow.num_blocks):
            for k in range(2):
                at = f"{net}blocks.{block}."
                tensors[f"{at}linear_layers.{k}.weight"] = draw(hidden, hidden)
                tensors[f"{at}linear_layers.{k}.bias"] = draw(hidden)
                tensors |= {
                    f"{at}batch_norm_layers.{k}.{n}": draw(hidden, mean=1.0) for n in ("weight", "bias", "running_mean")
                }
                tensors[f"{at}batch_norm_layers.{k}.running_var"] = draw(hidden).square() + 0.5
                tensors[f"{at}batch_norm_layers.{k}.num_batches_tracked"] = torch.tensor(9)
        tensors |= {
            f"{net}final_layer.weight": draw(SIZE - passed, hidden),
            f"{net}final_layer.bias": draw(SIZE - passed),
        }
    tensors |= {
        "flow.fc_head.layers.0.weight": draw(config.head_hidden, context),
        "flow.fc_head.layers.0.bias": draw(config.head_hidden),
    }
    tensors |= {"flow.fc_head.layers.2.weight": draw(13, config.head_hidden), "flow.fc_head.layers.2.bias": draw(13)}
    tensors |= {"flow.fc_head.init_betas": draw(1, 10), "flow.fc_head.init_cam": draw(1, 3, mean=0.9)}
    shapes = {
        "D_conv1": (32, 9, 1, 1),
        "D_conv2": (32, 32, 1, 1),
        "betas_fc1": (10, 10),
        "betas_fc2": (5, 10),
        "betas_out": (1, 5),
    }
    shapes |= {"D_alljoints_fc1": (1024, 736), "D_alljoints_fc2": (1024, 1024), "D_alljoints_out": (1, 1024)}
    shapes |= {f"pose_out.{j}": (1, 32) for j in range(23)}
    for name, shape in shapes.items():
        tensors |= {f"discriminator.{name}.weight": draw(*shape), f"discriminator.{name}.bias": draw(shape[0])}
    return tensors


class SlowFlow:
    """The published flow as its description says: ActNorm, LU-linear, additive coupling; data to latent and back."""

    def __init__(self, tensors: dict[str, Tensor], num_layers: int) -> None:
        self.tensors, self.num_layers = tensors, num_layers
        self.matrices = [self._matrix(3 * layer + 1) for layer in range(num_layers)]

    def _get(self, number: int, name: str) -> Tensor:
        return self.tensors[f"flow.flow._transform._transforms.{number}.{name}"]

    def shift(self, number: int, passed: Tensor, context: Tensor) -> Tensor:
        def linear(name: str, x: Tensor) -> Tensor:
            return x @ self._get(number, f"transform_net.{name}.weight").T + self._get(
                number, f"transform_net.{name}.bias"
            )

        def norm(name: str, x: Tensor) -> Tensor:
            weight, bias, mean, variance = (
                self._get(number, f"transform_net.{name}.{n}")
                for n in ("weight", "bias", "running_mean", "running_var")
            )
            return (x - mean) / (variance + 1e-3).sqrt() * weight + bias

        h = linear("initial_layer", torch.cat((passed, context), dim=-1))
        for block in range(2):
            inner = linear(f"blocks.{block}.linear_layers.0", F.relu(norm(f"blocks.{block}.batch_norm_layers.0", h)))
            inner = linear(
                f"blocks.{block}.linear_layers.1", F.relu(norm(f"blocks.{block}.batch_norm_layers.1", inner))
            )
            h = h + inner
        return linear("final_layer", h)

    def _matrix(self, number: int) -> Tensor:
        lower = torch.eye(SIZE, dtype=torch.float64)
        upper = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        below, above = iter(self._get(number, "lower_entries")), iter(self._get(number, "upper_entries"))
        diagonal = F.softplus(self._get(number, "unconstrained_upper_diag")) + 1e-3
        for i in range(SIZE):
            for j in range(SIZE):
                if j < i:
                    lower[i, j] = next(below)
                elif j > i:
                    upper[i, j] = next(above)
                else:
                    upper[i, j] = diagonal[i]
        return lower @ upper

    def to_latent(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Latent, and the log-determinant."""
        total = x.new_zeros(())
        for layer in range(self.num_layers):
            scale = self._get(3 * layer, "log_scale")
            x = x * scale.exp() + self._get(3 * layer, "shift")
            matrix = self.matrices[layer]
            x = x @ matrix.T + self._get(3 * layer + 1, "bias")
            total = total + scale.sum() + torch.linalg.slogdet(matrix).logabsdet
            mine, others = slice(layer % 2, None, 2), slice(1 - layer % 2, None, 2)
            moved = x.clone()
            moved[:, others] = x[:, others] + self.shift(3 * layer + 2, x[:, mine], context)
            x = moved
        return x, total

    def from_latent(self, z: Tensor, context: Tensor) -> Tensor:
        for layer in reversed(range(self.num_layers)):
            mine, others = slice(layer % 2, None, 2), slice(1 - layer % 2, None, 2)
            moved = z.clone()
            moved[:, others] = z[:, others] - self.shift(3 * layer + 2, z[:, mine], context)
            z = torch.linalg.solve(self.matrices[layer], (moved - self._get(3 * layer + 1, "bias")).T).T
            z = (z - self._get(3 * layer, "shift")) * (-self._get(3 * layer, "log_scale")).exp()
        return z


def slow_rotations(six_d: Tensor) -> Tensor:
    """`(batch, 144)` numbers to rotations, each joint's two columns one after the other, by Gram-Schmidt."""
    pairs = six_d.view(-1, 24, 2, 3)
    x = F.normalize(pairs[:, :, 0], dim=-1)
    y = F.normalize(pairs[:, :, 1] - (x * pairs[:, :, 1]).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), dim=-1)


def slow_head(tensors: dict[str, Tensor], context: Tensor) -> Tensor:
    """`(batch, 13)`: shape and camera."""
    get = {name.removeprefix("flow.fc_head."): t for name, t in tensors.items() if "fc_head" in name}
    offset = (
        F.relu(context @ get["layers.0.weight"].T + get["layers.0.bias"]) @ get["layers.2.weight"].T
        + get["layers.2.bias"]
    )
    return offset + torch.cat((get["init_betas"], get["init_cam"]), dim=-1)


def slow_scores(tensors: dict[str, Tensor], rotations: Tensor, betas: Tensor) -> Tensor:
    """`(batch, 25)`: outputs of the discriminator for `(batch, 23, 3, 3)` rotations."""
    get = {name.removeprefix("discriminator."): t for name, t in tensors.items() if name.startswith("discriminator.")}

    def layer(name: str, x: Tensor) -> Tensor:
        return x @ get[f"{name}.weight"].flatten(1).T + get[f"{name}.bias"]

    features = F.relu(layer("D_conv2", F.relu(layer("D_conv1", rotations.flatten(-2)))))  # (batch, 23, 32)
    joints = [layer(f"pose_out.{j}", features[:, j]) for j in range(23)]
    shape = layer("betas_out", F.relu(layer("betas_fc2", F.relu(layer("betas_fc1", betas)))))
    together = features.transpose(1, 2).flatten(1)  # feature by feature, as convolutions leave them
    whole = layer("D_alljoints_out", F.relu(layer("D_alljoints_fc2", F.relu(layer("D_alljoints_fc1", together)))))
    return torch.cat((*joints, shape, whole), dim=-1)
