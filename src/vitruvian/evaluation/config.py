"""Configurations of the benchmarks, apart from their code for a quick command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluateSynthetic:
    """Measure the pose distribution, fits and several views on synthetic people in held-out poses."""

    count: int = 1000
    """Number of people."""
    samples: int = 100
    """Samples of each person's distribution."""
    seed: int = 1
    """Of every random number."""
    quick: bool = False
    """150 people, 25 samples, fewer fits."""
    baselines: Path | None = None
    """Weights of the baselines, from `vitruvian train baselines`; left out if not given."""
    fit: bool = True
    """Also fit the people, and people in several views."""
    json: Path | None = None
    """File for the figures."""
