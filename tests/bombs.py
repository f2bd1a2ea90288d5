"""Small files that ask for much memory or time, and a program that measures what reading each takes.

`python -m tests.bombs FOLDER NAME ...` writes and reads those of these names, or all, each in a process of its own, and
prints a line of JSON for each.
"""

import json
import os
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

MEGABYTE = 1_000_000


def zeros(size: int) -> bytes:
    """A raw deflate stream that unpacks to `size` zeros, made at once: blocks that know nothing of each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    return block * (size // MEGABYTE) + rest.compress(bytes(size % MEGABYTE)) + rest.flush()


def zip_of_zeros(members: dict[str, tuple[bytes, int]]) -> bytes:
    """A zip file whose members are some bytes, then zeros; check sums are right where a reader comes to see them."""
    body, directory = b"", b""
    for name, (start, size) in members.items():
        first = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = first.compress(start) + first.flush(zlib.Z_FULL_FLUSH) + zeros(size)
        check = zlib.crc32(bytes(size), zlib.crc32(start)) if size < 300 * MEGABYTE else 0
        fields = (20, 0, zipfile.ZIP_DEFLATED, 0, 33, check, len(data), len(start) + size, len(name), 0)
        directory += struct.pack("<IH5H3I2H3H2I", 0x02014B50, 20, *fields, 0, 0, 0, 0, len(body)) + name.encode()
        body += struct.pack("<I5H3I2H", 0x04034B50, *fields) + name.encode() + data
    end = struct.pack("<I4H2IH", 0x06054B50, 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npz_of_zeros(entries: dict[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    """An npz file of zeros: type, shape, and bytes of each entry."""
    return zip_of_zeros(
        {f"{key}.npy": (npy_header(dtype, shape), size) for key, (dtype, shape, size) in entries.items()}
    )


def png_of_zeros(width: int, height: int, *, depth: int, kind: int, chunks: bytes = b"") -> bytes:
    """A black PNG of any size; `kind` is 0 for grey, 2 for RGB, 3 for a palette, 6 for RGB with transparency."""
    bits = depth * {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    size = height * (1 + (width * bits + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = b"\x78\x9c" + zeros(size) + struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PALETTE = png_chunk(b"PLTE", bytes(6)) + png_chunk(b"tRNS", b"\0")
_TUPLES = b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) + b"0" for k in range(40))
_LISTS = b"".join(b"]q" + bytes([k + 1]) + b"(" + (b"h" + bytes([k])) * 10 + b"e0" for k in range(25))

BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "npz of 3.9 MB that unpacks to 3.9 GB": (
        "arrays.npz", lambda: npz_of_zeros({"v": ("<f8", (487_500_000,), 3_900_000_000)})),
    "npz of 16 entries, 260 MB each": (
        "arrays.npz", lambda: npz_of_zeros({f"v{k}": ("<f8", (32_500_000,), 260_000_000) for k in range(16)})),
    "npz whose entries are as large as allowed": (
        "arrays.npz", lambda: npz_of_zeros({f"v{k}": ("<f8", (33_000_000,), 264_000_000) for k in range(2)})),
    "npz that declares more than it holds": (
        "arrays.npz", lambda: npz_of_zeros({"v": ("<f8", (10**14,), 1000)})),
    "npz with a text of 250 MB": ("fits.npz", lambda: npz_of_zeros({"config": ("<U62500000", (), 250_000_000)})),
    "body whose numbers would grow eightfold": (
        "MANO_RIGHT.npz",
        lambda: npz_of_zeros({
            "v_template": ("|u1", (11_000_000, 3), 33_000_000), "weights": ("|u1", (11_000_000, 16), 176_000_000)})),
    "pickle of 15 bytes with an array of 4 GB": (
        "arrays.pkl", lambda: b"\x80\x05}\x96" + struct.pack("<Q", 2**32) + b"."),
    "pickle of 336 bytes with keys of nested tuples": (
        "arrays.pkl", lambda: b"\x80\x02K\x01q\x000" + _TUPLES + b"}h\x28K\x01s."),
    "pickle with 10²⁵ nested references": (
        "arrays.pkl", lambda: b"\x80\x02K\x01q\x000" + _LISTS + b"}X\x01\0\0\0vh\x19s."),
    "pickle with a number of 50 MB": (
        "arrays.pkl", lambda: b"\x80\x02}X\x01\0\0\0v\x8b" + struct.pack("<i", 50 * MEGABYTE) + bytes(50 * MEGABYTE - 1)
        + b"\x01s."),
    "pickle with 200,000 items in an OrderedDict": (
        "arrays.pkl", lambda: b"\x80\x02}X\x01\0\0\0vccollections\nOrderedDict\n)R("
        + b"".join(b"X\x06\0\0\0%06dK\x01" % k for k in range(200_000)) + b"us."),
    "pickle with 100,000 keys of one hash": (
        "arrays.pkl", lambda: b"\x80\x02}(" + b"".join(
            b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(100_000)) + b"u."),
    "pickle of 8 million steps": ("arrays.pkl", lambda: b"\x80\x02" + b"}" * 8_000_000 + b"."),
    "pickle of a text of 60 million characters, one above 255": (
        "arrays.pkl", lambda: b"\x80\x02}X\x01\0\0\0vX" + struct.pack("<I", 60 * MEGABYTE + 4)
        + b"a" * (60 * MEGABYTE) + "🙂".encode() + b"s."),
    "JSON of 25 MB with a million people": (
        "a_keypoints.json", lambda: b'{"people": [' + b'{"pose_keypoints_2d": []},' * MEGABYTE + b"{}]}"),
    "JSON of 16 MB of objects": ("a_keypoints.json", lambda: b'{"people": [' + b'{"":0},' * 2_280_000 + b"{}]}"),
    "JSON of 16 MB of lists": ("a_keypoints.json", lambda: b'{"people": [' + b"[[0]]," * 2_650_000 + b"[]]}"),
    "JSON nested 100,000 times": ("a_keypoints.json", lambda: b"[" * 100_000),
    "JSON with a number of a million digits": ("a_keypoints.json", lambda: b'{"people": ' + b"9" * MEGABYTE + b"}"),
    "PNG of 13,000², 16 bits": ("a.png", lambda: png_of_zeros(13_000, 13_000, depth=16, kind=0)),
    "PNG of 13,000², palette with transparency": (
        "a.png", lambda: png_of_zeros(13_000, 13_000, depth=8, kind=3, chunks=_PALETTE)),
    "PNG of 13,300², RGB": ("a.png", lambda: png_of_zeros(13_300, 13_300, depth=8, kind=2)),
    "PNG of 13,300², RGB with transparency": ("a.png", lambda: png_of_zeros(13_300, 13_300, depth=8, kind=6)),
    "PNG of 60,000²": ("a.png", lambda: png_of_zeros(60_000, 60_000, depth=1, kind=0)),
    "safetensors with a header of 2⁶⁰ bytes": ("a.safetensors", lambda: struct.pack("<Q", 2**60) + b"{}"),
    "safetensors with a header of 90 MB": (
        "a.safetensors", lambda: struct.pack("<Q", 90 * MEGABYTE) + b" " * 90 * MEGABYTE),
}  # fmt: skip
"""Name of the file, and how it is made, by what it is."""


def read(path: Path) -> None:
    """Read a file with the reader that its name asks for."""
    from vitruvian.assets import read_arrays
    from vitruvian.assets.weights import read_weights
    from vitruvian.bodies.loaders import load_body
    from vitruvian.fits import load_fits
    from vitruvian.keypoints.images import read_image
    from vitruvian.keypoints.openpose import read_keypoints

    if path.name.startswith("arrays"):
        entries = read_arrays(path)
        for key in entries:
            entries[key]
    elif path.name.startswith("MANO"):
        load_body("mano", path)
    else:
        {".npz": load_fits, ".json": read_keypoints, ".safetensors": read_weights}.get(path.suffix, read_image)(path)


def measure(path: Path) -> dict[str, object]:
    """Megabytes above the start, seconds of processor time, and how reading ended."""
    from vitruvian.errors import VitruvianError

    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    started = time.process_time()
    try:
        read(path)
        ended = "read"
    except VitruvianError as error:
        ended = f"{type(error).__name__}: {error}"[:200]
    except Exception as error:
        ended = f"FOREIGN {type(error).__name__}: {error}"[:200]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"megabytes": round((peak - before) / MEGABYTE), "seconds": time.process_time() - started, "ended": ended}


def main(folder: str, *names: str) -> None:
    for module in ("bodies.loaders", "fits", "keypoints.images", "keypoints.openpose", "assets.weights"):
        __import__(f"vitruvian.{module}")
    for name in names or BOMBS:
        file, make = BOMBS[name]
        path = Path(folder) / file
        path.write_bytes(make())
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print(json.dumps({"name": name, "bytes": path.stat().st_size, **measure(path)}), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
