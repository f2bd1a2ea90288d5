"""The staged body model against independent implementations, and its laws, for every family."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.bodies.conftest import OfficialModel
from tests.bodies.random_models import reference
from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.families import FAMILIES
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import Skeleton
from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.rotations import exp_so3

Official = Callable[[str], OfficialModel]
Small = Callable[[str], BodyModel]
every_family = pytest.mark.parametrize("family", FAMILIES)
TOLERANCE_M = {torch.float64: 1e-6, torch.float32: 1e-5}


def random_params(body: BodyModel, *batch: int, angle: float = 0.7, seed: int = 1) -> BodyParams:
    """Random people, exact in float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=generator).to(body.dtype)

    rotations = exp_so3(angle * normal(body.num_joints, 3).double()).to(body.dtype)
    return BodyParams(rotations, normal(body.num_shape), normal(body.num_expression), normal(3))


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@every_family
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_vertices_and_joints_are_those_of_the_formulas(official: Official, family: str, dtype: torch.dtype) -> None:
    model = official(family)
    params = random_params(model.body)
    expected = reference(
        model.entries,
        model.body.skeleton,
        betas=params.betas.numpy(),
        expression=params.expression.numpy(),
        rotations=params.rotations.numpy(),
        transl=params.transl.numpy(),
        expression_start=300,
    )
    posed = model.body.to(dtype=dtype).pose(params.to(dtype=dtype))
    tolerance = {torch.float64: 1e-12, torch.float32: TOLERANCE_M[torch.float32]}[dtype]
    assert largest(posed.vertices.double() - torch.from_numpy(expected.vertices)) < tolerance
    assert largest(posed.joints.double() - torch.from_numpy(expected.joints)) < tolerance


def oracle(family: str, path: Any) -> Any:
    """The class of the package body-models that reads the same file."""
    module = pytest.importorskip(f"body_models.{family}.torch")
    more = {} if family in ("smpl", "flame") else {"flat_hand_mean": True}
    return getattr(module, family.upper())(model_path=path, rotation_type="rotmat", **more).double()


def oracle_arguments(skeleton: Skeleton, params: BodyParams) -> dict[str, Tensor]:
    """Our parameters under the names of the package body-models."""
    R = params.rotations
    blocks = {block.name: R[..., block.start : block.stop, :, :] for block in skeleton.blocks}
    family = {24: "smpl", 52: "smplh", 55: "smplx", 16: "mano", 5: "flame"}[len(skeleton)]
    out = {"shape": params.betas, "global_translation": params.transl}
    if family in ("smpl", "smplh", "smplx"):
        out |= {"pelvis_rotation": R[..., 0, :, :], "body_pose": blocks["body_pose"]}
    if family in ("smplh", "smplx"):
        out["hand_pose"] = torch.cat((blocks["left_hand_pose"], blocks["right_hand_pose"]), dim=-3)
    if family == "smplx":
        out |= {"head_pose": R[..., 22:25, :, :], "expression": params.expression}
    if family == "mano":
        out |= {"wrist_rotation": R[..., 0, :, :], "hand_pose": blocks["hand_pose"]}
    if family == "flame":
        out |= {"head_rotation": R[..., 0, :, :], "head_pose": R[..., 1:, :, :], "expression": params.expression}
    return out


@every_family
def test_vertices_and_joints_are_those_of_another_implementation(official: Official, family: str) -> None:
    model = official(family)
    theirs = oracle(family, model.path)
    params = random_params(model.body, 3)
    arguments = oracle_arguments(model.body.skeleton, params)
    vertices = theirs.forward_vertices(**arguments)
    skeleton = theirs.forward_skeleton(**arguments)
    for dtype, tolerance in TOLERANCE_M.items():
        posed = model.body.to(dtype=dtype).pose(params.to(dtype=dtype))
        assert largest(posed.vertices.double() - vertices) < tolerance
        assert largest(posed.joints.double() - skeleton[..., :3, 3]) < tolerance
        assert largest(posed.world_rotations.double() - skeleton[..., :3, :3]) < tolerance


