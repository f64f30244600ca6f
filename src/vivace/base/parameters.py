"""An experiment's keyword-only signature, read once: flags, forms, tables and bounds all come from here.

`Annotated[int, Ge(1), Le(5000)]` gives bounds, `Literal[...]` choices, `ImagePath`, `OptionalImage`, `FilePath` and
`FolderPath` a file picker; the docstring's `name: text` lines give the help. `@checked` holds `run` itself to the same
bounds, so a caller from Python is told the same as one at the terminal.
"""

import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from vivace.base.errors import InputError, unknown

Role = Literal["value", "picture", "file", "folder", "run folder"]

ImagePath = Annotated[str | Path, "picture"]  # a file of yours, or the name of a shipped picture ("astronaut")
OptionalImage = Annotated[str | Path | None, "picture"]
FilePath = Annotated[str | Path | None, "file"]
FolderPath = Annotated[str | Path | None, "folder"]
RunFolder = Annotated[Path | None, "run folder"]  # filled in by the front door, never typed: where checkpoints may go

Seed = Annotated[int, Ge(0), Le(2**31 - 1)]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Parameter:
    """One argument of an experiment: what it may be, what it is by default, and what it means."""

    name: str
    kind: type  # int, float, bool or str
    default: Any
    role: Role
    optional: bool
    choices: tuple[Any, ...]
    bounds: tuple[Ge | Gt | Le | Lt, ...]
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def range(self) -> str:
        """The bounds in words: `1 to 5000`, `above 0`; empty where there are none."""
        low = next((b for b in self.bounds if isinstance(b, Ge | Gt)), None)
        high = next((b for b in self.bounds if isinstance(b, Le | Lt)), None)
        if isinstance(low, Ge) and isinstance(high, Le):
            return f"{low.ge} to {high.le}"
        words = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
        return " and ".join(f"{words[type(b)]} {_limit(b)}" for b in (low, high) if b is not None)

    def check(self, value: Any) -> Any:
        """The value as this parameter's type, or an InputError that says what would be right."""
        if value is None and self.optional:
            return None
        if self.choices:
            if value not in self.choices:
                raise unknown(f"choice for {self.flag}", value, self.choices)
            return value
        if self.role != "value":
            if not isinstance(value, str | Path) or not str(value):
                raise InputError(f"{self.flag} takes a {self.role}'s path, not {value!r}")
            return value
        number = self._converted(value)
        if number is None:
            raise InputError(f"{self.flag} takes {_word(self.kind)}, not {value!r}")
        if not all(_within(number, bound) for bound in self.bounds):
            raise InputError(f"{self.flag} is {value}, but must be {self.range}")
        return number

    def _converted(self, value: Any) -> Any:
        """The value as this kind, or None where it isn't one: no 1.5 for a whole number, no NaN, no yes for true."""
        if self.kind is bool or isinstance(value, bool):
            return value if self.kind is bool and isinstance(value, bool) else None
        try:
            number = self.kind(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if (self.kind is int and float(value) != number) or (self.kind is float and not math.isfinite(number)):
            return None
        return number


def parameters(run: Callable[..., Any]) -> list[Parameter]:
    """The arguments of an experiment that a user may set, in the order of its signature."""
    hints = get_type_hints(run, include_extras=True)
    texts = _documented(inspect.getdoc(run) or "")
    found = []
    for name, argument in inspect.signature(run).parameters.items():
        if name == "tell":
            continue
        kind, extras, choices, optional = _taken_apart(hints.get(name, str))
        role = next((extra for extra in extras if isinstance(extra, str)), "value")
        if role == "run folder":
            continue
        if argument.kind is not argument.KEYWORD_ONLY or argument.default is argument.empty:
            raise TypeError(f"{run.__module__}.run: '{name}' must be keyword-only and have a default")
        bounds = tuple(extra for extra in extras if isinstance(extra, Ge | Gt | Le | Lt))
        found.append(Parameter(name, kind, argument.default, role, optional, choices, bounds, texts.get(name, "")))  # type: ignore[arg-type]
    return found


def checked(run: Callable[P, R]) -> Callable[P, R]:
    """Hold an experiment's `run` to the bounds and choices of its own signature."""

    @wraps(run)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        known = {parameter.name: parameter for parameter in parameters(run)}
        signature = inspect.signature(run).parameters
        for name in kwargs:
            if name not in signature:
                raise unknown("parameter", name, known)
        values = {name: known[name].check(value) if name in known else value for name, value in kwargs.items()}
        return run(*args, **values)  # type: ignore[arg-type]

    return call


def takes_run_folder(run: Callable[..., Any]) -> bool:
    """Whether the experiment writes checkpoints as it goes, and so wants the run's folder."""
    return "folder" in inspect.signature(run).parameters


def _taken_apart(hint: Any) -> tuple[type, tuple[Any, ...], tuple[Any, ...], bool]:
    """A type hint as (plain type, Annotated's extras, Literal's choices, may be None)."""
    extras: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        extras = tuple(rest)
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        optional = len(members) < len(get_args(hint))
        kind, inner, choices, _ = _taken_apart(str if str in members else members[0])
        return kind, extras + inner, choices, optional
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return type(choices[0]), extras, choices, optional
    return hint, extras, (), optional


def _documented(doc: str) -> Mapping[str, str]:
    """The docstring's `name: text` lines, with their continuation lines."""
    found: dict[str, str] = {}
    name = None
    for line in doc.splitlines():
        entry = re.match(r"(\w+): +(\S.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2].strip()
        elif name and line.startswith(" ") and line.strip():
            found[name] += " " + line.strip()
        else:
            name = None
    return found


def _limit(bound: Ge | Gt | Le | Lt) -> Any:
    return getattr(bound, type(bound).__name__.lower())


def _within(number: float, bound: Ge | Gt | Le | Lt) -> bool:
    limit = _limit(bound)
    match bound:
        case Ge():
            return number >= limit
        case Gt():
            return number > limit
        case Le():
            return number <= limit
        case _:
            return number < limit


def _word(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
