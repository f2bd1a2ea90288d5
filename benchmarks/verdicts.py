"""How far verdicts can be trusted: of the fits that they call good, doubtful and bad, how many are near the truth.

    python benchmarks/verdicts.py --json verdicts.json

People in held-out poses seen by the synthetic detector, and those of the tail (rare poses, spoilt keypoints); a fit is
right where its mesh lies within 100 mm of the true one after alignment.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

import vitruvian as vt
from benchmarks.tail import TailConfig, draw_kinds
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.estimation.verdicts import BAD, DOUBTFUL, GOOD, Signs, signs_of
from vitruvian.evaluation.held_out import draw_well_seen, held_out_people
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.fits import Fits
from vitruvian.keypoints.people import People

RIGHT_MM = 100.0


@dataclass(frozen=True)
class VerdictConfig:
    """Options of the benchmark."""

    count: int = 400
    """People of the synthetic detector."""
    seed: int = 11
    quick: bool = False
    """100 people, and none of the tail."""
    json: Path | None = None


def vertex_errors(body: BodyModel, found: BodyParams, true: BodyParams) -> Tensor:
    """PA-v2v of each person, millimetres."""
    errors = []
    for rows in torch.arange(len(true.transl)).split(50):
        a, b = (body.with_shape(p.betas[rows], p.expression[rows]).with_pose(p.rotations[rows]) for p in (found, true))
        errors.append(pa_error_mm(a.vertices, b.vertices))
    return torch.cat(errors)


def rates(fits: Fits, errors: Tensor) -> dict[str, Any]:
    """Share of each verdict, and of those the share that is right."""
    right = errors < RIGHT_MM
    out: dict[str, Any] = {"people": len(fits), "right": float(right.float().mean())}
    for verdict in (GOOD, DOUBTFUL, BAD):
        mask = torch.tensor([v == verdict for v in fits.verdict])
        out[verdict] = {"share": float(mask.float().mean()), "right": float(right[mask].float().mean())}
    return out


def main(config: VerdictConfig) -> None:
    body = vt.open_body(num_shape=10, num_expression=10)
    count = 100 if config.quick else config.count
    batch = draw_well_seen(held_out_people(body), count, seed=config.seed)
    truth = BodyParams(batch.rotations, batch.betas, batch.expression, batch.transl)
    drawn = {"synthetic detector": (People.in_picture(batch.keypoints, batch.camera), truth)}
    if not config.quick:
        tail = draw_kinds(body, TailConfig(quick=True, seed=config.seed))
        drawn |= {name: (seen.people, seen.params) for name, seen in tail.items()}
    out: dict[str, Any] = {}
    rows: list[dict[str, float | str]] = []
    for name, (people, true) in drawn.items():
        fits = vt.fit(body, people)
        errors = vertex_errors(body, fits.params, true)
        out[name] = rates(fits, errors)
        signs = signs_of(body, fits.params, people, min_confidence=0.1)
        columns = {f.name: getattr(signs, f.name).tolist() for f in fields(Signs)}
        for k, error in enumerate(errors.tolist()):
            values = {key: value[k] for key, value in columns.items()}
            rows.append({"kind": name, "pa_v2v_mm": error, "verdict": fits.verdict[k], **values})
        good = out[name][GOOD]
        print(
            f"{name:20s} right {out[name]['right']:5.1%}  good {good['share']:5.1%}, of them right {good['right']:5.1%}"
        )
    reasons = Counter(str(row["verdict"]) for row in rows)
    print(dict(reasons))
    if config.json is not None:
        config.json.write_text(json.dumps({"rates": out, "config": {**asdict(config), "json": None}, "rows": rows}))


if __name__ == "__main__":
    main(tyro.cli(VerdictConfig))
