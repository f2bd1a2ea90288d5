"""Measures the open body on people and poses held out of its learning, and writes the card that travels with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import read_open_body
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.bodies.skinning import blend_skin, forward_kinematics, pose_features
from vitruvian.body_learning.learning import LinearSpace, PosedRegistrations, project
from vitruvian.body_learning.people import (
    BodyPoser,
    LearnBodyConfig,
    Registrations,
    anchored,
    no_progress,
    posed_batches,
    sample_adults,
    to_t_pose,
)
from vitruvian.body_learning.registration_posing import RegistrationPoser
from vitruvian.body_learning.registrations_anny import AnnySource, RestBodies
from vitruvian.body_learning.training_poses import random_rotations
from vitruvian.body_learning.writing import LearntBody
from vitruvian.errors import OutputError

COMPONENTS_MEASURED = 16
REACH = 3.0
"""Standard deviations within which adults of 140 to 205 cm, slim to obese, must lie."""
REACH_HEIGHTS_CM = (140, 150, 160, 170, 180, 190, 205)
REACH_BUILDS = {"slim": (0.1, 0.4), "average": (0.5, 0.5), "heavy": (0.85, 0.35), "obese": (0.97, 0.12)}
"""Anny's weight and muscle parameters, 0 to 1."""


def measure_body(
    body: LearntBody,
    held_out: Mapping[str, Registrations],
    poser: BodyPoser,
    config: LearnBodyConfig,
    source: AnnySource,
    *,
    folder: Path,
) -> dict[str, Any]:
    """All figures of the card, measured on the files as written (rounding included)."""
    models = {gender: read_open_body(folder, gender) for gender in ("neutral", "female", "male")}
    vertices = torch.cat([held_out[g].vertices for g in ("female", "male")])
    joints = torch.cat([held_out[g].joints for g in ("female", "male")])
    people = {"neutral": vertices, "female": held_out["female"].vertices, "male": held_out["male"].vertices}
    return {
        "held_out_bodies": len(vertices),
        "shape_rms_mm": {
            gender: shape_errors_mm(space_of(models[gender]), people[gender], COMPONENTS_MEASURED) for gender in models
        },
        "joint_regressor_mm": regressor_errors_mm(models["neutral"], vertices, joints),
        "source_joints_mm": source_joint_distances_mm(source, body, poser, config),
        "pose_correctives_mm": corrective_errors_mm(models["neutral"], held_out, poser.poser, config),
        "reach": reach_figures(models, source, body, poser),
        "explained_variance": {
            gender: [round(float(x), 5) for x in body.shapes[gender].explained] for gender in body.shapes
        },
        "expression_explained_variance": [round(float(x), 5) for x in body.expression.explained],
        "rounding_mm": rounding_mm(models, body),
        "file_bytes": {path.name: path.stat().st_size for path in sorted(folder.glob("*.npz"))},
    }


def space_of(model: BodyModel) -> LinearSpace:
    return LinearSpace(model.template, model.shape_dirs, torch.zeros(model.num_shape))


def shape_errors_mm(
    space: LinearSpace, bodies: Float[Tensor, "body vertex 3"], num_components: int
) -> dict[str, float]:
    """Distance of bodies from the nearest ones of the space: root mean square over vertices, per body."""
    coefficients = project(space, bodies, num_components=num_components)
    rebuilt = space.mean + torch.einsum("ns,vks->nvk", coefficients, space.dirs[..., :num_components])
    rms = (rebuilt - bodies).square().sum(-1).mean(-1).sqrt() * 1000
    return {
        "mean": round(float(rms.mean()), 3),
        "worst_body": round(float(rms.max()), 3),
        "all": round(float(rms.square().mean().sqrt()), 3),
    }


def regressor_errors_mm(
    model: BodyModel, bodies: Float[Tensor, "body vertex 3"], joints: Float[Tensor, "body joint 3"]
) -> dict[str, Any]:
    """Regressed against true joints of bodies."""
    regressed = torch.einsum("jv,nvk->njk", model.joint_regressor, bodies)
    error = (regressed - joints).norm(dim=-1) * 1000
    worst = int(error.amax(0).argmax())
    return {
        "mean": round(float(error.mean()), 3),
        "worst_joint_mean": round(float(error.mean(0).max()), 3),
        "worst_joint_mean_name": SMPLX.names[int(error.mean(0).argmax())],
        "worst": round(float(error.max()), 3),
        "worst_name": SMPLX.names[worst],
        "vertices_per_joint": round(float((model.joint_regressor > 0).sum(1).float().mean()), 1),
    }


def source_joint_distances_mm(
    source: AnnySource, body: LearntBody, poser: BodyPoser, config: LearnBodyConfig
) -> dict[str, Any]:
    """How far the joints under the skin are from Anny's own bone heads, which slide along the limbs from body to body.

    In the source's rest pose. The regressor is measured against the former.
    """
    bodies = sample_adults(source, body.topology.order, 60, "female", config, config.seed + 30)
    distance = (anchored(bodies, poser.anchors).joints - bodies.joints).norm(dim=-1) * 1000
    return {
        "mean": round(float(distance.mean()), 3),
        "worst_joint_mean": round(float(distance.mean(0).max()), 3),
        "worst_joint_mean_name": SMPLX.names[int(distance.mean(0).argmax())],
    }


