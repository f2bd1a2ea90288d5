"""Finds the face landmarks of a body mesh: 51 inner ones by a face detector, and a contour that follows the yaw.

The face is drawn, MediaPipe's face mesh is found in the picture, and each landmark's pixel is cast back on the mesh.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitruvian.bodies.landmarks import MAX_YAW_DEG
from vitruvian.errors import InputError, MissingPackageError

# Points of MediaPipe's face mesh that are the 68 landmarks of the iBUG scheme: contour 0-16, then the 51 inner ones.
CONTOUR_IDS = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
INNER_IDS = (
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
# Each inner landmark's counterpart on the other side of the face.
INNER_MIRROR = (
    9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10, 11, 12, 13, 18, 17, 16, 15, 14,
    28, 27, 26, 25, 30, 29, 22, 21, 20, 19, 24, 23,
    37, 36, 35, 34, 33, 32, 31, 42, 41, 40, 39, 38, 47, 46, 45, 44, 43, 50, 49, 48,
)  # fmt: skip
LOWER_LIP = (*range(38, 43), 48, 49, 50)
"""Rows of the inner landmarks that lie on the lower lip."""
FORWARD = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class LandmarkTables:
    """The landmark arrays of the SMPL-X file schema."""

    lmk_faces_idx: Int[np.ndarray, "51"]
    lmk_bary_coords: Float[np.ndarray, "51 3"]
    dynamic_lmk_faces_idx: Int[np.ndarray, "79 17"]
    dynamic_lmk_bary_coords: Float[np.ndarray, "79 17 3"]


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture's face id and barycentric coordinates per pixel; face −1 where nothing is seen."""

    face: Int[np.ndarray, "height width"]
    barycentric: Float[np.ndarray, "height width 3"]


def face_landmark_tables(
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    head: Int[np.ndarray, "kept"],
    *,
    eyes: Int[np.ndarray, "kept"],
    lower_jaw: Bool[np.ndarray, "face"],
    size: int = 640,
) -> LandmarkTables:
    """Locate the landmarks on a body in the rest pose, y up and facing +z.

    Args:
        head: ids of the faces (triangles) of the skin of the head.
        eyes: ids of the faces of the eyeballs; drawn in white, never carrying a landmark.
        lower_jaw: for each face of the mesh, whether the jaw carries it: the closed lips touch, and only this tells
            which of them a landmark belongs to.

    Raises:
        InputError: no face was found in the picture.
    """
    picture, raster = _portrait(vertices, faces, head, eyes, size)
    found = _detect(picture)
    skin = np.isin(raster.face, head)
    ids, coords = _cast(found[list(INNER_IDS)], raster, skin)
    points = (vertices[faces[ids]] * coords[..., None]).sum(1)
    points = _symmetric(points)
    ids, coords = _on_their_lips(points, vertices, faces, head, lower_jaw)
    jaw_ids, jaw_coords = _cast(found[list(CONTOUR_IDS)], raster, skin)
    jaw = (vertices[faces[jaw_ids]] * jaw_coords[..., None]).sum(1)
    mirrored = jaw[::-1] * np.array([-1.0, 1.0, 1.0])
    contour = contour_curves((jaw + mirrored) / 2, points, vertices, faces, head)
    dynamic_ids, dynamic_coords = _contour_tables(contour, vertices, faces, head)
    return LandmarkTables(ids, coords, dynamic_ids, dynamic_coords)


def _on_their_lips(
    points: Float[np.ndarray, "51 3"], vertices: np.ndarray, faces: np.ndarray, head: np.ndarray, lower_jaw: np.ndarray
) -> tuple[Int[np.ndarray, "51"], Float[np.ndarray, "51 3"]]:
    """Nearest places on the skin; landmarks of the lower lip on the lower jaw, all others off it."""
    points = points.copy()
    for outer, inner, opposite in ((31, 43, 37), (37, 47, 31)):
        # Inside the corner of a closed mouth there is no skin to see: take the line of the lips beside it.
        points[inner] = points[outer] + 0.1 * (points[opposite] - points[outer])
    lower = np.isin(np.arange(51), LOWER_LIP)
    ids, coords = np.zeros(51, dtype=int), np.zeros((51, 3))
    for group, allowed in ((~lower, head[~lower_jaw[head]]), (lower, head[lower_jaw[head]])):
        ids[group], coords[group] = nearest_on_mesh(points[group], vertices, faces, allowed, facing=FORWARD)
    return ids, coords


