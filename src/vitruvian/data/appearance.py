"""How drawn people look: colours of skin, hair and clothes by vertex, and light on them."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError

_SIDES = ("left", "right")
_SKIN = np.array([0.85, 0.65, 0.55])
_SHIRT = ("spine1", "spine2", "spine3", *(f"{s}_{j}" for s in _SIDES for j in ("collar", "shoulder")))
_FEET = tuple(f"{s}_{j}" for s in _SIDES for j in ("foot", "ankle"))
_BARE = ("head", "neck", "jaw", "left_eye", "right_eye")


class Painter:
    """Colours for the vertices of one body, sRGB from 0 to 1.

    Args:
        body: a body with face landmarks.

    Raises:
        InputError: a body without a face.
    """

    def __init__(self, body: BodyModel) -> None:
        if body.face_landmarks is None:
            raise InputError("only bodies with a face are painted", seen=body.family)
        names = np.array(body.skeleton.names)[body.skinning_weights.argmax(-1).cpu().numpy()]
        self._names = names
        template = body.template.cpu().numpy()
        self._template = template
        face = body.face_landmarks
        landmarks = (template[face.corners.cpu().numpy()] * face.barycentric.cpu().numpy()[..., None]).sum(1)
        head = np.isin(names, ("head",))
        ears = template[[body.vertex_ids["left_ear"], body.vertex_ids["right_ear"]]].mean(0)
        _, y, z = template.T
        behind = (z < ears[2] - 0.012) & (y > ears[1] - 0.06)
        above = y > landmarks[:10, 1].mean() + 0.05 + 0.2 * np.clip(z - ears[2] - 0.02, 0, None)
        self._hair = head & (behind | above)
        self._brows = _near(template, landmarks[:10], 0.0045)
        mouth = _inside(template[:, :2], landmarks[31:43, :2])
        self._lips = (head & mouth & (z > landmarks[31:43, 2].min() - 0.005)) | (np.isin(names, ("jaw",)) & mouth)
        radii = [np.linalg.norm(template - template[body.vertex_ids[f"{s}_eye_front"]], axis=1) for s in _SIDES]
        self._eyes = [(names == f"{s}_eye", radius) for s, radius in zip(_SIDES, radii, strict=True)]
        hands = np.array(["wrist" in n or (n[-1].isdigit() and "spine" not in n) for n in names])
        self._bare = np.isin(names, _BARE) | hands

    def colors(self, generator: np.random.Generator, *, patterns: bool = False) -> Float[np.ndarray, "vertex 3"]:
        """Random skin, hair and clothes; sleeves and trousers of either length.

        Args:
            generator: source of the colours.
            patterns: stripes, checks and blotches on some of the clothes.
        """
        skin = _SKIN * generator.uniform(0.45, 1.1)
        colors = np.tile(skin.clip(0, 1), (len(self._names), 1))
        trousers, legs = generator.uniform(0.05, 0.8, 3), ["pelvis", "left_hip", "right_hip"]
        if generator.random() < 0.7:
            legs += ["left_knee", "right_knee"]
        shirt, top = generator.uniform(0.1, 0.95, 3), list(_SHIRT)
        if generator.random() < 0.5:
            top += ["left_elbow", "right_elbow"]
        for joints, color in ((legs, trousers), (top, shirt), (_FEET, generator.uniform(0.05, 0.9, 3))):
            covered = np.isin(self._names, joints)
            colors[covered] = color
            if patterns and generator.random() < 0.5:
                colors[covered] *= self._pattern(covered, generator)
        hair = generator.uniform(0.03, 0.5) * np.array([1.0, 0.8, 0.6])
        colors[self._hair] = hair
        colors[self._brows] = hair * 0.7
        colors[self._lips] = skin * (0.9, 0.5, 0.55)
        for ball, radius in self._eyes:
            colors[ball] = 0.95
            colors[ball & (radius < 0.0065)] = generator.uniform(0.1, 0.5, 3)
            colors[ball & (radius < 0.003)] = 0.02
        return colors.astype(np.float32).clip(0, 1)

    def stand_off(self, distance_m: float) -> Float[Tensor, "vertex"]:
        """How far clothes stand off each vertex, metres; skin and hair do not."""
        return torch.from_numpy(np.where(self._bare, 0.0, distance_m)).float()

    def _pattern(
        self, covered: Bool[np.ndarray, "vertex"], generator: np.random.Generator
    ) -> Float[np.ndarray, "covered 3"]:
        """Factors on a cloth's colour: waves along one or two random directions, with a colour of their own."""
        points = self._template[covered]
        waves = np.ones(len(points))
        for _ in range(generator.integers(1, 3)):
            direction = generator.normal(size=3) * generator.uniform(5, 60)
            waves = waves * np.sign(np.sin(points @ direction + generator.uniform(0, 6)))
        return 1 + 0.5 * (waves[:, None] > 0) * generator.uniform(-1, 1, 3)


def shade(
    normals: Float[np.ndarray, "vertex 3"], colors: Float[np.ndarray, "vertex 3"], generator: np.random.Generator
) -> Float[np.ndarray, "vertex 3"]:
    """Colours under light from above (camera frame, y down), a key light from a random side, and light all round."""
    side = np.array([generator.uniform(-1, 1), generator.uniform(-1, -0.2), generator.uniform(-1.2, -0.4)])
    key = np.clip(normals @ (side / np.linalg.norm(side)), 0, None) * generator.uniform(0.4, 0.8)
    sky = (1 - normals[:, 1]) * generator.uniform(0.15, 0.25)
    facing = np.clip(-normals[:, 2], 0, 1) * 0.15
    return (colors * (generator.uniform(0.15, 0.3) + key + sky + facing)[:, None]).clip(0, 1)


def _near(points: np.ndarray, centers: np.ndarray, reach: float) -> np.ndarray:
    return np.linalg.norm(points[:, None] - centers[None], axis=-1).min(1) < reach


def _inside(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Which points lie inside a polygon (even-odd rule)."""
    inside = np.zeros(len(points), dtype=bool)
    for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (a[1] > points[:, 1]) != (b[1] > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = a[0] + (points[:, 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
        inside ^= crosses & (points[:, 0] < at)
    return inside
