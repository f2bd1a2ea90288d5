"""Checkpoints of ProHMR as published, mapped strictly onto our image network, with a report of every tensor.

A checkpoint holds the tensors of a training module under `backbone` (the residual network), `flow` (a conditional Glow
in the layout of the nflows library), `fc_head` (shape and camera), `discriminator`, and those of the SMPL model, which
belong to that model's file and are passed over. Written from what is publicly known of names and layers; the
correspondence of the layers was measured with random weights.

The maps, ours = f(theirs): ActNorm y = exp(a) x + b becomes (x − m) exp(−s) with s = −a, m = −b exp(−a); the diagonal
of U is softplus(u) + 10⁻³; the coupling adds t where ours subtracts, so its last layer is negated; its first layer is
split into the parts that read features and context.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vitruvian.assets.torch_files import differences, listed, read_state_dict
from vitruvian.errors import WeightsError
from vitruvian.recovery.encoders.resnet import load_torchvision
from vitruvian.recovery.image_critic import ImageCritic
from vitruvian.recovery.image_network import ImageNetwork, ImageNetworkConfig

DIAGONAL_EPS = 1e-3
_FLOW = re.compile(r"^flow\.(?:flow\.)?_transform\._transforms\.")
_HEAD = re.compile(r"^(?:flow\.)?fc_head\.")
_CRITIC = re.compile(r"^discriminator\.")
_BACKBONE = re.compile(r"^backbone\.")
_IGNORED = re.compile(r"^smpl\.|^initialized$|^backbone\.fc\.|^flow\.(?:flow\.)?_distribution\.")
"""The body model, marks that training has begun, the classifier of ImageNet, buffers of the base distribution."""

_MASK = re.compile(r"(\d+)\.(identity|transform)_features")
_HEAD_LAYERS = {"layers.0": "enter", "layers.2": "leave"}
_HEAD_MEANS = {"init_betas": "mean_betas", "init_cam": "mean_camera"}
_CRITIC_LAYERS = {
    "D_conv1": "embed.0", "D_conv2": "embed.2", "betas_fc1": "shape.0", "betas_fc2": "shape.2", "betas_out": "shape.4",
    "D_alljoints_fc1": "whole.0", "D_alljoints_fc2": "whole.2", "D_alljoints_out": "whole.4",
}  # fmt: skip


@dataclass(frozen=True)
class PublishedReport:
    """What was found in a published checkpoint.

    Args:
        file: the checkpoint.
        read: number of tensors that were used, by part: backbone, flow, fc_head, discriminator.
        ignored: names that no network needs.
        problems: what is missing, left over, or of another shape; empty where everything fits.
    """

    file: Path
    read: Mapping[str, int]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every tensor is there, with the right shape, and none is left over."""
        return not self.problems

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {count}" for part, count in self.read.items())
        return f"{self.file.name}: tensors read: {parts}; ignored: {len(self.ignored)}; " + (
            "everything fits" if self.fits else listed(self.problems, limit=20)
        )


@dataclass(frozen=True)
class PublishedNetwork:
    """The network of a published checkpoint in evaluation mode, its discriminator if it holds one, and the report."""

    network: ImageNetwork
    critic: ImageCritic | None
    report: PublishedReport


