"""Fits as a table: choosing, joining, saving and posing rows go together in every order."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import ShapeError
from vitruvian.fits import Fits, load_fits
from vitruvian.tensors import concatenate_records, tensors_of

ROWS = 5


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return tube_body()


@pytest.fixture
def fits(body: BodyModel) -> Fits:
    """Rows of which no two agree in any column."""
    numbers = range(ROWS)

    def words(name: str) -> tuple[str, ...]:
        return tuple(f"{name} {k}" for k in numbers)

    return replace(
        fitted_people(body, ROWS),
        status=("converged", "failed", "stalled", "no_evidence", "iteration_limit"),
        person=tuple(numbers),
        frame=tuple(10 + k for k in numbers),
        track=tuple(20 + k for k in numbers),
        picture=words("picture"),
        source=words("source"),
        prior=words("prior"),
        verdict=words("verdict"),
        reason=words("reason"),
        person_gender=("", "neutral", "female", "male", ""),
        reprojection_parts_px=torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(1)),
    )


def assert_equal(a: Fits, b: Fits) -> None:
    for x, y in zip(tensors_of(a), tensors_of(b), strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-6)
    for field in fields(Fits):
        value = getattr(a, field.name)
        if isinstance(value, tuple | str):
            assert value == getattr(b, field.name), field.name


@pytest.mark.parametrize("index", [[3, 0, 3], slice(1, None, 2), torch.tensor([True, False, True, True, False])])
def test_an_index_chooses_the_same_rows_of_every_column(fits: Fits, index) -> None:
    rows = torch.arange(ROWS)[index].tolist()
    chosen = fits[index]
    assert len(chosen) == len(rows)
    for k, row in enumerate(rows):
        assert_equal(chosen[k : k + 1], fits[[row]])
        one = fits[row]
        for field in fields(one):
            value = getattr(chosen[k], field.name)
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(one, field.name)), field.name
            elif isinstance(value, str | int):
                assert value == getattr(one, field.name), field.name


def test_choosing_twice_is_choosing_once(fits: Fits) -> None:
    assert_equal(fits[[4, 2, 0]][[2, 1]], fits[[0, 2]])


def test_pieces_make_the_whole(fits: Fits) -> None:
    assert_equal(concatenate_records([fits[:2], fits[2:2], fits[2:]]), fits)


def test_saving_keeps_every_column_of_every_row(fits: Fits, tmp_path: Path) -> None:
    loaded = load_fits(fits.save(tmp_path / "all.npz"))
    some = load_fits(fits[[3, 1]].save(tmp_path / "some.npz"))
    assert_equal(loaded[[3, 1]], some)
    for field in fields(Fits):
        value = getattr(fits, field.name)
        if isinstance(value, tuple):
            assert getattr(loaded, field.name) == value, field.name


def test_each_person_stands_alone(fits: Fits, body: BodyModel) -> None:
    together = fits.pose(body).vertices
    for row in range(ROWS):
        torch.testing.assert_close(fits[[row]].pose(body).vertices[0], together[row], atol=1e-6, rtol=0)


def test_a_column_of_another_length_is_refused(fits: Fits) -> None:
    with pytest.raises(ShapeError, match="different lengths"):
        replace(fits, track=(1, 2))
