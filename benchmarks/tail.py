"""The worst results: fits of people from every side and any way up, in rare poses, and with spoilt keypoints.

    python benchmarks/tail.py --quick --json tail.json

Poses are those held out from every training, which lie inside the package; bodies, cameras and noise are seeded. A
failure is a PA-MPJPE above 100 mm; keypoints are missed where the sure ones of the body end, on average, more than 3 %
of the person's size away; facing is wrong where the pelvis is turned by more than 90° from the truth.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

import vitruvian as vt
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data.pose_selection import mirror_pose
from vitruvian.estimation.second_chance import SecondChance
from vitruvian.estimation.verdicts import signs_of
from vitruvian.evaluation.held_out import held_out_poses
from vitruvian.evaluation.metrics import mpjpe_mm, pa_error_mm
from vitruvian.fits import Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.keypoints.places import mirror_place
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_spaces import HandPCA

FAILURE_MM = 100.0
MISSED_SHARE = 0.03
IMAGE_PX = 1000
FORMAT = "openpose"
LEVEL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Stands a body upright before a level camera, facing it."""


@dataclass(frozen=True)
class TailConfig:
    """Options of the benchmark."""

    quick: bool = False
    """40 people of each kind in place of 160."""
    noise_px: float = 2.0
    """Standard deviation of the keypoints."""
    missing: float = 0.1
    """Share of keypoints that are not seen."""
    seed: int = 7
    prior: str = "flow"
    second_chance: bool = True
    """Fit those again who miss their keypoints."""
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True, eq=False)
class Seen:
    """True bodies in the camera frame, and the people that are seen of them."""

    params: BodyParams
    people: People


def knee_flexion_deg(rotations: Float[Tensor, "batch joint 3 3"]) -> Float[Tensor, "batch 2"]:
    """Signed flexion of both knees: the turn about the knee's axis, positive where the heel goes back."""
    knees = [BODY_JOINTS.index(f"{side}_knee") for side in ("left", "right")]
    R = rotations[:, knees]
    return torch.rad2deg(torch.atan2(R[..., 2, 1], R[..., 1, 1]))


def trunk_up(rotations: Float[Tensor, "batch joint 3 3"]) -> Float[Tensor, "batch"]:
    """Height of the trunk's direction in a world with y up: 1 upright, 0 lying, −1 upside-down."""
    return rotations[:, 0, 1, 1]


def recorded(condition: Callable[[Tensor], Tensor], count: int, generator: torch.Generator) -> Tensor:
    """`count` held-out poses that meet a condition, in a world with y up."""
    poses = held_out_poses().rotations
    rows = condition(poses).nonzero()[:, 0]
    return poses[rows[torch.randint(0, len(rows), (count,), generator=generator)]].clone()


def standing(poses: Tensor) -> Tensor:
    return (trunk_up(poses) > 0.9) & (knee_flexion_deg(poses).amax(1) < 25)


def crouching(poses: Tensor) -> Tensor:
    return (trunk_up(poses) > 0.5) & (knee_flexion_deg(poses).amin(1) > 50)


def lying_or_bent(poses: Tensor) -> Tensor:
    return trunk_up(poses) < 0.55


def any_pose(poses: Tensor) -> Tensor:
    return torch.ones(len(poses), dtype=torch.bool)


def heading(poses: Tensor) -> Tensor:
    """Turn about the vertical that a recorded person already has."""
    return torch.atan2(poses[:, 0, 0, 2], poses[:, 0, 2, 2])


