"""What there is and where: methods and experiments, found by reading the files' docstrings.

Imports nothing heavy: `vivace list` and `vivace where` answer before torch would have loaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

from vivace.base.errors import InputError, unknown
from vivace.exam.bank import leading_to, search

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parents[1]
GROUND = {"base", "experiments", "exam", "studio"}


@dataclass(frozen=True)
class Entry:
    """A method or an experiment: `room.name`, its file and line, and what its docstring says."""

    name: str
    room: str
    path: Path
    line: int
    symbol: str  # what one imports
    summary: str
    paper: str = ""

    @property
    def key(self) -> str:
        return f"{self.room}.{self.name}"

    @property
    def place(self) -> str:
        return f"{_shown(self.path)}:{self.line}"


@cache
def methods() -> tuple[Entry, ...]:
    """Every method file of every room."""
    rooms = [folder for folder in sorted(PACKAGE.iterdir()) if (folder / "__init__.py").exists()]
    paths = [path for room in rooms if room.name not in GROUND for path in sorted(room.glob("[a-z]*.py"))]
    return tuple(_method(path) for path in paths)


@cache
def experiments() -> tuple[Entry, ...]:
    """Every experiment: a module below `experiments/` with a function `run`."""
    return tuple(_experiment(path) for path in sorted((PACKAGE / "experiments").glob("*/[a-z]*.py")))


def rooms() -> list[str]:
    return sorted({entry.room for entry in (*methods(), *experiments())})


def experiment(name: str) -> Entry:
    """The experiment of that name ("gatys", "grad-cam" or "style.gatys"); InputError names the nearest."""
    wanted = name.replace("-", "_").lower()
    for entry in experiments():
        if wanted in (entry.name, entry.key):
            return entry
    raise unknown("method", name, [entry.name for entry in experiments()])


def where(text: str) -> list[Entry]:
    """Methods that the text may mean, best first: by name, then by what their docstrings and questions say."""
    wanted = _plain(text)
    if not wanted:
        raise InputError('say what to look for, such as: vivace where "grad cam"')
    asked = {key: rank for rank, question in enumerate(search(text)[:3]) for key in question.experiments}
    scored = []
    for entry in methods():
        name, about = _plain(entry.name), _plain(f"{entry.room} {entry.summary} {entry.paper}")
        score = 4.0 * (wanted == name) + 2.0 * (wanted in name or name in wanted)
        score += SequenceMatcher(None, wanted, name).ratio()
        score += sum(word in about for word in re.findall(r"\w+", text.lower())) / len(text.split())
        score += 0.5 / (1 + asked[entry.key]) if entry.key in asked else 0
        scored.append((score, entry))
    scored.sort(key=lambda pair: -pair[0])
    best = scored[0][0] if scored else 0.0
    if best < 0.8:
        raise unknown("method", text, [entry.name for entry in methods()])
    return [entry for score, entry in scored if score > max(0.8, best / 2)][:5]


def test_of(entry: Entry) -> str:
    """Where a method's test is, in a checkout; empty where Vivace was installed without its tests."""
    path = CHECKOUT / "tests" / entry.room / f"test_{entry.name}.py"
    return _shown(path) if path.exists() else ""


def experiments_of(entry: Entry) -> Sequence[Entry]:
    """The experiments that run a method: the one of its name first, then those whose file imports it."""
    found = [e for e in experiments() if e.key == entry.key or _imports(e.path, entry)]
    return sorted(found, key=lambda e: e.key != entry.key)


def questions_of(entry: Entry) -> list[str]:
    """The ids of the questions that a method's experiments answer."""
    keys = [e.key for e in experiments_of(entry)]
    return list(dict.fromkeys(question.id for key in keys for question in leading_to(key)))


def _method(path: Path) -> Entry:
    text = path.read_text(encoding="utf-8")
    match = re.match(r'r?"""(.*?)"""', text, re.DOTALL)
    lines = match[1].strip().splitlines() if match else []
    summary = lines[0].strip() if lines else ""
    rest = [line.strip() for line in lines[1:] if line.strip()]
    ends = next((i for i, line in enumerate(rest) if line.startswith("In:")), len(rest))
    paper = " ".join(rest[:ends])
    return Entry(path.stem, path.parent.name, path, *_definition(text, path.stem), summary, paper)


def _experiment(path: Path) -> Entry:
    text = path.read_text(encoding="utf-8")
    match = re.search(r'^def run\(.*?"""(.*?)(?:\n|""")', text, re.DOTALL | re.MULTILINE)
    return Entry(path.stem, path.parent.name, path, *_definition(text, "run"), match[1].strip() if match else "")


def _definition(text: str, name: str) -> tuple[int, str]:
    """Line and name of the definition called `name` (GradCAM and grad_cam are one), else of the first public one."""
    matches = re.finditer(r"^(?:def|class) ([^\W_]\w*)", text, re.MULTILINE)
    found = [(text.count("\n", 0, match.start()) + 1, match[1]) for match in matches]
    named = [(line, symbol) for line, symbol in found if _plain(symbol) == _plain(name)]
    return (named or found or [(1, "")])[0]


def _imports(path: Path, entry: Entry) -> bool:
    text = path.read_text(encoding="utf-8")
    if f"vivace.{entry.room}.{entry.name}" in text:
        return True
    names = re.findall(rf"from vivace\.{entry.room} import ([^\n(]+|\([^)]*\))", text)
    return any(_plain(entry.name) == _plain(name) for group in names for name in re.findall(r"\w+", group))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9一-鿿]", "", text.lower())


def _shown(path: Path) -> str:
    """The path relative to the working directory or the checkout where that is shorter."""
    for base in (Path.cwd(), CHECKOUT):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)
