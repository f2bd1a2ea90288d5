"""Samples registrations (bodies of one topology with known joints) from the `anny` package, in the SMPL-X skeleton.

Anny (Apache-2.0, by NAVER) carries the MakeHuman data (CC0). Its axes are z up, facing −y; here everything is y up,
facing +z. The bodies come in MakeHuman's own rest pose (arms lowered); `learning` brings them to the T-pose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import FINGERS, SMPLX
from vitruvian.errors import MissingPackageError


@dataclass(frozen=True)
class AdultSampling:
    """Distribution of the sampled adults; deviations are chosen wide so that 140-205 cm is within three of them."""

    height_mean_cm: tuple[float, float] = (174.0, 165.0)
    """Male, female."""
    height_deviation_cm: float = 13.0
    height_range_cm: tuple[float, float] = (136.0, 209.0)
    weight_deviation: float = 0.30
    muscle_deviation: float = 0.27
    proportions_deviation: float = 0.25
    local_deviation: float = 0.07
    """Of each of Anny's local changes (nose width, hip depth, ...), the same on the left and the right."""
    gender_spread: float = 0.12
    age: tuple[float, float] = (0.62, 0.88)
    """Anny's own scale: 2/3 is a young adult, 1 a very old one."""


@dataclass(frozen=True, eq=False)
class RestBodies:
    """Bodies in MakeHuman's rest pose, metres, y up, facing +z; joints in SMPL-X order."""

    vertices: Float[Tensor, "body vertex 3"]
    joints: Float[Tensor, "body joint 3"]
    """Centres of Anny's joints. Its knees, shoulders and spine slide along the body with stature and proportions
    (knees by up to 4 cm): for joints that keep to the anatomy, anchor them to the skin (`open_body_learning`)."""
    tips: Float[Tensor, "body 10 3"]
    """Finger tips, left then right hand, each in the order of `skeletons.FINGERS`."""


_FINGER_NUMBERS = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
# Joints as mixtures of heads of Anny's bones. Left names; the right side mirrors them.
_CENTRE_JOINTS: dict[str, dict[str, float]] = {
    "pelvis": {"spine05": 1.0},
    "spine1": {"spine04": 0.5, "spine03": 0.5},
    "spine2": {"spine02": 1.0},
    "spine3": {"spine01": 0.6, "spine02": 0.4},
    "neck": {"neck01": 1.0},
    "head": {"head": 1.0},
    "jaw": {"jaw": 1.0},
}
_LEFT_JOINTS: dict[str, dict[str, float]] = {
    "hip": {"upperleg01.L": 0.9, "upperleg01.R": 0.1},  # MakeHuman's hips are wide: towards the acetabulum
    "knee": {"lowerleg01.L": 1.0},
    "ankle": {"foot.L": 1.0},
    "foot": {"toe1-1.L": 0.4, "toe3-1.L": 0.3, "toe5-1.L": 0.3},
    "collar": {"clavicle.L": 0.6, "shoulder01.L": 0.4},
    "shoulder": {"upperarm01.L": 1.0},
    "elbow": {"lowerarm01.L": 1.0},
    "wrist": {"wrist.L": 1.0},
    "eye": {"eye.L": 1.0},
    **{f"{name}{k}": {f"finger{number}-{k}.L": 1.0} for name, number in _FINGER_NUMBERS.items() for k in (1, 2, 3)},
}
# The joint that moves a bone's skin, by the start of the bone's name; the longest match counts.
_BONE_OWNERS: dict[str, str] = {
    "root": "pelvis", "pelvis": "pelvis", "spine05": "pelvis", "spine04": "spine1", "spine03": "spine1",
    "spine02": "spine2", "breast": "spine3", "spine01": "spine3", "neck": "neck", "head": "head",
    "clavicle": "collar", "shoulder01": "collar", "upperarm": "shoulder", "lowerarm": "elbow", "wrist": "wrist",
    "metacarpal": "wrist", "upperleg": "hip", "lowerleg": "knee", "foot": "ankle", "toe": "foot",
    "jaw": "jaw", "special04": "jaw", "oris01": "jaw", "oris02": "jaw", "oris06": "jaw", "oris07": "jaw",
    "tongue": "jaw", "eye": "eye",
    "levator": "head", "special": "head", "oris": "head", "orbicularis": "head", "temporalis": "head",
    "oculi": "head", "risorius": "head",
    **{f"finger{number}-{k}": f"{name}{k}" for name, number in _FINGER_NUMBERS.items() for k in (1, 2, 3)},
}  # fmt: skip
# The unpaired bone oris06 (upper lip) hangs on the skull, its left and right name-sakes on the jaw.
_EXCEPTIONS = {"oris06": "head", "oris05": "head"}