def draw(
    body: BodyModel,
    poses: Float[Tensor, "person 22 3 3"],
    yaw: Float[Tensor, "person"],
    roll: Float[Tensor, "person"],
    config: TailConfig,
    generator: torch.Generator,
) -> Seen:
    """People in these poses, turned to `yaw` before the camera (0 faces it) and by `roll` in the picture."""
    count = len(poses)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    rotations = torch.eye(3).repeat(count, body.num_joints, 1, 1)
    rotations[:, :22] = poses
    zero = torch.zeros(count)
    turned = exp_so3(torch.stack((zero, yaw - heading(poses), zero), -1))
    tilt = exp_so3(torch.stack((0.15 * torch.randn(count, generator=generator), zero, roll), -1))
    rotations[:, 0] = tilt @ LEVEL @ turned @ rotations[:, 0]
    for side in ("left", "right"):
        space = HandPCA.learnt(side, num_components=20)
        rotations[:, list(space.joints)] = space.decode(torch.randn(count, 20, generator=generator))
    betas, expression = (torch.randn(count, 10, generator=generator) for _ in range(2))
    camera = Camera.from_image_size(IMAGE_PX, IMAGE_PX).map(lambda x: x.expand(count, 2).clone())
    pelvis = torch.stack((uniform(-0.3, 0.3, count), uniform(-0.2, 0.2, count), uniform(3.0, 4.5, count)), -1)
    shaped = body.with_shape(betas, expression)
    params = BodyParams(rotations, betas, expression, pelvis - shaped.joints[:, 0])
    targets = keypoint_targets(body, FORMAT)
    pixels = camera.project(shaped.with_pose(rotations, params.transl).points(targets.points))
    pixels = pixels + config.noise_px * torch.randn(pixels.shape, generator=generator)
    keypoints = Keypoints.empty(FORMAT, people=count)
    positions, confidence = keypoints.positions.clone(), keypoints.confidence.clone()
    positions[:, targets.keypoint] = pixels
    confidence[:, targets.keypoint] = (uniform(0, 1, count, len(targets)) >= config.missing).float() * 0.9
    seen = Keypoints(positions, confidence, FORMAT).sanitized((float(IMAGE_PX), float(IMAGE_PX)))
    return Seen(params, People.in_picture(seen, camera))


def with_keypoints(seen: Seen, positions: Tensor, confidence: Tensor) -> Seen:
    return replace(seen, people=replace(seen.people, keypoints=Keypoints(positions, confidence, FORMAT)))


def faces_guessed(seen: Seen, generator: torch.Generator) -> Seen:
    """Of heads seen from behind, nose and eyes where they would be seen through the head, confidence 0.5 to 0.9."""
    keypoints = seen.people.keypoints
    confidence = keypoints.confidence.clone()
    confidence[:, list(keypoints.definition.groups["face"])] = 0.0
    for place in ("nose", "left_eye", "right_eye"):
        row = keypoints.definition.index(place)
        confidence[:, row] = 0.5 + 0.4 * torch.rand(len(confidence), generator=generator)
    return with_keypoints(seen, keypoints.positions, confidence)


def without_faces(seen: Seen) -> Seen:
    """Heads from behind as a careful detector sees them: no nose, no eyes, no face."""
    keypoints = seen.people.keypoints
    confidence = keypoints.confidence.clone()
    hidden = [keypoints.definition.index(place) for place in ("nose", "left_eye", "right_eye")]
    confidence[:, [*hidden, *keypoints.definition.groups["face"]]] = 0.0
    return with_keypoints(seen, keypoints.positions, confidence)


def limbs_exchanged(seen: Seen, generator: torch.Generator) -> Seen:
    """Left and right of the arms or of the legs exchanged by the detector."""
    keypoints = seen.people.keypoints
    places, flip = keypoints.definition.places, torch.tensor(keypoints.definition.flip)
    own = torch.arange(len(flip))
    orders = []
    for words in (("elbow", "wrist"), ("knee", "ankle", "toe", "heel")):
        affected = torch.tensor([any(word in place for word in words) for place in places])
        orders.append(torch.where(affected, flip, own))
    chosen = torch.stack(orders)[torch.randint(0, 2, (len(seen.people),), generator=generator)]
    positions = keypoints.positions.gather(1, chosen[..., None].expand(-1, -1, 2))
    return with_keypoints(seen, positions, keypoints.confidence.gather(1, chosen))


