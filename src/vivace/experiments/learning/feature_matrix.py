"""Experiment: a table of houses, or one of yours, as a feature matrix."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from vivace.base.data import digits
from vivace.base.drawing import drawing
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Columns, diabetes, houses
from vivace.experiments.matrices import matrices
from vivace.learning import LinearRegression
from vivace.learning.feature_matrix import FeatureMatrix
from vivace.learning.metrics import r2_score
from vivace.learning.splits import Split, three_way_split

QUICK = {"rows": 3000}

LARGEST = 16  # features in the picture of correlations


@checked
def run(*, data: FilePath = None, target: str | None = None, rows: Annotated[int, Ge(500), Le(1_000_000)] = 20_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A table with text and holes becomes a matrix: rows are samples, columns are features.

    vivace run feature_matrix        2 s on two cores; 7 numbers and a text become 12 features, and logarithms of them
    raise the share of the price's variance that a linear model explains from 83 % to 88 %

    data: a CSV file whose first line names its columns; text and holes are welcome (default: houses by formula)
    target: the column to predict (default: the last)
    rows: houses made where no file is given
    seed: for the houses, the holes and the split
    """
    table, matrix, X, y, asked, truth = matrices(data, target, rows=rows, seed=seed)
    report = Report(
        f"{table.name} as a feature matrix: {len(table.y):,} rows, {X.shape[1]} features",
        f"Rows are samples, columns are features; the names stand beside the matrix and the target `{table.target}` "
        "apart. Holes get the median of the training rows and a column that marks them, text becomes one column of 0 "
        "and 1 for each value, and everything is measured on the training rows only.",
    )
    with threadpool_limits(1):
        tell(Step(0, 2, "the matrix"))
        _matrix(report, table, matrix, X, y)
        _loaders(report, X, y, matrix.names_)
        _target_inside(report, X, y, asked, truth)
        tell(Step(1, 2, "feature engineering"))
        _engineering(report, houses(rows, seed=seed), seed)
    return report


def _matrix(report: Report, table: Columns, matrix: FeatureMatrix, X: np.ndarray, y: np.ndarray) -> None:
    """The first rows as they were and as numbers, and how the columns hang together."""
    names = list(table.columns)
    first = [[*(_shown(table.columns[name][i]) for name in names), float(table.y[i])] for i in range(4)]
    report.table(
        "houses" if len(names) == 8 else "table",
        [*names, table.target],
        first,
        "The table: numbers, holes, text, and the target in the last column.",
    )
    raw = matrix.transform({name: values[:4] for name, values in table.columns.items()})
    report.table(
        "matrix",
        matrix.names_,
        [[round(float(value), 3) for value in row] for row in raw],
        "The same rows as the matrix X. The names are the head of this table and not a row of the matrix; y "
        "is stored apart.",
    )
    varies = [i for i in range(X.shape[1]) if np.ptp(X[:, i]) > 0][:LARGEST]
    correlation = np.atleast_2d(np.corrcoef(np.column_stack([X[:, varies], y]), rowvar=False))
    labels = [*(matrix.names_[i] for i in varies), table.target]
    report.figure(
        "correlation",
        _drawn_correlation(correlation, labels),
        "Correlation of every two columns of the training rows, the target last. Strong ones among features "
        "say that they carry the same information twice.",
    )


def _shown(cell: Any) -> object:
    if isinstance(cell, str):
        return cell
    return "(hole)" if np.isnan(cell) else float(cell)


def _drawn_correlation(correlation: np.ndarray, labels: list[str]) -> Figure:
    side = 2 + 0.42 * len(labels)
    figure, axes = drawing(width=side + 1, height=side)
    shown = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.grid(False)
    for i, row in enumerate(correlation):
        for j, value in enumerate(row):
            if i != j:
                color = "white" if abs(value) > 0.6 else "black"
                axes.text(
                    j, i, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center", color=color, fontsize=7
                )
    figure.colorbar(shown, ax=axes, shrink=0.8, label="correlation")
    return figure


def _loaders(report: Report, X: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Every loader's matrix: as many rows as targets, as many columns as names; and numbers with a row of names."""
    patients, pictures = diabetes(), digits("train")
    pixels = pictures.images.flatten(1).numpy()
    loaded: list[tuple[np.ndarray, Any, list[str]]] = [(X, y, names), (patients.X, patients.y, patients.names),
              (pixels, pictures.labels, [f"{i}, {j}" for i in range(8) for j in range(8)])]  # fmt: skip
    as_taught = [values.ndim == 2 and values.shape == (len(y), len(names)) for values, y, names in loaded]
    report.claim(
        "1.7.c1",
        sum(as_taught),
        low=3,
        unit="loaders",
        detail="of 3 (houses, diabetes, digits) whose matrix has a row a target and a column a name: "
        + ", ".join(f"{len(values):,} x {values.shape[1]}" for values, _, _ in loaded),
    )
    printed = np.array([["Size", "Bedrooms", "Age"], [1500, 3, 10], [2000, 4, 5]])
    report.claim(
        "1.7.x1",
        np.issubdtype(printed.dtype, np.number),
        low=1,
        detail=f"1 if an array whose first row holds the names is one of numbers; its type is {printed.dtype.str}",
    )


def _target_inside(report: Report, X: np.ndarray, y: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> None:
    """The price left among the features: a perfect score that says nothing."""
    honest = r2_score(truth, LinearRegression().fit(X, y).predict(asked))
    inside = LinearRegression().fit(np.column_stack([X, y]), y).predict(np.column_stack([asked, truth]))
    report.claim(
        "1.7.x2",
        r2_score(truth, inside) - honest,
        high=0.05,
        detail=f"test R^2 with the target left among the features ({r2_score(truth, inside):.3f}) less that without it "
        f"({honest:.3f})",
    )


def _engineering(report: Report, table: Columns, seed: int) -> None:
    """Prices are products: logarithms of the columns, and of the target, are the features to have."""
    parts = three_way_split(len(table.y), random_state=seed)
    plain = dict(table.columns)
    ratio = plain | {"area per room": plain["area"] / plain["rooms"], "on the bay": plain["situation"] == "bay"}
    logs = ratio | {f"log {name}": np.log(plain[name]) for name in ("area", "income")}
    rows = []
    for name, columns, back in (
        ("the columns as they are", plain, False),
        ("with area per room", ratio, False),
        ("with logarithms", logs, False),
        ("with logarithms, for the log of the price", logs, True),
    ):
        rows.append(
            (name, FeatureMatrix().fit(columns).transform(columns).shape[1], _fitted(columns, table.y, parts, back))
        )
    report.table(
        "engineering",
        ("features", "d", "test R^2 of the price"),
        rows,
        "Feature engineering: the same least squares on the same houses, with features that fit how prices come about.",
    )


def _fitted(columns: Mapping[str, np.ndarray], y: np.ndarray, parts: Split, logarithm: bool) -> float:
    matrix = FeatureMatrix().fit({name: values[parts.train] for name, values in columns.items()})
    X = matrix.transform(columns)
    model = LinearRegression().fit(X[parts.train], np.log(y[parts.train]) if logarithm else y[parts.train])
    said = model.predict(X[parts.test])
    return r2_score(y[parts.test], np.exp(said) if logarithm else said)
