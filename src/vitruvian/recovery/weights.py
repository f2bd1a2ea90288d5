"""The trained pose network that lies inside the package: reading it, and building the network it belongs to."""

import json
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vitruvian.errors import WeightsError
from vitruvian.flows import FlowConfig
from vitruvian.recovery.network import NetworkConfig, PoseNetwork
from vitruvian.recovery.views import feature_blocks

FLOW_FILE = "flow.safetensors"


def read_network(path: Path) -> PoseNetwork:
    """The network of a file that `vitruvian train flow` wrote, ready for use (float32, evaluation mode).

    Raises:
        WeightsError: no such file, a file of another kind, or tensors that do not fit the network it describes.
    """
    if not path.is_file():
        raise WeightsError("the weights of the pose network are missing", seen=path, hint="vitruvian train flow")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError("not a file of weights", seen=f"{path.name}: {error}", expected="safetensors") from error
    if "network" not in metadata:
        raise WeightsError("the file does not describe a pose network", seen=", ".join(metadata) or "no description")
    features = json.loads(metadata.get("features", "null"))
    if features != feature_blocks():
        raise WeightsError(
            "the network reads other inputs than this version of the package gives",
            seen=f"{path.name}: {features or 'inputs without names'}",
            expected=str(feature_blocks()),
            hint="vitruvian train flow --start FILE",
        )
    network = PoseNetwork(network_config(json.loads(metadata["network"])))
    wanted = network.state_dict()
    problems = [f"missing {n}" for n in wanted if n not in tensors]
    problems += [f"unexpected {n}" for n in tensors if n not in wanted]
    problems += [f"shape of {n}" for n in wanted if n in tensors and tensors[n].shape != wanted[n].shape]
    if problems:
        raise WeightsError("the weights do not fit the network", seen="; ".join(problems[:8]))
    network.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    return network.eval().requires_grad_(False)


def network_config(values: dict[str, Any]) -> NetworkConfig:
    """The configuration of a network from plain values; unknown names are refused."""
    try:
        flows = {name: FlowConfig(**values[name]) for name in ("flow", "hand_flow")}
        return NetworkConfig(**{**values, **flows})
    except (TypeError, KeyError) as error:
        raise WeightsError("the description of the network is not one of this version", seen=str(error)) from error


@cache
def pose_network() -> PoseNetwork:
    """The network shipped in the package.

    Raises:
        WeightsError: the package lacks it.
    """
    with as_file(files("vitruvian") / "resources" / "flow" / FLOW_FILE) as path:
        return read_network(path)
