"""Benchmarks of the pose distribution and what is made of it, on synthetic people in held-out poses."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.synthetic import SyntheticBatch
from vitruvian.evaluation.config import EvaluateSynthetic
from vitruvian.evaluation.distribution_scores import (
    DistributionScorer,
    DistributionScores,
    Errors,
    SampleSet,
    correlation,
    mean_errors,
)
from vitruvian.evaluation.fit_scores import score_fits
from vitruvian.evaluation.held_out import draw_well_seen, held_out_people
from vitruvian.evaluation.lift_scores import score_lifters
from vitruvian.progress import Progress, silent
from vitruvian.recovery.baselines import ChartModel
from vitruvian.recovery.chart import NUM_BODY, rotations_from_chart
from vitruvian.recovery.estimates import Weighting, weighted_mean
from vitruvian.recovery.losses import RestJoints
from vitruvian.recovery.network import Estimate, PoseNetwork
from vitruvian.recovery.posterior import BodyPosterior, infer
from vitruvian.recovery.views import view_of
from vitruvian.recovery.weights import pose_network
from vitruvian.training.baselines import MULTIPLE, Baselines
from vitruvian.training.checkpoints import load_strictly, read_weights
from vitruvian.training.flow import visible_joints

_CHUNK = 50


@dataclass(frozen=True)
class SyntheticScores:
    """What `evaluate_synthetic` measured; errors in millimetres.

    Attributes:
        people: number of people.
        flow: the shipped distribution.
        weighted_mean: the mean of samples weighted by reprojection.
        entropy_correlation: correlation of a person's entropy with their share of hidden joints.
        baselines: other distributions by name.
        deterministic: the regressor without a flow.
        extra: scores of fits and of several views, by name.
    """

    people: int
    flow: DistributionScores
    weighted_mean: Errors
    entropy_correlation: float
    baselines: Mapping[str, DistributionScores] = field(default_factory=dict)
    deterministic: Errors | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values under the published names."""
        out: dict[str, Any] = {
            "people": self.people,
            "mode": asdict(self.flow.mode),
            "weighted_mean": asdict(self.weighted_mean),
            "best_of": {str(n): asdict(e) for n, e in self.flow.best_of.items()},
            "spread_mm": _spread(self.flow),
            "coverage": {p: {str(k): v for k, v in c.items()} for p, c in self.flow.coverage.items()},
            "entropy_correlation": self.entropy_correlation,
            "baselines": {name: _plain(scores) for name, scores in self.baselines.items()},
        }
        if self.deterministic is not None:
            out["deterministic"] = asdict(self.deterministic)
        return {**out, **self.extra}


def _spread(scores: DistributionScores) -> dict[str, float]:
    return {
        "visible": scores.spread_visible_mm,
        "hidden": scores.spread_hidden_mm,
        "hidden_limbs": scores.spread_limbs_mm,
    }


def _plain(scores: DistributionScores) -> dict[str, Any]:
    return {
        "mode": asdict(scores.mode),
        "best_of": {str(n): asdict(e) for n, e in scores.best_of.items()},
        "spread_mm": _spread(scores),
        "coverage": {p: {str(k): v for k, v in c.items()} for p, c in scores.coverage.items()},
    }


@torch.no_grad()
def evaluate_synthetic(
    config: EvaluateSynthetic,
    *,
    network: PoseNetwork | None = None,
    progress: Progress = silent,
) -> SyntheticScores:
    """Draw people, estimate their poses in every way, and compare with the truth.

    Args:
        config: what to evaluate.
        network: in place of the shipped one.
        progress: told of the people done.

    Raises:
        WeightsError: weights are missing.
    """
    if config.quick:
        config = replace(config, count=min(config.count, 150), samples=25)
    network = network or pose_network()
    body = open_body(num_shape=network.config.num_shape, num_expression=network.config.num_expression)
    batch = draw_well_seen(held_out_people(body), config.count, seed=config.seed)
    scores = score_distributions(config, network, body, batch, progress)
    extra = score_lifters(body, count=config.count, samples=config.samples, seed=config.seed)
    if config.fit:
        extra |= score_fits(network, body, batch, seed=config.seed, quick=config.quick, progress=progress)
    scores = replace(scores, extra=extra)
    if config.json is not None:
        config.json.write_text(json.dumps(scores.to_json(), indent=1))
    return scores


