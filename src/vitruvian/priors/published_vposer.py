"""Reader of the two published VPoser checkpoint folders: a settings file, and a PyTorch state dict under snapshots/.

Written from what is publicly known of the files: the names of the tensors. No code of theirs is needed or read, and no
pickle is executed (assets/torch_files.py).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vitruvian.assets import border, limits
from vitruvian.assets.torch_files import read_state_dict
from vitruvian.errors import WeightsError
from vitruvian.priors.vposer import VPoser, VPoserSettings

# Layer of the published network → layer of `VPoser`. "V02_05" wraps the network as `vp_model` in a training module.
_SECOND_VERSION = {
    "encoder_net.1": "encoder.0", "encoder_net.2": "encoder.1", "encoder_net.4": "encoder.3",
    "encoder_net.6": "encoder.5", "encoder_net.7": "encoder.6", "encoder_net.8.mu": "mean",
    "encoder_net.8.logvar": "log_scale", "decoder_net.0": "decoder.0", "decoder_net.3": "decoder.3",
    "decoder_net.5": "decoder.5",
}  # fmt: skip
_FIRST_VERSION = {
    "bodyprior_enc_bn1": "encoder.0", "bodyprior_enc_fc1": "encoder.1", "bodyprior_enc_bn2": "encoder.3",
    "bodyprior_enc_fc2": "encoder.5", "bodyprior_enc_mu": "mean", "bodyprior_enc_logvar": "log_scale",
    "bodyprior_dec_fc1": "decoder.0", "bodyprior_dec_fc2": "decoder.3", "bodyprior_dec_out": "decoder.5",
}  # fmt: skip
_WRAPPER = "vp_model."
_TRAINING_ONLY = ("bm_train.",)


@dataclass(frozen=True)
class CheckpointReport:
    """What was found in a published folder.

    Args:
        version: "first" (vposer_v1_0) or "second" (V02_05).
        weights: the file of tensors.
        settings: the file of settings; None where there is none.
        missing: names of the layout that the file lacks.
        unexpected: names in the file that the layout lacks.
        different: names whose shape is not the one of the layout, with both shapes.
        ignored: names that only training needed.
    """

    version: str
    weights: Path
    settings: Path | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every tensor is there, with the right shape, and none is left over."""
        return not (self.missing or self.unexpected or self.different)


@dataclass(frozen=True)
class PublishedVPoser:
    """A network read from a published folder, in evaluation mode, and the report."""

    vposer: VPoser
    report: CheckpointReport


def read_published_vposer(folder: Path | str) -> PublishedVPoser:
    """Read "vposer_v1_0" or "V02_05" as users have downloaded them.

    Args:
        folder: the unpacked folder; or the file of tensors itself.

    Raises:
        WeightsError: nothing readable is there, or the tensors differ from the layout (all differences are listed).
        UnsafeFileError: the file of tensors holds anything but tensors and plain values.
    """
    folder = Path(folder)
    with border(WeightsError, folder, what="a published VPoser"):
        return _read(folder)


def _read(folder: Path) -> PublishedVPoser:
    weights = _find_weights(folder)
    tensors = read_state_dict(weights)
    version, names = _version(tensors, weights)
    unwrapped, ignored = _unwrapped(tensors)
    settings_file = _find_settings(folder) if folder.is_dir() else None
    settings = _settings(version, unwrapped, settings_file)
    network = VPoser(settings)
    own = network.state_dict()
    expected = {_theirs(name, names): name for name in own}
    different = tuple(
        f"{theirs}: {tuple(unwrapped[theirs].shape)} instead of {tuple(own[ours].shape)}"
        for theirs, ours in expected.items()
        if theirs in unwrapped and unwrapped[theirs].shape != own[ours].shape
    )
    # Old files may lack the counters of batch normalisation; evaluation does not use them.
    missing = tuple(n for n in expected if n not in unwrapped and not n.endswith("num_batches_tracked"))
    unexpected = tuple(name for name in unwrapped if name not in expected)
    report = CheckpointReport(version, weights, settings_file, missing, unexpected, different, ignored)
    if not report.fits:
        raise WeightsError(
            f"the file is no {version} version VPoser as published",
            seen=_difference(report),
            expected="the tensors of the published layout",
            hint=str(weights),
        )
    odd = [theirs for theirs in expected if theirs in unwrapped and not unwrapped[theirs].isfinite().all()]
    if odd:
        raise WeightsError(f"{weights.name} holds values that are not finite", seen="; ".join(odd))
    filled = {ours: unwrapped.get(theirs, own[ours]).to(own[ours].dtype) for theirs, ours in expected.items()}
    network.load_state_dict(filled)
    return PublishedVPoser(network.eval().requires_grad_(False), report)


