"""The terminal front door: list, where, run, ask, tour, version.

Finding things loads neither torch nor any method; an experiment is loaded only when it is run. Exit codes: 0, 2 for bad
input, 130 for Ctrl-C; 1 is a bug of ours.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace import __version__, index
from vivace.base.errors import InputError, unknown
from vivace.exam import bank

if TYPE_CHECKING:
    from vivace.base.parameters import Parameter
    from vivace.page import Measured

Out = Annotated[str | None, typer.Option("--out", metavar="FOLDER", help="where the run is written [runs/NAME-TIME]")]
Quick = Annotated[bool, typer.Option("--quick", help="small sizes: seconds instead of minutes, same verdicts")]


class Stopped(Exception):
    """Ctrl-C in an experiment, with what can be done about it."""


app = typer.Typer(
    name="vivace",
    help="Machine learning for visual computing, alive: run any method on your own pictures, and be examined on it.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(
    help="Run a method, on its own pictures or on yours.",
    rich_markup_mode=None,
)


def main() -> None:
    """The console script: whatever goes wrong becomes one line and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait spin, on a busy machine 10x
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        if arguments in ([], ["run"]):
            arguments = [*arguments, "--help"]
        return _application(arguments)(arguments, prog_name="vivace", standalone_mode=False) or 0
    except Stopped as error:
        return _complain(str(error), 130)
    except (typer.Abort, KeyboardInterrupt):
        return _complain("stopped", 130)
    except InputError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:  # a flag or command that doesn't exist
        return _complain(error.format_message() if hasattr(error, "format_message") else str(error), 2)
    except MemoryError:
        return _complain("out of memory; try a smaller size or batch", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("VIVACE_TRACEBACK"):
            raise
        if "alloc" in str(error) and "memory" in str(error):
            return _complain("out of memory; try a smaller size or batch", 2)
        return _complain(f"a bug in Vivace: {type(error).__name__}: {error} (VIVACE_TRACEBACK=1 shows where)", 1)


def _complain(text: str, code: int) -> int:
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    print(f"vivace: {line}", file=sys.stderr)
    return code


def _application(arguments: list[str]) -> Callable[..., Any]:
    """The whole command tree; of the experiments, only the one that is asked for is loaded."""
    if arguments and arguments[0] in {entry.name for entry in index.experiments()}:
        raise InputError(f"methods are run by `vivace run {' '.join(arguments)}`")
    run_app.registered_commands.clear()  # of an earlier call in the same process
    app.registered_groups.clear()
    asked = (
        next((word for word in arguments[1:] if not word.startswith("-")), None) if arguments[:1] == ["run"] else None
    )
    if asked:
        entry = index.experiment(asked)
        run_app.command(asked, help=entry.summary)(_command(entry))
    else:
        for entry in index.experiments():
            run_app.command(entry.name, help=entry.summary)(lambda: None)
    app.add_typer(run_app, name="run")
    return typer.main.get_command(app)


@app.command("list")
def list_(
    chapter: Annotated[str | None, typer.Option(metavar="1..10", help="only this chapter's questions")] = None,
    room: Annotated[str | None, typer.Option(metavar="ROOM", help="only this room's methods")] = None,
) -> None:
    """Show the methods, or a chapter's questions."""
    if chapter is not None:
        number = _whole("chapter", chapter, 10)
        found = [question for question in bank.questions().values() if question.chapter == number]
        if not found:
            raise InputError(f"no question of chapter {number} is answered yet")
        for question in found:
            print(f"{question.id:8} {question.title.en}  {question.title.zh}")
            print(f"{'':8} vivace ask {question.id}   runs {', '.join(question.experiments)}")
        return
    if room is not None and room not in index.rooms():
        raise unknown("room", room, index.rooms())
    for name in [room] if room else index.rooms():
        print(name)
        for method in (method for method in index.methods() if method.room == name):
            print(f"  {method.name:22} {method.summary.partition(': ')[2]}")


@app.command()
def where(
    text: Annotated[list[str], typer.Argument(metavar="WORDS", help='a method, as you would call it: "grad cam"')],
) -> None:
    """Show a method's code, paper, test and question."""
    first, *others = index.where(" ".join(text))
    runs = index.experiments_of(first)
    print(f"{first.place}\n  {first.summary}")
    rows = [
        ("paper", first.paper),
        ("import", f"from vivace.{first.room} import {first.symbol}"),
        ("experiment", "  ".join(entry.place for entry in runs)),
        ("run", "  ".join(f"vivace run {entry.name}" for entry in runs[:1])),
        ("test", index.test_of(first)),
        ("question", "  ".join(f"vivace ask {asked}" for asked in index.questions_of(first))),
    ]
    for name, value in rows:
        if value:
            print(f"  {name:10} {value}")
    if others:
        print("also: " + ", ".join(f"{entry.name} ({entry.place})" for entry in others))


@app.command()
def ask(text: Annotated[list[str], typer.Argument(metavar="WORDS", help="a question's id (5.1), or what it is about")],
        full: Annotated[bool, typer.Option("--full", help="run the experiments at full size")] = False,
        no_run: Annotated[bool, typer.Option("--no-run", help="answer only; measure nothing")] = False,
        answer: Annotated[
            str | None, typer.Option(metavar="TEXT", help="an answer of yours: which key points does it make?")
        ] = None,
        out: Out = None) -> None:  # fmt: skip
    """Answer a question, and measure what it claims."""
    from vivace import terminal

    question = bank.find(" ".join(text))
    if answer is not None:
        terminal.show_marks(question, answer)
        return
    terminal.show_question(question)
    if no_run:
        return
    measured: list[Measured] = []
    for key in question.experiments:
        entry = index.experiment(key)
        folder = (
            _folder(out, entry.name) if len(question.experiments) == 1 else _folder(out and f"{out}/{key}", entry.name)
        )
        measured += _run(entry, {}, folder, quick=not full, quiet=True)
    terminal.show_claims(measured, only=question)
    terminal.show_errata(question)


@app.command()
def tour(quick: Quick = False,
         chapter: Annotated[str | None, typer.Option(metavar="1..10", help="only this chapter")] = None,
         out: Annotated[str, typer.Option(metavar="FOLDER", help="where the report is written")] = "tour",
         processes: Annotated[str | None, typer.Option(metavar="INTEGER", help="at a time [one a core]")] = None,
         ) -> None:  # fmt: skip
    """Run all experiments; one report for all questions."""
    from vivace.tour import take

    only, workers = _whole("chapter", chapter, 10), _whole("processes", processes, 256) or os.cpu_count() or 1
    if take(Path(out).expanduser(), quick=quick, chapter=only, processes=workers):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Show the versions that a bug report needs."""
    import platform
    from importlib.metadata import version as installed

    print(
        f"vivace {__version__}, torch {installed('torch')}, Python {platform.python_version()}, {platform.platform()}"
    )


def _command(entry: index.Entry) -> Callable[..., None]:
    """An experiment as a command: its flags are its own signature's."""
    from importlib import import_module

    from vivace.base.parameters import parameters

    known = parameters(import_module(f"vivace.experiments.{entry.key}").run)
    if taken := {"out", "quick"} & {parameter.name for parameter in known}:
        raise TypeError(f"{entry.key}: {taken} are the command line's own")

    def command(*, out: str | None, quick: bool, **values: Any) -> None:
        typed = {name: value for name, value in values.items() if value is not None}
        _run(entry, typed, _folder(out or typed.get("resume"), entry.name), quick=quick)

    flags = [_flag(parameter) for parameter in known]
    flags += [
        inspect.Parameter("quick", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quick),
        inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Out),
    ]
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return command


