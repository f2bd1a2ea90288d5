"""Records: what has rows follows an index and a joining, what is shared by all rows does not."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import vitruvian as vt
from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.fits import Fits
from vitruvian.geometry.meshes import Mesh
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.recovery.posterior import BodyPosterior
from vitruvian.tensors import (
    BatchRecord,
    TensorRecord,
    column,
    concatenate_records,
    put_rows,
    shared,
    stack_records,
    where_rows,
)


@dataclass(frozen=True, eq=False)
class Inner(BatchRecord):
    values: Tensor


@dataclass(frozen=True, eq=False)
class Table(TensorRecord):
    values: Tensor


@dataclass(frozen=True, eq=False)
class Sample(BatchRecord):
    values: Tensor
    inner: Inner
    parts: tuple[Tensor, ...]
    table: Table
    weights: Tensor = shared()
    words: tuple[str, ...] = column()
    title: str = "a"


def sample(*rows: int) -> Sample:
    values = torch.tensor(rows, dtype=torch.float32)
    return Sample(
        values[:, None] * torch.ones(3),
        Inner(values),
        (values, 2 * values),
        Table(torch.arange(7.0)),
        weights=torch.arange(5.0),
        words=tuple(map(str, rows)),
    )


def rows_of(record: Sample) -> list[int]:
    """The rows that a record says it has, in every one of its fields."""
    found = [record.values[:, 0], record.inner.values, record.parts[0], record.parts[1] / 2]
    found.append(torch.tensor([float(word) for word in record.words]))
    assert all(torch.equal(found[0], other) for other in found)
    assert torch.equal(record.table.values, torch.arange(7.0))
    assert torch.equal(record.weights, torch.arange(5.0))
    return [int(value) for value in found[0]]


@pytest.mark.parametrize(
    "index", [slice(1, 3), [2, 0, 2], torch.tensor([3, 1]), torch.tensor([True, False, True, False]), [], slice(0, 0)]
)
def test_every_field_with_rows_follows_an_index(index: object) -> None:
    expected = torch.tensor([5, 6, 7, 8])[index].tolist()  # type: ignore[index]
    assert rows_of(sample(5, 6, 7, 8)[index]) == expected


def test_an_integer_gives_a_record_of_one_row_and_ends_iteration() -> None:
    record = sample(5, 6, 7)
    assert [rows_of(one) for one in record] == [[5], [6], [7]]
    assert rows_of(record[-1]) == [7]
    with pytest.raises(IndexError):
        record[3]


def test_joining_keeps_all_rows_and_their_columns() -> None:
    joined = concatenate_records([sample(1, 2), sample(3), sample()])
    assert rows_of(joined) == [1, 2, 3]
    assert rows_of(joined[[2, 0]]) == [3, 1]


def test_what_is_shared_must_be_equal() -> None:
    other = replace(sample(3), title="b")
    with pytest.raises(InputError, match="title"):
        concatenate_records([sample(1), other])
    with pytest.raises(InputError, match="weights"):
        concatenate_records([sample(1), replace(sample(3), weights=torch.zeros(5))])
    with pytest.raises(InputError, match="no records"):
        concatenate_records([])


def test_columns_cannot_be_stacked_and_plain_records_have_no_rows() -> None:
    with pytest.raises(InputError, match="rows only"):
        stack_records([sample(1), sample(2)])
    assert stack_records([Inner(torch.ones(2)), Inner(torch.zeros(2))]).values.tolist() == [[1, 1], [0, 0]]
    with pytest.raises(TypeError, match="not subscriptable"):
        Table(torch.zeros(3))[0]  # type: ignore[index]
    with pytest.raises(InputError, match="batches"):
        concatenate_records([Table(torch.zeros(3))])  # type: ignore[type-var]


def test_rows_are_put_and_chosen_where_there_are_rows(generator: torch.Generator) -> None:
    def record(*rows: float) -> Inner:
        return Inner(torch.tensor(rows))

    put = put_rows(record(0, 1, 2, 3), torch.tensor([3, 1]), record(30, 10))
    assert put.values.tolist() == [0, 10, 2, 30]
    mask = torch.tensor([True, False, True])
    assert where_rows(mask, record(1, 2, 3), record(4, 5, 6)).values.tolist() == [1, 5, 3]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return tube_body()


def test_a_mesh_has_no_rows(body: BodyModel) -> None:
    """Its faces belong to all meshes of a batch, so an index would take one of them apart."""
    mesh = body.with_shape(torch.zeros(2, 3)).with_pose().mesh()
    assert isinstance(mesh, Mesh)
    with pytest.raises(TypeError, match="not subscriptable"):
        mesh[0]  # type: ignore[index]


def test_fits_are_joined_with_their_columns(body: BodyModel) -> None:
    first, second = fitted_people(body, 2), fitted_people(body, 3, seed=1)
    joined = concatenate_records([first, second])
    assert isinstance(joined, Fits)
    assert len(joined) == 5
    assert joined.image == first.image + second.image
    for row, (expected, number) in enumerate([(first, 0), (first, 1), (second, 0), (second, 1), (second, 2)]):
        torch.testing.assert_close(joined[row].params.rotations, expected[number].params.rotations)
        assert joined[row].image == expected[number].image
    with pytest.raises(InputError, match="gender"):
        concatenate_records([first, replace(second, gender="female")])


@pytest.fixture(scope="module")
def posterior() -> BodyPosterior:
    generator = torch.Generator().manual_seed(0)
    keypoints = Keypoints(torch.rand(3, 25, 2, generator=generator) * 500, torch.ones(3, 25), "openpose-body25")
    return vt.regress(keypoints, vt.Camera.from_image_size(500, 500))


def test_a_posterior_is_indexed_and_joined_by_people(posterior: BodyPosterior) -> None:
    """Latents are given, as matrix products of other sizes may round otherwise."""
    some = posterior[[2, 0]]
    assert len(some) == 2
    torch.testing.assert_close(some.mode().rotations, posterior.mode().rotations[[2, 0]], atol=1e-4, rtol=0)
    assert some.network is posterior.network
    joined = concatenate_records([posterior[[0]], posterior[[1, 2]]])
    torch.testing.assert_close(joined.mode().rotations, posterior.mode().rotations, atol=1e-4, rtol=0)


def test_a_posterior_changes_precision_with_its_network(posterior: BodyPosterior) -> None:
    double = posterior.to(dtype=torch.float64)
    assert next(double.network.parameters()).dtype == torch.float64
    assert next(posterior.network.parameters()).dtype == torch.float32
    mode = double.mode().rotations
    assert mode.dtype == torch.float64
    torch.testing.assert_close(mode.float(), posterior.mode().rotations, atol=1e-4, rtol=0)


def test_people_keep_every_point_of_mixed_formats() -> None:
    bodies = People.in_picture(Keypoints.empty("openpose-body25", people=2), picture="x/a.jpg")
    whole = People.in_picture(Keypoints.empty("openpose", people=1), picture="y/a.jpg")
    with pytest.raises(InputError, match="format"):
        concatenate_records([bodies, whole])
