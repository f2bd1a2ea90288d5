"""Loading, describing, registering and writing body model files; what is wrong with a file is said by name."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bodies.conftest import OfficialModel
from tests.bodies.random_models import by_column, fake_classes, instance, official_file, random_entries
from tests.bodies.test_model import every_family, random_params
from vitruvian.bodies.catalogue import add_body, describe_body, recognise_family
from vitruvian.bodies.families import FAMILIES, SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.loaders import load_body, variant_of
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.saving import save_smplx_npz, smplx_arrays
from vitruvian.bodies.skeletons import MANO_LEFT, MANO_RIGHT
from vitruvian.errors import InputError, ModelFileError, OutputError, UnsafeFileError

Small = Callable[[str], BodyModel]


def write_npz(path: Path, entries: dict[str, Any]) -> Path:
    np.savez(path, **entries)
    return path


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRUVIAN_HOME", str(tmp_path / "home"))


@every_family
def test_every_entry_lands_in_its_place(tmp_path: Path, family: str) -> None:
    entries = random_entries(family, num_vertices=40)
    path = official_file(family, entries, tmp_path)
    body = load_body(family, path, num_shape="all", num_expression="all", dtype=torch.float64)
    directions = torch.from_numpy(entries["shapedirs"]).double()
    torch.testing.assert_close(body.template, torch.from_numpy(entries["v_template"]).double())
    torch.testing.assert_close(torch.cat((body.shape_dirs, body.expression_dirs), dim=-1), directions)
    has_expression = family in ("smplx", "flame")
    assert (body.num_shape, body.num_expression) == ((300, 100) if has_expression else (directions.shape[-1], 0))
    torch.testing.assert_close(
        body.joint_shape_dirs, torch.einsum("jv,vks->jks", body.joint_regressor, body.shape_dirs)
    )
    assert body.faces.tolist() == entries["f"].tolist()
    assert body.family == family
    assert body.gender == "neutral"
    assert len(body.digest) == 16
    default = load_body(family, path)
    assert default.dtype == torch.float32
    assert (default.num_shape, default.num_expression) == (10, 10 if has_expression else 0)
    if family in ("smplh", "smplx"):
        assert body.hands is not None
        torch.testing.assert_close(body.hands.right_components.numpy(), entries["hands_componentsr"].astype(float))
        torch.testing.assert_close(body.hands.left_mean.numpy(), entries["hands_meanl"].astype(float))


def test_keypoint_vertices_come_with_meshes_in_the_order_of_smplx(
    official: Callable[[str], OfficialModel], small: Small
) -> None:
    assert official("smplx").body.vertex_ids == SMPLX_KEYPOINT_VERTICES
    assert small("smplx").vertex_ids == {}


@pytest.mark.parametrize(("total", "shape", "expression"), [(400, 300, 100), (20, 10, 10), (40, 20, 20), (300, 300, 0)])
def test_short_and_long_files_are_split_as_published(tmp_path: Path, total: int, shape: int, expression: int) -> None:
    entries = random_entries("smplx", num_vertices=20, num_directions=total)
    path = write_npz(tmp_path / "SMPLX_MALE.npz", entries)
    body = load_body("smplx", path, num_shape="all", num_expression="all", dtype=torch.float64)
    assert (body.num_shape, body.num_expression) == (shape, expression)
    torch.testing.assert_close(body.shape_dirs, torch.from_numpy(entries["shapedirs"][..., :shape]).double())
    torch.testing.assert_close(body.expression_dirs, torch.from_numpy(entries["shapedirs"][..., shape:]).double())
    with pytest.raises(ModelFileError, match=rf"too few shape coefficients; seen: {shape}; expected: 301"):
        load_body("smplx", path, num_shape=301)
    assert load_body("smplx", path, num_shape=3, num_expression=0).num_shape == 3


def test_flat_directions_and_signed_trees_are_understood(tmp_path: Path) -> None:
    entries = random_entries("mano", num_vertices=20)
    expected = load_body("mano", write_npz(tmp_path / "MANO_RIGHT.npz", entries))
    changed = dict(entries)
    changed["posedirs"] = entries["posedirs"].ravel()
    changed["shapedirs"] = entries["shapedirs"].reshape(60, -1)
    changed["kintree_table"] = entries["kintree_table"].copy()
    changed["kintree_table"][0, 0] = -1
    body = load_body("mano", write_npz(tmp_path / "RIGHT.npz", changed))
    params = random_params(body)
    torch.testing.assert_close(body.pose(params).vertices, expected.pose(params).vertices)
    changed["kintree_table"] = entries["kintree_table"].astype(np.uint32)
    assert load_body("mano", write_npz(tmp_path / "RIGHT.npz", changed)).skeleton == MANO_RIGHT


@pytest.mark.parametrize(
    ("name", "family", "variant"),
    [
        ("SMPLX_NEUTRAL.npz", "smplx", "neutral"),
        ("SMPLX_FEMALE.npz", "smplx", "female"),
        ("SMPLX_MALE.npz", "smplx", "male"),
        ("basicmodel_f_lbs_10_207_0_v1.1.0.pkl", "smpl", "female"),
        ("basicModel_m_lbs_10_207_0_v1.0.0.pkl", "smpl", "male"),
        ("female/model.npz", "smplh", "female"),
        ("male/model.npz", "smplh", "male"),
        ("generic_model.pkl", "flame", "neutral"),
        ("MANO_LEFT.pkl", "mano", "left"),
        ("MANO_RIGHT.pkl", "mano", "right"),
    ],
)
def test_names_of_official_files_tell_gender_and_side(name: str, family: str, variant: str) -> None:
    assert variant_of(Path(name), family, {}) == variant


def test_the_side_of_a_nameless_hand_is_seen_in_its_shape(tmp_path: Path) -> None:
    entries = random_entries("mano", num_vertices=40)
    wrist = np.arange(40) < 10
    entries["weights"] = np.zeros((40, 16), np.float32)
    entries["weights"][wrist, 0] = entries["weights"][~wrist, 3] = 1
    entries["v_template"][:, 0] = np.where(wrist, 0.0, 0.1)  # fingers on the person's left
    left = load_body("mano", write_npz(tmp_path / "hand.npz", entries))
    assert left.skeleton == MANO_LEFT
    assert left.hands is not None
    assert (len(left.hands.left_components), len(left.hands.right_components)) == (45, 0)
    entries["v_template"][:, 0] *= -1
    path = write_npz(tmp_path / "hand.npz", entries)
    assert load_body("mano", path).skeleton == MANO_RIGHT
    assert load_body("mano", path, side="left").skeleton == MANO_LEFT


def broken(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(entries: dict[str, Any]) -> None:
        entries[key] = change(entries[key])

    return apply


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[3] = np.nan
    return array


def other_root(table: np.ndarray) -> np.ndarray:
    table = table.copy()
    table[0, 2] = 1
    return table


BROKEN = {
    "missing": (lambda entries: entries.pop("posedirs"), r"lacks the entry 'posedirs'.*J_regressor.*SMPL-X file"),
    "template": (broken("v_template", lambda a: a[:, :2]), r"'v_template'.*seen: shape \(30, 2\).*shape \(V, 3\)"),
    "no vertices": (broken("v_template", lambda a: a[:0]), r"'v_template'.*seen: shape \(0, 3\)"),
    "short weights": (broken("weights", lambda a: a[:-1]), r"'weights'.*seen: shape \(29, 55\).*shape \(30, 55\)"),
    "short regressor": (broken("J_regressor", lambda a: a[:, :-5]), r"'J_regressor'.*\(55, 25\).*\(55, 30\)"),
    "shape directions": (broken("shapedirs", lambda a: a[:-2]), r"'shapedirs'.*\(28, 3, 400\).*\(30, 3, K\)"),
    "pose directions": (broken("posedirs", lambda a: a[..., :207]), r"'posedirs'.*\(30, 3, 207\).*\(30, 3, 486\)"),
    "tree": (broken("kintree_table", other_root), r"'kintree_table' is not the tree of SMPL-X"),
    "tree size": (broken("kintree_table", lambda a: a[:, :24]), r"'kintree_table'.*\(2, 24\).*\(2, 55\)"),
    "faces": (broken("f", lambda a: a + 28), r"'f' holds indices out of range; seen: \d+ to \d+; .*0 to 29"),
    "quads": (broken("f", lambda a: np.c_[a, a[:, :1]]), r"'f'.*\(60, 4\).*\(F, 3\)"),
    "not a number": (broken("v_template", with_nan), r"'v_template' holds 1 values that are not finite"),
    "not a number in directions": (broken("posedirs", with_nan), r"'posedirs' holds 1 values that are not finite"),
    "text": (broken("v_template", lambda a: np.array("x")), r"'v_template' is no array of numbers"),
    "weights of two": (broken("weights", lambda a: 2 * a), r"'weights' holds rows that do not sum to one"),
    "landmark faces": (broken("lmk_faces_idx", lambda a: a + 60), r"'lmk_faces_idx' holds indices out of range"),
    "landmark weights": (broken("lmk_bary_coords", lambda a: a[1:]), r"'lmk_bary_coords'.*\(50, 3\).*\(51, 3\)"),
    "contour": (broken("dynamic_lmk_faces_idx", lambda a: a[:78]), r"'dynamic_lmk_faces_idx'.*\(78, 17\).*\(79, 17\)"),
    "hands": (broken("hands_meanl", lambda a: a[:44]), r"'hands_meanl'.*\(44,\).*shape \(45,\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_with_key_shape_seen_and_expected(tmp_path: Path, case: str) -> None:
    entries: dict[str, Any] = random_entries("smplx", num_vertices=30)
    change, message = BROKEN[case]
    change(entries)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_body("smplx", write_npz(tmp_path / "SMPLX_NEUTRAL.npz", entries))
    assert "SMPLX_NEUTRAL.npz" in str(caught.value)


@every_family
def test_a_file_of_another_family_is_recognised(tmp_path: Path, family: str) -> None:
    path = write_npz(tmp_path / "model.npz", random_entries(family, num_vertices=30))
    assert recognise_family(path) == family
    other = next(name for name in FAMILIES if name != family)
    with pytest.raises(ModelFileError, match=rf"looks like {FAMILIES[family].title.replace('+', '.')}: load it as"):
        load_body(other, path)


def test_files_that_run_code_are_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'touched'}",)

    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({**random_entries("smpl", num_vertices=20), "extra": Attack()}, protocol=2))
    with pytest.raises(UnsafeFileError, match=r"SMPL_NEUTRAL.pkl.*system"):
        load_body("smpl", path)
    assert not (tmp_path / "touched").exists()


def test_missing_files_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no female SMPL-X file .*smpl-x.is.tue.mpg.de.*vitruvian body add FILE"):
        load_body("smplx", gender="female")
    with pytest.raises(ModelFileError, match=r"no left MANO file"):
        load_body("mano", side="left")
    with pytest.raises(ModelFileError, match=r"cannot read .*absent.npz"):
        load_body("smplx", tmp_path / "absent.npz")
    for arguments in ({"family": "smal"}, {"family": "smpl", "gender": "other"}, {"family": "mano", "side": "up"}):
        with pytest.raises(InputError, match="unknown"):
            load_body(**arguments)  # type: ignore[arg-type]


@every_family
def test_added_files_are_found_without_a_path(tmp_path: Path, family: str) -> None:
    path = official_file(family, random_entries(family, num_vertices=30), tmp_path)
    added = add_body(path)
    assert added.family == family
    assert added.variant == ("right" if family == "mano" else "neutral")
    assert added.description.num_vertices == 30
    expected = load_body(family, path)
    path.unlink()
    body = load_body(family)
    params = random_params(expected)
    torch.testing.assert_close(body.pose(params).vertices, expected.pose(params).vertices)
    assert body.digest == expected.digest == added.digest[:16]
    added.path.write_bytes(added.path.read_bytes() + b" ")
    with pytest.raises(ModelFileError, match="has changed since it was added"):
        load_body(family)


def test_only_whole_models_are_added(tmp_path: Path) -> None:
    entries = random_entries("smplx", num_vertices=30)
    del entries["f"]
    with pytest.raises(ModelFileError, match="lacks the entry 'f'"):
        add_body(write_npz(tmp_path / "SMPLX_NEUTRAL.npz", entries))
    with pytest.raises(ModelFileError, match=r"no body model of a known family; seen: a; .*SMPL-X"):
        add_body(write_npz(tmp_path / "other.npz", {"a": np.zeros(3)}))
    assert not (tmp_path / "home").exists()


def test_descriptions_tell_what_a_file_holds(tmp_path: Path) -> None:
    path = official_file("smplx", random_entries("smplx", num_vertices=40), tmp_path)
    facts = describe_body(path)
    assert (facts.family, facts.title, facts.variant, facts.file) == ("smplx", "SMPL-X", "neutral", path.name)
    assert (facts.num_vertices, facts.num_faces, facts.num_joints) == (40, 80, 55)
    assert (facts.num_shape, facts.num_expression, facts.num_hand_components) == (300, 100, 45)
    assert (facts.num_landmarks, facts.has_pose_correctives, facts.has_uv) == (68, True, False)
    assert dict(facts.pose_blocks)["left_hand_pose"] == 15
    assert "smpl-x.is.tue.mpg.de" in facts.licence
    hand = describe_body(load_body("mano", official_file("mano", random_entries("mano", num_vertices=30), tmp_path)))
    assert (hand.variant, hand.num_landmarks, hand.file, hand.num_hand_components) == ("right", 0, "", 45)


def test_landmarks_of_flame_come_from_the_files_beside_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = official_file("flame", random_entries("flame", num_vertices=40), tmp_path)
    assert load_body("flame", path).face_landmarks is None
    static = {"lmk_face_idx": rng.integers(0, 80, 51).astype(np.uint32), "lmk_b_coords": rng.dirichlet(np.ones(3), 51)}
    (tmp_path / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, protocol=2))
    only_static = load_body("flame", path).face_landmarks
    assert only_static is not None
    assert only_static.contour_corners is None
    moving = {
        "lmk_face_idx": [list(row) for row in rng.integers(0, 80, (79, 17))],
        "lmk_b_coords": [rng.dirichlet(np.ones(3), 17) for _ in range(79)],
    }
    np.save(tmp_path / "flame_dynamic_embedding.npy", np.array(moving, dtype=object))  # type: ignore[arg-type]
    body = load_body("flame", path, dtype=torch.float64)
    assert body.face_landmarks is not None
    assert body.face_landmarks.contour_corners is not None
    faces = body.faces.numpy()
    assert (body.face_landmarks.corners.numpy() == faces[static["lmk_face_idx"]]).all()
    assert (body.face_landmarks.contour_corners.numpy() == faces[np.array(moving["lmk_face_idx"])]).all()
    landmarks = body.with_shape().with_pose().landmarks()
    expected = (body.template[body.face_landmarks.corners] * torch.from_numpy(static["lmk_b_coords"])[..., None]).sum(1)
    torch.testing.assert_close(landmarks[:51], expected)
    add_body(path)
    again = load_body("flame", dtype=torch.float64)
    torch.testing.assert_close(again.with_shape().with_pose().landmarks(), landmarks)
    both = {
        "static_lmk_faces_idx": static["lmk_face_idx"],
        "static_lmk_bary_coords": static["lmk_b_coords"],
        "dynamic_lmk_faces_idx": np.array(moving["lmk_face_idx"]),
        "dynamic_lmk_bary_coords": np.array(moving["lmk_b_coords"]),
    }
    np.save(tmp_path / "landmark_embedding.npy", np.array(both, dtype=object))  # type: ignore[arg-type]
    for name in ("flame_static_embedding.pkl", "flame_dynamic_embedding.npy"):
        (tmp_path / name).unlink()
    from_one_file = load_body("flame", path, dtype=torch.float64)
    torch.testing.assert_close(from_one_file.with_shape().with_pose().landmarks(), landmarks)


def test_uv_coordinates_are_kept(tmp_path: Path) -> None:
    entries = random_entries("smplx", num_vertices=30)
    rng = np.random.default_rng(0)
    entries["vt"], entries["ft"] = rng.random((45, 2)), rng.integers(0, 45, (60, 3)).astype(np.uint32)
    body = load_body("smplx", write_npz(tmp_path / "SMPLX_NEUTRAL.npz", entries), dtype=torch.float64)
    assert body.uv is not None
    assert body.uv_faces is not None
    torch.testing.assert_close(body.uv.numpy(), entries["vt"])
    assert body.uv_faces.tolist() == entries["ft"].tolist()
    entries["ft"] = entries["ft"] + 45
    with pytest.raises(ModelFileError, match="'ft' holds indices out of range"):
        load_body("smplx", write_npz(tmp_path / "SMPLX_NEUTRAL.npz", entries))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exported_models_come_back_the_same(small: Small, tmp_path: Path, dtype: torch.dtype) -> None:
    body = small("smplx").to(dtype=dtype)
    path = tmp_path / "folder" / "SMPLX_NEUTRAL.npz"
    save_smplx_npz(body, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    again = load_body("smplx", path, num_shape="all", num_expression="all", dtype=dtype)
    assert (again.num_shape, again.num_expression) == (body.num_shape, body.num_expression) == (4, 3)
    params = random_params(body, 2)
    before, after = body.pose(params), again.pose(params)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(after.vertices, before.vertices, rtol=0, atol=tolerance)
    torch.testing.assert_close(after.joints, before.joints, rtol=0, atol=tolerance)
    torch.testing.assert_close(after.landmarks(), before.landmarks(), rtol=0, atol=tolerance)
    assert again.hands is not None
    assert body.hands is not None
    torch.testing.assert_close(again.hands.left_components, body.hands.left_components)
    # Plain NumPy reads the file without any pickle, and finds the published schema.
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["shapedirs"].shape == (40, 3, 400)
        assert arrays["posedirs"].shape == (40, 3, 486)
        assert arrays["kintree_table"][0, 0] == 2**32 - 1
        assert not arrays["shapedirs"][..., 4:300].any()
        assert not arrays["shapedirs"][..., 303:].any()


def test_sparse_correctives_are_exported_densely(small: Small) -> None:
    from tests.bodies.test_model import sparse_twin

    dense, sparse = sparse_twin(small("smplx"))
    for key, value in smplx_arrays(dense).items():
        np.testing.assert_array_equal(smplx_arrays(sparse)[key], value)


def test_export_says_why_it_cannot(small: Small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SMPL-X's joints.*smplh, 52 joints"):
        save_smplx_npz(small("smplh"), tmp_path / "out.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_smplx_npz(small("smplx"), tmp_path / "file" / "out.npz")


def test_sparse_regressors_and_chumpy_arrays_equal_plain_ones(tmp_path: Path) -> None:
    entries = random_entries("smpl", num_vertices=30)
    plain = load_body("smpl", write_npz(tmp_path / "SMPL_NEUTRAL.npz", entries), dtype=torch.float64)
    with fake_classes({"chumpy.ch": ("Ch",), "scipy.sparse.csc": ("csc_matrix",)}) as made:
        content = {key: instance(made["chumpy.ch.Ch"], {"x": value}) for key, value in entries.items()}
        content["J_regressor"] = instance(made["scipy.sparse.csc.csc_matrix"], by_column(entries["J_regressor"]))
        (tmp_path / "old.pkl").write_bytes(pickle.dumps(content, protocol=0))
    old = load_body("smpl", tmp_path / "old.pkl", dtype=torch.float64)
    params = random_params(plain)
    torch.testing.assert_close(old.pose(params).vertices, plain.pose(params).vertices, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("v_template", lambda v: v * np.float64(1e300), "'v_template' holds values that no body has"),
        ("v_template", lambda v: v * np.float32("nan"), "'v_template' holds 90 values that are not finite"),
        ("f", lambda v: [[0, 1, 2], [0, 1]], "'f' is no array of numbers"),
        ("f", lambda v: v.astype(float) * np.inf, "'f' holds .* not finite"),
        ("weights", lambda v: ["a", "bb"], "'weights' is no array of numbers; seen: str"),
        ("kintree_table", lambda v: v.astype(float) * np.nan, "'kintree_table' holds"),
    ],
)
def test_values_that_no_body_has_are_refused(tmp_path: Path, key: str, change: Any, words: str) -> None:
    entries: dict[str, Any] = random_entries("mano", num_vertices=30)
    with np.errstate(all="ignore"):
        entries[key] = change(entries[key])
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(entries, protocol=2))
    with pytest.raises(ModelFileError, match=words):
        load_body("mano", path)


def test_a_file_made_of_the_open_body_keeps_its_licence(tmp_path: Path) -> None:
    path = tmp_path / "converted.npz"
    save_smplx_npz(open_body(), path)
    facts = describe_body(path)
    assert facts.licence.startswith("CC0 1.0")
    assert facts.title == "smplx layout"
    again = load_body("smplx", path)
    assert again.licence == open_body().licence
    official = describe_body(official_file("smplx", random_entries("smplx", num_vertices=40), tmp_path))
    assert "non-commercial" in official.licence
