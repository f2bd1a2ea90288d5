"""The motion capture data as one set of body poses: read, retargeted, thinned, split by subject, and cached."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import read_plain_arrays
from vitruvian.data.calibration import measure_person
from vitruvian.data.motion import Motion
from vitruvian.data.pose_selection import (
    distinct_frames,
    mirror_pose,
    plausible_frames,
    represented_frames,
    with_moving_collars,
)
from vitruvian.data.readers.asf_amc import read_amc, read_asf
from vitruvian.data.readers.bvh import read_bvh
from vitruvian.data.readers.cmu_expmap import read_cmu_expmap
from vitruvian.data.retargeting import Calibration, SkeletonMap, retarget
from vitruvian.data.skeleton_maps import CMU_ASF, CMU_BVH, CMU_POSER_BVH
from vitruvian.data.t_pose import pose_joints
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, log_so3
from vitruvian.tensors import BatchRecord

ARCHIVES = ("cmu_asf_amc_30hz.zip", "cmu_bvh_30hz.zip", "cmu_expmap_30hz.zip")
FRAME_RATE = 30.0
SPACING_M = 0.02
"""Poses of one subject closer than this (root mean square over joints) count as duplicates."""

TEST_SUBJECTS = ("02", "05", "12", "127", "135", "32")
VALIDATION_SUBJECTS = ("03", "09", "13", "26")
_UNNAMED = "unnamed-"
_FORMAT_VERSION = 6

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class PoseDataset(BatchRecord):
    """Body poses with where they come from.

    Args:
        axis_angle: rotations of the 22 body joints, the root first in a y-up world, radians.
        subjects: name of the person of each pose.
        clips: file of each pose, within its archive.
        frames: number of recorded frames that each pose stands for, at 30 a second.
    """

    axis_angle: Float[Tensor, "pose 22 3"]
    subjects: np.ndarray
    clips: np.ndarray
    frames: Float[Tensor, "pose"]

    def __len__(self) -> int:
        return len(self.axis_angle)

    @property
    def rotations(self) -> Float[Tensor, "pose 22 3 3"]:
        return exp_so3(self.axis_angle)

    def subject_weights(self, power: float = 0.5) -> Float[Tensor, "pose"]:
        """Sampling weights, mean one, that give a subject of n poses the total weight n**power."""
        _, inverse, counts = np.unique(self.subjects, return_inverse=True, return_counts=True)
        weights = torch.from_numpy(counts[inverse].astype(np.float64) ** (power - 1)).to(self.axis_angle)
        return weights / weights.mean()

    def frame_weights(self, *, subject_power: float = 0.5, frame_power: float = 0.5) -> Float[Tensor, "pose"]:
        """Sampling weights, mean one: a pose of n frames has weight n**frame_power among those of its subject.

        A subject of n poses has the total weight n**subject_power. Thinning leaves a few of the many frames in which
        people stand; weights give them back.
        """
        own = self.frames**frame_power
        _, inverse = np.unique(self.subjects, return_inverse=True)
        rows = torch.from_numpy(inverse)
        count = torch.zeros(int(rows.max()) + 1, dtype=own.dtype).index_add(0, rows, torch.ones_like(own))
        total = torch.zeros_like(count).index_add(0, rows, own)
        weights = own * (count**subject_power / total)[rows]
        return weights / weights.mean()


@dataclass(frozen=True)
class RecordedClip:
    """One file of motion, and whose it is."""

    subject: str
    name: str
    motion: Motion


def split_of(subject: str) -> Split:
    """The part of the data that a subject belongs to."""
    if subject in TEST_SUBJECTS:
        return "test"
    return "val" if subject in VALIDATION_SUBJECTS else "train"


def load_pose_dataset(
    shared_data_dir: Path | str,
    *,
    split: Split | None = None,
    max_per_subject: int | None = None,
    mirrored: bool = False,
    cache_dir: Path | str | None = None,
) -> PoseDataset:
    """Distinct body poses of the motion capture archives, one part of the split by subject or all.

    The first call reads and retargets everything (about two minutes) and caches the result.

    Args:
        shared_data_dir: folder with the archives (`ARCHIVES`).
        split: "train", "val" or "test"; None for all.
        max_per_subject: at most so many poses of one subject, spread evenly over its clips.
        mirrored: append the mirror image of every pose.
        cache_dir: where the cache lies; by default below $XDG_CACHE_HOME or ~/.cache.

    Raises:
        InputError: where an archive is missing or broken.
    """
    directory = Path(shared_data_dir)
    missing = [name for name in ARCHIVES if not (directory / name).is_file()]
    if missing:
        raise InputError("motion capture archives are missing", seen=missing, expected=f"in {directory}")
    cache = _cache_file(directory, cache_dir)
    if not cache.is_file():
        _write_cache(build_pose_dataset(directory), cache)
    stored = read_plain_arrays(cache)
    axis_angle, subjects, clips = stored["rotations_axis_angle"], stored["subject"], stored["clip"]
    frames = torch.from_numpy(stored["frames"])
    keep = np.ones(len(subjects), dtype=bool)
    if split is not None:
        keep &= np.array([split_of(str(s)) == split for s in subjects])
    if max_per_subject is not None:
        keep &= _spread(subjects, keep, max_per_subject)
    poses = torch.from_numpy(axis_angle[keep])
    data = PoseDataset(poses, subjects[keep], clips[keep], frames[keep])
    if not mirrored:
        return data
    flipped = log_so3(mirror_pose(data.rotations))
    return PoseDataset(
        torch.cat((poses, flipped)),
        np.concatenate([data.subjects] * 2),
        np.concatenate([data.clips] * 2),
        data.frames.repeat(2),
    )


def build_pose_dataset(directory: Path) -> PoseDataset:
    """Read, retarget, clean and thin all archives; poses come subject by subject."""
    poses: list[Tensor] = []
    subjects: list[str] = []
    clips: list[str] = []
    frames: dict[str, Tensor] = {}
    banks: dict[str, Tensor] = {}
    for clip, skeleton_map, calibration in clips_with_calibration(directory):
        body = retarget(clip.motion, skeleton_map, calibration=calibration)
        rotations = with_moving_collars(body.rotations[:, :22])
        rotations = rotations[plausible_frames(rotations, body.frame_rate)]
        if clip.subject.startswith(_UNNAMED) and _is_held_out(rotations[:, 1:], banks):
            continue
        rows, banks[clip.subject] = distinct_frames(rotations[:, 1:], SPACING_M, kept=banks.get(clip.subject))
        counts = represented_frames(rotations[:, 1:], banks[clip.subject])
        counts[: len(counts) - len(rows)] += frames.get(clip.subject, counts[:0])
        frames[clip.subject] = counts
        poses.append(log_so3(rotations[rows]).to(torch.float32))
        subjects += [clip.subject] * len(rows)
        clips += [clip.name] * len(rows)
    return PoseDataset(torch.cat(poses), np.array(subjects), np.array(clips), torch.cat(list(frames.values())))


def _is_held_out(body_pose: Float[Tensor, "frame 21 3 3"], banks: dict[str, Tensor]) -> bool:
    """Whether a clip of an unnamed person is a recording of a held-out subject: nearly all frames are known there."""
    held_out = torch.cat([bank for subject, bank in banks.items() if split_of(subject) != "train"])
    positions = pose_joints(body_pose).flatten(-2).to(held_out)
    nearest = torch.cdist(positions, held_out).amin(dim=1)
    return float((nearest < SPACING_M * 22**0.5).float().mean()) > 0.8


def clips_with_calibration(directory: Path) -> Iterator[tuple[RecordedClip, SkeletonMap, Calibration]]:
    """All clips at the common frame rate, each with the reading of its skeleton and its person's calibration."""
    with tempfile.TemporaryDirectory() as unpacked:
        root = Path(unpacked)
        for name in ARCHIVES:
            try:
                with zipfile.ZipFile(directory / name) as archive:
                    archive.extractall(root / Path(name).stem)
            except zipfile.BadZipFile as error:
                raise InputError("broken archive", seen=directory / name) from error
        for read in (_acclaim_clips, _bvh_clips, _expmap_clips):
            for clips, skeleton_map in read(root):
                calibration = measure_person([clip.motion for clip in clips], skeleton_map)
                for clip in clips:
                    yield clip, skeleton_map, calibration


