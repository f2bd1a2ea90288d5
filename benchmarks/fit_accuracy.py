"""Accuracy of fitting on synthetic people with known bodies: 3D errors beside the 2D error.

python benchmarks/fit_accuracy.py [--quick] [--json FILE] [--ablate priors]
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from synthetic_people import PeopleConfig, SyntheticPeople, draw_people
from torch import Tensor

import vitruvian as vt
from vitruvian.bodies.model import BodyModel
from vitruvian.estimation.regress import FLOW_FIT, flow_prior, placed_mode, regress
from vitruvian.evaluation.metrics import mpjpe_mm, pa_error_mm, point_error_mm
from vitruvian.fitting.fit import FittedPeople, fit_keypoints
from vitruvian.fitting.parts import body_prior
from vitruvian.keypoints.people import People

FAILURE_MM = 150.0
HAND_JOINTS = ("wrist", "index", "middle", "pinky", "ring", "thumb")


@dataclass(frozen=True)
class AccuracyConfig:
    """Accuracy of fitting on synthetic people.

    Attributes:
        count: number of people.
        noise_px: standard deviations of the keypoint noise that are tried.
        missing: share of keypoints that are not seen.
        prior: pose prior: none, bending, hand-set, mixture, vposer or flow.
        ablate: compare the pose priors at a noise of 2 px.
        quick: 40 people only.
        json: file for the figures.
    """

    count: int = 200
    noise_px: tuple[float, ...] = (0.0, 2.0, 5.0)
    missing: float = 0.2
    prior: str = "hand-set"
    ablate: Literal["none", "priors"] = "none"
    quick: bool = False
    json: Path | None = None


def vertex_groups(body: BodyModel) -> dict[str, Tensor]:
    """Vertices of the body without hands and head, of each hand, and of the head."""
    strongest = body.skinning_weights.argmax(1)
    names = [body.skeleton.names[row] for row in strongest.tolist()]
    group = []
    for name in names:
        side = name.split("_")[0]
        if any(word in name for word in HAND_JOINTS):
            group.append(f"{side}_hand")
        elif name in ("head", "jaw", "left_eye", "right_eye"):
            group.append("head")
        else:
            group.append("body")
    return {key: torch.tensor([g == key for g in group]) for key in ("body", "left_hand", "right_hand", "head")}


def fit_people(body: BodyModel, people: SyntheticPeople, prior: str) -> FittedPeople:
    """Fit with a pose prior by name; `flow` takes start and prior of each person from the regressed distribution."""
    if prior != "flow":
        return fit_keypoints(body, people.keypoints, people.camera, prior=body_prior(prior, body.skeleton))
    seen = People.in_picture(people.keypoints, people.camera)
    posterior = regress(seen)
    placed = placed_mode(posterior, body, seen)
    return fit_keypoints(
        body,
        people.keypoints,
        people.camera,
        prior=flow_prior(posterior, body, seen, placed),
        start=placed.params,
        config=FLOW_FIT,
    )


def measure(body: BodyModel, people: SyntheticPeople, prior: str) -> dict[str, float]:
    """Fit the people and compare with the truth; medians over people, in millimetres and pixels."""
    begin = time.perf_counter()
    fits = fit_people(body, people, prior)
    seconds = time.perf_counter() - begin
    errors: dict[str, list[Tensor]] = {}
    groups = vertex_groups(body)
    for rows in torch.arange(len(fits.status)).split(50):
        fitted, true = (
            body.with_shape(p.betas[rows], p.expression[rows]).with_pose(p.rotations[rows], p.transl[rows])
            for p in (fits.params, people.params)
        )
        root = fitted.joints[:, :1], true.joints[:, :1]
        values = {
            "v2v_mm": point_error_mm(fitted.vertices - root[0], true.vertices - root[1]),
            "pa_v2v_mm": pa_error_mm(fitted.vertices, true.vertices),
            "mpjpe_mm": mpjpe_mm(fitted.joints[:, :22], true.joints[:, :22]),
            "pa_mpjpe_mm": pa_error_mm(fitted.joints[:, :22], true.joints[:, :22]),
        }
        for name, mask in groups.items():
            values[f"pa_v2v_{name}_mm"] = pa_error_mm(fitted.vertices[:, mask], true.vertices[:, mask])
        values["depth_error_m"] = (fitted.joints[:, 0, 2] - true.joints[:, 0, 2]).abs()
        for name, value in values.items():
            errors.setdefault(name, []).append(value)
    joined = {name: torch.cat(parts) for name, parts in errors.items()}
    out = {name: float(values.nanmedian()) for name, values in joined.items()}
    out["mean_pa_v2v_body_mm"] = float(joined["pa_v2v_body_mm"].nanmean())
    out["mean_pa_mpjpe_mm"] = float(joined["pa_mpjpe_mm"].nanmean())
    out["reprojection_px"] = float(fits.reprojection_px.nanmedian())
    out["failures"] = float((joined["pa_v2v_mm"] > FAILURE_MM).float().mean())
    out["ms_per_person"] = 1000 * seconds / len(fits.status)
    return out


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one column per run."""
    table = Table(title=title)
    table.add_column("median over people")
    for name in rows:
        table.add_column(name, justify="right")
    for key in next(iter(rows.values())):
        table.add_row(key, *(f"{row[key]:.3g}" if row[key] < 1 else f"{row[key]:.1f}" for row in rows.values()))
    Console().print(table)


def main(config: AccuracyConfig) -> None:
    if config.quick:
        config = replace(config, count=40)
    body = vt.open_body()
    results: dict[str, dict] = {"config": {"count": config.count, "missing": config.missing, "prior": config.prior}}
    drawn = {
        noise: draw_people(body, PeopleConfig(count=config.count, noise_px=noise, missing=config.missing))
        for noise in config.noise_px
    }
    if config.ablate == "priors":
        people = draw_people(body, PeopleConfig(count=config.count, noise_px=2.0, missing=config.missing))
        priors = {}
        for name in ("none", "bending", "mixture", "vposer"):
            priors[name] = measure(body, people, name)
        results["priors"] = priors
        show(f"pose priors, {config.count} people, 2 px", priors)
    else:
        runs = {f"{noise:g} px": measure(body, people, config.prior) for noise, people in drawn.items()}
        results["noise_px"] = runs
        show(f"{config.count} people, prior {config.prior}", runs)
    if config.json is not None:
        config.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(tyro.cli(AccuracyConfig))
