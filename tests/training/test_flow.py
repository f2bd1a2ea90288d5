"""Training of the pose network, the lifters and the baselines on a few poses: it learns, its files are read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.synthetic import PoseLibrary, SyntheticPeople
from vitruvian.errors import WeightsError
from vitruvian.flows import FlowConfig
from vitruvian.geometry.rotations import exp_so3
from vitruvian.recovery.baselines import MixtureDensity
from vitruvian.recovery.chart import NUM_BODY
from vitruvian.recovery.lifter import LifterConfig, lift, read_lifter
from vitruvian.recovery.losses import LossWeights, PoseCritic, RestJoints, limited, losses
from vitruvian.recovery.network import NetworkConfig, PoseNetwork
from vitruvian.recovery.posterior import infer
from vitruvian.recovery.views import view_of
from vitruvian.recovery.weights import read_network
from vitruvian.training.baselines import MULTIPLE, Baselines, BaselineTraining, train_baselines
from vitruvian.training.checkpoints import load_strictly, read_weights, save_weights
from vitruvian.training.flow import FlowTraining, targets_in_view, train_flow, visible_joints
from vitruvian.training.lifter import LifterTraining, train_lifter
from vitruvian.training.loop import LoopConfig

NETWORK = NetworkConfig(
    hidden=48,
    num_blocks=1,
    num_context=32,
    head_hidden=32,
    flow=FlowConfig(66, 32, num_layers=2, hidden=16, num_blocks=1, scale_hidden=16),
    hand_hidden=16,
    num_hand_context=16,
    hand_flow=FlowConfig(24, 16, num_layers=2, hidden=16, num_blocks=1, scale_hidden=16),
)
LOOP = LoopConfig(steps=60, batch_size=64, learning_rate=3e-3, average=0.9, log_every=20, save_every=60)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def library() -> PoseLibrary:
    generator = torch.Generator().manual_seed(3)
    return PoseLibrary(exp_so3(0.3 * torch.randn(20, 22, 3, generator=generator)), torch.ones(20))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, body: BodyModel, library: PoseLibrary
) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("flow")
    seen: list[float] = []
    config = FlowTraining(loop=LOOP, network=NETWORK, half_precision=False)
    train_flow(config, body, library, folder, report=lambda step, progress, values: seen.append(values["loss"]))
    return folder, seen


def test_the_loss_falls_and_the_weights_are_a_network(
    trained: tuple[Path, list[float]], body: BodyModel, library: PoseLibrary
) -> None:
    folder, seen = trained
    assert seen[-1] < 0.9 * seen[0]
    network = read_network(folder / "flow.safetensors")
    assert network.config == NETWORK
    batch = SyntheticPeople(body, library).batch(8, seed=9)
    posterior = infer(network, batch.keypoints, batch.camera)
    assert posterior.mode().rotations.isfinite().all()
    assert posterior.log_prob(batch.rotations).isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_runs_on_a_gpu(tmp_path: Path, body: BodyModel, library: PoseLibrary) -> None:
    config = FlowTraining(loop=replace(LOOP, device="cuda", steps=20), network=NETWORK)
    result = train_flow(config, body, library, tmp_path)
    assert result.steps == 20
    assert all(tensor.isfinite().all() for tensor in result.weights.values() if tensor.is_floating_point())
    batch = SyntheticPeople(body, library).batch(4, seed=9)
    posterior = infer(read_network(tmp_path / "flow.safetensors"), batch.keypoints, batch.camera)
    assert posterior.mode().rotations.isfinite().all()


def test_a_new_run_starts_from_given_weights(
    tmp_path: Path, trained: tuple[Path, list[float]], body: BodyModel, library: PoseLibrary
) -> None:
    seen: list[float] = []
    config = FlowTraining(loop=replace(LOOP, steps=20, learning_rate=1e-5), network=NETWORK, half_precision=False)
    start = trained[0] / "flow.safetensors"
    train_flow(config, body, library, tmp_path, start=start, report=lambda step, p, values: seen.append(values["loss"]))
    assert seen[0] < 1.2 * trained[1][-1]


def test_files_of_another_kind_are_refused(tmp_path: Path, trained: tuple[Path, list[float]]) -> None:
    with pytest.raises(WeightsError, match="missing"):
        read_network(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError):
        read_network(broken)


def test_truth_in_the_view_is_the_truth_in_the_camera(body: BodyModel, library: PoseLibrary) -> None:
    batch = SyntheticPeople(body, library).batch(6, seed=2)
    view = view_of(batch.keypoints, batch.camera)
    targets = targets_in_view(batch, view)
    T = view.R_camera_view
    torch.testing.assert_close(T @ targets.rotations[:, 0], batch.rotations[:, 0], atol=1e-5, rtol=0)
    back = (T[:, None] @ targets.joints[..., None])[..., 0]
    torch.testing.assert_close(back, batch.joints[:, :NUM_BODY], atol=1e-4, rtol=1e-4)
    assert visible_joints(batch.visible).shape == (6, 22)


def test_a_perfect_prediction_has_no_error_but_its_entropy(body: BodyModel, library: PoseLibrary) -> None:
    batch = SyntheticPeople(body, library).batch(12, seed=2)
    view = view_of(batch.keypoints, batch.camera)
    targets = targets_in_view(batch, view)
    network = PoseNetwork(NETWORK).eval()
    prediction = network(view)
    rest = RestJoints.of(body, num_shape=10)
    critic = PoseCritic(num_shape=10)
    generator = torch.Generator().manual_seed(0)
    terms, mode = losses(prediction, view, targets, rest, critic, generator=generator)
    own = replace(targets, rotations=mode.detach(), betas=prediction.head.betas.detach())
    again, _ = losses(prediction, view, own, rest, critic, generator=torch.Generator().manual_seed(0))
    before, after = terms.detached(), again.detached()
    for name in ("pose", "world_pose", "shape"):
        assert float(after[name]) < 1e-8
    assert float(after["likelihood"]) < float(before["likelihood"])
    total = float(terms.total(LossWeights()).detach())
    parts = sum(getattr(LossWeights(), n) * float(v) for n, v in terms.detached().items())
    assert total == pytest.approx(parts, rel=1e-5)


def test_limited_values_keep_their_order_and_slope_at_the_joint() -> None:
    values = torch.tensor([-3.0, 0.0, 3.999, 4.001, 50.0], dtype=torch.float64, requires_grad=True)
    out = limited(values)
    (slope,) = torch.autograd.grad(out.sum(), values)
    assert (out.diff() > 0).all()
    torch.testing.assert_close(out[:3], values[:3])
    torch.testing.assert_close(slope[:4], torch.ones(4, dtype=torch.float64), atol=2e-3, rtol=0)
    assert float(slope[4]) < 0.03


def test_a_lifter_learns_and_lifts(tmp_path: Path, body: BodyModel, library: PoseLibrary) -> None:
    seen: list[float] = []
    training = LifterTraining(LifterConfig("h36m17", hidden=32, num_blocks=1, num_context=16), loop=LOOP)
    train_lifter(training, body, library, tmp_path, report=lambda s, p, v: seen.append(v["keypoints_3d"]))
    assert seen[-1] < seen[0]
    lifter = read_lifter(tmp_path / "lifter-h36m17.safetensors")
    batch = SyntheticPeople(body, library).batch(4, seed=3)
    lifted = lift(batch.keypoints.to_format("h36m17"), batch.camera, lifter=lifter)
    samples = lifted.sample(50, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (50, 4, 17, 3)
    assert (lifted.log_prob(lifted.mode()) > lifted.log_prob(samples).amax(0)).all()


def test_baselines_learn_beside_the_network(
    tmp_path: Path, trained: tuple[Path, list[float]], body: BodyModel, library: PoseLibrary
) -> None:
    network = read_network(trained[0] / "flow.safetensors")
    seen: list[dict[str, float]] = []
    train_baselines(
        BaselineTraining(loop=LOOP, half_precision=False),
        network,
        body,
        library,
        tmp_path,
        report=lambda s, p, v: seen.append(dict(v)),
    )
    for name in ("deterministic", *MULTIPLE):
        assert seen[-1][name] < seen[0][name]
    baselines = Baselines(network).requires_grad_(False)
    load_strictly(baselines, read_weights(tmp_path / "baselines.safetensors")[0])
    context = torch.randn(5, NETWORK.num_context, generator=torch.Generator().manual_seed(0))
    for name in MULTIPLE:
        model = baselines.eval().chart_model(name)
        samples = model.sample(context, 300, torch.Generator().manual_seed(1))
        assert samples.shape == (300, 5, 66)
        assert float(samples.std(0).min()) > 0
        assert model.point(context).shape == (5, 66)


def test_likelihood_of_the_mixture_is_that_of_torch_distributions() -> None:

    torch.manual_seed(0)
    model = MixtureDensity(8, num_components=3, hidden=16)
    context, chart = torch.randn(6, 8), torch.randn(6, 66)
    mean, log_scale, log_weight = model._parameters_of(context)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weight),
        torch.distributions.Independent(torch.distributions.Normal(mean, log_scale.exp()), 1),
    )
    torch.testing.assert_close(model.loss(context, chart, None), -mixture.log_prob(chart).mean() / 66)


def test_networks_with_other_inputs_are_refused(tmp_path: Path, trained: tuple[Path, list[float]]) -> None:
    tensors, metadata = read_weights(trained[0] / "flow.safetensors")
    save_weights(tensors, tmp_path / "old.safetensors", metadata={k: v for k, v in metadata.items() if k != "features"})
    with pytest.raises(WeightsError, match="other inputs"):
        read_network(tmp_path / "old.safetensors")
