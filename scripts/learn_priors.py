"""Learns the hand statistics, the pose mixture and the joint limits, and writes the card of all learnt priors.

Run from the repository root, after `vitruvian train vposer` has put its weights into src/vitruvian/resources/priors:

    python scripts/learn_priors.py --shared-data FOLDER [--card-only]
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from vitruvian.bodies.open_body import open_body
from vitruvian.data.mocap import clips_with_calibration, load_pose_dataset, split_of
from vitruvian.data.pose_selection import plausible_frames, with_moving_collars
from vitruvian.data.retargeting import retarget
from vitruvian.data.retargeting_check import check_retargeting
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.vposer import read_vposer
from vitruvian.training.checkpoints import read_weights
from vitruvian.training.hand_prior import HELD_OUT_SIGNS, HandPriorConfig, learn_hand_prior
from vitruvian.training.pose_statistics import PoseStatisticsConfig, learn_pose_statistics, mean_log_likelihood
from vitruvian.training.prior_figures import plausibility_figures, reconstruction_figures

PRIORS = Path(__file__).parents[1] / "src" / "vitruvian" / "resources" / "priors"
POSES_PER_TEST_SUBJECT = 400


@dataclass(frozen=True)
class LearnPriors:
    """Options of the script."""

    shared_data: Path
    """Folder with the motion capture archives and the hand recordings."""
    card_only: bool = False
    """Leave the weights as they are and keep their figures of the last learning."""


def flavour_of(names: tuple[str, ...]) -> str:
    """The kind of file that a skeleton comes from."""
    if "lButtock" in names:
        return "43-joint BVH"
    return "31-joint BVH" if "Hips" in names else "ASF/AMC"


def data_figures(shared_data: Path) -> dict[str, object]:
    """Counts of the data set, and errors of the retargeting by flavour of skeleton and body joint."""
    frames, dropped = Counter[str](), Counter[str]()
    errors: dict[str, dict[str, list[tuple[float, int]]]] = {}
    for clip, skeleton_map, calibration in clips_with_calibration(shared_data):
        body = retarget(clip.motion, skeleton_map, calibration=calibration)
        good = plausible_frames(with_moving_collars(body.rotations[:, :22]), body.frame_rate)
        frames[clip.subject] += len(good)
        dropped[clip.subject] += int((~good).sum())
        check = check_retargeting(clip.motion, skeleton_map)
        table = errors.setdefault(flavour_of(clip.motion.names), {})
        for unit, values in (("mm", check.position_mm), ("deg", check.angle_deg)):
            for joint, error in values.items():
                table.setdefault(f"{joint}_{unit}", []).append((error, clip.motion.num_frames))
    poses = Counter(str(s) for s in load_pose_dataset(shared_data).subjects)
    subjects = {
        name: {"split": split_of(name), "frames": frames[name], "dropped": dropped[name], "poses": poses[name]}
        for name in sorted(frames)
    }
    totals = {}
    for split in ("train", "val", "test"):
        rows = [row for row in subjects.values() if row["split"] == split]
        totals[split] = {key: sum(int(row[key]) for row in rows) for key in ("frames", "dropped", "poses")}
    return {"subjects": subjects, "totals": totals, "retargeting": _means(errors)}


def _means(errors: dict[str, dict[str, list[tuple[float, int]]]]) -> dict[str, dict[str, float]]:
    return {
        flavour: {
            key: round(sum(error * count for error, count in pairs) / sum(count for _, count in pairs), 2)
            for key, pairs in table.items()
        }
        for flavour, table in errors.items()
    }


def prior_figures(shared_data: Path) -> dict[str, object]:
    """Figures of VPoser and of the mixture on the test subjects."""
    test = load_pose_dataset(shared_data, split="test", max_per_subject=POSES_PER_TEST_SUBJECT)
    validation = load_pose_dataset(shared_data, split="val", max_per_subject=POSES_PER_TEST_SUBJECT)
    vposer, mixture = read_vposer(PRIORS / "vposer.safetensors"), MixturePrior.learnt()
    _, metadata = read_weights(PRIORS / "vposer.safetensors")
    plausibility = plausibility_figures(vposer, mixture, test, validation, generator=torch.Generator().manual_seed(0))
    return {
        "test_poses": len(test),
        "vposer": {
            **asdict(reconstruction_figures(vposer, open_body(), test.rotations[:, 1:])),
            "training": {key: metadata[key] for key in ("steps", "seconds", "config", "validation")},
        },
        "mixture": {"test_log_likelihood": mean_log_likelihood(mixture, test)},
        "plausibility_auc": {name: asdict(figures) for name, figures in plausibility.items()},
    }


def card_text(card: dict) -> str:  # type: ignore[type-arg]
    """The card as Markdown."""
    totals, vposer, mixture, hands = card["data"]["totals"], card["vposer"], card["mixture"], card["hands"]
    auc = card["plausibility_auc"]
    by_split = {
        split: ", ".join(n for n, row in card["data"]["subjects"].items() if row["split"] == split) for split in totals
    }
    lines = [
        "# Learnt priors",
        "",
        "| file | what |",
        "|---|---|",
        "| `vposer.safetensors` | VPoser: autoencoder of body poses, 32-d latent, 16-bit weights |",
        "| `mixture.npz` | 8 Gaussians with full covariance over the 63 turns of the body joints from a mean pose |",
        "| `joint_limits.npz` | ranges of motion of 54 joints: quantiles of the data, widened, and textbook ranges |",
        "| `hands.npz` | mean, principal components and spread of the finger rotations of both hands |",
        "",
        "Licence: Apache-2.0.",
        "",
        "## Data",
        "",
        "- Body: CMU Graphics Lab Motion Capture Database (free for research and commercial use). The data used in this"
        " project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217.",
        "- Hands: 50,665 hands of 42 signs recorded with a Leap Motion device, BSD 3-Clause, © 2017 Pakpoom"
        " Thaweesitthichat. Signs held out: " + ", ".join(HELD_OUT_SIGNS) + ".",
        "- Joint limits that motion capture does not show: see the sources in `vitruvian.priors.joint_limits`.",
        "",
        "| split | subjects | frames at 30 Hz | dropped as glitches | distinct poses |",
        "|---|---|---|---|---|",
        *(
            f"| {split} | {by_split[split]} | {row['frames']:,} | {row['dropped']:,} | {row['poses']:,} |"
            for split, row in totals.items()
        ),
        "",
        "Poses of one subject closer than 20 mm (root mean square over joints) count as one. A training clip of an"
        " unnamed person is left out where its frames lie among those of a held-out subject. The collars, still in the"
        " recordings, follow the arms by a rule (`vitruvian.data.pose_selection`). Flat feet and straight knees are"
        " measured on each person's clips (`vitruvian.data.calibration`); a pose counts by the square root of the"
        " frames that it stands for.",
        "",
        "### Retargeting: mean error of joint positions (mm), forward kinematics against the source",
        "",
        *_retargeting_table(card["data"]["retargeting"]),
        "",
        "Bones laid onto the T-pose keep their directions to within "
        f"{max(v for t in card['data']['retargeting'].values() for k, v in t.items() if k.endswith('_deg')):.2f}°."
        " Only the head differs by design (the neck takes half of its turn: the recorded neck bones zigzag), and the"
        " upper body of the 43-joint files, whose two spine bones are spread over three joints.",
        "",
        f"## Figures on the test subjects ({card['test_poses']:,} poses, at most {POSES_PER_TEST_SUBJECT} each)",
        "",
        "| measure | value |",
        "|---|---|",
        f"| VPoser, reconstruction: joints / vertices of the open body / angle | {vposer['joint_mm']:.1f} mm / "
        f"{vposer['vertex_mm']:.1f} mm / {vposer['angle_deg']:.2f}° |",
        f"| mixture, log-likelihood (nats, 63 numbers in radians): training / validation / test | "
        f"{mixture['train']:.1f} / {mixture['validation']:.1f} / {mixture['test_log_likelihood']:.1f} |",
        f"| one Gaussian instead of eight, validation | {mixture['validation_one_gaussian']:.1f} |",
        "| hands, angle per joint left by 6 / 12 / 24 components, held-out signs | "
        + " / ".join(f"{hands['reconstruction_deg'][str(k)]:.2f}°" for k in (6, 12, 24))
        + " |",
        f"| hands, log-likelihood: Gaussian / one variance for all, held-out signs | {hands['log_likelihood']:.1f} / "
        f"{hands['log_likelihood_isotropic']:.1f} |",
        "",
        "Area under the ROC curve of telling real test poses from spoilt ones (0.5 is chance):",
        "",
        "| prior | one joint 10-40° past its limit | joints shuffled between poses |",
        "|---|---|---|",
        *(f"| {name} | {row['past_limit']:.3f} | {row['shuffled']:.3f} |" for name, row in auc.items()),
        "",
        "VPoser's energy here is ½|z|² of the encoded pose plus ½ Σ (angle / σ)² of what it cannot rebuild, σ being the"
        " root mean square on the validation subjects.",
        "",
        "## How they were made",
        "",
        f"- VPoser: `vitruvian train vposer`, {vposer['training']['steps']:,} steps in"
        f" {vposer['training']['seconds'] / 60:.0f} minutes of one shared CPU core"
        + (", from the weights of the version before" if vposer["training"]["config"].get("start") else "")
        + "; configuration in its metadata.",
        "- The rest: `python scripts/learn_priors.py --shared-data FOLDER`. All figures are in `card.json`.",
        "",
        "## Limits",
        "",
        "Walking, dance, sport and everyday gestures of 30 people; hardly any sitting or lying. Wrists move only in"
        " some of the files, toes follow a rule of the recording software. Finger poses come from signs seen by one"
        " device.",
        "",
    ]
    return "\n".join(lines)


def _retargeting_table(errors: dict[str, dict[str, float]]) -> list[str]:
    flavours = list(errors)
    joints = [key.removesuffix("_mm") for key in errors["ASF/AMC"] if key.endswith("_mm")]
    sides = {joint.removeprefix("left_"): joint for joint in joints if not joint.startswith("right_")}
    rows = []
    for name, left in sides.items():
        cells = []
        for flavour in flavours:
            keys = [f"{left}_mm", f"{left.replace('left_', 'right_')}_mm"]
            found = [errors[flavour][key] for key in keys if key in errors[flavour]]
            cells.append(f"{sum(found) / len(found):.1f}" if found else "")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return ["| joint | " + " | ".join(flavours) + " |", "|---" * (len(flavours) + 1) + "|", *rows]


def main(options: LearnPriors) -> None:
    """Learn, measure, write."""
    card_file = PRIORS / "card.json"
    if options.card_only:
        old = json.loads(card_file.read_text())
        hands, mixture = old["hands"], old["mixture"]
    else:
        hands = asdict(learn_hand_prior(HandPriorConfig(options.shared_data, PRIORS / "hands.npz")))
        mixture = asdict(learn_pose_statistics(PoseStatisticsConfig(options.shared_data, PRIORS)))
    figures = prior_figures(options.shared_data)
    card = {
        "data": data_figures(options.shared_data),
        "hands": hands,
        **figures,
        "mixture": {**mixture, **figures["mixture"]},  # type: ignore[dict-item]
    }
    text = json.dumps(card, indent=1)
    card_file.write_text(text + "\n")
    (PRIORS / "card.md").write_text(card_text(json.loads(text)))


if __name__ == "__main__":
    main(tyro.cli(LearnPriors))