def read_published(path: Path | str, *, config: ImageNetworkConfig | None = None) -> PublishedNetwork:
    """Read a checkpoint of ProHMR.

    Args:
        path: the file.
        config: sizes of the network, the published ones if None.

    Raises:
        WeightsError: no readable checkpoint, or tensors that differ from the published layout; all are listed.
        UnsafeFileError: the file holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError("the checkpoint does not exist", seen=path)
    tensors = {name.removeprefix("model."): tensor for name, tensor in read_state_dict(path).items()}
    parts, ignored, problems = _by_part(tensors)
    if not parts["backbone"] or not parts["flow"]:
        raise WeightsError(
            "the file holds no ProHMR network",
            seen=", ".join(list(tensors)[:6]),
            expected="names that begin with backbone, flow, fc_head",
        )
    network = ImageNetwork(config or ImageNetworkConfig())
    network.to(dtype=next(t.dtype for t in parts["flow"].values() if t.is_floating_point()))
    problems += _fill(network, "flow", parts["flow"])
    problems += _fill(network, "fc_head", parts["fc_head"])
    problems += _fill_backbone(network, parts["backbone"])
    critic = ImageCritic(num_joints=network.config.num_joints - 1, num_shape=network.config.num_shape)
    critic.to(dtype=next(network.flow.parameters()).dtype)
    if parts["discriminator"]:
        problems += _load(critic, parts["discriminator"], _critic_names(critic), "discriminator")
    report = PublishedReport(path, {name: len(found) for name, found in parts.items()}, ignored, tuple(problems))
    if not report.fits:
        raise WeightsError(
            "the file is no ProHMR checkpoint as published",
            seen=listed(report.problems),
            expected="the tensors of the published layout",
            hint=str(path),
        )
    trained = critic.eval().requires_grad_(False) if parts["discriminator"] else None
    return PublishedNetwork(network.eval().requires_grad_(False), trained, report)


def _by_part(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], tuple[str, ...], list[str]]:
    """Tensors by part, without the part's prefix; the ignored names; names of no known part as problems."""
    patterns = {"backbone": _BACKBONE, "flow": _FLOW, "fc_head": _HEAD, "discriminator": _CRITIC}
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in patterns}
    ignored, problems = [], []
    for name, tensor in tensors.items():
        if _IGNORED.match(name) or name.endswith(".initialized"):
            ignored.append(name)
            continue
        for part, pattern in patterns.items():
            if pattern.match(name):
                parts[part][pattern.sub("", name)] = tensor
                break
        else:
            problems.append(f"unexpected {name}")
    return parts, tuple(ignored), problems


def _fill(network: ImageNetwork, part: str, given: dict[str, Tensor]) -> list[str]:
    if part == "fc_head":
        names = {f"{theirs}.{t}": f"{ours}.{t}" for theirs, ours in _HEAD_LAYERS.items() for t in ("weight", "bias")}
        shaped = {n: t.flatten() if n in _HEAD_MEANS else t for n, t in given.items()}
        return _load(network.head, shaped, names | _HEAD_MEANS, part, kept=("shape_std",))
    given, problems = _without_masks(given, network.config.flow.num_features)
    expected = _published_flow_shapes(network)
    problems += [f"flow: {problem}" for problem in differences(expected, given)]
    if not problems:
        own = network.flow.state_dict()
        mapped = flow_from_published(given, network.config.flow.num_layers)
        network.flow.load_state_dict({name: mapped.get(name, own[name]).to(own[name].dtype) for name in own})
    return problems


