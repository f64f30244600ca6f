"""Experiment: what bringing a feature matrix's columns to one scale changes, and for whom."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Columns, houses
from vivace.experiments.matrices import matrices
from vivace.learning import LinearRegression, gradient_descent
from vivace.learning.metrics import r2_score
from vivace.learning.scaling import MinMaxScaler, StandardScaler

QUICK = {"rows": 3000}

ARRIVED = 1e-6  # of the target's variance: how near to the least loss descent must come
THREE = ("area", "bedrooms", "age")  # scales of 1500, 3 and 10
SEEN = 3000  # steps drawn
NEIGHBOURS = 10
COMPARED = 5000  # rows at most that models are fitted to, raw and scaled


@checked
def run(*, data: FilePath = None, target: str | None = None, rows: Annotated[int, Ge(500), Le(1_000_000)] = 20_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Columns on one scale: gradient descent needs it, distances and penalties too, least squares and trees don't.

    vivace run scaling        3 s on two cores; on area, bedrooms and age as they are gradient descent takes more than
    a million times as many steps as on standardised columns

    data: a CSV file whose first line names its columns; text and holes are welcome (default: houses by formula)
    target: the column to predict (default: the last)
    rows: houses made (gradient descent always runs on them)
    seed: for the houses, the holes and the split
    """
    table, matrix, X, y, asked, truth = matrices(data, target, rows=rows, seed=seed)
    if len(X) < NEIGHBOURS:
        raise InputError(f"{data} has {len(table.y)} rows; at least 14 are needed")
    if not np.ptp(X, axis=0).any():
        raise InputError(f"{data} has no column beside the target '{table.target}' that varies")
    if np.abs(X).max() > np.finfo(np.float32).max:
        raise InputError(f"{data} holds features beyond 3e38, which trees don't take; another unit would help")
    report = Report(
        f"Scaling the {X.shape[1]} columns of {table.name}",
        "A z-score is $z = (x - \\mu)/\\sigma$, min-max scaling $(x - x_{min})/(x_{max} - x_{min})$, with the numbers "
        "of the training rows. Descent on $\\frac1n\\lVert Xw - y\\rVert^2$ needs a number of steps in proportion to "
        "the condition number of $X^\\top X$, and columns of different scales make that enormous.",
    )
    with threadpool_limits(1):
        tell(Step(0, 3, "scaling"))
        _statistics(report, X, asked, matrix.names_)
        tell(Step(1, 3, "descent, raw and scaled"))
        _descent(report, houses(rows, seed=seed))
        tell(Step(2, 3, "who minds the scale"))
        _invariance(report, X, y, asked, truth, table.y.std())
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _statistics(report: Report, X: np.ndarray, asked: np.ndarray, names: list[str]) -> None:
    """Means and variances after standardising: of the training rows, of the test rows, of a constant column."""
    varies = np.ptp(X, axis=0) > 0
    scaler = StandardScaler().fit(X)
    Z, T = scaler.transform(X)[:, varies], scaler.transform(asked)[:, varies]
    off = max(float(np.abs(Z.mean(0)).max()), float(np.abs(Z.var(0) - 1).max()))
    test_off = max(float(np.abs(T.mean(0)).max()), float(np.abs(T.var(0) - 1).max()))
    report.claim("1.7.c2", off, high=1e-9, detail="largest |mean| or |variance - 1| of a column of the training rows")
    report.claim("1.7.x3", test_off, high=1e-9, detail="the same for the test rows, scaled as the training rows were")
    constant = StandardScaler().fit_transform(np.full((100, 1), 0.1))
    report.claim(
        "1.7.x4", constant.var(), low=1 - 1e-9, high=1 + 1e-9, detail="variance of a column that is 0.1 everywhere"
    )
    squeezed = MinMaxScaler().fit(X)
    M = squeezed.transform(X)
    report.table(
        "columns",
        ("feature", "mean", "deviation", "smallest", "largest", "its z-score", "half of the rows, min-max scaled"),
        [
            (name, X[:, i].mean(), X[:, i].std(), X[:, i].min(), X[:, i].max(),
             (X[:, i].max() - X[:, i].mean()) / scaler.scale_[i],
             " and ".join(f"{value:.2f}" for value in np.quantile(M[:, i], (0.25, 0.75))))
            for i, name in enumerate(names)
        ],
        "The training rows. Min-max scaling gives the range to the extremes: the farther, the narrower the rest.",
    )  # fmt: skip


