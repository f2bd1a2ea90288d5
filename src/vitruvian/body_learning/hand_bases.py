"""A hand basis (mean and 45 orthonormal components) from finger synergies, where no recorded hands are at hand."""

import numpy as np
from jaxtyping import Float

from vitruvian.bodies.skeletons import FINGERS

_RELAXED_CURL_DEG = {"index": (18, 22, 12), "middle": (22, 26, 14), "ring": (26, 28, 14), "pinky": (28, 26, 14)}


def synergy_hand_basis(
    side: str, *, samples: int = 4000, seed: int = 0
) -> tuple[Float[np.ndarray, "45"], Float[np.ndarray, "45 45"]]:
    """Mean (axis-angle, radians) and orthonormal components, by variance, of plausible finger poses of one hand.

    Fingers curl together for the most part, the end joint follows the middle one (two thirds of it), spreading lessens
    with the curl, and the thumb opposes. Hand poses are drawn from that and their principal components taken.
    """
    rng = np.random.default_rng(seed)
    sign = -1.0 if side == "left" else 1.0  # a left finger along +x curls about −z, a right one along −x about +z
    poses = np.zeros((samples, 15, 3))
    common = rng.normal(size=samples)
    for row, finger in enumerate(FINGERS):
        if finger == "thumb":
            continue
        relaxed = np.radians(_RELAXED_CURL_DEG[finger])
        own = 0.8 * common + 0.6 * rng.normal(size=samples)
        knuckle = relaxed[0] + 0.45 * own + 0.15 * rng.normal(size=samples)
        middle = relaxed[1] + 0.50 * own + 0.20 * rng.normal(size=samples)
        last = relaxed[2] + 0.33 * (middle - relaxed[1]) / 0.5 + 0.08 * rng.normal(size=samples)
        place = {"index": 1.0, "middle": 0.2, "ring": -0.5, "pinky": -1.0}[finger]
        spread = 0.10 * place * rng.normal(size=samples) * np.clip(1 - knuckle, 0.1, 1)
        for k, curl in enumerate((knuckle, middle, last)):
            poses[:, 3 * row + k, 2] = sign * curl
        poses[:, 3 * row, 1] = sign * spread
        poses[:, 3 * row : 3 * row + 3] += 0.02 * rng.normal(size=(samples, 3, 3))
    thumb = 3 * FINGERS.index("thumb")
    oppose = 0.6 * common + 0.8 * rng.normal(size=samples)
    # About x the thumb turns into the palm, about y it closes towards the fingers.
    poses[:, thumb, 0] = 0.10 + 0.25 * oppose
    poses[:, thumb, 1] = sign * -(0.05 + 0.20 * oppose + 0.15 * rng.normal(size=samples))
    poses[:, thumb, 2] = sign * 0.12 * rng.normal(size=samples)
    poses[:, thumb + 1, 1] = sign * -(0.10 + 0.22 * oppose + 0.1 * rng.normal(size=samples))
    poses[:, thumb + 2, 1] = sign * -(0.12 + 0.30 * oppose + 0.2 * rng.normal(size=samples))
    flat = poses.reshape(samples, 45)
    mean = flat.mean(0)
    components = np.linalg.svd(flat - mean, full_matrices=False)[2]
    return mean, components * np.sign(components.sum(1, keepdims=True) * sign + 1e-12)
