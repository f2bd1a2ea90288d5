"""The fitting application from end to end on keypoint files, with good and with bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.apps.people_files import true_keypoints, write_numbers, write_person, write_photo
from tests.exports.gltf_reader import GltfReader
from vitruvian.apps import results as results_module
from vitruvian.apps.demo import IMAGE_SIZE, natural_person
from vitruvian.apps.fit import FitOutcome, fit_photographs
from vitruvian.apps.fit_config import FitPhotographs
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError, MissingPackageError, OutputError
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.fits import load_fits
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def person(body: BodyModel) -> Keypoints:
    return true_keypoints(body)


def run(body: BodyModel, out: Path, *inputs: Path, keypoints: Path | None = None, **options: object) -> FitOutcome:
    config = FitPhotographs(inputs=inputs, out=out, keypoints=keypoints, pictures=False, **options)  # type: ignore[arg-type]
    return fit_photographs(config, body=body, detector=NoDetector())


class NoDetector:
    """Stands where no test should detect; tests that want people found say which."""

    def __init__(self, people: dict[str, Keypoints] | None = None) -> None:
        self.people = people or {}

    def detect(self, image: Photograph) -> Keypoints:
        return self.people.get(image.name, Keypoints.empty("openpose-body25"))


def reasons(outcome: FitOutcome) -> dict[str, str]:
    return {failure.name: failure.reason for failure in outcome.failures}


def test_photographs_with_keypoints_give_everything(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    size = (IMAGE_SIZE[0] // 3, IMAGE_SIZE[1] // 3)
    person = replace(person, positions=person.positions / 3)
    two = Keypoints(
        torch.cat((person.positions, person.positions + torch.tensor([20.0, 3.0]))),
        torch.cat((person.confidence, person.confidence)),
        person.format,
    )
    write_photo(tmp_path / "in" / "one.jpg", size)
    write_photo(tmp_path / "in" / "two.png", size)
    write_person(tmp_path / "kp", "one", person)
    write_person(tmp_path / "kp", "two", two)
    config = FitPhotographs(inputs=(tmp_path / "in",), out=tmp_path / "out", keypoints=tmp_path / "kp")
    steps: list[tuple[str, int, int]] = []
    outcome = fit_photographs(config, body=body, progress=lambda *step: steps.append(step))
    assert outcome.exit_code == 0
    assert outcome.failures == ()
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {
        "fits.npz", "report.html", "meshes/one.glb", "meshes/two.glb", "overlays/one.png", "overlays/one_side.png",
        "overlays/two.png", "overlays/two_side.png",
    }  # fmt: skip
    fits = load_fits(tmp_path / "out" / "fits.npz")
    assert fits.image == ("one.jpg", "two.png", "two.png")
    assert fits.person == (0, 0, 1)
    assert fits.usable.all()
    assert fits.reprojection_px.max() < 3
    assert fits.camera.image_size.tolist() == [[float(side) for side in size]] * 3
    truth = natural_person(body).vertices
    assert float(pa_error_mm(fits[[0]].pose(body).vertices[0], truth)) < 120
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "one.png"))
    assert overlay.shape == (size[1], size[0], 3)
    reader = GltfReader((tmp_path / "out" / "meshes" / "two.glb").read_bytes())
    assert len(reader.mesh_nodes()) == 2
    assert {step[0] for step in steps} == {"read keypoints", "fit", "draw"}
    assert all(last[1] == last[2] for last in {step[0]: step for step in steps}.values())
    report = (tmp_path / "out" / "report.html").read_text()
    assert "3 of 3 people fitted in 2 pictures" in report
    config_saved = json.loads(fits.config)
    assert config_saved["gender"] == "neutral"
    assert str(tmp_path) not in report + fits.config


def test_people_of_a_batch_equal_each_person_alone(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    moved = replace(person, positions=person.positions * 0.7 + 40)
    for stem, people in (("a", person), ("b", moved)):
        write_person(tmp_path / "kp", stem, people)
    size = {"image_size": IMAGE_SIZE}
    both = run(body, tmp_path / "both", keypoints=tmp_path / "kp", **size).fits
    alone = run(body, tmp_path / "alone", tmp_path / "kp" / "b_keypoints.json", **size).fits
    torch.testing.assert_close(both[[1]].pose(body).joints, alone.pose(body).joints, atol=1e-3, rtol=0)


def test_one_bad_file_among_ten_good(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    for k in range(10):
        write_person(tmp_path / "kp", f"p{k}", person)
    (tmp_path / "kp" / "p5b_keypoints.json").write_text("{ broken")
    outcome = run(body, tmp_path / "out", keypoints=tmp_path / "kp", image_size=IMAGE_SIZE)
    assert outcome.exit_code == 1
    assert outcome.fits.usable.sum() == 10
    assert list(reasons(outcome)) == ["p5b_keypoints.json"]
    assert "not JSON" in reasons(outcome)["p5b_keypoints.json"]
    assert len(load_fits(tmp_path / "out" / "fits.npz")) == 10
    assert len(list((tmp_path / "out" / "meshes").iterdir())) == 10
    assert "p5b_keypoints.json" in outcome.report.read_text()


def test_unreadable_photographs_are_named_and_cost_no_other(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "good.jpg")
    (folder / "text.jpg").write_text("this is no image")
    (folder / "empty.png").write_bytes(b"")
    data = write_photo(folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    write_photo(folder / "tiny.png", (2, 2))
    config = FitPhotographs(inputs=(folder, tmp_path / "gone.jpg"), out=tmp_path / "out", pictures=False)
    outcome = fit_photographs(config, body=body, detector=NoDetector({"good.jpg": person}))
    assert outcome.exit_code == 1
    assert outcome.fits.image == ("good.jpg",)
    seen = reasons(outcome)
    assert set(seen) == {"text.jpg", "empty.png", "cut.jpg", "tiny.png", "gone.jpg"}
    assert "not an image" in seen["text.jpg"]
    assert "empty" in seen["empty.png"]
    assert "truncated" in seen["cut.jpg"]
    assert "nobody was found" in seen["tiny.png"]
    assert "no such image" in seen["gone.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("[1, 2", "not JSON"),
        ('{"shapes": []}', "no OpenPose file"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "wrong length"),
        ('{"people": []}', "holds nobody"),
    ],
)
def test_keypoint_files_that_hold_nothing(body: BodyModel, content: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a_keypoints.json"
    file.write_text(content)
    outcome = run(body, tmp_path / "out", file)
    assert reason in reasons(outcome)["a_keypoints.json"]
    assert outcome.exit_code == (1 if reason == "holds nobody" else 2)
    assert len(load_fits(tmp_path / "out" / "fits.npz")) == 0
    assert "Nobody was fitted" in outcome.report.read_text()


def test_bad_coordinates_leave_the_person_standing(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    """NaN, infinity and points off the picture count as unseen; the rest of the person is fitted."""
    triples = torch.cat((person.positions, person.confidence[..., None]), -1)[0].tolist()
    triples[4][0], triples[7][1], triples[11] = float("nan"), float("inf"), [-500.0, 90000.0, 1.0]
    write_numbers(tmp_path / "kp", "odd", triples)
    outcome = run(body, tmp_path / "out", keypoints=tmp_path / "kp", image_size=IMAGE_SIZE)
    assert outcome.exit_code == 0
    assert torch.isfinite(outcome.fits.params.rotations).all()
    assert outcome.fits.reprojection_px.max() < 6
    saved = load_fits(tmp_path / "out" / "fits.npz")
    assert torch.isfinite(saved.pose(body).vertices).all()


@pytest.mark.parametrize("kind", ["unsure", "nan", "outside"])
def test_people_without_evidence_are_reported_and_cost_no_other(
    body: BodyModel, person: Keypoints, kind: str, tmp_path: Path
) -> None:
    triples = torch.cat((person.positions, person.confidence[..., None]), -1)[0].tolist()
    for triple in triples:
        if kind == "unsure":
            triple[2] = 0.01
        elif kind == "nan":
            triple[0] = float("nan")
        else:
            triple[0] += 5000
    write_numbers(tmp_path / "kp", "bad", triples)
    write_person(tmp_path / "kp", "good", person)
    outcome = run(body, tmp_path / "out", keypoints=tmp_path / "kp", image_size=IMAGE_SIZE)
    assert outcome.exit_code == 1
    assert dict(zip(outcome.fits.image, outcome.fits.usable.tolist(), strict=True)) == {
        "bad_keypoints.json": False,
        "good_keypoints.json": True,
    }
    assert "too few keypoints" in reasons(outcome)["bad_keypoints.json, person 0"]
    assert not (tmp_path / "out" / "meshes" / "bad.glb").exists()
    saved = load_fits(tmp_path / "out" / "fits.npz")
    assert all(torch.isfinite(x).all() for x in (saved.params.rotations, saved.params.betas, saved.params.transl))


def test_unwritable_output_is_found_before_the_work(body: BodyModel, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    class Untouched(NoDetector):
        def detect(self, image: Photograph) -> Keypoints:
            raise AssertionError("work was done before the output folder was tried")

    photo = write_photo(tmp_path / "a.jpg", (64, 64))
    with pytest.raises(OutputError):
        fit_photographs(FitPhotographs(inputs=(photo,), out=tmp_path / "out"), body=body, detector=Untouched())


@pytest.mark.parametrize(("name", "mode"), [("a.png", "L"), ("a.png", "RGBA"), ("a.png", "16"), ("a.jpg", "RGB")])
def test_kinds_of_pictures(body: BodyModel, person: Keypoints, name: str, mode: str, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / name, mode=mode)
    write_person(tmp_path / "kp", "a", person)
    config = FitPhotographs(inputs=(photo,), out=tmp_path / "out", keypoints=tmp_path / "kp")
    config = replace(config, pictures=False)
    outcome = fit_photographs(config, body=body)
    assert outcome.exit_code == 0
    assert outcome.fits.reprojection_px.max() < 6


def test_a_photograph_turned_by_its_metadata(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored lying on its side: shown with width and height exchanged
    photo = write_photo(tmp_path / "a.jpg", (IMAGE_SIZE[1], IMAGE_SIZE[0]), exif=exif)
    write_person(tmp_path / "kp", "a", person)
    outcome = run(body, tmp_path / "out", photo, keypoints=tmp_path / "kp")
    assert outcome.fits.camera.image_size[0].tolist() == [float(side) for side in IMAGE_SIZE]
    assert outcome.fits.reprojection_px.max() < 6


def test_a_photograph_of_fifty_megapixels(
    body: BodyModel, person: Keypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = 9
    size = (IMAGE_SIZE[0] * scale, IMAGE_SIZE[1] * scale)
    assert size[0] * size[1] > 50e6
    monkeypatch.setattr(results_module, "LONGEST_SIDE_PX", 240)
    photo = write_photo(tmp_path / "large.jpg", size)
    write_person(tmp_path / "kp", "large", replace(person, positions=person.positions * scale))
    config = FitPhotographs(inputs=(photo,), out=tmp_path / "out", keypoints=tmp_path / "kp")
    outcome = fit_photographs(config, body=body)
    assert outcome.exit_code == 0
    assert outcome.fits.reprojection_px.max() < 6 * scale
    with Image.open(tmp_path / "out" / "overlays" / "large.png") as overlay:
        assert max(overlay.size) == results_module.LONGEST_SIDE_PX
    truth = natural_person(body).vertices
    assert float(pa_error_mm(outcome.fits.pose(body).vertices[0], truth)) < 120


def test_equal_names_from_two_folders_keep_both(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    photos = [write_photo(tmp_path / folder / "a.jpg") for folder in ("x", "y")]
    config = FitPhotographs(inputs=tuple(photos), out=tmp_path / "out", pictures=False)
    outcome = fit_photographs(config, body=body, detector=NoDetector({"a.jpg": person}))
    assert sorted(path.name for path in (outcome.folder / "meshes").iterdir()) == ["a.glb", "a_2.glb"]
    assert outcome.fits.picture == outcome.fits.image == ("x/a.jpg", "y/a.jpg")


def test_photographs_without_their_keypoint_file(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "a.jpg")
    write_photo(tmp_path / "in" / "b.jpg")
    write_person(tmp_path / "kp", "a", person)
    outcome = run(body, tmp_path / "out", tmp_path / "in", keypoints=tmp_path / "kp")
    assert outcome.fits.image == ("a.jpg",)
    assert "no keypoint file belongs" in reasons(outcome)["b.jpg"]


def test_guessed_picture_size_is_said(body: BodyModel, person: Keypoints, tmp_path: Path) -> None:
    write_person(tmp_path / "kp", "a", person)
    outcome = run(body, tmp_path / "out", keypoints=tmp_path / "kp")
    assert outcome.exit_code == 0
    assert "--image-size" in outcome.notes[0]
    assert "--image-size" in outcome.report.read_text()


def test_nothing_given(body: BodyModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to fit"):
        run(body, tmp_path / "out")
    with pytest.raises(InputError):
        run(body, tmp_path / "out", keypoints=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert run(body, tmp_path / "out", tmp_path / "empty").exit_code == 2


def test_missing_renderer_names_the_extra(
    body: BodyModel, person: Keypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module.importlib.util, "find_spec", lambda name: None)
    file = write_person(tmp_path / "kp", "a", person)
    with pytest.raises(MissingPackageError, match=r"vitruvian\[view\]"):
        fit_photographs(FitPhotographs(inputs=(file,), out=tmp_path / "out"), body=body)
    assert run(body, tmp_path / "out", file).exit_code == 0