def _difference(report: CheckpointReport) -> str:
    parts = [f"missing {name}" for name in report.missing] + [f"unexpected {name}" for name in report.unexpected]
    return "; ".join(parts + list(report.different))


def _find_weights(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError("VPoser folder not found", seen=path)
    found = sorted(file for pattern in ("*.ckpt", "*.pt") for file in (path / "snapshots").glob(pattern))
    if not found:
        raise WeightsError("VPoser folder without a snapshot", seen=path, expected="snapshots/*.ckpt or snapshots/*.pt")
    # Names end in an epoch or a loss; the last by modification is the one that training ended with.
    return max(found, key=lambda file: (file.stat().st_mtime, file.name))


def _find_settings(folder: Path) -> Path | None:
    found = sorted(file for pattern in ("*.yaml", "*.yml", "*.ini") for file in folder.glob(pattern))
    return found[0] if found else None


def _unwrapped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    ignored = tuple(name for name in tensors if name.startswith(_TRAINING_ONLY))
    kept = {name.removeprefix(_WRAPPER): tensor for name, tensor in tensors.items() if name not in ignored}
    return kept, ignored


def _version(tensors: dict[str, Tensor], path: Path) -> tuple[str, dict[str, str]]:
    names = [name.removeprefix(_WRAPPER) for name in tensors]
    if any(name.startswith(("encoder_net.", "decoder_net.")) for name in names):
        return "second", _SECOND_VERSION
    if any(name.startswith("bodyprior_") for name in names):
        return "first", _FIRST_VERSION
    raise WeightsError(
        "the tensors are of neither published VPoser",
        seen=", ".join(names[:6]),
        expected="names that begin with encoder_net, or with bodyprior_",
        hint=str(path),
    )


def _theirs(own_name: str, names: dict[str, str]) -> str:
    layer, _, tensor = own_name.rpartition(".")
    by_own = {own: theirs for theirs, own in names.items()}
    return f"{by_own[layer]}.{tensor}"


def _settings(version: str, tensors: dict[str, Tensor], path: Path | None) -> VPoserSettings:
    """Sizes from the settings file where it states them, else from the tensors; so a contradiction shows as shapes."""
    stated = _stated_sizes(path)
    first, out, latent = (
        ("encoder_net.2.weight", "decoder_net.5.weight", "decoder_net.0.weight")
        if version == "second"
        else ("bodyprior_enc_fc1.weight", "bodyprior_dec_out.weight", "bodyprior_dec_fc1.weight")
    )
    absent = [name for name in (first, out, latent) if name not in tensors or tensors[name].dim() != 2]
    if absent:
        raise WeightsError("the VPoser checkpoint lacks layers", seen=f"missing {'; missing '.join(absent)}")
    num_joints = tensors[out].shape[0] // 6
    hidden = stated.get("num_neurons", tensors[first].shape[0])
    # A tensor may declare any shape over one number; a network of that shape would have to be made.
    largest = max(hidden, num_joints, stated.get("latentD", 0), tensors[latent].shape[1])
    if largest > limits.MAX_LAYER_SIZE // 2:
        raise WeightsError("the layers are larger than those of any VPoser", seen=largest)
    return VPoserSettings(
        num_joints=num_joints,
        latent=stated.get("latentD", tensors[latent].shape[1]),
        hidden=hidden,
        decoder_hidden=hidden,
        # Whether the first version takes 3 or 9 numbers a joint is not documented; its first layer tells.
        features="matrix" if tensors[first].shape[1] == 9 * num_joints else "axis-angle",
        second_layer="linear" if version == "second" else "activation",
        negative_slope=0.01 if version == "second" else 0.2,
    )


def _stated_sizes(path: Path | None) -> dict[str, int]:
    if path is None:
        return {}
    content = limits.read_bytes(path, WeightsError, limit=limits.MEGABYTE, what="a settings file")
    text = content.decode("utf-8", errors="replace")
    found = re.findall(r"^[ \t]*(latentD|num_neurons)[ \t]*[:=][ \t]*(\d{1,9})[ \t\r]*$", text, flags=re.MULTILINE)
    return {name: int(number) for name, number in found}
