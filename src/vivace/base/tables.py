"""Tables for regression: one that ships with scikit-learn, houses by formula, or a CSV file of yours."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError, unknown

FEWEST = 10  # rows of a file
LARGEST = 1e100  # number in a file: its square must be a number too


@dataclass(frozen=True)
class Table:
    """Features and target with their names."""

    X: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    names: list[str]
    target: str
    name: str
    remark: str = ""


def diabetes() -> Table:
    """442 patients, ten features each, and how far their disease went on in a year; comes with scikit-learn."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    name = "442 diabetes patients (Efron et al. 2004, shipped with scikit-learn)"
    return Table(found.data, found.target, list(found.feature_names), "progression", name)


@dataclass(frozen=True)
class Columns:
    """A table as people keep it: named columns of numbers (a hole is NaN) or of text, and a target without holes."""

    columns: Mapping[str, np.ndarray]
    y: Float[np.ndarray, " n"]
    target: str
    name: str


def houses(n: int, *, seed: int = 0) -> Columns:
    """Prices of n houses in a land like California, by formula: right in its units, ranges and dependences, not real.

    area (square feet), rooms, bedrooms (3 in 100 unknown), age (years), income (of the district, 1000 $ a year),
    coast (km to the sea), latitude (degrees), situation (bay, coast, valley, desert); the target is price (1000 $).
    A price is a product of what these do, so logarithms make it linear; its noise is 18 %.
    """
    rng = np.random.default_rng(seed)
    latitude = np.where(rng.random(n) < 0.6, rng.normal(34.0, 0.6, n), rng.normal(37.6, 0.7, n)).clip(32.5, 41.9)
    coast = rng.gamma(1.2, 30, n).clip(0.1, 350)
    bay = (np.abs(latitude - 37.6) < 0.6) & (coast < 40)
    situation = np.where(bay, "bay", np.where(coast < 15, "coast", np.where(coast < 90, "valley", "desert")))
    income = 55 * np.exp(0.35 * rng.normal(size=n) + 0.25 * bay - 0.002 * coast)
    area = (1500 * (income / 55) ** 0.3 * np.exp(0.32 * rng.normal(size=n))).clip(350, 9000).round()
    bedrooms = (area / 520 + rng.normal(0, 0.6, n)).round().clip(1, 9)
    rooms = bedrooms + 2 + rng.poisson(area / 1500)
    age = rng.gamma(2.5, 4.5, n).clip(0, 60).round()
    price = 0.19 * area**0.95 * (income / 55) ** 0.6 * np.exp(-coast / 160 - 0.006 * age + 0.3 * bay)
    price = (price * (1 + 0.03 * (bedrooms - 3)).clip(0.8, 1.2) * np.exp(0.18 * rng.normal(size=n)) + 25).round(1)
    bedrooms[rng.random(n) < 0.03] = np.nan
    columns = {"area": area, "rooms": rooms, "bedrooms": bedrooms, "age": age, "income": income.round(1),
               "coast": coast.round(1), "latitude": latitude.round(2), "situation": situation}  # fmt: skip
    return Columns(columns, price, "price", f"{n:,} houses by formula")


def read_columns(source: str | Path, target: str | None) -> Columns:
    """A CSV file with a header, text and holes included; the target (default: the last column) has numbers only."""
    path = Path(source).expanduser()
    names, rows = _cells(path)
    if target is not None and target not in names:
        raise unknown("column", target, names)
    target = target or names[-1]
    cells = {name: [row[i].strip() for row in rows] for i, name in enumerate(names)}
    y = _numbers(path, target, cells.pop(target))
    if y is None or np.ptp(y) == 0:
        raise InputError(f"{path}: the target '{target}' is not a column of numbers that vary")
    return Columns({name: _column(values) for name, values in cells.items()}, y, target, path.name)


def _column(cells: list[str]) -> np.ndarray:
    """Numbers with NaN for what is empty or too large; text where more than half of what is there is text."""
    there = [cell for cell in cells if cell]
    values = [_number(cell) for cell in cells]
    if sum(value is not None for value in values) <= len(there) / 2:
        return np.array(cells)
    return np.array([np.nan if value is None or not abs(value) < LARGEST else value for value in values])


def read_table(source: str | Path, target: str | None) -> Table:
    """A CSV file with a header: the target's column (default: the last) and every other column of numbers.

    InputError: no file, not text, no header, fewer than ten rows, a hole, no such column, nothing that varies.
    """
    path = Path(source).expanduser()
    names, rows = _cells(path)
    if target is not None and target not in names:
        raise unknown("column", target, names)
    target = target or names[-1]
    columns = {name: _numbers(path, name, [row[i] for row in rows]) for i, name in enumerate(names)}
    y = columns.pop(target)
    if y is None:
        raise InputError(f"{path}: the target '{target}' is not a column of numbers; --target names another one")
    if np.ptp(y) == 0:
        raise InputError(f"{path}: the target '{target}' is {y[0]:g} in every row; there is nothing to predict")
    X = {name: values for name, values in columns.items() if values is not None and np.ptp(values) > 0}
    if not X:
        raise InputError(f"{path} has no column of numbers that vary beside the target '{target}'")
    left_out = [name for name in columns if name not in X]
    remark = f" Left out, because they are text or constant: {', '.join(left_out)}." if left_out else ""
    return Table(np.column_stack(list(X.values())), y, list(X), target, path.name, remark)


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file, as text; commas, semicolons or tabs."""
    if path.is_dir() or not path.exists():
        raise InputError(f"{path} is a folder; a CSV file is needed" if path.is_dir() else f"no file {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = text.splitlines()
        separator = max(",;\t", key=lines[0].count) if lines else ","
        names, *rows = [row for row in csv.reader(lines, delimiter=separator) if row] or [[]]
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} is not a CSV file: it is not text (UTF-8)") from None
    except OSError as error:
        raise InputError(f"{path} may not be read: {error.strerror or error}") from None
    names = [name.strip() for name in names]
    if "\0" in text or not names:
        raise InputError(f"{path} is not a CSV file: it is not text" if "\0" in text else f"{path} is empty")
    if all(_number(name) is not None for name in names):
        raise InputError(f"{path}: the first line must name the columns; it has only numbers")
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise InputError(
            f"{path}: the first line must name two or more columns, each once; it names {', '.join(names)}"
        )
    for i, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise InputError(f"{path}, row {i} below the header: {len(row)} cells under {len(names)} columns")
    if len(rows) < FEWEST:
        raise InputError(f"{path} has {len(rows)} rows; at least {FEWEST} are needed")
    if separator == ";":  # where a comma may be the decimal point
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    return names, rows


def _numbers(path: Path, name: str, cells: list[str]) -> np.ndarray | None:
    """A column as numbers; None where it is text. InputError where it is numbers with holes."""
    values = [_number(cell) for cell in cells]
    if sum(value is not None for value in values) <= len(cells) / 2:
        return None
    for i, (value, cell) in enumerate(zip(values, cells, strict=True), start=1):
        if value is None or not abs(value) < LARGEST:
            shown = f"'{cell.strip()}'" if cell.strip() else "empty"
            raise InputError(
                f"{path}, row {i} below the header: '{name}' is {shown}; a number is needed (finite, below {LARGEST:g})"
            )
    return np.array(values, dtype=float)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
