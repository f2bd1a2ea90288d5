"""The report: self-contained, complete, and safe against odd names."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from vitruvian.errors import OutputError
from vitruvian.keypoints.observations import Keypoints
from vitruvian.view.drawing import draw_keypoints, fit_within, side_by_side
from vitruvian.view.report import Report, ReportFailure, ReportPerson, ReportPicture, report_html, write_report

ODD_NAME = '<b>&"quoted"\'.jpg'


class Page(HTMLParser):
    """Collects tags, text and what the page refers to; complains of tags that are not closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report() -> Report:
    picture = np.zeros((30, 40, 3), dtype=np.uint8)
    return Report(
        title="Title",
        version="1.2.3",
        people=[
            ReportPerson(
                ODD_NAME,
                0,
                "stalled",
                1.234,
                56.78,
                12.0,
                25,
                verdict="doubtful",
                reason="<far> off",
                prior="flow",
                reprojection_parts_px=(1.26, float("nan"), 7.31),
            ),
            ReportPerson(ODD_NAME, 1, "no_evidence", float("nan"), 0.0, 12.0, 1, truth_error_mm=45.6),
        ],
        pictures=[
            ReportPicture(ODD_NAME, (("Seen keypoints", picture), ("Fitted body", picture)), mesh="meshes/a #1 %.glb")
        ],
        failures=[ReportFailure("bad<script>.json", "is no OpenPose file", "run OpenPose")],
        config={"gender": "neutral", "odd": "</pre><script>"},
        facts=[("People", "2")],
        notes=["A size was guessed."],
    )


def test_everything_is_said() -> None:
    page = Page(report_html(report()))
    text = " ".join(page.text)
    for words in (
        "1 of 2 people fitted in 1 picture; 1 input not used", ODD_NAME, "stalled", "doubtful", "<far> off",
        "prior: flow",
        "no evidence", "1.3 / – / 7.3", "56.8",
        "45.6",
        "bad<script>.json", "is no OpenPose file", "run OpenPose", "A size was guessed.", "gender", "vitruvian 1.2.3",
    ):  # fmt: skip
        assert words in text, words
    assert page.tags.count("img") == 2
    assert "nan" not in text


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    html = report_html(report())
    page = Page(html)
    assert "script" not in page.tags
    assert all(link.startswith("data:image/jpeg;base64,") or link == "meshes/a%20%231%20%25.glb" for link in page.links)
    assert not re.search(r"https?://|url\(|@import", html)


def test_pictures_are_made_small() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1600, 2400, 3), dtype=np.uint8)
    large = Report("t", "1", [], [ReportPicture("a.jpg", (("view", noise),))])
    assert len(report_html(large, longest_px=300)) < 200_000
    assert fit_within(noise, 300).shape == (200, 300, 3)
    assert fit_within(noise[:10, :20], 300).shape == (10, 20, 3)


def test_an_empty_run() -> None:
    page = Page(report_html(Report("t", "1", [], [], failures=[ReportFailure("a.jpg", "empty")])))
    assert "Nobody was fitted; 1 input not used." in " ".join(page.text)


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError):
        write_report(report(), tmp_path / "out" / "report.html")


def test_drawn_keypoints_lie_where_they_were_seen() -> None:
    photo = np.zeros((100, 200, 3), dtype=np.uint8)
    positions, confidence = torch.zeros(1, 25, 2), torch.zeros(1, 25)
    positions[0, 0], confidence[0, 0] = torch.tensor([50.5, 40.5]), 1.0
    positions[0, 1], confidence[0, 1] = torch.tensor([150.5, 60.5]), 0.01
    positions[0, 2], confidence[0, 2] = torch.tensor([float("nan"), 10.0]), 1.0
    drawn = draw_keypoints(photo, Keypoints(positions, confidence, "openpose-body25"))
    lit = np.argwhere(drawn.sum(-1) > 0)
    np.testing.assert_allclose(lit.mean(0) + 0.5, [40.5, 50.5], atol=0.6)
    assert (photo == 0).all()


def test_side_by_side() -> None:
    row = side_by_side([np.zeros((20, 30, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)], gap=5)
    assert row.shape == (20, 30 + 5 + 20, 3)
