"""What an experiment returns when it is done: a `Report`, with its `Claim`s (what it tells meanwhile is a `Step`).

A report holds things, not files: `vivace.page` writes them, when a front door asks it to.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.progress import Step as Step
from vivace.base.progress import Tell as Tell
from vivace.base.progress import ignore as ignore
from vivace.base.progress import part_of as part_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Verdict = Literal["holds", "refuted", "inconclusive"]
Numbers = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class Claim:
    """A statement of the course, measured. It holds where `low <= measured <= high`.

    With a `spread` (half the width of the measurement's uncertainty), a bound that lies within it leaves it open.
    """

    id: str
    measured: float
    low: float = -math.inf
    high: float = math.inf
    spread: float = 0.0
    unit: str = ""
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        if any(abs(self.measured - bound) < self.spread for bound in (self.low, self.high)):
            return "inconclusive"
        return "holds" if self.low <= self.measured <= self.high else "refuted"

    @property
    def range(self) -> str:
        """Where the claim holds, in words: `<= 0.05`, `2.5 to 3.5`, `= 10`."""
        if self.low == self.high:
            return f"= {number(self.low)}"
        if math.isinf(self.low):
            return f"≤ {number(self.high)}"
        if math.isinf(self.high):
            return f"≥ {number(self.low)}"
        return f"{number(self.low)} to {number(self.high)}"

    @property
    def value(self) -> str:
        """The measured value with its spread and unit, in words."""
        spread = f" ± {number(self.spread)}" if self.spread else ""
        return f"{number(self.measured)}{spread}" + (f" {self.unit}" if self.unit else "")


@dataclass(frozen=True)
class Image:
    """A picture (3, H, W) or (1, H, W) in [0, 1]."""

    name: str
    image: Float[Tensor, "c h w"]
    caption: str = ""


@dataclass(frozen=True)
class Images:
    """Pictures side by side, each with a label; they may differ in size. `columns` in a row, or as many as fit."""

    name: str
    images: Mapping[str, Float[Tensor, "_ _ _"]]
    caption: str = ""
    columns: int | None = None


@dataclass(frozen=True)
class Video:
    """Frames (T, 3, H, W) in [0, 1]."""

    name: str
    frames: Float[Tensor, "t 3 h w"]
    fps: float = 12.0
    caption: str = ""


@dataclass(frozen=True)
class Curve:
    """Lines over one x axis: label to (x, y)."""

    name: str
    lines: Mapping[str, tuple[Numbers, Numbers]]
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    points: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under named columns."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure, for what a curve can't say."""

    name: str
    figure: "MatplotlibFigure"
    caption: str = ""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh: vertices (V, 3), faces (F, 3)."""

    name: str
    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    caption: str = ""


@dataclass(frozen=True)
class File:
    """A file that the run made (weights, features): its path, which the run folder takes over."""

    name: str
    path: Path
    caption: str = ""


@dataclass(frozen=True)
class Page:
    """A page to play with: HTML whole in itself, its script and pictures inside."""

    name: str
    html: str
    caption: str = ""


Artefact = Image | Images | Video | Curve | Table | Figure | Mesh | File | Page


@dataclass
class Report:
    """What an experiment found: artefacts in the order in which they are to be seen, and claims.

    `title` is a line; `summary` is Markdown with LaTeX between dollars.
    """

    title: str
    summary: str = ""
    artefacts: list[Artefact] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def add(self, artefact: Artefact) -> None:
        """Append an artefact; its name becomes a file's name, so it is plain and unique."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", artefact.name):
            raise ValueError(f"artefact name {artefact.name!r}: lower-case letters, digits, '-' and '_' only")
        if any(artefact.name == other.name for other in self.artefacts):
            raise ValueError(f"two artefacts named {artefact.name!r}")
        self.artefacts.append(artefact)

    def image(self, name: str, image: Tensor, caption: str = "") -> None:
        self.add(Image(name, image.detach().cpu(), caption))

    def images(self, name: str, images: Mapping[str, Tensor], caption: str = "", *, columns: int | None = None) -> None:
        self.add(Images(name, {label: image.detach().cpu() for label, image in images.items()}, caption, columns))

    def video(self, name: str, frames: Tensor, fps: float = 12.0, caption: str = "") -> None:
        self.add(Video(name, frames.detach().cpu(), fps, caption))

    def curve(self, name: str, lines: Mapping[str, tuple[Numbers, Numbers]], *, x: str, y: str, log_x: bool = False,
              log_y: bool = False, points: bool = False, caption: str = "") -> None:  # fmt: skip
        self.add(Curve(name, lines, x, y, log_x, log_y, points, caption))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"table {name!r}: every row needs {len(columns)} cells")
        self.add(Table(name, columns, rows, caption))

    def figure(self, name: str, figure: "MatplotlibFigure", caption: str = "") -> None:
        self.add(Figure(name, figure, caption))

    def mesh(self, name: str, vertices: Tensor, faces: Tensor, caption: str = "") -> None:
        self.add(Mesh(name, vertices.detach().cpu(), faces.detach().cpu(), caption))

    def file(self, name: str, path: Path, caption: str = "") -> None:
        self.add(File(name, path, caption))

    def page(self, name: str, html: str, caption: str = "") -> None:
        self.add(Page(name, html, caption))

    def claim(self, id: str, measured: float | bool | Tensor, *, low: float = -math.inf, high: float = math.inf,
              spread: float = 0.0, unit: str = "", detail: str = "") -> Claim:  # fmt: skip
        """Record what was measured for claim `id`, and the range in which the claim holds (at least one bound).

        A claim that can't fail, or a measurement that is not a number, is a bug in the experiment: ValueError.
        """
        claim = Claim(id, float(measured), float(low), float(high), float(spread), unit, detail)
        if math.isinf(low) and math.isinf(high):
            raise ValueError(f"claim {id} cannot fail: give low, high or both")
        if math.isnan(claim.measured):
            raise ValueError(f"claim {id}: measured NaN")
        if any(claim.id == other.id for other in self.claims):
            raise ValueError(f"claim {id} is measured twice")
        self.claims.append(claim)
        return claim


def number(value: float) -> str:
    """A number as a reader likes it: integers whole, the rest to four digits."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"