def with_junk(seen: Seen, generator: torch.Generator) -> Seen:
    """A third of the keypoints replaced by points anywhere, of confidence below 0.1."""
    keypoints = seen.people.keypoints
    spoilt = torch.rand(keypoints.confidence.shape, generator=generator) < 0.33
    anywhere = torch.rand(keypoints.positions.shape, generator=generator) * IMAGE_PX
    low = 0.001 + 0.09 * torch.rand(keypoints.confidence.shape, generator=generator)
    return with_keypoints(
        seen,
        torch.where(spoilt[..., None], anywhere, keypoints.positions),
        torch.where(spoilt, low, keypoints.confidence),
    )


def draw_kinds(body: BodyModel, config: TailConfig) -> dict[str, Seen]:
    """The people of every kind; each kind has a seed of its own."""
    count = 40 if config.quick else 160

    def generator(kind: int) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * config.seed + kind)

    def kind(
        number: int, condition: Callable[[Tensor], Tensor], *, yaw: float | None = None, upside_down: bool = False
    ) -> tuple[Seen, torch.Generator]:
        source = generator(number)
        poses = recorded(condition, count, source)
        around = (torch.rand(count, generator=source) * 2 - 1) * torch.pi
        turn = around if yaw is None else yaw + 0.3 * (torch.rand(count, generator=source) * 2 - 1)
        roll = 0.06 * torch.randn(count, generator=source) + (torch.pi if upside_down else 0.0)
        return draw(body, poses, turn, roll, config, source), source

    behind, source = kind(5, any_pose, yaw=torch.pi)
    half = torch.arange(count) < count // 2
    careful, guessed = without_faces(behind), faces_guessed(behind, source)
    mixed = with_keypoints(
        behind,
        careful.people.keypoints.positions,
        torch.where(half[:, None], careful.people.keypoints.confidence, guessed.people.keypoints.confidence),
    )
    mirrored = recorded(any_pose, count, generator(7))
    around = (torch.rand(count, generator=generator(17)) * 2 - 1) * torch.pi
    return {
        "standing": kind(1, standing)[0],
        "crouching": kind(2, crouching)[0],
        "lying or bent": kind(3, lying_or_bent)[0],
        "upside-down": kind(4, any_pose, upside_down=True)[0],
        "from behind": mixed,
        "from the side": kind(6, any_pose, yaw=torch.pi / 2)[0],
        "mirrored": draw(body, mirror_pose(mirrored), around, 0 * around, config, generator(27)),
        "exchanged limbs": limbs_exchanged(*kind(8, any_pose)),
        "junk points": with_junk(*kind(9, any_pose)),
    }


def score(body: BodyModel, fits: Fits, seen: Seen) -> dict[str, Any]:
    """Errors of 22 joints about the pelvis, shares of failures, of missed keypoints, and of wrong facing."""
    found = fits.pose(body).joints[:, :22].double()
    true = (
        body.with_shape(seen.params.betas).with_pose(seen.params.rotations, seen.params.transl).joints[:, :22].double()
    )
    plain, aligned = mpjpe_mm(found, true), pa_error_mm(found, true)
    signs = signs_of(body, fits.params, seen.people, min_confidence=0.1)
    agreement = torch.einsum("bi,bi->b", fits.params.rotations[:, 0, :, 2], seen.params.rotations[:, 0, :, 2])
    good = torch.tensor([verdict == "good" for verdict in fits.verdict])
    return {
        "fit": {
            "mpjpe_mm": float(plain.mean()),
            "pa_mpjpe_mm": float(aligned.mean()),
            "failures": float((aligned > FAILURE_MM).float().mean()),
            "missed_keypoints": float((signs.misfit_body > MISSED_SHARE).float().mean()),
        },
        "facing_wrong": float((agreement < 0).float().mean()),
        "said_good": float(good.float().mean()),
        "failures_said_good": float(((aligned > FAILURE_MM) & good).float().mean()),
        "second_chances": sum(name not in ("flow", "vposer", "mixture") for name in fits.prior) / len(fits),
    }


