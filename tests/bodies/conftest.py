"""Random models of the official sizes, written and loaded once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bodies.random_models import official_file, random_entries
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel


@dataclass(frozen=True, eq=False)
class OfficialModel:
    """A random model of official size: its entries, its file, and what the loader makes of it in float64."""

    entries: dict[str, np.ndarray]
    path: Path
    body: BodyModel


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OfficialModel]:
    made: dict[str, OfficialModel] = {}

    def model(family: str) -> OfficialModel:
        if family not in made:
            entries = random_entries(family)
            path = official_file(family, entries, tmp_path_factory.mktemp(family))
            body = load_body(family, path, num_shape="all", num_expression="all", dtype=torch.float64)
            made[family] = OfficialModel(entries, path, body)
        return made[family]

    return model


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BodyModel]:
    """A random model of 40 vertices in float64, four shape and three expression components."""
    made: dict[str, BodyModel] = {}

    def model(family: str) -> BodyModel:
        if family not in made:
            entries = random_entries(family, num_vertices=40)
            path = official_file(family, entries, tmp_path_factory.mktemp(f"small_{family}"))
            expression = 3 if family in ("smplx", "flame") else None
            made[family] = load_body(family, path, num_shape=4, num_expression=expression, dtype=torch.float64)
        return made[family]

    return model
