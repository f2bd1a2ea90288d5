"""The report of a run as one HTML file that needs no other file and no network."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from vitruvian.output import replacing
from vitruvian.view.drawing import fit_within, jpeg_bytes
from vitruvian.view.report_style import STYLE

MEANING_OF_STATUS = {
    "converged": "The fit reached a minimum.",
    "iteration_limit": "Still improving slowly when the allowed steps were used up; usable.",
    "stalled": "No step improves the fit any more; usable.",
    "failed": "The computation broke down; there is no result.",
    "no_evidence": "Too few keypoints were seen; there is no result.",
}
UNUSABLE = ("failed", "no_evidence")


@dataclass(frozen=True)
class ReportPerson:
    """One row of the table of people; errors against a known truth are None on real photographs."""

    picture: str
    person: int
    status: str
    reprojection_px: float
    cost: float
    time_ms: float
    keypoints_used: int
    truth_error_mm: float | None = None
    verdict: str = ""
    reason: str = ""
    prior: str = ""
    reprojection_parts_px: tuple[float, ...] = ()
    """Of body, hands and face."""


@dataclass(frozen=True, eq=False)
class ReportPicture:
    """The views of one picture, `(title, pixels)` each, and where its mesh lies relative to the report."""

    name: str
    views: tuple[tuple[str, UInt8[np.ndarray, "height width 3"]], ...]
    caption: str = ""
    mesh: str = ""


@dataclass(frozen=True)
class ReportFailure:
    """An input that could not be used."""

    name: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report says."""

    title: str
    version: str
    people: Sequence[ReportPerson]
    pictures: Sequence[ReportPicture]
    failures: Sequence[ReportFailure] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    """Pairs of name and value for the strip at the top."""
    notes: Sequence[str] = ()


