"""What the terminal shows: progress with the picture so far, answers with readable formulas, claims and verdicts."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vivace.base.report import Step, Tell
from vivace.exam.bank import Question
from vivace.exam.rubric import marked
from vivace.page import Measured, Run

COLORS = {"holds": "green", "refuted": "red", "inconclusive": "yellow"}


@contextmanager
def progress(name: str, folder: Path) -> Iterator[Tell]:
    """A bar on a terminal, a line every ten seconds elsewhere; the picture so far as `live.png` in the run's folder."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    live = folder / "live.png"
    last = {"line": time.monotonic(), "picture": 0.0}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, text="")

        def tell(step: Step) -> None:
            from vivace.base.images import write_image

            now = time.monotonic()
            text = "  ".join([step.text, *(f"{key} {value:.4g}" for key, value in step.values.items())])
            bar.update(task, completed=step.done, total=step.total, text=text)
            if not console.is_terminal and now - last["line"] > 10:
                last["line"] = now
                print(f"{name}: {step.done}/{step.total}  {text}", file=sys.stderr, flush=True)
            if step.image is not None and now - last["picture"] > 2:
                last["picture"] = now
                write_image(live, step.image)

        try:
            yield tell
        finally:
            if live.exists():
                live.unlink()


def show_run(run: Run) -> None:
    """The title, the claims and where the run is."""
    console = Console()
    console.print(Text(run.title, style="bold"))
    show_claims(run.measured)


def show_claims(measured: Sequence[Measured], *, only: Question | None = None) -> None:
    """A table of claims; with `only`, those of one question, its unmeasured ones too."""
    wanted = [claim.id for claim in only.claims] if only else [m.claim.id for m in measured]
    by_id = {m.claim.id: m for m in measured}
    table = Table(show_edge=False, pad_edge=False)
    for name in ("claim", "statement", "measured", "holds if", "verdict"):
        table.add_column(name, overflow="fold", ratio=3 if name == "statement" else None)
    for id_ in wanted:
        if id_ in by_id:
            m = by_id[id_]
            sentence = readable(m.statement.text.en) if m.statement else ""
            verdict = Text(m.claim.verdict, style=COLORS[m.claim.verdict])
            if m.surprising and m.statement:
                verdict.append(f" (expected {m.statement.expect})", style="yellow")
            table.add_row(id_, sentence, m.claim.value, m.claim.range, verdict)
    if table.row_count:
        Console().print(table)
    for claim in only.claims if only else ():
        if claim.unmeasured:
            Console().print(Text(f"{claim.id} {readable(claim.text.en)} Not measured: {claim.unmeasured}"))


def show_question(question: Question) -> None:
    """The question in both languages, a model answer and its key points."""
    console = Console()
    console.print(Text(f"{question.id}  {question.title.en}  {question.title.zh}", style="bold"))
    console.print(Text(readable(question.ask.en), style="italic"))
    console.print(Text(question.ask.zh + "\n", style="italic dim"))
    console.print(Markdown(readable(question.answer)))
    console.print(Text("\nKey points", style="bold"))
    for point in question.points:
        console.print(Text(f"  • {readable(point.text)}"))
    if question.followups:
        console.print(Text("Follow-ups: " + ", ".join(question.followups)))
    console.print()


def show_marks(question: Question, answer: str) -> None:
    """Which key points an answer makes, and which it misses."""
    marks = marked(question, answer)
    console = Console()
    console.print(Text(f"{question.id}  {question.title.en}  {question.title.zh}", style="bold"))
    for point, made in marks:
        console.print(Text(f"  {'✓' if made else '✗'} {readable(point.text)}", style="green" if made else "red"))
    console.print(
        f"{sum(made for _, made in marks)} of {len(marks)} key points; the model answer: vivace ask {question.id}"
    )


def show_errata(question: Question) -> None:
    """What is commonly taught wrong about it, and what is right."""
    console = Console()
    if question.errata:
        console.print(Text("\nCommonly taught, and what is right", style="bold"))
    for erratum in question.errata:
        shown = f"  [{erratum.claim}]" if erratum.claim else ""
        console.print(Text(f"  {erratum.id}  {readable(erratum.taught)}", style="dim"))
        console.print(Text(f"         → {readable(erratum.correct)}{shown}"))


def readable(text: str) -> str:
    """Markdown whose LaTeX is written in plain characters: $\\hat y = w^T x$ as ŷ = w^T x."""
    from pylatexenc.latex2text import LatexNodes2Text

    plain = LatexNodes2Text(math_mode="text").latex_to_text
    text = re.sub(r"\$\$(.+?)\$\$", lambda m: f"\n\n    {' '.join(plain(m[1]).split())}\n\n", text, flags=re.DOTALL)
    return re.sub(
        r"(?<!\\)\$(.+?)(?<!\\)\$", lambda m: " ".join(plain(m[1]).split()).replace("*", "\\*"), text, flags=re.DOTALL
    )