def posed_by_skinning(
    model: BodyModel, batch: PosedRegistrations, *, corrected: bool
) -> Float[Tensor, "body vertex 3"]:
    """The registrations' own rest bodies posed with the model's weights, and its correctives if `corrected`."""
    G, joints = forward_kinematics(SMPLX, batch.rotations, batch.rest_joints)
    rest = batch.rest
    if corrected and model.correctives is not None:
        rest = rest + model.correctives.offsets(pose_features(batch.rotations))
    return blend_skin(rest, model.skinning_weights, G, joints, batch.rest_joints)


def corrective_errors_mm(
    model: BodyModel, held_out: Mapping[str, Registrations], poser: RegistrationPoser, config: LearnBodyConfig
) -> dict[str, Any]:
    """Distance from the posing that was learnt, on people and poses held out, with and without correctives."""
    people = held_out["female"]
    generator = torch.Generator().manual_seed(config.seed + 20)
    rotations = random_rotations(config.held_out_poses, generator=generator)
    errors: dict[bool, list[Tensor]] = {True: [], False: []}
    for batch in posed_batches(poser, people, rotations):
        for corrected in errors:
            posed = posed_by_skinning(model, batch, corrected=corrected)
            errors[corrected].append((posed - batch.vertices).norm(dim=-1) * 1000)
    out: dict[str, Any] = {"held_out_poses": len(rotations)}
    for corrected, name in ((False, "skinning_alone"), (True, "with_correctives")):
        error = torch.cat(errors[corrected])
        out[name] = {
            "mean": round(float(error.mean()), 3),
            "rms": round(float(error.square().mean().sqrt()), 3),
            "percentile_99": round(float(np.percentile(error.numpy(), 99)), 3),
        }
    return out


def reach_figures(
    models: Mapping[str, BodyModel], source: AnnySource, body: LearntBody, poser: BodyPoser
) -> dict[str, Any]:
    """Fits of adults on a grid of stature and weight with every coefficient held within three deviations."""
    from scipy.optimize import lsq_linear

    grid = [(g, h, w) for g in ("female", "male") for h in REACH_HEIGHTS_CM for w in REACH_BUILDS]
    bodies = anchored(grid_bodies(source, grid, body), poser.anchors)
    people = to_t_pose(poser.poser, bodies, no_progress, "reach")
    space = space_of(models["neutral"])
    dirs = space.dirs.flatten(0, 1).double().numpy()
    rms, largest = [], []
    for vertices in people.vertices:
        target = (vertices - space.mean).flatten().double().numpy()
        # The same least squares in as many unknowns as components, by the QR factor.
        Q, R = np.linalg.qr(dirs)
        beta = lsq_linear(R, Q.T @ target, bounds=(-REACH, REACH)).x
        rms.append(float(np.sqrt(((dirs @ beta - target) ** 2).reshape(-1, 3).sum(1).mean()) * 1000))
        largest.append(float(np.abs(beta).max()))
    worst = int(np.argmax(rms))
    bmi = [mass_index(v, body.topology.faces) for v in people.vertices]
    return {
        "bodies": len(grid),
        "heights_cm": [REACH_HEIGHTS_CM[0], REACH_HEIGHTS_CM[-1]],
        "body_mass_index": [round(min(bmi), 1), round(max(bmi), 1)],
        "bound": REACH,
        "rms_mm_mean": round(float(np.mean(rms)), 3),
        "rms_mm_worst": round(max(rms), 3),
        "worst": " ".join(str(x) for x in grid[worst]),
        "bodies_at_the_bound": int((np.array(largest) > REACH - 1e-3).sum()),
    }


