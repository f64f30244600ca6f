"""Tables of numbers for regression: one that ships with scikit-learn, or a CSV file of yours."""

import csv
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
