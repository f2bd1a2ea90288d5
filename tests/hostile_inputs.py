"""Seeded makers of hostile and careless input files: honest ones with something wrong, and well begun nonsense."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from tests.bodies.random_models import random_entries
from tests.fitted_people import fitted_people
from vitruvian.bodies.open_body import open_body
from vitruvian.priors.vposer import VPoser, VPoserSettings

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, -(10**30), 1e308, -1e308, float("nan"), float("inf"), "", "x", "1", [], {}, [[]],
    [None],
    {"a": 1}, [1, 2], "\ud800", "🙂" * 50, 0.5, 2**63,
)  # fmt: skip
NUM_POINTS = (0, 1, 15, 17, 18, 21, 24, 25, 26, 33, 68, 70, 133, 135, 136, 137)


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, cut, doubled, zeroed or put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out)) if out else 0
        length = min(rng.choice((1, 2, 8, 64)), len(out) - at)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[at : at + length]
        elif kind == 3:
            out[at : at + length] = bytes(length)
        elif kind == 4:
            out[at : at + length] = rng.randbytes(length)
        else:
            del out[at:]
    return bytes(out)


def spoilt_value(value: Any, rng: random.Random, *, depth: int = 0) -> Any:
    """A value of JSON in which one place holds something else, or is gone."""
    if isinstance(value, dict) and value and rng.random() < 0.85 and depth < 6:
        out = dict(value)
        key = rng.choice(list(out))
        if rng.random() < 0.15:
            del out[key]
        else:
            out[key] = spoilt_value(out[key], rng, depth=depth + 1)
        return out
    if isinstance(value, list) and value and rng.random() < 0.85 and depth < 6:
        out_list = list(value)
        at = rng.randrange(len(out_list))
        kind = rng.randrange(4)
        if kind == 0:
            del out_list[at]
        elif kind == 1:
            out_list.insert(at, rng.choice(ODD_VALUES))
        else:
            out_list[at] = spoilt_value(out_list[at], rng, depth=depth + 1)
        return out_list
    return rng.choice(ODD_VALUES)


def keypoint_file(rng: random.Random) -> bytes:
    """A JSON file of keypoints of one of the known kinds, often spoilt."""
    scale = rng.choice((1.0, 500.0, 4000.0, 1e30))

    def triples(count: int) -> list[float]:
        return [rng.random() * (1 if k % 3 == 2 else scale) for k in range(3 * count)]

    def person() -> dict[str, Any]:
        entry: dict[str, Any] = {"pose_keypoints_2d": triples(rng.choice(NUM_POINTS))}
        if rng.random() < 0.4:
            entry["hand_left_keypoints_2d"] = triples(rng.choice((21, 21, 20)))
        if rng.random() < 0.4:
            entry["face_keypoints_2d"] = triples(rng.choice((68, 70, 69)))
        return entry

    def listed() -> dict[str, Any]:
        return {"image_id": rng.choice(("a.jpg", "b.jpg", 7)), "keypoints": triples(17), "score": 2.0}

    def mmpose() -> dict[str, Any]:
        pairs = [[rng.random() * scale, rng.random() * scale] for _ in range(17)]
        return {"keypoints": pairs, "keypoint_scores": [rng.random()] * rng.choice((17, 16))}

    openpose = {"version": 1.3, "people": [person() for _ in range(rng.randint(0, 3))]}
    content: Any = rng.choice(
        (
            openpose,
            {**openpose, "canvas_width": 640, "canvas_height": 480},
            [openpose],
            [openpose, openpose],
            person(),
            [listed() for _ in range(rng.randint(1, 3))],
            {"meta_info": {}, "instance_info": [{"frame_id": 1, "instances": [mmpose()]}]},
            [[mmpose()]],
            {"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}], "annotations": [listed()]},
        )
    )
    for _ in range(rng.randint(0, 3)):
        content = spoilt_value(content, rng)
    data = json.dumps(content).encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")))
    return spoilt(data, rng) if rng.random() < 0.3 else data


def odd_array(rng: random.Random) -> np.ndarray:
    """An array of any type and shape."""
    shape = rng.choice(((), (0,), (3,), (2, 3), (1, 0, 4), (30, 3)))
    kind = rng.choice(("f4", "f8", "f2", "i8", "u1", "?", "c8", "U3", "S2", "O", "M8[s]", "f4,i2"))
    values = np.zeros(shape, dtype=kind)
    if kind in ("f4", "f8") and values.size:
        values.flat[0] = rng.choice((np.nan, np.inf, 1e30, -1.0))
    return values


def npz_file(rng: random.Random, arrays: dict[str, Any] | None = None) -> bytes:
    """An npz file: damaged headers, entries of all types, bytes that are wrong, other ways of packing."""
    arrays = arrays or {rng.choice(("v", "f", "a/b", "../x", "ü")): odd_array(rng) for _ in range(3)}
    stream = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for key, value in arrays.items():
            entry = io.BytesIO()
            np.save(entry, value, allow_pickle=True)
            data = entry.getvalue()
            if rng.random() < 0.3:
                size = rng.choice((b"9" * 12, b"-3", b"1, 2", b"10000000000000000000000", b"x"))
                data = data.replace(b"'shape': (", b"'shape': (" + size + b", ", 1)
            archive.writestr(f"{key}.npy", spoilt(data, rng) if rng.random() < 0.4 else data)
    return spoilt(stream.getvalue(), rng) if rng.random() < 0.4 else stream.getvalue()


_NAMES = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n", b"cscipy.sparse\ncsc_matrix\n", b"cchumpy\nCh\n",
    b"ccopy_reg\n_reconstructor\n", b"cbuiltins\nset\n",
)  # fmt: skip
_STEPS = (
    b"(", b"(", b")", b"]", b"}", b"N", b"\x88", b"K\x05", b"J\xff\xff\xff\xff", b"I7\n", b"F1.5\n", b"G" + bytes(8),
    b"t", b"\x85", b"\x86", b"\x87", b"R", b"R", b"b", b"s", b"u", b"a", b"e", b"d", b"l", b"0", b"1", b"2", b"\x94",
    b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"X\x01\x00\x00\x00k", b"C\x02ab", b"\x8c\x01k", b"\x8f", b"\x90", b"\x91",
    b"\x81", b"\x92", b"\x93", b"\x8a\x02\xff\x00", b"p5\n", b"g5\n", b"\x96\x02\0\0\0\0\0\0\0xy", b"\x97", b"\x98",
    b"Q",
)  # fmt: skip


def pickle_file(rng: random.Random) -> bytes:
    """A pickle: a program of random steps, or an honest one that is spoilt."""
    if rng.random() < 0.6:
        steps = [rng.choice(_STEPS) if rng.random() < 0.85 else rng.choice(_NAMES) for _ in range(rng.randint(1, 60))]
        declared = b"\x96" + struct.pack("<Q", 2 ** rng.randint(8, 62)) if rng.random() < 0.1 else b""
        return b"\x80\x05" + b"".join(steps) + declared + b"."
    value = {"v": np.arange(6.0).reshape(2, 3), "f": [[0, 1, 2]], "k": {"a": (1, 2.5)}, "t": "text", "n": np.float32(1)}
    data = pickle.dumps(value, protocol=rng.randint(0, 5))
    return spoilt(data, rng) if rng.random() < 0.8 else data


TINY_VPOSER = VPoserSettings(num_joints=2, latent=2, hidden=4, decoder_hidden=4)


def weights_file(rng: random.Random) -> bytes:
    """A safetensors file of a tiny VPoser, with other tensors, another description, or wrong bytes."""
    tensors = {name: value.clone() for name, value in VPoser(TINY_VPOSER).state_dict().items()}
    settings: Any = asdict(TINY_VPOSER)
    name = rng.choice(sorted(tensors))
    kind = rng.randrange(6)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = torch.zeros(rng.choice(((), (0,), (3,), (4, 4))), dtype=rng.choice((torch.float64, torch.int8)))
    elif kind == 2 and tensors[name].is_floating_point():
        tensors[name] = tensors[name] * rng.choice((float("nan"), float("inf")))
    elif kind == 3:
        settings[rng.choice(sorted(settings))] = rng.choice((*ODD_VALUES[:12], 10**9, 8000, "matrix"))
    elif kind == 4:
        settings = spoilt_value(settings, rng)
    described = {"settings": json.dumps(settings)} if rng.random() < 0.9 else {"settings": "{", "other": "1"}
    data = save(tensors, metadata=described)
    return spoilt(data, rng) if kind == 5 else data


def image_file(rng: random.Random) -> tuple[str, bytes]:
    """Suffix and content of a picture that is spoilt."""
    suffix, mode = rng.choice(
        ((".png", "RGB"), (".png", "P"), (".png", "LA"), (".png", "I;16"), (".jpg", "RGB"), (".jpg", "L"),
         (".gif", "P"),
         (".bmp", "RGB"), (".tif", "F"), (".tif", "RGB"), (".webp", "RGBA"), (".ppm", "RGB"), (".jp2", "RGB"))
    )  # fmt: skip
    image = Image.new(mode, (rng.randint(1, 40), rng.randint(1, 40)))
    stream = io.BytesIO()
    options = {"progressive": True} if suffix == ".jpg" and rng.random() < 0.5 else {}
    image.save(stream, {".tif": "TIFF", ".jpg": "JPEG", ".jp2": "JPEG2000"}.get(suffix, suffix[1:].upper()), **options)
    data = bytearray(stream.getvalue())
    if rng.random() < 0.3 and len(data) > 30:  # sizes stand in the first bytes of most formats
        at = rng.randrange(4, 26)
        data[at : at + 2] = b"\xff\xff"
    return suffix, spoilt(bytes(data), rng) if rng.random() < 0.8 else bytes(data)


def fits_file(rng: random.Random, folder: Path) -> bytes:
    """A fits file in which one entry is of another shape, type or value, or gone."""
    path = folder / "honest.npz"
    if not path.exists():
        fitted_people(open_body(), 2).save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    key = rng.choice(sorted(arrays))
    value = arrays[key]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: value[:1] if value.ndim else np.array([value] * 2),
        lambda: value[..., None],
        lambda: np.array("text"),
        lambda: np.full(value.shape, np.nan),
        lambda: value.astype("U8"),
        lambda: odd_array(rng),
        lambda: np.full(value.shape, 1e300),
    )
    arrays[key] = rng.choice(changes)()
    if rng.random() < 0.1:
        del arrays[key]
    if rng.random() < 0.2:
        return npz_file(rng, arrays)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def body_file(rng: random.Random) -> bytes:
    """A small MANO file in which one entry is of another shape, type or value."""
    entries = random_entries("mano", num_vertices=12)
    key = rng.choice(sorted(entries))
    value = np.asarray(entries[key])
    changes: tuple[Callable[[], Any], ...] = (
        lambda: value[:-1] if value.ndim else value,
        lambda: value.astype(np.float64) * rng.choice((np.nan, np.inf, 1e300, -1.0)),
        lambda: [[0, 1, 2], [0, 1]],
        lambda: ["a", "b" * 1000],
        lambda: odd_array(rng),
        lambda: value.astype("f2") if value.dtype.kind == "f" else value.astype("u1"),
        lambda: None,
    )
    with np.errstate(all="ignore"):
        entries[key] = rng.choice(changes)()
    if rng.random() < 0.1:
        del entries[key]
    return pickle.dumps(dict(entries), protocol=2)