def _acclaim_clips(root: Path) -> Iterator[tuple[list[RecordedClip], SkeletonMap]]:
    for folder in sorted((root / "cmu_asf_amc_30hz").iterdir()):
        skeleton = read_asf(folder / f"{folder.name}.asf")
        yield (
            [
                RecordedClip(folder.name, path.name, read_amc(path, skeleton, frame_rate=FRAME_RATE))
                for path in sorted(folder.glob("*.amc"))
            ],
            CMU_ASF,
        )


def _bvh_clips(root: Path) -> Iterator[tuple[list[RecordedClip], SkeletonMap]]:
    for folder in sorted((root / "cmu_bvh_30hz").iterdir()):
        paths = sorted(folder.glob("*.bvh"))
        skeleton_map = CMU_BVH if "Hips" in read_bvh(paths[0]).names else CMU_POSER_BVH
        unit = skeleton_map.metres_per_unit
        yield [
            RecordedClip(folder.name, f"{folder.name}_{path.name}" if folder.name not in path.name else path.name,
                  read_bvh(path, metres_per_unit=unit))
            for path in paths
        ], skeleton_map  # fmt: skip


def _expmap_clips(root: Path) -> Iterator[tuple[list[RecordedClip], SkeletonMap]]:
    skeleton = read_asf(root / "cmu_asf_amc_30hz" / "14" / "14.asf")
    actions: dict[str, list[RecordedClip]] = {}
    for path in sorted((root / "cmu_expmap_30hz").glob("*/*/*.txt")):
        action = path.parent.name
        motion = read_cmu_expmap(path, skeleton, frame_rate=FRAME_RATE)
        name = f"{path.parent.parent.name}_{path.name}"
        actions.setdefault(action, []).append(RecordedClip(f"{_UNNAMED}{action}", name, motion))
    for clips in actions.values():
        yield clips, CMU_ASF


def _spread(subjects: np.ndarray, keep: np.ndarray, most: int) -> np.ndarray:
    """Mask of at most `most` kept poses per subject, evenly spread over their order."""
    chosen = np.zeros(len(subjects), dtype=bool)
    for subject in np.unique(subjects):
        rows = np.flatnonzero((subjects == subject) & keep)
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        chosen[rows] = True
    return chosen


def _cache_file(directory: Path, cache_dir: Path | str | None) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitruvian"
    sizes = [(directory / name).stat().st_size for name in ARCHIVES]
    key = hashlib.sha256(repr((_FORMAT_VERSION, SPACING_M, sizes)).encode()).hexdigest()[:16]
    return Path(cache_dir or home) / f"mocap-{key}.npz"


def _write_cache(data: PoseDataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez_compressed(
        partial, rotations_axis_angle=data.axis_angle.numpy(), subject=data.subjects, clip=data.clips,
        frames=data.frames.numpy(),
    )  # fmt: skip
    partial.replace(path)