def write_report(report: Report, path: Path | str, *, longest_px: int = 900) -> Path:
    """Write the report; pictures are embedded as JPEG with at most `longest_px` pixels along the longer side.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(report_html(report, longest_px=longest_px), encoding="utf-8")
    return Path(path)


def report_html(report: Report, *, longest_px: int = 900) -> str:
    """The report as HTML."""
    parts = [
        _head(report),
        _facts(report),
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _failures(report.failures),
        *(_picture(picture, report.people, longest_px) for picture in report.pictures),
        _people(report.people),
        _explanation(report),
        _configuration(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    good = sum(person.status not in UNUSABLE for person in report.people)
    total = len(report.people)
    people = "person" if total == 1 else "people"
    summary = f"{good} of {total} {people} fitted" if total else "Nobody was fitted"
    if report.pictures:
        summary += f" in {len(report.pictures)} picture{'' if len(report.pictures) == 1 else 's'}"
    if report.failures:
        summary += f"; {len(report.failures)} input{'' if len(report.failures) == 1 else 's'} not used"
    return f"<header><h1>{escape(report.title)}</h1><p>{summary}.</p></header>"


def _facts(report: Report) -> str:
    if not report.facts:
        return ""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in report.facts)
    return f'<dl class="facts">{items}</dl>'


def _failures(failures: Sequence[ReportFailure]) -> str:
    if not failures:
        return ""
    items = []
    for failure in failures:
        hint = f'<br><span class="hint">{escape(failure.hint)}</span>' if failure.hint else ""
        items.append(f"<li><strong>{escape(failure.name)}</strong>: {escape(failure.reason)}{hint}</li>")
    return f'<section class="failures"><h2>Not used</h2><ul>{"".join(items)}</ul></section>'


def _picture(picture: ReportPicture, people: Sequence[ReportPerson], longest_px: int) -> str:
    figures = []
    for title, pixels in picture.views:
        small = fit_within(pixels, longest_px)
        data = base64.b64encode(jpeg_bytes(small)).decode("ascii")
        alt = escape(f"{picture.name}: {title}", quote=True)
        figures.append(
            f'<figure><img alt="{alt}" width="{small.shape[1]}" height="{small.shape[0]}" '
            f'src="data:image/jpeg;base64,{data}"><figcaption>{escape(title)}</figcaption></figure>'
        )
    count = sum(person.picture == picture.name for person in people)
    facts = [f"{count} {'person' if count == 1 else 'people'}"]
    if picture.caption:
        facts.append(escape(picture.caption))
    if picture.mesh:
        facts.append(f'<a href="{escape(quote(picture.mesh), quote=True)}">{escape(picture.mesh)}</a>')
    return (
        f'<section class="picture"><h2>{escape(picture.name)}</h2><p class="sub">{" · ".join(facts)}</p>'
        f'<div class="views">{"".join(figures)}</div></section>'
    )


def _people(people: Sequence[ReportPerson]) -> str:
    if not people:
        return ""
    with_truth = any(person.truth_error_mm is not None for person in people)
    heads = ["Picture", "Person", "Verdict", "Keypoints", "Body / hands / face, px", "Cost", "Time, ms"]
    if with_truth:
        heads.append("Error, mm")
    rows = []
    for person in people:
        parts = person.reprojection_parts_px or (person.reprojection_px,)
        numbers = [
            f"{person.keypoints_used}",
            " / ".join(_number(part, 1) for part in parts),
            _number(person.cost, 1),
            _number(person.time_ms, 0),
        ]
        if with_truth:
            numbers.append(_number(person.truth_error_mm, 1))
        cells = f"<td>{escape(person.picture)}</td><td>{person.person}</td><td>{_badge(person)}</td>"
        cells += "".join(f'<td class="number">{number}</td>' for number in numbers)
        rows.append(f"<tr>{cells}</tr>")
    head = "".join(f"<th{' class=number' if k >= 3 else ''}>{name}</th>" for k, name in enumerate(heads))
    return (
        f'<section><h2>People</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _badge(person: ReportPerson) -> str:
    """The verdict in colour with its reason and how the fit ended; the status alone where nobody judged."""
    status = person.status.replace("_", " ")
    words = person.verdict or status
    kind = {"good": "good", "doubtful": "fair", "bad": "bad"}.get(person.verdict)
    if kind is None:
        kind = "bad" if person.status in UNUSABLE else "good" if person.status == "converged" else "fair"
    title = escape(MEANING_OF_STATUS.get(person.status, ""), quote=True)
    badge = f'<span class="badge {kind}" title="{title}">{escape(words)}</span>'
    details = [part for part in (person.reason, person.prior and f"prior: {person.prior}") if part]
    if person.verdict and person.status != "converged":
        details.insert(0, status)
    return badge + "".join(f'<br><span class="hint">{escape(part)}</span>' for part in details)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:,.{digits}f}"


def _explanation(report: Report) -> str:
    seen = [status for status in MEANING_OF_STATUS if any(person.status == status for person in report.people)]
    statuses = "".join(
        f"<dt>{escape(status.replace('_', ' '))}</dt><dd>{MEANING_OF_STATUS[status]}</dd>" for status in seen
    )
    truth = ""
    if any(person.truth_error_mm is not None for person in report.people):
        truth = (
            "<dt>Error</dt><dd>Mean distance between the vertices of the fit and of the true body, after the best "
            "rotation, translation and scale (Procrustes). Known only for pictures that were rendered.</dd>"
        )
    return (
        "<section><h2>How to read this</h2><dl class=reading>"
        "<dt>Seen keypoints</dt><dd>What the detector, or the keypoint file, says: body yellow, the person’s left hand "
        "blue, right hand pink, face green. Faint points are uncertain.</dd>"
        "<dt>Fitted body</dt><dd>The 3D body, drawn through the camera of the photograph.</dd>"
        "<dt>From the side</dt><dd>The same body turned by 90° about the vertical. One picture says little about "
        "depth: what looks right from the front can still lean in this view.</dd>"
        "<dt>Verdict</dt><dd>Good: nothing that can be seen speaks against the fit. Doubtful: look at it; the reason "
        "says what is odd. Bad: do not use it. No verdict can see a wrong depth that explains the picture.</dd>"
        "<dt>Body / hands / face, px</dt><dd>Mean distance in pixels between seen keypoints and those of the body, "
        "part by part. Small is necessary, not sufficient.</dd>"
        "<dt>Cost</dt><dd>Value of the objective at the end; comparable between fits of one configuration only.</dd>"
        "<dt>Time</dt><dd>Time of the fit alone, the batch divided by the number of people in it.</dd>"
        f"{truth}{statuses}</dl></section>"
    )


def _configuration(report: Report) -> str:
    text = json.dumps(report.config, indent=2, default=str, ensure_ascii=False, sort_keys=True)
    return (
        f"<section><details><summary>Configuration</summary><pre>{escape(text)}</pre></details></section>"
        f"<footer>vitruvian {escape(report.version)}</footer>"
    )
