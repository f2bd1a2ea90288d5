"""Small files that ask for much: reading each takes at most 1 GB above the start and 10 seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bombs import BOMBS

ROOT = Path(__file__).resolve().parents[1]
MOST_MEGABYTES = 1000
MOST_SECONDS = 10.0
WITHIN = ("npz whose entries are as large as allowed", "pickle with 200,000 items in an OrderedDict")
"""Those that the budget allows; pictures are read or refused."""


QUICK = (
    "npz of 3.9 MB that unpacks to 3.9 GB",
    "pickle of 15 bytes with an array of 4 GB",
    "pickle of 336 bytes with keys of nested tuples",
    "pickle with 10²⁵ nested references",
    "pickle with 200,000 items in an OrderedDict",
    "JSON of 25 MB with a million people",
    "PNG of 60,000²",
    "safetensors with a header of 2⁶⁰ bytes",
)


@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/statm").exists(), reason="needs Linux to measure")
@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(BOMBS), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_memory_and_time_are_bounded(tmp_path: Path, names: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.bombs", str(tmp_path), *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case["name"] for case in cases] == list(names)
    for case in cases:
        assert not case["ended"].startswith("FOREIGN"), case
        assert case["megabytes"] < MOST_MEGABYTES, case
        assert case["seconds"] < MOST_SECONDS, case
        if not case["name"].startswith("PNG"):
            assert (case["ended"] == "read") == (case["name"] in WITHIN), case
