"""A run as a folder: report.json, the artefacts as files, and one self-contained page to look at.

The page works from a memory stick: pictures inlined, formulas as MathML, no script or font from anywhere else.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from vivace.artefacts import write_artefact
from vivace.base.errors import InputError
from vivace.base.files import written_whole
from vivace.base.report import Claim, Report, number
from vivace.exam.bank import Question, Statement, leading_to, statements


@dataclass(frozen=True)
class Measured:
    """A claim as measured, beside its sentence in the question bank."""

    claim: Claim
    statement: Statement | None

    @property
    def surprising(self) -> bool:
        """The verdict is not the one that the question bank expects."""
        return self.statement is not None and self.statement.expect != self.claim.verdict


@dataclass(frozen=True)
class Run:
    """One finished run, as its page shows it; small enough to pass between processes."""

    key: str  # "style.gatys"
    title: str
    summary: str
    command: str
    facts: Mapping[str, str]  # what it ran on and how long it took
    parameters: Mapping[str, Any]
    measured: Sequence[Measured]
    figures: Sequence[Markup]
    files: Mapping[str, str] = field(default_factory=dict)


def write_run(report: Report, folder: Path, *, key: str, command: str, parameters: Mapping[str, Any],
              facts: Mapping[str, str]) -> Run:  # fmt: skip
    """Write a report into `folder`, all or nothing, and return what a larger page (a tour) needs of it.

    Files of an earlier run in the same folder are replaced by name; anything else there is left alone.
    """
    with written_whole(folder / "new") as new:
        new.mkdir()
        figures, files = [], {}
        for artefact in report.artefacts:
            files[artefact.name], shown = write_artefact(artefact, new, prefix=key)
            figures.append(_figure(shown, artefact.caption))
        known = statements()
        measured = [Measured(claim, known.get(claim.id)) for claim in report.claims]
        run = Run(key, report.title, report.summary, command, facts, parameters, measured, figures, files)
        (new / "report.json").write_text(json.dumps(_as_json(run), indent=2, ensure_ascii=False), encoding="utf-8")
        (new / "index.html").write_text(_render("run", run=run, asked=leading_to(key)), encoding="utf-8")
        for path in sorted(
            new.iterdir(), key=lambda path: path.name == "index.html"
        ):  # the page last: it vouches for the rest
            path.replace(folder / path.name)
    (folder / "new").rmdir()
    return run


def write_tour(runs: Mapping[str, Run], questions: Sequence[Question], path: Path, *, facts: Mapping[str, str]) -> None:
    """One page for many questions: what was asked, what the answer claims, what was measured, with pictures."""
    measured = {m.claim.id: m for run in runs.values() for m in run.measured}
    page = _render("tour", runs=runs, questions=questions, measured=measured, facts=facts)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


@cache
def _markdown() -> Callable[[str], str]:
    from latex2mathml.converter import convert
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def mathml(latex: str, options: Mapping[str, Any]) -> str:
        latex = re.sub(r"(\\lVert(?:(?!\\lVert).)+?\\rVert)(?=\s*[\^_])", r"{\1}", latex)  # not the bar's own power
        return convert(latex, display="block" if options["display_mode"] else "inline")

    return MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, renderer=mathml).render


@cache
def _templates() -> Environment:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["markdown"] = lambda text: Markup(_markdown()(text))  # noqa: S704 (html is off in the renderer)
    environment.filters["number"] = number
    return environment


def _render(block: str, **context: Any) -> str:
    return _templates().get_template("page.html").render(kind=block, **context)


def _figure(shown: Markup, caption: str) -> Markup:
    words = Markup("<figcaption>{}</figcaption>").format(Markup(_markdown()(caption))) if caption else ""  # noqa: S704
    return Markup('<figure class="artefact">{}{}</figure>').format(shown, words)


def _as_json(run: Run) -> dict[str, Any]:
    def finite(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    claims = []
    for m in run.measured:
        values = {name: finite(value) for name, value in asdict(m.claim).items()}
        expected = {"text": m.statement.text.en, "expect": m.statement.expect} if m.statement else {}
        claims.append({**values, "verdict": m.claim.verdict, **expected})
    parameters = {name: str(value) if isinstance(value, Path) else value for name, value in run.parameters.items()}
    return {
        "experiment": run.key,
        "title": run.title,
        "command": run.command,
        "facts": dict(run.facts),
        "parameters": parameters,
        "claims": claims,
        "files": dict(run.files),
    }


def check_folder(folder: Path) -> list[Path]:
    """Before hours of work: can `folder` be written? Makes it; returns the folders that are new. InputError if not."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out takes a folder")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with written_whole(folder / "probe") as probe:
        probe.touch()
    (folder / "probe").unlink()
    return new


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders, the innermost first, that nothing was put into."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
