"""The commands `body info`, `body add`, `body convert` and `body learn`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from vitruvian.cli.console import Bars, console

if TYPE_CHECKING:
    from vitruvian.bodies.catalogue import BodyDescription


@dataclass(frozen=True)
class Info:
    """Describe a body model: the open one, a registered family, or any model file."""

    body: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="open|FAMILY|FILE")] = "open"
    """The open body, a registered family (smplx, smplh, smpl, mano, flame), or a model file."""
    gender: Literal["neutral", "female", "male"] = "neutral"


@dataclass(frozen=True)
class Add:
    """Register a licensed body model file, so that its family is found by name. The file is read, never executed."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Official .npz or .pkl file of SMPL, SMPL+H, SMPL-X, MANO or FLAME."""
    family: Literal["smpl", "smplh", "smplx", "mano", "flame"] | None = None
    """Recognised from the file if not given."""
    gender: Literal["neutral", "female", "male"] | None = None
    """Recognised from the name of the file if not given."""
    side: Literal["left", "right"] | None = None
    """Side of a MANO hand."""


@dataclass(frozen=True)
class Convert:
    """Write a body model in the schema of SMPL-X, for programs that load SMPL-X."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz")]
    """File to write."""
    body: str = "open"
    """The open body or smplx."""
    gender: Literal["neutral", "female", "male"] = "neutral"


def info(arguments: list[str]) -> int:
    """`vitruvian body info`."""
    config = tyro.cli(Info, prog="vitruvian body info", args=arguments)
    from vitruvian.bodies.catalogue import describe_body
    from vitruvian.bodies.families import FAMILIES
    from vitruvian.bodies.loaders import load_body

    if config.body == "open" or config.body in FAMILIES:
        count = "all"
        body = load_body(config.body, gender=config.gender, num_shape=count, num_expression=count)  # type: ignore[arg-type]
        _print_description(describe_body(body))
    else:
        _print_description(describe_body(Path(config.body)))
    return 0


def add(arguments: list[str]) -> int:
    """`vitruvian body add`."""
    config = tyro.cli(Add, prog="vitruvian body add", args=arguments)
    from vitruvian.bodies.catalogue import add_body

    added = add_body(config.file, family=config.family, gender=config.gender, side=config.side)
    _print_description(added.description)
    console.print(f"registered as {added.family}, {added.variant}", highlight=False)
    return 0


def convert(arguments: list[str]) -> int:
    """`vitruvian body convert`."""
    config = tyro.cli(Convert, prog="vitruvian body convert", args=arguments)
    from vitruvian.bodies.loaders import load_body
    from vitruvian.bodies.saving import save_smplx_npz

    body = load_body(config.body, gender=config.gender, num_shape="all", num_expression="all")
    save_smplx_npz(body, config.out)
    console.print(f"{body.num_vertices} vertices → {escape(str(config.out))}", highlight=False, soft_wrap=True)
    return 0


def learn(arguments: list[str]) -> int:
    """`vitruvian body learn`."""
    from vitruvian.body_learning.open_body import LearnBodyConfig, learn_open_body

    @dataclass(frozen=True)
    class Learn(LearnBodyConfig):
        """Learn the open body the way SMPL-X was learnt from scans; needs the extra `build`."""

        source: Literal["anny"] = "anny"
        """Where the registrations come from."""

    config = tyro.cli(Learn, prog="vitruvian body learn", args=arguments)
    with Bars() as bars:
        learn_open_body(config, progress=lambda step, share: bars(step, round(100 * share), 100))
    console.print(f"→ {escape(str(config.output))}", highlight=False, soft_wrap=True)
    return 0


def _print_description(description: "BodyDescription") -> None:
    width, height, depth = (100 * side for side in description.size_m)
    rows = {
        "body": f"{description.title}, {description.variant}",
        "file": description.file,
        "digest": description.digest,
        "mesh": f"{description.num_vertices:,} vertices, {description.num_faces:,} faces",
        "size": f"{width:.0f} × {height:.0f} × {depth:.0f} cm",
        "joints": f"{description.num_joints}: " + ", ".join(f"{name} {n}" for name, n in description.pose_blocks),
        "shape": f"{description.num_shape} components",
        "expression": f"{description.num_expression} components",
        "hand components": str(description.num_hand_components),
        "face landmarks": str(description.num_landmarks),
        "pose correctives": "yes" if description.has_pose_correctives else "no",
        "texture coordinates": "yes" if description.has_uv else "no",
        "keypoint vertices": ", ".join(description.keypoints),
        "licence": description.licence,
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    console.print(table)