# Actions that the jaw and eye joints do, that hide the tongue's geometry, or that only make sense with an open jaw.
ACTIONS_OF_JOINTS = ("jaw", "eyeLook", "tongueOut", "mouthClose")


class AnnySource:
    """Anny's body with every phenotype, facial action and local change, ready to be sampled.

    Raises:
        MissingPackageError: the build extra `anny` is not installed.
    """

    def __init__(self) -> None:
        try:
            import anny
        except ImportError as error:
            raise MissingPackageError(
                "sampling registrations needs the package anny", hint='pip install "vitruvian[build]"'
            ) from error
        self.version: str = anny.__version__
        self._model: Any = anny.Anny(
            rig="makehuman", local_changes="default", facial_actions="all", phenotypes="all", skinning_method="lbs"
        )
        self.faces: Int[Tensor, "face 3"] = self._model.faces.clone()
        self.uv: Float[Tensor, "corner 2"] = self._model.texture_coordinates.clone()
        self.uv_faces: Int[Tensor, "face 3"] = self._model.face_texture_coordinate_indices.clone()
        self.actions: tuple[str, ...] = tuple(self._model.facial_action_labels)
        self._bones: list[str] = list(self._model.bone_labels)
        self._mixture = _joint_mixture(self._bones)
        self._local = tuple(self._model.local_change_labels)

    def initial_weights(self) -> Float[Tensor, "vertex joint"]:
        """MakeHuman's painted skinning weights, summed over the bones that belong to each joint."""
        owner = torch.tensor([SMPLX.index(owner_of(bone)) for bone in self._bones])
        weights = torch.zeros(len(self._model.template_vertices), len(SMPLX), dtype=torch.float64)
        joints = owner[self._model.vertex_bone_indices]
        weights.scatter_add_(1, joints, self._model.vertex_bone_weights.to(torch.float64))
        return weights / weights.sum(1, keepdim=True)

    def outer_vertices(self) -> Int[Tensor, "kept"]:
        """Vertices of the mesh without the tongue, which would only cross the mouth."""
        bones = torch.tensor([bone.startswith("tongue") for bone in self._bones])
        tongue = (self._model.vertex_bone_weights * bones[self._model.vertex_bone_indices]).sum(1) > 0.5
        island = _islands(self.faces, len(tongue))
        whole = torch.unique(island[tongue])
        inner = torch.stack([island == i for i in whole if bool(tongue[island == i].all())]).any(0)
        return (~inner).nonzero()[:, 0]

    def keypoint_vertices(self) -> dict[str, int]:
        """The vertices that are keypoints on the surface, by name (`nose`, `left_heel`, `right_index_tip`, ...)."""
        v = _y_up(self._model.template_vertices)
        weights = self.initial_weights()
        out: dict[str, int] = {}

        def extreme(score: Tensor, mask: Tensor) -> int:
            return int(torch.where(mask, score, -torch.inf).argmax())

        head = weights[:, SMPLX.index("head")] > 0.5
        out["nose"] = extreme(v[:, 2], head & (v[:, 0].abs() < 0.004))
        for side, letter, sign in (("left", "L", 1.0), ("right", "R", -1.0)):
            eye = weights[:, SMPLX.index(f"{side}_eye")] > 0.9
            out[f"{side}_eye_front"] = extreme(v[:, 2], eye)
            ear = self._changed_by(f"{side[0]}-ear-scale-incr")
            middle = v[ear].mean(0)
            # The front of the ear (tragus): where detectors put the keypoint.
            target = middle + torch.tensor([0.0, -0.004, 0.003], dtype=v.dtype)
            out[f"{side}_ear"] = extreme(-(v - target).norm(dim=1) + 0.5 * sign * v[:, 0], ear)
            for toe, bone in (("big_toe", "toe1"), ("small_toe", "toe5")):
                out[f"{side}_{toe}"] = extreme(v[:, 2], self._moved_by(bone, letter) > 0.6)
            heel = (weights[:, SMPLX.index(f"{side}_ankle")] > 0.5) & (v[:, 1] < v[:, 1].min() + 0.035)
            out[f"{side}_heel"] = extreme(-v[:, 2] - 0.3 * v[:, 1], heel)
            for finger in FINGERS:
                bone = f"finger{_FINGER_NUMBERS[finger]}-3"
                row = self._bones.index(f"{bone}.{letter}")
                head_point, tail = (
                    _y_up(x[row]) for x in (self._model.template_bone_heads, self._model.template_bone_tails)
                )
                along = (v - head_point) @ torch.nn.functional.normalize(tail - head_point, dim=0)
                out[f"{side}_{finger}_tip"] = extreme(along, self._moved_by(bone, letter) > 0.6)
        return out

    def _moved_by(self, prefix: str, letter: str) -> Float[Tensor, "vertex"]:
        bones = torch.tensor([b.startswith(prefix) and b.endswith("." + letter) for b in self._bones])
        return (self._model.vertex_bone_weights * bones[self._model.vertex_bone_indices]).sum(1)

    def _changed_by(self, label: str) -> Tensor:
        row = self._model.blendshapes.shape[0] - 2 * len(self._local) + 2 * self._local.index(label)
        moved: Tensor = self._model.blendshapes[row].norm(dim=1)
        return moved > 0.2 * moved.max()

    def adults(
        self, count: int, *, sampling: AdultSampling, generator: torch.Generator, gender: str | None = None
    ) -> RestBodies:
        """Sample adults of both sexes (half each), or of one ("male", "female")."""
        n = count

        def normal(deviation: float) -> Tensor:
            return torch.randn(n, generator=generator, dtype=torch.float64) * deviation

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

        female = uniform() < 0.5 if gender is None else torch.full((n,), gender == "female")
        spread = normal(sampling.gender_spread).abs().clamp(max=0.5)
        mean_cm = torch.where(female, sampling.height_mean_cm[1], sampling.height_mean_cm[0])
        low, high = sampling.height_range_cm
        height_cm = mean_cm + normal(sampling.height_deviation_cm)
        height_cm = torch.where((height_cm < low) | (height_cm > high), uniform(low, high), height_cm)
        race = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64))
        shares = _dirichlet(n, race.concentration, generator)
        phenotype = {
            "gender": torch.where(female, 1 - spread, spread),
            "age": uniform(*sampling.age),
            "muscle": (0.48 + normal(sampling.muscle_deviation)).clamp(0, 1),
            "weight": (0.5 + normal(sampling.weight_deviation)).clamp(0, 1),
            "proportions": (0.5 + normal(sampling.proportions_deviation)).clamp(0, 1),
            "cupsize": (0.5 + normal(0.22)).clamp(0, 1),
            "firmness": (0.5 + normal(0.22)).clamp(0, 1),
            "african": shares[:, 0],
            "asian": shares[:, 1],
            "caucasian": shares[:, 2],
        }
        local = self._symmetric_changes(normal, sampling.local_deviation)
        return self.bodies(phenotype, height_cm=height_cm, local_changes=local)

    def bodies(
        self,
        phenotype: Mapping[str, Tensor],
        *,
        height_cm: Float[Tensor, "body"],
        local_changes: Mapping[str, Tensor] | None = None,
        actions: Mapping[str, Tensor] | None = None,
    ) -> RestBodies:
        """Bodies of given phenotype and stature; Anny's height parameter is found by bisection."""
        low, high = torch.zeros_like(height_cm), torch.ones_like(height_cm)
        coefficients = torch.empty(0)
        top_bottom = self._extreme_vertices()
        for _ in range(14):
            middle = (low + high) / 2
            coefficients = self._coefficients({**phenotype, "height": middle}, local_changes, actions)
            ends = self._vertices(coefficients, top_bottom)
            taller = (ends[:, 0, 1] - ends[:, 1, 1]) * 100 > height_cm
            low, high = torch.where(taller, low, middle), torch.where(taller, middle, high)
        return RestBodies(self._vertices(coefficients), self._joints(coefficients), self._tips(coefficients))

    def expressions(
        self, count: int, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "sample vertex 3"], tuple[str, ...]]:
        """Offsets from the neutral face of random combinations of the facial actions that are no joint's work.

        A few actions at a time, most of them on both sides of the face at once, as in everyday expressions.
        """
        labels = [a for a in self.actions if not a.startswith(ACTIONS_OF_JOINTS)]
        units = sorted({a.removesuffix("Left").removesuffix("Right") for a in labels})
        values = torch.zeros(count, len(self.actions), dtype=torch.float64)
        for unit in units:
            members = [a for a in labels if a.removesuffix("Left").removesuffix("Right") == unit]
            active = torch.rand(count, 1, generator=generator) < 3.5 / len(units)
            strength = torch.rand(count, 1, generator=generator, dtype=torch.float64).sqrt()
            balance = 0.25 * torch.randn(count, len(members), generator=generator, dtype=torch.float64)
            one_sided = unit in ("mouth",)  # mouthLeft and mouthRight exclude each other
            share = (1 + balance).clamp(0, 1.2)
            if one_sided and len(members) == 2:
                side = torch.rand(count, 1, generator=generator) < 0.5
                share = torch.cat((side, ~side), dim=1).to(share)
            for column, member in enumerate(members):
                values[:, self.actions.index(member)] = (active * strength * share[:, column : column + 1])[:, 0]
        start = self._model.blendshapes.shape[0] - 2 * len(self._local) - len(self.actions)
        directions = self._model.blendshapes[start : start + len(self.actions)]
        return _y_up(torch.einsum("na,avk->nvk", values, directions)), tuple(labels)

    def _symmetric_changes(self, normal: Any, deviation: float) -> dict[str, Tensor]:
        changes: dict[str, Tensor] = {}
        for label in self._local:
            if label.startswith("r-") and "l-" + label[2:] in changes:
                changes[label] = changes["l-" + label[2:]]
            elif "-trans-out" in label and not label.startswith("l-"):
                continue  # moves the whole part to one side
            else:
                changes[label] = normal(deviation).clamp(-1, 1)
        return changes

    def _coefficients(self, phenotype: Any, local_changes: Any, actions: Any) -> Tensor:
        inputs = self._model.get_tensor_inputs(None, dict(phenotype), local_changes, actions)
        out: Tensor = self._model._get_phenotype_blendshape_coefficients(*inputs[1:])
        return out

    def _vertices(self, coefficients: Tensor, ids: Tensor | None = None) -> Tensor:
        template, directions = self._model.template_vertices, self._model.blendshapes
        if ids is not None:
            template, directions = template[ids], directions[:, ids]
        return _y_up(template + (coefficients @ directions.flatten(1)).unflatten(1, template.shape))

    def _joints(self, coefficients: Tensor) -> Tensor:
        model = self._model
        heads = model.template_bone_heads + torch.einsum("nb,bjk->njk", coefficients, model.bone_heads_blendshapes)
        return torch.einsum("jb,nbk->njk", self._mixture, _y_up(heads))

    def _tips(self, coefficients: Tensor) -> Tensor:
        model = self._model
        rows = [self._bones.index(f"finger{_FINGER_NUMBERS[f]}-3.{side}") for side in "LR" for f in FINGERS]
        tails = model.template_bone_tails[rows] + torch.einsum(
            "nb,bjk->njk", coefficients, model.bone_tails_blendshapes[:, rows]
        )
        return _y_up(tails)

    def _extreme_vertices(self) -> Int[Tensor, "2"]:
        height = self._model.template_vertices[:, 2]
        return torch.stack((height.argmax(), height.argmin()))


