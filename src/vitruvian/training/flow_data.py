"""From motion capture to trained weights: the commands `train flow`, `train lifter` and `train baselines`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.mocap import load_pose_dataset
from vitruvian.data.stances import stances, with_shares
from vitruvian.data.synthetic import PoseLibrary
from vitruvian.priors.mixture import MixturePrior
from vitruvian.recovery.lifter import LIFTED_FORMATS, LifterConfig
from vitruvian.recovery.weights import pose_network, read_network
from vitruvian.training.baselines import BaselineTraining, train_baselines
from vitruvian.training.flow import FlowTraining, train_flow
from vitruvian.training.lifter import LifterTraining, train_lifter
from vitruvian.training.loop import LoopConfig, LoopResult

_USUAL_LOG_PROB, _RARITY_NATS = 60.0, 15.0
"""Log-density (nats) of usual poses under the mixture, and the difference that counts e times as much."""

STANCE_SHARES = {"standing": 0.25, "walking": 0.35, "sitting": 0.06, "ground": 0.04}
"""Share of each stance (data/stances.py) among the people of training; all others have the rest."""

Report = Callable[[int, float, Mapping[str, float]], None]


@dataclass(frozen=True)
class TrainFlow:
    """Train the pose network on synthetic people in recorded poses; a run found in the output folder goes on."""

    shared_data: Path
    """Folder with the motion capture archives."""
    output: Path
    """Folder for the weights (flow.safetensors), the checkpoint and the log."""
    start: Path | None = None
    """Weights of a network of the same sizes to start a new run from, in place of random ones; inputs may differ."""
    training: FlowTraining = field(default_factory=FlowTraining)


@dataclass(frozen=True)
class TrainLifter:
    """Train the lifter of one skeleton format; a run found in the output folder goes on."""

    shared_data: Path
    """Folder with the motion capture archives."""
    output: Path
    """Folder for the weights (lifter-FORMAT.safetensors), the checkpoint and the log."""
    skeleton: str = LIFTED_FORMATS[0]
    """One of h36m17, openpose-body25."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000))


@dataclass(frozen=True)
class TrainBaselines:
    """Train the baselines that the pose distribution is compared with."""

    shared_data: Path
    """Folder with the motion capture archives."""
    output: Path
    """Folder for the weights (baselines.safetensors), the checkpoint and the log."""
    network: Path | None = None
    """Weights of the pose network whose encoder they share; those of the package if not given."""
    training: BaselineTraining = field(default_factory=BaselineTraining)


def recorded_poses(shared_data: Path, *, split: str = "train") -> PoseLibrary:
    """The poses of the subjects of a split, with the weights of training.

    Few subjects carry most of them, so a subject counts by its square root, and a pose within its subject by the square
    root of the frames that it stands for. Poses that the mixture of the package finds unlikely count up to five times
    as much as usual ones. Everyday stances and those near the ground have fixed shares (`STANCE_SHARES`).
    """
    data = load_pose_dataset(shared_data, split=split)  # type: ignore[arg-type]
    mixture = MixturePrior.learnt()
    density = mixture.log_prob(data.rotations[:, 1:].to(mixture.means))
    rarity = ((_USUAL_LOG_PROB - density) / _RARITY_NATS).exp().clamp(0.5, 5.0)
    weights = data.frame_weights().float() * rarity.float()
    return PoseLibrary(data.rotations.float(), with_shares(weights, stances(data.rotations), STANCE_SHARES))


def _body(num_shape: int, num_expression: int) -> BodyModel:
    return open_body(num_shape=num_shape, num_expression=num_expression)


def run_flow(config: TrainFlow, *, report: Report | None = None) -> LoopResult:
    """`vitruvian train flow`."""
    network = config.training.network
    body = _body(network.num_shape, network.num_expression)
    library = recorded_poses(config.shared_data)
    return train_flow(config.training, body, library, config.output, start=config.start, report=report)


def run_lifter(config: TrainLifter, *, report: Report | None = None) -> LoopResult:
    """`vitruvian train lifter`."""
    training = LifterTraining(LifterConfig(config.skeleton), loop=config.loop)
    body = _body(training.people.num_shape, training.people.num_expression)
    return train_lifter(training, body, recorded_poses(config.shared_data), config.output, report=report)


def run_baselines(config: TrainBaselines, *, report: Report | None = None) -> LoopResult:
    """`vitruvian train baselines`."""
    network = pose_network() if config.network is None else read_network(config.network)
    body = _body(network.config.num_shape, network.config.num_expression)
    people = replace(
        config.training.people, num_shape=network.config.num_shape, num_expression=network.config.num_expression
    )
    training = replace(config.training, people=people)
    library = recorded_poses(config.shared_data)
    return train_baselines(training, network, body, library, config.output, report=report)
