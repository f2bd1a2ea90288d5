"""Training of the baselines: a deterministic regressor end to end, the others on the shipped encoder."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.bodies.model import BodyModel
from vitruvian.data.synthetic import PoseLibrary, SyntheticConfig, SyntheticPeople
from vitruvian.recovery.baselines import ChartModel, ConditionalVAE, ConstantFlow, MixtureDensity
from vitruvian.recovery.chart import chart_from_rotations, rotations_from_chart
from vitruvian.recovery.heads import HeadOutput, pelvis_position, place_of_pelvis
from vitruvian.recovery.losses import LossWeights, RestJoints, Targets, joints_about_pelvis
from vitruvian.recovery.network import PoseNetwork, PoseRegressor
from vitruvian.recovery.views import View
from vitruvian.training.checkpoints import save_weights
from vitruvian.training.flow import ViewedPeople, viewed_people
from vitruvian.training.loop import LoopConfig, LoopResult, train

MULTIPLE = ("constant_flow", "mixture", "cvae")


@dataclass(frozen=True)
class BaselineTraining:
    """A training run of all baselines at once, on the same people."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    people: SyntheticConfig = field(default_factory=SyntheticConfig)
    half_precision: bool = True


class Baselines(nn.Module):
    """The deterministic regressor with an encoder of its own, and heads on the frozen encoder of a trained network."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        config = network.config
        self.regressor: PoseRegressor = copy.deepcopy(network.regressor)
        self.constant_flow = ConstantFlow(replace(config.flow, context_scales=False))
        self.mixture = MixtureDensity(config.num_context)
        self.cvae = ConditionalVAE(config.num_context)

    def regress(self, view: View) -> HeadOutput:
        """The deterministic regressor."""
        return self.regressor(view).heads[-1]

    def chart_model(self, name: str) -> ChartModel:
        """`constant_flow`, `mixture` or `cvae`."""
        model: ChartModel = getattr(self, name)
        return model


class BaselineTask:
    """All baselines as one task of the training loop."""

    def __init__(self, config: BaselineTraining, network: PoseNetwork, body: BodyModel, library: PoseLibrary) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self._frozen = network.eval().requires_grad_(False)
        self._baselines = Baselines(network).requires_grad_(True)
        self.people = SyntheticPeople(body, library, config.people)
        self.rest = RestJoints.of(body, num_shape=network.config.num_shape)

    @property
    def network(self) -> nn.Module:
        return self._baselines

    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self._baselines}

    def after_step(self, number: int) -> None:
        """Nothing to do."""

    def draw(self, number: int, size: int, seed: int) -> ViewedPeople:
        return viewed_people(self.people.batch(size, seed=seed, number=number))

    def loss(self, batch: ViewedPeople, number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        view, targets = batch.view, batch.targets
        device = view.points.device
        self._frozen.to(device)
        all_rest = self.rest.to(device=device)
        generator = torch.Generator().manual_seed(seed * 7919 + number)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.half_precision):
            head = self._baselines.regress(view)
            with torch.no_grad():
                estimate = self._frozen.regressor(view)
        context, base_head, base = estimate.context, estimate.heads[-1], estimate.posed[-1].G
        rest = all_rest(base_head.betas)
        chart = chart_from_rotations(targets.rotations, base)
        chart = chart + 0.005 * torch.randn(chart.shape, generator=generator).to(device)
        weights = self.config.losses
        values = {"deterministic": _point_losses(head, head.rotations, view, targets, all_rest(head.betas), weights)}
        for name in MULTIPLE:
            model = self._baselines.chart_model(name)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.half_precision):
                likelihood = model.loss(context, chart, generator)
                point = model.point(context).float()
            points = _point_losses(base_head, rotations_from_chart(point, base), view, targets, rest, weights)
            values[name] = weights.likelihood * likelihood + points
            values[f"{name}_likelihood"] = likelihood.detach()
        total = torch.stack([values[name] for name in ("deterministic", *MULTIPLE)]).sum()
        return total, {name: value.detach() for name, value in values.items()}


def _point_losses(
    head: HeadOutput,
    rotations: Float[Tensor, "batch 22 3 3"],
    view: View,
    targets: Targets,
    rest: Float[Tensor, "batch 22 3"],
    weights: LossWeights,
) -> Tensor:
    """The losses of the flow's mode, for any point estimate."""
    G, joints = joints_about_pelvis(rotations, rest)
    with torch.no_grad():
        G_true, _ = joints_about_pelvis(targets.rotations, rest)
    pelvis = pelvis_position(head.place, view.half_size)[:, None]
    error = (view.project(joints + pelvis) - view.project(targets.joints)).abs().sum(-1).clamp_max(2.0)
    weight = 0.1 + 0.9 * targets.visible.to(error.dtype)
    place = place_of_pelvis(targets.joints[:, 0], view.half_size)
    return (
        weights.keypoints_3d * (joints - (targets.joints - targets.joints[:, :1])).abs().mean()
        + weights.keypoints_2d * (weight * error).sum() / weight.sum().clamp_min(1.0)
        + weights.pose * (rotations - targets.rotations).square().sum((-1, -2)).mean()
        + weights.world_pose * (G - G_true).square().sum((-1, -2)).mean()
        + weights.shape * (head.betas - targets.betas).square().mean()
        + weights.place * ((head.place - place) / (1 + place.abs())).abs().mean()
    )


def train_baselines(
    config: BaselineTraining,
    network: PoseNetwork,
    body: BodyModel,
    library: PoseLibrary,
    folder: Path,
    *,
    report: Callable[[int, float, Mapping[str, float]], None] | None = None,
) -> LoopResult:
    """Train all baselines and write `folder/baselines.safetensors`; a run that was stopped goes on where it was."""
    task = BaselineTask(config, network, body, library)
    result = train(task, config.loop, folder, report=report)
    save_weights(result.weights, folder / "baselines.safetensors", metadata={"steps": result.steps})
    return result
