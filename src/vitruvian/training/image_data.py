"""From files and motion capture to trained weights of the image network: the command `train image`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vitruvian.assets.torch_files import read_state_dict
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.cropped_people import MixedPeople, PeopleSource
from vitruvian.data.photographs import PhotographConfig, PhotographedPeople
from vitruvian.data.rendered import RenderedConfig, RenderedPeople
from vitruvian.data.synthetic import PoseLibrary
from vitruvian.errors import InputError
from vitruvian.recovery.encoders.efficientnet import EfficientNetLite0, load_imagenet
from vitruvian.recovery.encoders.resnet import ResNet, load_torchvision
from vitruvian.recovery.image_critic import ImageCritic
from vitruvian.recovery.image_network import ImageNetwork
from vitruvian.recovery.image_weights import read_image_network
from vitruvian.recovery.published import read_published
from vitruvian.training.flow_data import recorded_poses
from vitruvian.training.image import ImageData, ImageResult, ImageTraining, Report, train_image

_OPEN = "open"


@dataclass(frozen=True)
class TrainImage:
    """Train the image network of ProHMR on annotated photographs, on rendered people, or on both.

    A run found in the output folder goes on. For several GPUs: torchrun --nproc-per-node N -m vitruvian train image ...
    """

    output: Path
    """Folder for the weights (image.safetensors), the checkpoint, the log and its plot."""
    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")] = ()
    """Annotations of photographs (.npz, see docs/image_network.md)."""
    weights: tuple[float, ...] = ()
    """How often each file of `data` is drawn from; all alike if not given."""
    rendered: float = 0.0
    """The same for rendered people, which need `shared_data` and the open body."""
    shared_data: Path | None = None
    """Folder with the motion capture archives: poses of rendered people, and real ones for the discriminator."""
    validation: Path | None = None
    """Annotations of photographs to measure on."""
    encoder_weights: Path | None = None
    """State dict of torchvision's layout to start a residual network from."""
    imagenet: bool = False
    """Start EfficientNet-Lite0 from the weights of ImageNet in the extra `image`."""
    start: Path | None = None
    """Weights of a whole network, or a published ProHMR checkpoint, to start a new run from."""
    training: ImageTraining = field(default_factory=ImageTraining)


def run_image(config: TrainImage, *, report: Report | None = None) -> ImageResult:
    """`vitruvian train image`."""
    network, critic = _started(config)
    settings = network.config if network is not None else config.training.network
    body = _body(settings.body, settings.num_shape)
    poses = None if config.shared_data is None else recorded_poses(config.shared_data)
    photographs = PhotographConfig(size_px=settings.crop_px, num_shape=settings.num_shape)
    sources: list[PeopleSource] = [PhotographedPeople(file, photographs) for file in config.data]
    weights = list(config.weights or (1.0,) * len(sources))
    if config.rendered:
        sources.append(_rendered(body, poses, settings.crop_px))
        weights.append(config.rendered)
    if not sources:
        raise InputError("nothing to learn from", expected="--data FILE ..., or --rendered 1 --shared-data FOLDER")
    validation = None if config.validation is None else PhotographedPeople(config.validation, photographs)
    data = ImageData(MixedPeople(sources, weights), validation, poses)
    return train_image(config.training, body, data, config.output, network=network, critic=critic, report=report)


def _body(family: str, num_shape: int) -> BodyModel:
    return open_body(num_shape=num_shape, num_expression=10) if family == _OPEN else load_body(family)


def _rendered(body: BodyModel, poses: PoseLibrary | None, size_px: int) -> RenderedPeople:
    if poses is None:
        raise InputError("rendered people need recorded poses", expected="--shared-data FOLDER")
    if body.family != _OPEN:
        raise InputError("rendered people have the open body", seen=body.family, hint="--training.network.body open")
    return RenderedPeople(body, poses, RenderedConfig(size_px=size_px))


def _started(config: TrainImage) -> tuple[ImageNetwork | None, ImageCritic | None]:
    """The network and the discriminator that a new run starts from; None for random ones."""
    if config.start is not None:
        if config.start.suffix == ".safetensors":
            return read_image_network(config.start), None
        found = read_published(config.start)
        return found.network, found.critic
    if config.encoder_weights is None and not config.imagenet:
        return None, None
    network = ImageNetwork(config.training.network)
    encoder = network.encoder
    if config.encoder_weights is not None and isinstance(encoder, ResNet):
        load_torchvision(encoder, read_state_dict(config.encoder_weights))
    elif config.imagenet and isinstance(encoder, EfficientNetLite0):
        load_imagenet(encoder)
    else:
        raise InputError("these weights are not of the encoder", seen=config.training.network.encoder)
    return network, None