def _flag(parameter: "Parameter") -> inspect.Parameter:
    """A typer option that takes text (or a switch); the parameter itself checks it, for the same words everywhere."""
    default = "" if parameter.default is None else f" [{parameter.default}]"
    if parameter.kind is bool:
        negative = f"--no-{parameter.flag[2:]}"
        default = f" [{parameter.flag if parameter.default else negative}]"
        option = typer.Option(f"{parameter.flag}/{negative}", help=parameter.help + default, show_default=False)
        hint: Any = Annotated[bool | None, option]
    else:
        words = {"int": "INTEGER", "float": "NUMBER", "str": "TEXT"}
        metavar = "|".join(map(str, parameter.choices)) if parameter.choices else words[parameter.kind.__name__]
        metavar = metavar if parameter.role == "value" else parameter.role.upper()
        bounds = f" ({parameter.range})" if parameter.range else ""
        help_ = f"{parameter.help}{bounds}{default}"
        hint = Annotated[str | None, typer.Option(parameter.flag, metavar=metavar, help=help_, show_default=False)]
    return inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _whole(name: str, text: str | None, most: int) -> int | None:
    """A whole number from 1 to `most`, said in the same words as an experiment's parameter."""
    from annotated_types import Ge, Le

    from vivace.base.parameters import Parameter

    return (
        None if text is None else int(Parameter(name, int, None, "value", True, (), (Ge(1), Le(most)), "").check(text))
    )


def _folder(out: str | None, name: str) -> Path:
    import time

    return Path(out).expanduser() if out else Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _run(
    entry: index.Entry, values: dict[str, Any], folder: Path, *, quick: bool, quiet: bool = False
) -> "list[Measured]":
    from vivace import terminal
    from vivace.page import check_folder, remove_empty
    from vivace.runner import run_experiment

    new = check_folder(folder)
    try:
        with terminal.progress(entry.name, folder) as tell:
            run = run_experiment(entry.key, values, folder, quick=quick, tell=tell)
    except KeyboardInterrupt:
        resume = f"; go on with: vivace run {entry.name} --resume {folder}" if any(folder.glob("checkpoint-*")) else ""
        raise Stopped(f"stopped{resume}") from None
    finally:
        remove_empty(new)  # after the picture so far is gone
    if not quiet:
        terminal.show_run(run)
    print(f"{folder / 'index.html'}")
    return list(run.measured)