def grid_bodies(source: AnnySource, grid: list[tuple[str, int, str]], body: LearntBody) -> RestBodies:
    """Anny's bodies of given sex, stature and weight; everything else average."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    half = column([0.5] * len(grid))
    phenotype = {
        "gender": column([0.95 if g == "female" else 0.05 for g, _, _ in grid]),
        "weight": column([REACH_BUILDS[w][0] for _, _, w in grid]),
        "muscle": column([REACH_BUILDS[w][1] for _, _, w in grid]),
        "age": 0 * half + 0.72,
        **dict.fromkeys(("proportions", "cupsize", "firmness", "african", "asian", "caucasian"), half),
    }
    bodies = source.bodies(phenotype, height_cm=column([float(h) for _, h, _ in grid]))
    order = body.topology.order
    return RestBodies(bodies.vertices[:, order].float(), bodies.joints.float(), bodies.tips.float())


def mass_index(vertices: Float[Tensor, "vertex 3"], faces: Tensor, *, density: float = 1000.0) -> float:
    """Body mass index from the volume of the mesh, kg/m²."""
    a, b, c = (vertices[faces[:, k]].double() for k in range(3))
    volume = float((a * torch.linalg.cross(b, c, dim=-1)).sum() / 6)
    height = float(vertices[:, 1].max() - vertices[:, 1].min())
    return volume * density / height**2


def rounding_mm(models: Mapping[str, BodyModel], body: LearntBody) -> dict[str, float]:
    """Largest change of a vertex coordinate by the rounding of the files, at one standard deviation."""
    shape = max(float((models[g].shape_dirs - body.shapes[g].dirs).abs().max()) for g in body.shapes)
    expression = float((models["neutral"].expression_dirs - body.expression.dirs).abs().max())
    return {"shape": round(shape * 1000, 4), "expression": round(expression * 1000, 4)}


def make_card(config: LearnBodyConfig, anny_version: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The card of the open body, as plain values."""
    return {
        "name": "vitruvian open body",
        "version": version("vitruvian"),
        "command": "vitruvian body learn --source anny",
        "data": f"registrations sampled from anny {anny_version} (code Apache-2.0; MakeHuman data CC0)",
        "licence": "CC0-1.0 (the model files); the code that made them is Apache-2.0",
        "schema": "SMPL-X: 55 joints, rest pose, keypoint vertex ids, parameters in standard deviations",
        "torch": torch.__version__.split("+")[0],
        "config": config_as_json(config),
        "figures": figures,
    }


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Write `card.json`, and `card.md` for readers.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (folder / "card.md").write_text(card_text(card))
    except OSError as error:
        raise OutputError("the card cannot be written", seen=str(error), expected=f"a writable {folder}") from error


def card_text(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    f = card["figures"]
    rows = [
        ("shape, RMS at 16 components, mean of held-out bodies (neutral / female / male)",
         " / ".join(f"{f['shape_rms_mm'][g]['mean']:.2f}" for g in ("neutral", "female", "male")) + " mm"),
        ("the same, worst body",
         " / ".join(f"{f['shape_rms_mm'][g]['worst_body']:.2f}" for g in ("neutral", "female", "male")) + " mm"),
        ("joint regressor, mean", f"{f['joint_regressor_mm']['mean']:.2f} mm"),
        ("joint regressor, mean of the worst joint",
         f"{f['joint_regressor_mm']['worst_joint_mean']:.2f} mm ({f['joint_regressor_mm']['worst_joint_mean_name']})"),
        ("joint regressor, worst joint of any body",
         f"{f['joint_regressor_mm']['worst']:.2f} mm ({f['joint_regressor_mm']['worst_name']})"),
        ("posing, skinning alone, mean / 99th percentile", _pair(f["pose_correctives_mm"]["skinning_alone"])),
        ("posing, with correctives, mean / 99th percentile", _pair(f["pose_correctives_mm"]["with_correctives"])),
        ("adults of 140 to 205 cm, slim to obese, at |β| ≤ 3: RMS mean / worst",
         f"{f['reach']['rms_mm_mean']:.2f} / {f['reach']['rms_mm_worst']:.2f} mm"
         f" (body mass index {f['reach']['body_mass_index'][0]} to {f['reach']['body_mass_index'][1]})"),
        ("rounding of the files, shape / expression, per deviation",
         f"{f['rounding_mm']['shape']:.3f} / {f['rounding_mm']['expression']:.3f} mm"),
    ]  # fmt: skip
    source_mm = f["source_joints_mm"]
    slider = source_mm["worst_joint_mean_name"].replace("_", " ")
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    return f"""# The open body

- Version: {card["version"]}
- Data: {card["data"]}
- Licence: {card["licence"]}
- Command: `{card["command"]}`
- Schema: {card["schema"]}

{f["held_out_bodies"]} people and {f["pose_correctives_mm"]["held_out_poses"]} poses were held out of the learning.

| measure | value |
|---|---|
{table}

The regressor is measured against joints anchored to the skin: fixed averages of the rings of vertices around them in
the source's rest pose, carried to the T-pose. Anny's own bone heads slide along the limbs with stature and proportions,
so that the knee of a short body would bend in its thigh; they lie {source_mm["mean"]:.1f} mm from the anchored joints
on average, the {slider} {source_mm["worst_joint_mean"]:.1f} mm.

Posing errors are distances from the smooth posing that the correctives were learnt from (see
`vitruvian.body_learning.registration_posing`), over poses that fill the whole natural range of every joint at once.
The configuration and all figures are in `card.json`.
"""


def _pair(figures: Mapping[str, float]) -> str:
    return f"{figures['mean']:.2f} / {figures['percentile_99']:.2f} mm"


def config_as_json(config: LearnBodyConfig) -> dict[str, Any]:
    """The configuration without the output folder, as plain values."""
    values = asdict(config)
    del values["output"]
    out: dict[str, Any] = json.loads(json.dumps(values))
    return out
