"""Whatever a file holds, a reader ends in a sound result or in an error of ours, at once, and runs no code of it."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import hostile_inputs as make
from vitruvian.assets import read_arrays, read_pickle
from vitruvian.bodies.loaders import load_body
from vitruvian.errors import VitruvianError
from vitruvian.fits import load_fits
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.images import read_image
from vitruvian.keypoints.openpose import read_people
from vitruvian.keypoints.picture_size import guess_image_size
from vitruvian.priors.vposer import read_vposer

CASES = 50
SLOW_CASES = 1250
"""Of each of the eight categories: 10,000 in all."""
SECONDS = 10.0
"""Longest processor time of one case."""

_ran: list[str] = []
_watching = False
_RUNS_CODE = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "ctypes.dlopen",
)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in _RUNS_CODE:
        _ran.append(event)


sys.addaudithook(_watch)


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    """No process, no library and no connection is started while a reader works."""
    global _watching
    _watching = True
    yield
    _watching = False
    assert not _ran


def keypoints(rng: random.Random, folder: Path) -> None:
    path = folder / "a_keypoints.json"
    path.write_bytes(make.keypoint_file(rng))
    format = rng.choice((None, None, None, "auto", "openpose-body25b", "halpe136", "coco17", "no format"))
    size = rng.choice((None, (640, 480)))
    people = read_people(path, format=format, image_size=size, image=rng.choice((None, "a.jpg")))
    seen = people.keypoints
    assert seen.positions.shape == (len(people), len(get_format(seen.format)), 2)
    assert seen.positions.isfinite().all()
    assert ((seen.confidence >= 0) & (seen.confidence <= 1)).all()
    guessed = guess_image_size(seen)
    assert 64 <= guessed.width < 70_000
    assert 64 <= guessed.height < 70_000


def npz(rng: random.Random, folder: Path) -> None:
    path = folder / "a.npz"
    path.write_bytes(make.npz_file(rng))
    entries = read_arrays(path)
    for key in entries:
        _sound(entries[key])


def pickles(rng: random.Random, folder: Path) -> None:
    value = read_pickle(make.pickle_file(rng))
    if hasattr(value, "keys"):
        for key in value:
            _sound(value[key])
    else:
        _sound(value)


def weights(rng: random.Random, folder: Path) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(make.weights_file(rng))
    network = read_vposer(path)
    rotations = network.decode(torch.zeros(1, network.settings.latent))
    assert rotations.shape == (1, network.settings.num_joints, 3, 3)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def images(rng: random.Random, folder: Path) -> None:
    suffix, data = make.image_file(rng)
    path = folder / f"a{suffix}"
    path.write_bytes(data)
    photograph = read_image(path)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.pixels.shape == (photograph.image_size[1], photograph.image_size[0], 3)


def cameras(rng: random.Random, folder: Path) -> None:
    def number() -> Any:
        return rng.choice((640, 480.0, np.float32(3)) if rng.random() < 0.8 else make.ODD_VALUES)

    camera = Camera.from_image_size(number(), number(), focal_px=rng.choice((None, number())))
    camera = rng.choice((camera, camera.resize(width=number(), height=number())))
    odd = torch.tensor([float(rng.choice((-1, 0, 5, np.nan))), 1.0])
    fields = [value if rng.random() < 0.9 else odd for value in (camera.focal_px, camera.center_px, camera.image_size)]
    camera = Camera(*fields).validated()
    pixels = camera.project(torch.tensor([[0.1, -0.2, 3.0], [0.0, 0.0, -1.0]]))
    assert pixels.shape == (2, 2)
    assert all(value.isfinite().all() for value in (camera.focal_px, camera.center_px, camera.image_size))


def fits(rng: random.Random, folder: Path) -> None:
    path = folder / "fits.npz"
    path.write_bytes(make.fits_file(rng, folder))
    loaded = load_fits(path)
    assert loaded.params.rotations.shape == (len(loaded), 55, 3, 3)
    assert loaded.params.transl.shape == (len(loaded), 3)
    usable = loaded[loaded.usable]
    assert usable.params.rotations.isfinite().all()
    assert usable.cost.isfinite().all()
    assert len(repr(loaded)) < 300


def bodies(rng: random.Random, folder: Path) -> None:
    path = folder / "MANO_RIGHT.pkl"
    path.write_bytes(make.body_file(rng))
    body = load_body("mano", path)
    posed = body.with_shape(torch.zeros(body.num_shape)).with_pose(torch.eye(3).repeat(16, 1, 1), torch.zeros(3))
    assert posed.vertices.isfinite().all()


READERS: tuple[Callable[[random.Random, Path], None], ...] = (
    keypoints, npz, pickles, weights, images, cameras, fits, bodies,
)  # fmt: skip


def _sound(value: Any) -> None:
    plain = (np.ndarray, np.generic, str, bytes, bytearray, int, float, list, tuple, dict, set, frozenset)
    assert value is None or isinstance(value, plain)


def _try(reader: Callable[[random.Random, Path], None], seeds: range, folder: Path) -> tuple[int, int]:
    """How many cases were read, and how many refused with an error of ours; every other end is a failure."""
    read = refused = 0
    for seed in seeds:
        started = time.process_time()
        try:
            reader(random.Random(seed), folder)
            read += 1
        except VitruvianError as error:
            refused += 1
            said = str(error)
            if len(said) > 4000 or not said.isprintable():
                raise AssertionError(f"{reader.__name__}, seed {seed}: {said!r}") from error
        except Exception as error:
            raise AssertionError(f"{reader.__name__}, seed {seed}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < SECONDS, seed
    return read, refused


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_reader_ends_in_a_sound_result_or_an_error_of_ours(
    reader: Callable[[random.Random, Path], None], tmp_path: Path
) -> None:
    read, refused = _try(reader, range(CASES), tmp_path)
    assert refused > CASES // 10  # the makers do make bad files,
    assert read > 0  # and not only these


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_ten_thousand_of_them(reader: Callable[[random.Random, Path], None], tmp_path: Path) -> None:
    _try(reader, range(CASES, CASES + SLOW_CASES), tmp_path)
