"""Files of image networks: our own, written by training, and published ProHMR checkpoints."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vitruvian.assets.torch_files import differences, listed
from vitruvian.errors import WeightsError
from vitruvian.recovery.image_network import ImageNetwork, image_network_config
from vitruvian.recovery.published import read_published


def read_image_network(path: Path | str) -> ImageNetwork:
    """The image network of a file, ready for use (float32, evaluation mode).

    Args:
        path: what `vitruvian train image` wrote (.safetensors), or a published ProHMR checkpoint (any other suffix).

    Raises:
        WeightsError: no such file, a file of another kind, or tensors that do not fit the network it describes.
        UnsafeFileError: a checkpoint that holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError("the weights of the image network are missing", seen=path, hint="vitruvian train image")
    if path.suffix != ".safetensors":
        return read_published(path).network
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError("not a file of weights", seen=f"{path.name}: {error}", expected="safetensors") from error
    if "image_network" not in metadata:
        raise WeightsError("the file does not describe an image network", seen=", ".join(metadata) or "no description")
    network = ImageNetwork(image_network_config(json.loads(metadata["image_network"])))
    problems = differences(network.state_dict(), tensors)
    if problems:
        raise WeightsError("the weights do not fit the network", seen=listed(problems))
    network.load_state_dict(tensors)
    return network.float().eval().requires_grad_(False)
