"""Rotations: inverses, composition, exactness near zero and near half a turn, and gradients there."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitruvian.geometry import rotations as rot

Convert = Callable[[Tensor], Tensor]
every_batch = pytest.mark.parametrize("batch", [(), (1,), (3,), (6,), (2, 3), (3, 3), (0,)])
FORMS: dict[str, tuple[Convert, Convert]] = {
    "axis-angle": (rot.matrix_to_axis_angle, rot.axis_angle_to_matrix),
    "quaternion": (rot.matrix_to_quaternion, rot.quaternion_to_matrix),
    "6D": (rot.matrix_to_six_d, rot.six_d_to_matrix),
    "logarithm": (rot.log_so3, rot.exp_so3),
}
every_form = pytest.mark.parametrize("form", FORMS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape, 3, seed=seed), dim=-1)


def random_rotations(*batch: int, seed: int = 0) -> Tensor:
    """Uniform on SO(3), by QR."""
    q, r = torch.linalg.qr(normal(*batch, 3, 3, seed=seed))
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[..., None, :]
    return q * torch.linalg.det(q)[..., None, None]


@every_form
@every_batch
def test_forms_are_inverse_to_each_other(form: str, batch: tuple[int, ...]) -> None:
    away, back = FORMS[form]
    R = random_rotations(*batch)
    torch.testing.assert_close(back(away(R)), R)
    assert back(away(R)).shape == (*batch, 3, 3)


@every_form
def test_identity_goes_to_identity(form: str) -> None:
    away, back = FORMS[form]
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(back(away(eye)), eye)
    expected = {"quaternion": [0.0, 0, 0, 1], "6D": [1.0, 0, 0, 1, 0, 0]}.get(form, [0.0, 0, 0])
    torch.testing.assert_close(away(eye), torch.tensor(expected, dtype=torch.float64).expand(3, -1))


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_rotations_of_the_dtype_of_the_input(form: str, dtype: torch.dtype) -> None:
    away, back = FORMS[form]
    values = normal(*away(torch.eye(3)).shape, dtype=dtype) if form != "6D" else normal(6, dtype=dtype)
    values = torch.stack([values * 0.7, values * 2.0, values * 1.3])
    R = back(values)
    assert R.dtype == dtype
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=dtype).expand(3, 3, 3), rtol=0, atol=tolerance)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(3, dtype=dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize("axis", range(3))
def test_turns_about_the_axes_are_the_textbook_matrices(axis: int) -> None:
    angle = 0.7
    vector = torch.zeros(3, dtype=torch.float64)
    vector[axis] = angle
    a, b = (axis + 1) % 3, (axis + 2) % 3
    expected = torch.eye(3, dtype=torch.float64)
    expected[a, a] = expected[b, b] = math.cos(angle)
    expected[b, a], expected[a, b] = math.sin(angle), -math.sin(angle)
    torch.testing.assert_close(rot.exp_so3(vector), expected)
    quaternion = torch.zeros(4, dtype=torch.float64)
    quaternion[axis], quaternion[3] = math.sin(angle / 2), math.cos(angle / 2)
    torch.testing.assert_close(rot.quaternion_to_matrix(quaternion), expected)
    torch.testing.assert_close(rot.quaternion_to_matrix(-3 * quaternion), expected)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-8, 1e-5, 1e-3, 0.011, 0.1, 1.0, 3.0, math.pi - 1e-6])
def test_exponential_is_the_matrix_exponential_at_every_angle(angle: float) -> None:
    vectors = unit(3) * angle
    expected = torch.linalg.matrix_exp(rot.skew(vectors))
    torch.testing.assert_close(rot.exp_so3(vectors), expected, rtol=0, atol=1e-15 * max(1.0, 20 * angle))
    single = rot.exp_so3(vectors.float()).double()
    torch.testing.assert_close(single, torch.linalg.matrix_exp(rot.skew(vectors.float().double())), rtol=0, atol=3e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0109, 0.0111, 0.5, 3.0])
def test_exponential_has_exact_first_and_second_derivatives(angle: float) -> None:
    vectors = (unit(2) * angle).requires_grad_()
    assert torch.autograd.gradcheck(rot.exp_so3, (vectors,))
    assert torch.autograd.gradgradcheck(rot.exp_so3, (vectors,))


def test_derivative_of_the_exponential_at_zero_is_the_generator() -> None:
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(3, dtype=dtype)
        jacobian = torch.autograd.functional.jacobian(rot.exp_so3, zero)
        expected = torch.stack([rot.skew(axis) for axis in torch.eye(3, dtype=dtype)], dim=-1)
        torch.testing.assert_close(jacobian, expected, rtol=0, atol=0)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 0.0])
def test_logarithm_is_right_near_half_a_turn(gap: float) -> None:
    vectors = unit(50) * (math.pi - gap)
    matrices = rot.exp_so3(vectors)
    found = rot.log_so3(matrices)
    assert float((found.norm(dim=-1) - (math.pi - gap)).abs().max()) < 1e-7
    # At half a turn both signs of the axis are right.
    sign = (found * vectors).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(found * sign, vectors, rtol=0, atol=1e-7)
    torch.testing.assert_close(rot.exp_so3(found), matrices, rtol=0, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-7, 1e-4, 0.01])
def test_logarithm_is_right_for_small_angles(angle: float) -> None:
    vectors = unit(50) * angle
    torch.testing.assert_close(rot.log_so3(rot.exp_so3(vectors)), vectors, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 0.5, 2.0, 3.1])
def test_gradient_through_logarithm_of_exponential_is_the_identity(angle: float) -> None:
    vector = unit() * angle
    jacobian = torch.autograd.functional.jacobian(lambda v: rot.log_so3(rot.exp_so3(v)), vector)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)


@every_batch
def test_six_d_is_the_first_two_columns_row_by_row(batch: tuple[int, ...]) -> None:
    R = random_rotations(*batch)
    six = rot.matrix_to_six_d(R)
    assert six.shape == (*batch, 6)
    rebuilt = rot.six_d_to_matrix(six)
    for row in range(3):
        torch.testing.assert_close(six[..., 2 * row], R[..., row, 0])
        torch.testing.assert_close(six[..., 2 * row + 1], R[..., row, 1])
    # The third column is the cross product per item; a batch of exactly three is where others went wrong.
    torch.testing.assert_close(rebuilt[..., 2], torch.linalg.cross(R[..., 0], R[..., 1], dim=-1))


def test_six_d_of_any_numbers_is_gram_schmidt() -> None:
    six = normal(3, 6)
    found = rot.six_d_to_matrix(six)
    for item in range(3):
        columns = six[item].view(3, 2)
        q, r = torch.linalg.qr(columns)
        q = q * torch.diagonal(r).sign()
        torch.testing.assert_close(found[item, :, :2], q)
    scaled = six.view(3, 3, 2) * torch.tensor([2.0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(rot.six_d_to_matrix(scaled.flatten(1)), found)
    assert torch.autograd.gradcheck(rot.six_d_to_matrix, (six.requires_grad_(),))


def test_degenerate_numbers_stay_finite_with_their_gradients() -> None:
    six = torch.zeros(2, 6, dtype=torch.float64)
    six[1] = torch.tensor([1, 1, 0, 0, 0, 0])  # parallel columns
    six.requires_grad_()
    R = rot.six_d_to_matrix(six)
    R.sum().backward()
    assert R.isfinite().all()
    assert six.grad is not None
    assert six.grad.isfinite().all()


def test_skew_is_the_cross_product() -> None:
    a, b = normal(3, 3), normal(3, 3, seed=1)
    torch.testing.assert_close((rot.skew(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b, dim=-1))
    torch.testing.assert_close(rot.skew(a).mT, -rot.skew(a))


def test_composition_about_one_axis_adds_angles() -> None:
    axis = unit(3)
    torch.testing.assert_close(rot.exp_so3(0.4 * axis) @ rot.exp_so3(0.9 * axis), rot.exp_so3(1.3 * axis))
    torch.testing.assert_close(rot.exp_so3(axis) @ rot.exp_so3(-axis), torch.eye(3).double().expand(3, 3, 3))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.0109, 0.0111, 0.8, 2.5])
def test_right_jacobian_is_the_derivative_of_the_exponential(angle: float) -> None:
    vector = unit() * angle
    R = rot.exp_so3(vector)
    derivative = torch.autograd.functional.jacobian(rot.exp_so3, vector)  # (3, 3, direction)
    generators = R.T @ derivative.movedim(-1, 0)
    columns = torch.stack((generators[:, 2, 1], generators[:, 0, 2], generators[:, 1, 0]))
    torch.testing.assert_close(rot.right_jacobian(vector), columns, rtol=0, atol=1e-11)
    inverse = rot.right_jacobian_inverse(vector)
    torch.testing.assert_close(inverse @ columns, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-10)


def test_inverse_right_jacobian_is_the_derivative_of_the_logarithm() -> None:
    vector = unit() * 1.7
    R = rot.exp_so3(vector)
    step = torch.zeros(3, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(lambda d: rot.log_so3(R @ rot.exp_so3(d)), step)
    torch.testing.assert_close(rot.right_jacobian_inverse(vector), found)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-4, math.pi])
def test_geodesic_angle_is_the_angle_between(angle: float) -> None:
    a = random_rotations(3)
    b = a @ rot.exp_so3(unit(3) * angle)
    torch.testing.assert_close(
        rot.geodesic_angle(a, b), torch.full((3,), angle, dtype=torch.float64), rtol=0, atol=3e-8
    )
    torch.testing.assert_close(rot.geodesic_angle(a, b), rot.geodesic_angle(b, a), rtol=0, atol=1e-12)


def test_one_item_that_is_not_a_number_spoils_no_other() -> None:
    for form, (away, back) in FORMS.items():
        R = random_rotations(3)
        values = away(R)
        values[1] = torch.nan
        torch.testing.assert_close(back(values)[[0, 2]], R[[0, 2]], msg=form)
        bad = R.clone()
        bad[1] = torch.nan
        torch.testing.assert_close(back(away(bad))[[0, 2]], R[[0, 2]], msg=form)