@every_family
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (9,), (0,)])
def test_each_person_of_a_batch_is_the_person_alone(small: Small, family: str, batch: tuple[int, ...]) -> None:
    body = small(family)
    params = random_params(body, *batch)
    posed = body.pose(params)
    assert posed.vertices.shape == (*batch, 40, 3)
    assert posed.joints.shape == (*batch, body.num_joints, 3)
    assert posed.mesh().vertex_normals().shape == (*batch, 40, 3)
    for index in np.ndindex(*batch):
        alone = body.pose(params[index])
        torch.testing.assert_close(posed.vertices[index], alone.vertices, rtol=0, atol=1e-13)
        torch.testing.assert_close(posed.joints[index], alone.joints, rtol=0, atol=1e-13)
        torch.testing.assert_close(posed[index].vertices, alone.vertices, rtol=0, atol=1e-13)


def test_shape_pose_and_translation_broadcast(small: Small) -> None:
    body = small("smplx")
    params = random_params(body, 4, 3)
    shapes, poses = params.betas[:, :1], params.rotations[:1]
    posed = body.with_shape(shapes, params.expression[0, 0]).with_pose(poses, params.transl)
    full = BodyParams(
        poses.expand(4, 3, -1, 3, 3), shapes.expand(4, 3, -1), params.expression[:1, :1].expand(4, 3, -1), params.transl
    )
    expected = body.pose(full)
    torch.testing.assert_close(posed.vertices, expected.vertices)
    torch.testing.assert_close(posed.joints, expected.joints)
    torch.testing.assert_close(posed.landmarks(), expected.landmarks())
    torch.testing.assert_close(posed[1, 2].vertices, expected.vertices[1, 2])
    one_pose = body.with_shape(params.betas).with_pose(params.rotations[0, 0])
    torch.testing.assert_close(one_pose.landmarks()[2, 1], body.with_shape(params.betas[2, 1]).with_pose(
        params.rotations[0, 0]).landmarks())  # fmt: skip


@every_family
def test_rest_pose_is_the_shaped_template_and_its_joints_are_regressed(small: Small, family: str) -> None:
    body = small(family)
    params = random_params(body, 2)
    shaped = body.with_shape(params.betas, params.expression)
    torch.testing.assert_close(shaped.with_pose().vertices, shaped.vertices)
    torch.testing.assert_close(shaped.joints, body.joint_regressor @ shaped.vertices)
    torch.testing.assert_close(body.with_shape().vertices, body.template)
    torch.testing.assert_close(body.with_shape().joints, body.joint_template)


@every_family
def test_turning_the_root_turns_the_body_about_the_root_joint(small: Small, family: str) -> None:
    body = small(family)
    params = random_params(body, 2)
    turn = exp_so3(torch.tensor([0.3, -1.1, 0.4], dtype=torch.float64))
    turned = params.rotations.clone()
    turned[:, 0] = turn @ turned[:, 0]
    shaped = body.with_shape(params.betas, params.expression)
    before, after = shaped.with_pose(params.rotations), shaped.with_pose(turned, params.transl)
    pivot = shaped.joints[:, :1]
    torch.testing.assert_close(after.vertices, (before.vertices - pivot) @ turn.T + pivot + params.transl[:, None])
    torch.testing.assert_close(after.joints, (before.joints - pivot) @ turn.T + pivot + params.transl[:, None])


def test_fewer_coefficients_leave_the_rest_at_zero_and_more_are_refused(small: Small) -> None:
    body = small("smplx")
    betas = torch.tensor([1.0, -2.0], dtype=torch.float64)
    padded = torch.nn.functional.pad(betas, (0, 2))
    torch.testing.assert_close(body.with_shape(betas).vertices, body.with_shape(padded).vertices)
    torch.testing.assert_close(body.with_shape(betas).joints, body.with_shape(padded).joints)
    with pytest.raises(ShapeError, match="seen: 5; expected: at most 4"):
        body.with_shape(torch.zeros(5, dtype=torch.float64))
    with pytest.raises(ShapeError, match="too many expression"):
        body.with_shape(expression=torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"55, 3, 3"):
        body.with_shape().with_pose(torch.eye(3, dtype=torch.float64).expand(54, 3, 3))


