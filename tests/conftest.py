"""What all tests share: where the shared data lies, and fixtures of the open body."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: workers of pytest share the cores

import pytest
import torch
from jaxtyping import config, install_import_hook

from tests import shape_checks

# The hook names the checker in code that it adds to every module, and pytest makes the package `tests` anew.
sys.modules["shape_checks"] = shape_checks
install_import_hook([f"vitruvian.{name}" for name in shape_checks.HOUSES], "shape_checks.checked")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the shared data sets; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside the repository")
    return SHARED_DATA


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """For tests that hand over wrong shapes on purpose, to see what vitruvian itself says of them."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
