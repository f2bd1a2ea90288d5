"""The trained pose network that lies inside the package: reading it, and building the network it belongs to."""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from vitruvian.assets.weights import build_strictly, config_from, read_weights
from vitruvian.recovery.network import NetworkConfig, PoseNetwork

FLOW_FILE = "flow.safetensors"


def read_network(path: Path) -> PoseNetwork:
    """The network of a file that `vitruvian train flow` wrote, ready for use (float32, evaluation mode).

    Raises:
        WeightsError: no such file, a file of another kind, or tensors that do not fit the network it describes.
    """
    weights = read_weights(path, hint="vitruvian train flow")
    config = config_from(NetworkConfig, weights.described("network"), name=weights.name)
    return build_strictly(lambda: PoseNetwork(config), weights)


@cache
def pose_network() -> PoseNetwork:
    """The network shipped in the package.

    Raises:
        WeightsError: the package lacks it.
    """
    with as_file(files("vitruvian") / "resources" / "flow" / FLOW_FILE) as path:
        return read_network(path)