def _descent(report: Report, table: Columns) -> None:
    """Area, bedrooms and age with an intercept: steps of size 1/L until descent has arrived."""
    raw = np.nan_to_num(np.column_stack([table.columns[name] for name in THREE]), nan=3.0)
    y = table.y - table.y.mean()
    designs = {
        "raw": raw,
        "centred": StandardScaler(with_std=False).fit_transform(raw),
        "min-max": MinMaxScaler().fit_transform(raw),
        "standardised": StandardScaler().fit_transform(raw),
    }
    rows, lines, steps = [], {}, {}
    for name, columns in designs.items():
        A = np.column_stack([np.ones(len(y)), columns])
        steps[name], condition = _steps_needed(A, y)
        path = gradient_descent(A, y, steps=SEEN)
        least = _loss(A, y, LinearRegression(fit_intercept=False).fit(A, y).coef_)
        at = np.unique(np.geomspace(1, SEEN, 60).astype(int))
        above = [max((_loss(A, y, path[i]) - least) / y.var(), 1e-12) for i in at]
        lines[name] = (at.tolist(), above)
        rows.append((name, f"{condition:.3g}", f"{steps[name]:,}"))
    report.table(
        "steps",
        ("columns", "condition number of the Hessian", "steps of size 1/L"),
        rows,
        f"Area (scale 1500), bedrooms (3) and age (10), with an intercept: steps until the loss is within {ARRIVED:g} "
        "of the variance from its least. Counted from the Hessian's eigenvalues, exactly.",
    )
    report.curve("descent", lines, x="step", y="loss above the least, of the variance", log_x=True, log_y=True,
                 caption="The same houses, the same model, each with its columns' step size 1/L.")  # fmt: skip
    report.claim(
        "1.7.c3",
        steps["raw"] / steps["standardised"],
        low=10,
        detail=f"steps on raw columns over steps on standardised ones: {steps['raw']:,} against "
        f"{steps['standardised']:,}",
    )


def _steps_needed(A: np.ndarray, y: np.ndarray) -> tuple[int, float]:
    """Steps of size 1/L from zero: along each eigenvector of the Hessian the error shrinks by 1 - eigenvalue/L."""
    values, vectors = np.linalg.eigh(2 / len(y) * A.T @ A)
    gap = vectors.T @ LinearRegression(fit_intercept=False).fit(A, y).coef_
    log_shrink = np.log1p(-np.minimum(values / values[-1], np.nextafter(1, 0)))

    def excess(steps: float) -> float:
        return float(0.5 * np.sum(values * gap**2 * np.exp(2 * steps * log_shrink))) / y.var()

    low, high = 0, 1
    while excess(high) > ARRIVED:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) > ARRIVED else (low, middle)
    return high, float(values[-1] / values[0])


def _loss(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return float(np.mean(np.square(A @ w - y)))


def _invariance(report: Report, X: np.ndarray, y: np.ndarray, asked: np.ndarray, truth: np.ndarray, spread: float
                ) -> None:  # fmt: skip
    """Four models with raw and with standardised columns: do their predictions move, in units of `spread`?"""
    few = slice(0, COMPARED)
    models: dict[str, Callable[[], Any]] = {
        "least squares": LinearRegression,
        "decision tree": lambda: DecisionTreeRegressor(min_samples_leaf=5, random_state=0),
        "ridge, penalty 1000": lambda: Ridge(1000.0),
        "10 nearest neighbours": lambda: KNeighborsRegressor(NEIGHBOURS),
    }
    rows, moved, rescaled = [], {}, {}
    powers = 2.0 ** -np.log2(StandardScaler().fit(X).scale_).round()  # multiplying by these rounds nothing
    for name, make in models.items():
        plain = make().fit(X[few], y[few]).predict(asked)
        scaled = make_pipeline(StandardScaler(), make()).fit(X[few], y[few]).predict(asked)
        by_two = make().fit(X[few] * powers, y[few]).predict(asked * powers)
        moved[name], rescaled[name] = (
            float(np.sqrt(np.mean(np.square(plain - other))) / spread) for other in (scaled, by_two)
        )
        rows.append((name, r2_score(truth, plain), r2_score(truth, scaled), f"{moved[name]:.1e}"))
    report.table(
        "models",
        ("model", "test R^2, raw", "test R^2, standardised", "predictions move by (standard deviations)"),
        rows,
        "Least squares rescales its weights and a tree its thresholds (which its library rounds to 32 bits); a penalty "
        "or a distance compares columns with each other, and so depends on their units.",
    )
    report.claim(
        "1.7.c4",
        max(rescaled["least squares"], rescaled["decision tree"]),
        high=1e-6,
        detail="columns multiplied by powers of two, which rounds nothing: RMS move of the test predictions, "
        f"in deviations of the target: least squares {rescaled['least squares']:.1e}, "
        f"tree {rescaled['decision tree']:.1e}",
    )
    report.claim(
        "1.7.x5",
        min(rescaled["ridge, penalty 1000"], rescaled["10 nearest neighbours"]),
        high=1e-6,
        detail="the same for ridge and nearest neighbours, the lesser of the two",
    )