def owner_of(bone: str) -> str:
    """The SMPL-X joint that moves the skin of one of Anny's bones."""
    stem, _, side = bone.partition(".")
    joint = _EXCEPTIONS.get(stem) if not side else None
    if joint is None:
        prefix = max((p for p in _BONE_OWNERS if stem.startswith(p)), key=len)
        joint = _BONE_OWNERS[prefix]
    if joint in _LEFT_JOINTS:
        return ("left_" if side == "L" else "right_") + joint
    return joint


def _joint_mixture(bones: list[str]) -> Float[Tensor, "joint bone"]:
    mixture = torch.zeros(len(SMPLX), len(bones), dtype=torch.float64)
    for name, parts in _CENTRE_JOINTS.items():
        for bone, share in parts.items():
            mixture[SMPLX.index(name), bones.index(bone)] = share
    swap = {"L": "R", "R": "L"}
    for name, parts in _LEFT_JOINTS.items():
        for bone, share in parts.items():
            mixture[SMPLX.index(f"left_{name}"), bones.index(bone)] = share
            mixture[SMPLX.index(f"right_{name}"), bones.index(bone[:-1] + swap[bone[-1]])] = share
    return mixture


def _islands(faces: Tensor, num_vertices: int) -> Int[Tensor, "vertex"]:
    """Number of the connected component of each vertex."""
    label = torch.arange(num_vertices)
    while True:
        lowest = label[faces].amin(1)
        new = label.scatter_reduce(0, faces.flatten(), lowest.repeat_interleave(3), "amin")
        new = new[new]
        if torch.equal(new, label):
            return label
        label = new


def _dirichlet(count: int, concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform shares (concentration one) from exponential draws, which unlike torch's take a generator."""
    draws = -torch.rand(count, len(concentration), generator=generator, dtype=torch.float64).clamp_min(1e-12).log()
    return draws / draws.sum(1, keepdim=True)


def _y_up(points: Tensor) -> Tensor:
    return torch.stack((points[..., 0], points[..., 2], -points[..., 1]), dim=-1)