def turned(people: People, angle: float) -> People:
    """The picture turned about the optical axis."""
    camera = people.known_camera
    R = exp_so3(torch.tensor([0.0, 0.0, angle]))[:2, :2]
    offset = people.keypoints.positions - camera.center_px[:, None]
    moved = Keypoints(offset @ R.T + camera.center_px[:, None], people.keypoints.confidence, FORMAT)
    return replace(people, keypoints=moved)


def symmetries(body: BodyModel, people: People, fit: Callable[[People], Fits]) -> dict[str, float]:
    """How far the fit of a mirrored or turned picture is from the mirrored or turned fit."""
    before = fit(people)
    flipped = replace(people, keypoints=people.keypoints.flip(IMAGE_PX))
    mirror = fit(flipped).pose(body).joints[:, :22].clone()
    order = [BODY_JOINTS.index(mirror_place(name)) for name in BODY_JOINTS]
    mirror[..., 0] *= -1
    joints = before.pose(body).joints[:, :22]
    about = joints - joints[:, :1], (mirror - mirror[:, :1])[:, order]
    angle = 2.2
    R = exp_so3(torch.tensor([0.0, 0.0, angle]))
    root = fit(turned(people, angle)).params.rotations[:, 0]
    difference = (R @ before.params.rotations[:, 0]).transpose(-1, -2) @ root
    cosine = ((difference.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    return {
        "mirror_mm": float((about[0] - about[1]).norm(dim=-1).mean() * 1000),
        "roll_deg": float(torch.rad2deg(torch.arccos(cosine)).mean()),
    }


def knee_bias(found: Tensor, true: Tensor) -> dict[str, float]:
    """Mean signed error of knee flexion by the true flexion, degrees."""
    a, b = knee_flexion_deg(found).flatten(), knee_flexion_deg(true).flatten()
    bias = {}
    for low, high in ((-20, 15), (15, 40), (40, 180)):
        rows = (b >= low) & (b < high)
        bias[f"{max(low, 0)}-{high}"] = float((a - b)[rows].mean()) if bool(rows.any()) else float("nan")
    return bias


def main(config: TailConfig) -> None:
    body = vt.open_body(num_shape=10, num_expression=10)
    chance = SecondChance() if config.second_chance else None

    def fit(people: People) -> Fits:
        return vt.fit(body, people, prior=config.prior, second_chance=chance)

    kinds: dict[str, Mapping[str, Any]] = {}
    found, true = [], []
    began = time.process_time()
    for name, seen in draw_kinds(body, config).items():
        fits = fit(seen.people)
        kinds[name] = score(body, fits, seen)
        found.append(fits.params.rotations)
        true.append(seen.params.rotations)
        row = kinds[name]["fit"]
        print(
            f"{name:16s} {row['mpjpe_mm']:6.1f} / {row['pa_mpjpe_mm']:5.1f} mm  failures {row['failures']:5.1%}  "
            f"missed {row['missed_keypoints']:5.1%}  facing wrong {kinds[name]['facing_wrong']:5.1%}  "
            f"good {kinds[name]['said_good']:4.0%}  again {kinds[name]['second_chances']:4.0%}",
            flush=True,
        )
    seconds = time.process_time() - began
    some = draw_kinds(body, replace(config, quick=True))["crouching"].people[slice(0, 24)]
    out = {
        "kinds": kinds,
        **symmetries(body, some, fit),
        "knee_bias_deg": knee_bias(torch.cat(found[:1]), torch.cat(true[:1])),
        "knee_bias_all_deg": knee_bias(torch.cat(found), torch.cat(true)),
        "processor_ms_per_person": 1000 * seconds / sum(len(rotations) for rotations in found),
        "config": {**asdict(config), "json": None},
    }
    print({key: value for key, value in out.items() if key not in ("kinds", "config")})
    if config.json is not None:
        config.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main(tyro.cli(TailConfig))