def rasterise(
    points: Float[np.ndarray, "vertex 2"],
    depth: Float[np.ndarray, "vertex"],
    faces: Int[np.ndarray, "face 3"],
    ids: Int[np.ndarray, "kept"],
    size: int,
) -> Raster:
    """Draw the faces `ids` with pixel coordinates `points`; smaller depth hides larger."""
    nearest = np.full((size, size), np.inf)
    face = np.full((size, size), -1)
    barycentric = np.zeros((size, size, 3))
    for i in ids:
        a, b, c = points[faces[i]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        low = np.clip(np.floor(np.minimum(np.minimum(a, b), c)).astype(int), 0, size)
        high = np.clip(np.ceil(np.maximum(np.maximum(a, b), c)).astype(int) + 1, 0, size)
        if area == 0 or (high <= low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        u = ((c[0] - b[0]) * (y - b[1]) - (c[1] - b[1]) * (x - b[0])) / area
        v = ((a[0] - c[0]) * (y - c[1]) - (a[1] - c[1]) * (x - c[0])) / area
        bary = np.stack((u, v, 1 - u - v), axis=-1)
        z = bary @ depth[faces[i]]
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        seen = (bary >= -1e-9).all(-1) & (z < nearest[window])
        nearest[window][seen], face[window][seen], barycentric[window][seen] = z[seen], i, bary[seen]
    return Raster(face, barycentric)


def nearest_on_mesh(
    points: Float[np.ndarray, "point 3"],
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    ids: Int[np.ndarray, "kept"],
    *,
    facing: Float[np.ndarray, "3"] | None = None,
) -> tuple[Int[np.ndarray, "point"], Float[np.ndarray, "point 3"]]:
    """Nearest faces among `ids` (only those that look towards `facing`, if given) and barycentric coordinates."""
    from trimesh.triangles import closest_point, points_to_barycentric

    corners = vertices[faces[ids]]
    if facing is not None:
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        keep = normals @ facing > 0
        ids, corners = ids[keep], corners[keep]
    centres = corners.mean(1)
    chosen, coords = [], []
    for point in points:
        # The nearest of the triangles whose centres are near: triangles of a face are all of about one size.
        some = np.argsort(np.linalg.norm(centres - point, axis=1))[:80]
        close = closest_point(corners[some], np.broadcast_to(point, (len(some), 3)))
        best = int(np.linalg.norm(close - point, axis=1).argmin())
        chosen.append(ids[some[best]])
        bary = points_to_barycentric(corners[some[best : best + 1]], close[best : best + 1])[0].clip(0, 1)
        coords.append(bary / bary.sum())
    return np.array(chosen), np.array(coords)


def contour_curves(
    jaw: Float[np.ndarray, "17 3"],
    inner: Float[np.ndarray, "51 3"],
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    head: Int[np.ndarray, "kept"],
    *,
    steps: int = 25,
) -> Float[np.ndarray, "17 steps 3"]:
    """For each contour landmark, a curve on the skin from the frontal jaw line inwards over the cheek.

    The curves run towards the middle of the face at about constant height; for the chin they stay where they are.
    """
    nose = inner[13]
    mouth = inner[31:51].mean(0)
    curves = []
    for row, point in enumerate(jaw):
        height = min(max(point[1], mouth[1] - 0.01), nose[1] + 0.03)
        centre = np.array([0.0, 0.5 * (point[1] + height), nose[2]])
        reach = 0.75 * np.clip((abs(row - 8) - 2) / 2, 0, 1)  # the five points of the chin stay
        share = np.linspace(0, reach, steps)[:, None]
        straight = point + share * (centre - point)
        # Push the chord out to the skin before looking for the nearest triangle: cheeks bulge.
        outward = np.array([np.sign(point[0]) * 0.6, 0.0, 0.8])
        straight = straight + 4 * share * (1 - share) * 0.02 * outward
        ids, coords = nearest_on_mesh(straight, vertices, faces, head, facing=outward)
        curves.append((vertices[faces[ids]] * coords[..., None]).sum(1))
    return np.stack(curves)


def _contour_tables(
    curves: Float[np.ndarray, "17 steps 3"], vertices: np.ndarray, faces: np.ndarray, head: np.ndarray
) -> tuple[Int[np.ndarray, "79 17"], Float[np.ndarray, "79 17 3"]]:
    """The silhouette among each landmark's curve for every degree of yaw.

    Row r ≤ 39 is the head turned by r degrees to the person's right, rows 40 to 78 by 1 to 39 degrees to the left.
    """
    points = []
    for row in range(2 * MAX_YAW_DEG + 1):
        degrees = -row if row <= MAX_YAW_DEG else row - MAX_YAW_DEG
        yaw = math.radians(degrees)
        across = math.cos(yaw) * curves[..., 0] + math.sin(yaw) * curves[..., 2]  # x after the turn about y
        side = np.sign(curves[:, :1, 0])
        best = np.where(side[:, 0] == 0, 0, (across * side).argmax(1))
        points.append(curves[np.arange(len(curves)), best])
    flat = np.concatenate(points)
    unique, back = np.unique(flat, axis=0, return_inverse=True)
    ids, coords = nearest_on_mesh(unique, vertices, faces, head)
    shape = (2 * MAX_YAW_DEG + 1, 17)
    return ids[back.ravel()].reshape(shape), coords[back.ravel()].reshape(*shape, 3)


def _portrait(
    vertices: np.ndarray, faces: np.ndarray, head: np.ndarray, eyes: np.ndarray, size: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Raster]:
    """A frontal portrait with skin, eyes and a darker iris, seen from 1.5 m."""
    corner_points = vertices[faces[head]].reshape(-1, 3)
    low, high = corner_points.min(0), corner_points.max(0)
    centre = np.array([0.0, (low[1] + high[1]) / 2, high[2]])
    distance = 1.5
    focal = 0.62 * size / (high[1] - low[1]) * distance
    depth = distance + centre[2] - vertices[:, 2]
    pixels = np.stack((vertices[:, 0] - centre[0], centre[1] - vertices[:, 1]), axis=1) / depth[:, None] * focal
    pixels = pixels + size / 2
    raster = rasterise(pixels, depth, faces, np.concatenate((head, eyes)), size)
    seen = raster.face >= 0
    normals = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    smooth = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(smooth, faces[:, k], normals)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True).clip(1e-12)
    normal = (smooth[faces[raster.face]] * raster.barycentric[..., None]).sum(2)
    light = np.array([0.3, 0.5, 0.81])
    shade = 0.35 + 0.65 * np.clip(normal @ light, 0, 1)
    colour = np.full((size, size, 3), (205, 170, 150), dtype=float)
    is_eye = np.isin(raster.face, eyes)
    colour[is_eye] = (245, 245, 245)
    surface = (vertices[faces[raster.face]] * raster.barycentric[..., None]).sum(2)
    eye_vertices = vertices[np.unique(faces[eyes])]
    for sign in (-1, 1):
        ball = eye_vertices[np.sign(eye_vertices[:, 0]) == sign]
        pupil = np.array([ball[:, 0].mean(), ball[:, 1].mean(), ball[:, 2].max()])
        colour[is_eye & (np.linalg.norm(surface - pupil, axis=-1) < 0.0062)] = (60, 45, 35)
    picture = np.where(seen[..., None], colour * shade[..., None], 225.0)
    return picture.clip(0, 255).astype(np.uint8), raster


def _detect(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "468 2"]:
    try:
        import mediapipe
    except ImportError as error:
        raise MissingPackageError(
            "locating face landmarks needs mediapipe", hint='pip install "vitruvian[detect]"'
        ) from error
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as detector:
        result = detector.process(picture)
    if not result.multi_face_landmarks:
        raise InputError("no face was found on the drawn head", hint="is the body y up, facing +z?")
    points = [(p.x, p.y) for p in result.multi_face_landmarks[0].landmark]
    return np.array(points) * (picture.shape[1], picture.shape[0])


def _cast(pixels: np.ndarray, raster: Raster, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Face and barycentric coordinates under each pixel, or under the nearest usable pixel."""
    rows, columns = usable.nonzero()
    nearest = [int(np.hypot(columns + 0.5 - x, rows + 0.5 - y).argmin()) for x, y in pixels]
    at = (rows[nearest], columns[nearest])
    return raster.face[at], raster.barycentric[at]


def _symmetric(points: Float[np.ndarray, "51 3"]) -> Float[np.ndarray, "51 3"]:
    mirrored = points[list(INNER_MIRROR)] * np.array([-1.0, 1.0, 1.0])
    return (points + mirrored) / 2
