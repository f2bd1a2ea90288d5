"""From people and the pixels around them to the distribution of their poses, and from there to a belief for fitting."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import Belief
from vitruvian.estimation.regress import FLOW_FIT, PriorStrength
from vitruvian.fitting.parts import BodyPrior, ShapeBelief
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.people import People
from vitruvian.recovery.image_network import ImageNetwork
from vitruvian.recovery.image_posterior import ImagePosterior, infer_from_photographs

IMAGE = "image"


def regress_photographs(
    network: ImageNetwork, body: BodyModel, people: People, photographs: Mapping[str, Photograph | Path | None]
) -> ImagePosterior:
    """Distribution of the poses of everyone, from the pixels around their keypoints.

    Args:
        network: what `read_image_network` returned.
        body: a whole body of any family, for which poses are made.
        people: everyone, with cameras.
        photographs: the picture, or its file, of each `People.picture`.

    Raises:
        InputError: a picture that is not there, not even the size of the pictures is known, or another body.
    """
    missing = sorted({picture for picture in people.picture if photographs.get(picture) is None})
    if missing:
        raise InputError(
            "the image network reads pixels, and there is no photograph",
            seen=", ".join(missing[:5]),
            hint="give the photographs beside their keypoints, or leave out --network",
        )

    @lru_cache(maxsize=4)
    def loaded(picture: str) -> Photograph:
        found = photographs[picture]
        assert found is not None
        return found if isinstance(found, Photograph) else read_image(found)

    pictures = [loaded(picture) for picture in people.picture]
    return infer_from_photographs(network, body, people.keypoints, people.known_camera, pictures)


@torch.no_grad()
def belief_of_photographs(
    posterior: ImagePosterior, people: People, *, strength: PriorStrength | None = None
) -> Belief:
    """Start at the mode of the distribution and stay in its latent space (ProHMR, eq. 8).

    Args:
        posterior: the distributions, on the body that is fitted.
        people: who will be fitted, in the same order.
        strength: how strongly the latent is held.
    """
    if len(posterior) != len(people):
        raise InputError("the distribution is that of other people", seen=len(posterior), expected=len(people))
    strength = strength or PriorStrength()
    placed = posterior.place(posterior.mode(), people.keypoints, people.known_camera)
    box = people.keypoints.sanitized().bounding_box()
    size = (box[:, 2:] - box[:, :2]).amax(-1).clamp_min(1.0)
    held = strength(posterior.seen, placed.reprojection_px / size)
    shape = None
    if posterior.knows_shape(posterior.model):
        shape = ShapeBelief(posterior.betas, posterior.network.shape_std / strength.shape)
    return Belief(IMAGE, BodyPrior(IMAGE, posterior.pose_space(strength=held), shape=shape), placed.params, FLOW_FIT)