def _without_masks(given: dict[str, Tensor], size: int) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the rows that each coupling passes and shifts, and those rows that are not as published."""
    problems = []
    for name, rows in given.items():
        found = _MASK.fullmatch(name)
        if found:
            first = (int(found[1]) // 3 + (found[2] == "transform")) % 2
            if rows.tolist() != list(range(first, size, 2)):
                problems.append(f"flow: rows of {name}")
    return {name: tensor for name, tensor in given.items() if not _MASK.fullmatch(name)}, problems


def _fill_backbone(network: ImageNetwork, given: dict[str, Tensor]) -> list[str]:
    try:
        load_torchvision(network.encoder, given)  # type: ignore[arg-type]
    except WeightsError as error:
        return [f"backbone: {error.seen}"]
    return []


def _load(
    module: torch.nn.Module,
    given: Mapping[str, Tensor],
    names: Mapping[str, str],
    part: str,
    *,
    kept: Iterable[str] = (),
) -> list[str]:
    """Fill a module under other names; problems in the names of the checkpoint."""
    own = module.state_dict()
    theirs = {ours: name for name, ours in names.items()}
    expected = {theirs[name]: tensor for name, tensor in own.items() if name not in kept}
    problems = [f"{part}: {problem}" for problem in differences(expected, given)]
    if not problems:
        module.load_state_dict(own | {names[name]: tensor for name, tensor in given.items()})
    return problems


def _critic_names(critic: ImageCritic) -> dict[str, str]:
    names = {f"{theirs}.{t}": f"{ours}.{t}" for theirs, ours in _CRITIC_LAYERS.items() for t in ("weight", "bias")}
    joints = range(critic.num_joints)
    return names | {f"pose_out.{j}.{t}": f"joints.{j}.{t}" for j in joints for t in ("weight", "bias")}


def _published_flow_shapes(network: ImageNetwork) -> dict[str, Tensor]:
    """Tensors of the published shapes (without storage) under the published names."""
    config = network.config.flow
    size, hidden = config.num_features, config.hidden
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(config.num_layers):
        norm, linear, net = (f"{3 * layer + k}." for k in range(3))
        shapes |= {f"{norm}log_scale": (size,), f"{norm}shift": (size,)}
        triangle = (size * (size - 1) // 2,)
        shapes |= {f"{linear}lower_entries": triangle, f"{linear}upper_entries": triangle}
        shapes |= {f"{linear}unconstrained_upper_diag": (size,), f"{linear}bias": (size,)}
        passed = (size + 1 - layer % 2) // 2
        net += "transform_net."
        shapes[f"{net}initial_layer.weight"] = (hidden, passed + config.context_features)
        shapes[f"{net}initial_layer.bias"] = (hidden,)
        for block in range(config.num_blocks):
            for k in range(2):
                shapes[f"{net}blocks.{block}.linear_layers.{k}.weight"] = (hidden, hidden)
                shapes[f"{net}blocks.{block}.linear_layers.{k}.bias"] = (hidden,)
                for name in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{net}blocks.{block}.batch_norm_layers.{k}.{name}"] = (hidden,)
                shapes[f"{net}blocks.{block}.batch_norm_layers.{k}.num_batches_tracked"] = ()
        shapes[f"{net}final_layer.weight"] = (size - passed, hidden)
        shapes[f"{net}final_layer.bias"] = (size - passed,)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def flow_from_published(given: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """State of our flow from the tensors of the published one, named by their place in the list of transforms."""
    state: dict[str, Tensor] = {}
    for layer in range(num_layers):
        norm, linear, coupling = (f"{3 * layer + k}." for k in range(3))
        ours_norm, ours_linear, ours_net = (f"layers.{3 * layer + k}." for k in range(3))
        scale, shift = given[norm + "log_scale"], given[norm + "shift"]
        state |= {f"{ours_norm}log_scale": -scale, f"{ours_norm}shift": -shift * torch.exp(-scale)}
        state[f"{ours_norm}started"] = torch.tensor(True)
        diagonal = F.softplus(given[linear + "unconstrained_upper_diag"]) + DIAGONAL_EPS
        size = len(diagonal)
        lower, upper = diagonal.new_zeros(size, size), diagonal.new_zeros(size, size)
        rows, columns = torch.tril_indices(size, size, -1)
        lower[rows, columns] = given[linear + "lower_entries"]
        rows, columns = torch.triu_indices(size, size, 1)
        upper[rows, columns] = given[linear + "upper_entries"]
        state |= {f"{ours_linear}lower": lower, f"{ours_linear}upper": upper}
        state |= {f"{ours_linear}log_diagonal": diagonal.log(), f"{ours_linear}bias": given[linear + "bias"]}
        passed = (size + 1 - layer % 2) // 2
        state |= _coupling_from_published(given, coupling + "transform_net.", ours_net + "network.", passed)
    return state


def _coupling_from_published(given: Mapping[str, Tensor], theirs: str, ours: str, passed: int) -> dict[str, Tensor]:
    first = given[theirs + "initial_layer.weight"]
    state = {
        f"{ours}enter.weight": first[:, :passed],
        f"{ours}from_context.weight": first[:, passed:],
        f"{ours}enter.bias": given[theirs + "initial_layer.bias"],
        f"{ours}leave.weight": -given[theirs + "final_layer.weight"],
        f"{ours}leave.bias": -given[theirs + "final_layer.bias"],
    }
    layers = {"linear_layers.0": "first", "linear_layers.1": "second"}
    layers |= {f"batch_norm_layers.{k}": f"norms.{k}" for k in range(2)}
    for name, tensor in given.items():
        found = re.fullmatch(re.escape(theirs) + r"blocks\.(\d+)\.(\w+\.\d)\.(\w+)", name)
        if found:
            state[f"{ours}blocks.{found[1]}.{layers[found[2]]}.{found[3]}"] = tensor
    return state