def score_distributions(
    config: EvaluateSynthetic, network: PoseNetwork, body: BodyModel, batch: SyntheticBatch, progress: Progress
) -> SyntheticScores:
    """Scores of the flow, of the weighted mean, and of the baselines."""
    rest = RestJoints.of(body, num_shape=network.config.num_shape)
    generator = torch.Generator().manual_seed(config.seed)
    baselines = _read_baselines(config.baselines, network)
    scorers = {name: DistributionScorer(rest) for name in ("flow", *(MULTIPLE if baselines else ()))}
    weighted, deterministic = _Means(rest), _Means(rest)
    entropy, hidden = [], []
    for first in range(0, len(batch), _CHUNK):
        progress("distribution", first, len(batch))
        people = batch[slice(first, first + _CHUNK)]
        posterior = infer(network, people.keypoints, people.camera)
        visible = visible_joints(people.visible)
        entropy.append(posterior.entropy)
        hidden.append(1 - visible.float().mean(-1))
        joints = people.joints[:, :NUM_BODY]
        scorers["flow"].add(_flow_samples(posterior, config.samples, generator), joints, visible)
        weighting = Weighting(num_samples=config.samples)
        mean = weighted_mean(posterior, body, people.keypoints, people.camera, weighting=weighting, generator=generator)
        weighted.add(mean.rotations, posterior.betas, joints)
        if baselines is None:
            continue
        view = view_of(people.keypoints, people.camera)
        in_view = joints @ view.R_camera_view
        head = baselines.regress(view)
        deterministic.add(head.rotations, head.betas, in_view)
        estimate = network.regressor(view)
        for name in MULTIPLE:
            found = _chart_samples(baselines.chart_model(name), network, estimate, config.samples, generator)
            scorers[name].add(found, in_view, visible)
    progress("distribution", len(batch), len(batch))
    return SyntheticScores(
        people=len(batch),
        flow=scorers["flow"].scores(),
        weighted_mean=weighted.errors(),
        entropy_correlation=correlation(torch.cat(entropy), torch.cat(hidden)),
        baselines={name: scorers[name].scores() for name in scorers if name != "flow"},
        deterministic=deterministic.errors() if baselines is not None else None,
    )


class _Means:
    """Mean errors of a point estimate over batches."""

    def __init__(self, rest: RestJoints) -> None:
        self._rest = rest
        self._found: list[tuple[Errors, int]] = []

    def add(self, rotations: Tensor, betas: Tensor, joints: Tensor) -> None:
        self._found.append((mean_errors(rotations, betas, self._rest, joints), len(rotations)))

    def errors(self) -> Errors:
        people = sum(n for _, n in self._found)
        return Errors(
            sum(e.mpjpe_mm * n for e, n in self._found) / people,
            sum(e.pa_mpjpe_mm * n for e, n in self._found) / people,
        )


def _flow_samples(posterior: BodyPosterior, count: int, generator: torch.Generator) -> SampleSet:
    samples = posterior.sample(count, generator=generator)
    return SampleSet(
        posterior.mode().rotations[:, :NUM_BODY], samples.rotations[:, :, :NUM_BODY], posterior.betas, samples.betas
    )


def _chart_samples(
    model: ChartModel, network: PoseNetwork, estimate: Estimate, count: int, generator: torch.Generator
) -> SampleSet:
    context, head, base = estimate.context, estimate.heads[-1], estimate.posed[-1].G
    point = rotations_from_chart(model.point(context), base)
    samples = rotations_from_chart(model.sample(context, count, generator), base)
    noise = torch.randn(count, *head.betas.shape, generator=generator)
    return SampleSet(point, samples, head.betas, head.betas + network.shape_std * noise)


def _read_baselines(path: Path | None, network: PoseNetwork) -> Baselines | None:
    if path is None:
        return None
    baselines = Baselines(network)
    load_strictly(baselines, read_weights(path)[0])
    return baselines.eval().requires_grad_(False)
