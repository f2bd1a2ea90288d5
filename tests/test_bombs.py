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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/statm").exists(), reason="needs Linux to measure")
def test_memory_and_time_are_bounded(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.bombs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case["name"] for case in cases] == list(BOMBS)
    for case in cases:
        assert not case["ended"].startswith("FOREIGN"), case
        assert case["megabytes"] < MOST_MEGABYTES, case
        assert case["seconds"] < MOST_SECONDS, case
        if not case["name"].startswith("PNG"):
            assert (case["ended"] == "read") == (case["name"] in WITHIN), case
