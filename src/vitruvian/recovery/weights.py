"""The trained pose network that lies inside the package: reading it, and building the network it belongs to."""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from vitruvian.assets.weights import build_strictly, config_from, read_weights
from vitruvian.errors import WeightsError
from vitruvian.recovery.network import NetworkConfig, PoseNetwork
from vitruvian.recovery.views import feature_blocks

FLOW_FILE = "flow.safetensors"


def read_network(path: Path) -> PoseNetwork:
    """The network of a file that `vitruvian train flow` wrote, ready for use (float32, evaluation mode).

    Raises:
        WeightsError: no such file, a file of another kind, or tensors that do not fit the network it describes.
    """
    weights = read_weights(path, hint="vitruvian train flow")
    described = weights.metadata.get("features")
    features = None if described is None else weights.described("features")
    if features != feature_blocks():
        raise WeightsError(
            "the network reads other inputs than this version of the package gives",
            seen=f"{weights.name}: {features or 'inputs without names'}",
            expected=str(feature_blocks()),
            hint="vitruvian train flow --start FILE",
        )
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