@every_family
def test_one_person_that_is_not_a_number_spoils_no_other(small: Small, family: str) -> None:
    body = small(family)
    params = random_params(body, 3)
    bad = params.map(torch.Tensor.clone)
    for tensor in (bad.rotations, bad.betas, bad.expression, bad.transl):
        tensor[1] = torch.nan
    bad.betas.requires_grad_()
    posed, expected = body.pose(bad), body.pose(params)
    results = [posed.vertices, posed.joints, posed.points(torch.arange(5))]
    wanted = [expected.vertices, expected.joints, expected.points(torch.arange(5))]
    if body.face_landmarks is not None:
        results.append(posed.landmarks())
        wanted.append(expected.landmarks())
    for result, good in zip(results, wanted, strict=True):
        torch.testing.assert_close(result[[0, 2]], good[[0, 2]])
        assert result[1].isnan().all()
    (gradient,) = torch.autograd.grad(sum(result[[0, 2]].sum() for result in results), bad.betas)
    assert gradient[[0, 2]].isfinite().all()


@every_family
def test_derivatives_are_exact(small: Small, family: str) -> None:
    body = small(family)
    params = random_params(body, 1)
    vectors = 0.5 * torch.randn(1, body.num_joints, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    chosen = torch.tensor([0, 7, 7, 30])

    def forward(vectors: Tensor, betas: Tensor, expression: Tensor, transl: Tensor) -> tuple[Tensor, ...]:
        posed = body.with_shape(betas, expression).with_pose(exp_so3(vectors), transl)
        landmarks = () if body.face_landmarks is None else (posed.landmarks(),)
        return (posed.vertices, posed.joints, posed.points(chosen), *landmarks)

    inputs = (vectors, params.betas, params.expression, params.transl)
    # Products with random vectors on both sides, instead of every entry of the Jacobian.
    assert torch.autograd.gradcheck(forward, tuple(x.requires_grad_() for x in inputs), fast_mode=True)


def sparse_twin(body: BodyModel) -> tuple[BodyModel, BodyModel]:
    """The body with correctives that are zero for most entries, stored densely and sparsely."""

    assert body.correctives is not None
    assert body.correctives.dense is not None
    dense = body.correctives.dense * (torch.rand_like(body.correctives.dense) < 0.1)
    flat = dense.flatten(0, 1)
    rows, columns = flat.nonzero(as_tuple=True)
    sparse = PoseCorrectives.from_entries(
        rows, columns, flat[rows, columns], num_vertices=dense.shape[0], num_features=dense.shape[-1]
    )
    return replace(body, correctives=PoseCorrectives.from_dense(dense)), replace(body, correctives=sparse)


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (0,)])
def test_sparse_correctives_are_the_dense_ones(small: Small, batch: tuple[int, ...]) -> None:
    dense, sparse = sparse_twin(small("smplx"))
    params = random_params(dense, *batch)
    vectors = torch.zeros(*batch, 55, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for body in (dense, sparse):
        posed = body.with_shape(params.betas).with_pose(params.rotations @ exp_so3(vectors))
        ids = torch.tensor([3, 3, 39, 0])
        torch.testing.assert_close(posed.points(ids), posed.vertices[..., ids, :])
        (gradient,) = torch.autograd.grad(posed.vertices.pow(2).sum(), vectors)
        results.append((posed.vertices, gradient))
    torch.testing.assert_close(results[0], results[1])
    rows = torch.tensor([1, 30])
    torch.testing.assert_close(dense.correctives.rows(rows), sparse.correctives.rows(rows))  # type: ignore[union-attr]


def test_sparse_correctives_have_second_derivatives(small: Small) -> None:
    _, sparse = sparse_twin(small("mano"))
    assert sparse.correctives is not None
    features = torch.randn(2, 135, dtype=torch.float64, requires_grad=True)
    correctives = sparse.correctives
    assert torch.autograd.gradgradcheck(lambda x: correctives.offsets(x**2)[:, ::13], (features,), fast_mode=True)


@every_family
def test_dtype_follows_the_model_and_changes_with_to(small: Small, family: str) -> None:
    body = small(family).to(dtype=torch.float32)
    params = random_params(body)
    posed = body.pose(params)
    assert {posed.vertices.dtype, posed.joints.dtype, posed.points(torch.tensor([1])).dtype} == {torch.float32}
    assert body.faces.dtype == torch.int64
    again = posed.to(dtype=torch.float64)
    assert again.vertices.dtype == torch.float64
    torch.testing.assert_close(again.vertices.float(), posed.vertices, rtol=0, atol=1e-5)


def test_autocast_outside_changes_nothing(small: Small) -> None:
    body = small("smplx").to(dtype=torch.float32)
    params = random_params(body, 2)
    expected = body.pose(params)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posed = body.pose(params)
        torch.testing.assert_close(posed.vertices, expected.vertices, rtol=0, atol=0)
        torch.testing.assert_close(posed.joints, expected.joints, rtol=0, atol=0)
        torch.testing.assert_close(posed.landmarks(), expected.landmarks(), rtol=0, atol=0)


def test_a_model_first_used_in_inference_mode_still_trains(small: Small) -> None:
    body = small("smplx").to(dtype=torch.float64)
    params = random_params(body, 2)
    with torch.inference_mode():
        expected = body.pose(params).landmarks().clone()
    rotations = params.rotations.clone().requires_grad_()
    landmarks = body.with_shape(params.betas, params.expression).with_pose(rotations, params.transl).landmarks()
    landmarks.sum().backward()
    torch.testing.assert_close(landmarks, expected.clone())
    assert rotations.grad is not None


@pytest.mark.parametrize("yaw_deg", [-75, -39, -12, -1, 0, 1, 12, 39, 75])
@pytest.mark.parametrize("family", ["smplx", "flame"])
def test_contour_row_follows_the_yaw_of_the_head(small: Small, family: str, yaw_deg: int, official: Official) -> None:
    """Rows 0 to 39 for turns to the person's right (negative about y), 40 to 78 for turns to the left."""
    body = small(family)
    if body.face_landmarks is None:
        donor = small("smplx").face_landmarks
        body = replace(body, face_landmarks=donor)
    rotations = random_params(body, angle=0.5).rotations
    chain = ["neck"] if family == "flame" else ["spine1", "spine2", "spine3", "neck", "head"]
    # Any roll and pitch may be added around the yaw: R = Rz Ry Rx, dealt out along the chain.
    roll, pitch = exp_so3(torch.tensor([[0, 0, 0.2], [0.15, 0, 0]], dtype=torch.float64))
    turn = roll @ exp_so3(torch.tensor([0, np.deg2rad(yaw_deg), 0], dtype=torch.float64)) @ pitch
    rest = torch.eye(3, dtype=torch.float64)
    for name in chain[:-1]:
        rest = rest @ rotations[body.skeleton.index(name)]
    rotations[body.skeleton.index(chain[-1])] = rest.T @ turn
    clamped = max(-39, min(39, yaw_deg))
    row = -clamped if clamped <= 0 else 39 + clamped
    posed = body.with_shape().with_pose(rotations)
    table = body.face_landmarks
    assert table is not None
    assert table.contour_corners is not None
    assert table.contour_barycentric is not None
    expected = (posed.vertices[table.contour_corners[row]] * table.contour_barycentric[row][..., None]).sum(-2)
    torch.testing.assert_close(posed.landmarks()[51:], expected)
    inner = (posed.vertices[table.corners] * table.barycentric[..., None]).sum(-2)
    torch.testing.assert_close(posed.landmarks()[:51], inner)


def test_families_without_landmarks_say_so(small: Small) -> None:
    with pytest.raises(InputError, match="smplh model has no face landmarks"):
        small("smplh").with_shape().with_pose().landmarks()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_family
def test_cuda_agrees_with_the_cpu(small: Small, family: str) -> None:
    bodies = [small(family)]
    if family == "smplx":
        bodies.append(sparse_twin(small(family))[1])
    for body in bodies:
        params = random_params(body, 2, 3)
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            there = body.to(device="cuda", dtype=dtype)
            posed = there.pose(params.to(device="cuda", dtype=dtype))
            expected = body.pose(params)
            assert posed.vertices.device.type == "cuda"
            assert largest(posed.vertices.cpu().double() - expected.vertices) < tolerance
            assert largest(posed.joints.cpu().double() - expected.joints) < tolerance
            ids = torch.tensor([0, 17, 17, 39])
            assert largest(posed.points(ids.cuda()).cpu().double() - expected.vertices[..., ids, :]) < tolerance
            if body.face_landmarks is not None:
                assert largest(posed.landmarks().cpu().double() - expected.landmarks()) < tolerance
