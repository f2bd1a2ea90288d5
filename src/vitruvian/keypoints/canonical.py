"""The one keypoint set that the recovery networks read, and where its points lie on a body."""

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.errors import InputError
from vitruvian.keypoints.formats import KeypointFormat, get_format

CANONICAL = "vitruvian82"
"""BODY_25, upper neck and head top, both hands, and 13 points of the face."""

_JOINT_OF_PLACE = {"upper_neck": "head", "left_hand_wrist": "left_wrist", "right_hand_wrist": "right_wrist"}
_VERTEX_OF_PLACE = {"left_eye": "left_eye_front", "right_eye": "right_eye_front"}
_MEAN_OF_JOINTS = {
    "shoulder_center": ("left_shoulder", "right_shoulder"),
    "hip_center": ("left_hip", "right_hip"),
}


def canonical_format() -> KeypointFormat:
    """The format of the canonical keypoints."""
    return get_format(CANONICAL)


def canonical_points(body: BodyModel) -> SkinnedPoints:
    """The canonical keypoints as points that follow the body without its mesh.

    Raises:
        InputError: a body without hands and face (the canonical set needs the SMPL-X tree and face landmarks).
    """
    if body.face_landmarks is None or "left_thumb3" not in body.skeleton.names:
        raise InputError("canonical keypoints need a body with hands and face landmarks", seen=body.family)
    places = canonical_format().places
    vertices: list[tuple[int, int, float]] = []
    joint_weights = torch.zeros(len(places), body.num_joints, dtype=body.dtype, device=body.device)
    for row, place in enumerate(places):
        joints = _joints_at(body, place)
        if joints:
            joint_weights[row, [body.skeleton.index(name) for name in joints]] = 1 / len(joints)
        else:
            vertices += [(row, vertex, weight) for vertex, weight in _vertices_at(body, place)]
    rows, columns, values = zip(*vertices, strict=True)
    combination = torch.sparse_coo_tensor(
        torch.tensor([rows, columns], device=body.device),
        torch.tensor(values, dtype=body.dtype, device=body.device),
        (len(places), body.num_vertices),
    )
    return body.regressed_points(combination, joint_weights)


def _joints_at(body: BodyModel, place: str) -> tuple[str, ...]:
    if place in _MEAN_OF_JOINTS:
        return _MEAN_OF_JOINTS[place]
    name = _JOINT_OF_PLACE.get(place, place)
    is_joint = name in body.skeleton.names and place not in ("left_eye", "right_eye")
    return (name,) if is_joint else ()


def _vertices_at(body: BodyModel, place: str) -> list[tuple[int, float]]:
    landmarks = body.face_landmarks
    assert landmarks is not None
    if place == "head_top":
        highest = body.template[:, 1].argmax()
        return [(int(highest), 1.0)]
    face = get_format("ibug-face68").places
    if place in face:
        number = face.index(place)
        if number >= 17:
            corners, weights = landmarks.corners[number - 17], landmarks.barycentric[number - 17]
        elif landmarks.contour_corners is not None and landmarks.contour_barycentric is not None:
            corners, weights = landmarks.contour_corners[0, number], landmarks.contour_barycentric[0, number]
        else:
            raise InputError("the body has no face contour", seen=body.family)
        return list(zip(corners.tolist(), weights.tolist(), strict=True))
    name = _VERTEX_OF_PLACE.get(place, place)
    for candidate in (name, place):
        if candidate in body.vertex_ids:
            return [(int(body.vertex_ids[candidate]), 1.0)]
    raise InputError("the body does not know where this keypoint lies", seen=place, expected=", ".join(body.vertex_ids))
