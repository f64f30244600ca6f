"""Experiment: the normal equation against gradient descent: what each costs, and where each fails."""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from scipy import linalg

from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.base.tables import diabetes
from vivace.experiments.least_squares import apart, compared_rows, settled, standard, stations, with_twin
from vivace.experiments.operations import operations
from vivace.experiments.parts import in_turn
from vivace.experiments.timing import exponent_of, quickest
from vivace.learning import LinearRegression, Ridge, gradient_descent, mse, mse_gradient

QUICK = {"samples": 100_000, "steps": 10_000}


@checked
def run(*, data: FilePath = None, target: str | None = None,
        samples: Annotated[int, Ge(10_000), Le(10_000_000)] = 1_000_000,
        features: Annotated[int, Ge(2048), Le(8192)] = 2048, steps: Annotated[int, Ge(100), Le(1_000_000)] = 100_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The normal equation or gradient descent: what each costs, and where each fails.

    vivace run normal_equation        25 s on two cores; a million rows of ten features take 0.03 s, and descent 190
    times as long

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last); every other column of numbers is a feature
    samples: the most rows that the closed form and gradient descent race over, with 10 features
    features: the most features of which the normal equation is solved and timed
    steps: how many steps gradient descent may take where its end is compared with the closed form
    seed: for the order of rows
    """
    table, _, A, b, generator = compared_rows(data, target, seed)
    report = Report(
        f"The normal equation against gradient descent: {table.target} from {len(table.names)} features",
        f"$(X^\\top X)\\,w = X^\\top y$ on {table.name}, standardised, against $w \\leftarrow w - \\eta \\nabla L$: do "
        "both reach the minimum, also where $X^\\top X$ is singular or ill-conditioned, or the rows come in a stream? "
        "And what do they cost?" + table.remark,
    )
    parts: list[tuple[str, Callable[[], None]]] = [
        ("one step or many", lambda: _two_ways(report, A, b, steps)),
        ("a singular design", lambda: _singular(report, A, b, steps)),
        ("an ill-conditioned design", lambda: _exactness(report)),
        ("rows in a stream", lambda: _stream(report, A, b)),
        ("what it costs in rows", lambda: _rows(report, samples, generator)),
        ("what it costs in features", lambda: _features(report, features, generator)),
    ]
    in_turn(parts, tell)
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _two_ways(report: Report, A: np.ndarray, b: np.ndarray, steps: int) -> None:
    """The closed form against descent with three step sizes, to the same weights."""
    model = LinearRegression().fit(A, b + 1)  # a target with a mean, so that the intercept has something to do
    ones = np.column_stack([A, np.ones(len(A))])
    closed = np.append(model.coef_, model.intercept_)
    L = 2 / len(A) * float(np.linalg.norm(ones, 2)) ** 2
    at = np.unique(np.geomspace(1, steps, 100).astype(int)).tolist()
    paths = {f"step size {factor:g}/L": stations(ones, b + 1, at, step_size=factor / L) for factor in (0.1, 1, 1.9)}
    lstsq = np.linalg.lstsq(ones, b + 1)[0]
    best = min(mse(ones, b + 1, w) for w in (lstsq, *(path[-1] for path in paths.values())))
    report.claim("1.4.c1", mse(ones, b + 1, closed) - best, high=1e-9,
                 detail=f"MSE of the closed form, less the smallest that lstsq and {steps:,} steps of descent "
                 "reach")  # fmt: skip
    lines = {name: (at, [max(mse(ones, b + 1, w) - best, 1e-16) for w in path]) for name, path in paths.items()}
    report.curve(
        "descent",
        lines,
        x="step",
        y="MSE above the minimum",
        log_x=True,
        log_y=True,
        caption="The normal equation is at the floor after its one step and has no step size to choose.",
    )


def _singular(report: Report, A: np.ndarray, b: np.ndarray, steps: int) -> None:
    """The first feature twice: who still finds the minimum?"""
    twin = with_twin(A)
    G, Xty = twin.T @ twin, twin.T @ b
    model = LinearRegression(fit_intercept=False).fit(twin, b)
    solvers: dict[str, Callable[[], np.ndarray]] = {
        "inverse of X^T X": lambda: np.linalg.inv(G) @ Xty,
        "pseudo-inverse": lambda: np.linalg.pinv(twin) @ b,
        "lstsq": lambda: np.linalg.lstsq(twin, b)[0],
        "ridge, penalty 0.001": lambda: Ridge(alpha=1e-3, fit_intercept=False).fit(twin, b).coef_,
        f"LinearRegression ({model.solver_})": lambda: model.coef_,
        "gradient descent from zero": lambda: stations(twin, b, [steps])[-1],
    }
    found = {}
    rows: list[list[object]] = []
    least = mse(twin, b, solvers["lstsq"]())
    for name, solve in solvers.items():
        try:
            w = found[name] = solve()
            rows.append([name, mse(twin, b, w) - least, float(np.linalg.norm(w))])
        except np.linalg.LinAlgError:
            rows.append([name, "refuses: singular", ""])
    report.table(
        "singular",
        ["solver", "MSE above the minimum", "length of w"],
        rows,
        "The first feature twice, the second time in another unit: $X^\\top X$ has no inverse. What the formula with "
        "the inverse answers is an accident of rounding, and it gives no warning; the others find a minimum.",
    )
    report.claim(
        "1.4.c5",
        mse(twin, b, model.coef_) - least,
        low=1e-3,
        detail="a feature twice: how far above the minimum (variance 1) the direct solution by singular values stays",
    )
    end = found["gradient descent from zero"]
    report.claim(
        "1.4.x2",
        apart(end, found["pseudo-inverse"]),
        high=1e-6,
        spread=0.0 if settled(twin, b, end) else math.inf,
        detail="relative distance of descent's end from the pseudo-inverse's solution",
    )


def _exactness(report: Report) -> None:
    """Polynomials on [0, 1]: the condition number grows with the degree, and its square counts in X^T X."""
    degrees = range(1, 13)
    errors: dict[str, list[float]] = {"inverse of X^T X": [], "Cholesky of X^T X": [], "LinearRegression": []}
    solvers = []
    for degree in degrees:
        V = np.vander(np.linspace(0, 1, 50), degree + 1, increasing=True)
        y, G = V.sum(1), V.T @ V
        model = LinearRegression(fit_intercept=False).fit(V, y)
        solvers.append(model.solver_)
        try:
            cholesky = linalg.cho_solve(linalg.cho_factor(G), V.T @ y)
        except linalg.LinAlgError:
            cholesky = np.full(degree + 1, np.nan)
        for name, w in zip(errors, (np.linalg.inv(G) @ (V.T @ y), cholesky, model.coef_), strict=True):
            errors[name].append(float(np.abs(w - 1).max()))
    switch = degrees[solvers.index("lstsq")]
    report.claim("1.4.c6", errors["inverse of X^T X"][-1], high=1e-6,
                 detail="degree 12 on 50 points of [0, 1], all coefficients 1: largest error of the textbook "
                 "formula")  # fmt: skip
    report.claim("1.4.x3", errors["LinearRegression"][-1], high=1e-6,
                 detail="the same, by singular values of X, which LinearRegression turns to by itself")  # fmt: skip
    lines = {name: (degrees, np.maximum(values, 1e-16)) for name, values in errors.items()}
    report.curve(
        "exactness",
        lines,
        x="degree of the polynomial",
        y="largest error of a coefficient",
        log_y=True,
        caption=f"All true coefficients are 1. From degree {switch} on, `LinearRegression` leaves the normal equation.",
    )


def _stream(report: Report, A: np.ndarray, b: np.ndarray) -> None:
    """Batches that are seen once: accumulated products against stochastic gradient descent."""
    model, w = LinearRegression(), np.zeros(A.shape[1])
    step = len(A) / (2 * np.linalg.norm(A, 2) ** 2)  # 1/L
    ends = np.unique(np.linspace(0, len(A), 41).astype(int)).tolist()
    seen, ours, sgd = [], [], []
    for start, end in pairwise(ends):
        X, y = A[start:end], b[start:end]
        model.partial_fit(X, y)
        w -= step * mse_gradient(X, y, w)
        if end > 2 * A.shape[1] or end == len(A):  # before that, least squares has many answers
            whole = LinearRegression().fit(A[:end], b[:end]).predict(A)
            seen.append(end)
            ours.append(max(apart(model.predict(A), whole), 1e-16))
            sgd.append(apart(A @ w, whole))
    report.claim("1.4.c7", ours[-1], low=1e-3,
                 detail=f"in {len(ends) - 1} batches: relative distance of predictions from a fit to all rows at "
                 "once")  # fmt: skip
    report.curve(
        "stream",
        {"accumulated products (partial_fit)": (seen, ours), "one gradient step a batch": (seen, sgd)},
        x="rows seen",
        y="distance from a fit to all rows so far",
        log_y=True,
        caption="Neither keeps a row; the sums $X^\\top X$ and $X^\\top y$ lose nothing by it.",
    )


def _rows(report: Report, samples: int, generator: np.random.Generator) -> None:
    """Ten features, many rows: the closed form's exponent in the rows, a step's operations, and the race."""
    patients = diabetes()
    S, t = standard(patients.X), standard(patients.y)
    drawn = generator.integers(0, len(t), samples)
    X = S[drawn] + generator.normal(scale=0.05, size=(samples, S.shape[1]))
    y = t[drawn]
    counts = [samples // 4, samples // 2, samples]
    times = quickest([partial(LinearRegression().fit, X[:n], y[:n]) for n in counts])
    report.claim("1.4.x1", exponent_of(counts, times), low=2.5, high=3.5,
                 detail=f"exponent of the processor time to fit {counts[0]:,} to {samples:,} rows of 10 "
                 "features")  # fmt: skip

    ns = [1000, 2000, 4000, 8000]
    flops = [operations(_step, X[:n], y[:n]) for n in ns]
    report.claim("1.4.c3", exponent_of(ns, flops), low=1.5, high=2.5,
                 detail="exponent in n of the counted operations of one step, 10 features")  # fmt: skip

    rows: list[list[object]] = []
    free = generator.normal(size=X.shape)
    for name, design, targets in (
        ("correlated, like the patients'", X, y),
        ("independent", free, free.sum(1) + generator.normal(scale=3, size=samples)),
    ):
        fit = LinearRegression(fit_intercept=False)
        direct = quickest([partial(fit.fit, design, targets)])[0]
        least = mse(design, targets, fit.coef_)
        walked, descent = _walk(design, targets, goal=1.001 * least)
        rows.append([f"{name} features", direct, descent, walked])
        if design is X:
            report.claim("1.4.c4", direct / descent, low=1,
                         detail=f"{samples:,} rows, 10 features: time of the closed form over descent's to 0.1 % above "
                         f"the least MSE ({walked} steps)")  # fmt: skip
    report.table(
        "race",
        ["design", "closed form, s", "descent to within 0.1 %, s", "steps"],
        rows,
        f"{samples:,} rows of 10 features on one core. One step counts {flops[0] / (ns[0] * X.shape[1]):.3g} "
        "operations for each row and feature.",
    )


def _features(report: Report, features: int, generator: np.random.Generator) -> None:
    """The d x d solve for many d, and both ways on n = 4 d rows."""
    sizes = [round(features * ratio) for ratio in (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)]
    grams = [linalg.toeplitz(0.9 ** np.arange(d)) for d in sizes]
    solves = quickest([partial(_solve, G) for G in grams])
    exponent = exponent_of(sizes[-4:], solves[-4:])
    report.claim(
        "1.4.c2",
        exponent,
        low=2.5,
        high=3.5,
        detail=f"exponent of the processor time to solve d equations by Cholesky, d = {sizes[-4]} to {features}",
    )
    ds, closed, descent = [], [], []
    for d in (size for size in sizes if size <= features // 2):
        X = generator.normal(size=(4 * d, d))
        y = X @ generator.normal(size=d) + generator.normal(size=4 * d)
        fit = LinearRegression(fit_intercept=False)
        ds.append(d)
        closed.append(quickest([partial(fit.fit, X, y)])[0])
        descent.append(_walk(X, y, goal=1.001 * mse(X, y, fit.coef_))[1])
    report.curve(
        "features",
        {
            "d x d solve alone": (sizes, solves),
            "closed form, 4 d rows": (ds, closed),
            "gradient descent to within 0.1 %, 4 d rows": (ds, descent),
        },
        x="features d",
        y="processor seconds",
        log_x=True,
        log_y=True,
        caption=f"The solve grows as $d^{{{exponent:.2f}}}$ at the right end, a step of descent as $d^2$. These "
        "features are independent, which is descent's best case.",
    )


def _solve(G: np.ndarray) -> None:
    linalg.cho_solve(linalg.cho_factor(G, lower=True, check_finite=False), G[0], check_finite=False)


def _step(X: np.ndarray, y: np.ndarray) -> None:
    gradient_descent(X, y, steps=1, step_size=0.1)


def _walk(X: np.ndarray, y: np.ndarray, *, goal: float, most: int = 5000) -> tuple[int, float]:
    """Steps and processor seconds of descent from zero until the MSE is `goal`; its step size 1/L is a present."""
    step_size = len(X) / (2 * float(linalg.eigvalsh(X.T @ X)[-1]))
    w = np.zeros(X.shape[1])
    began = time.process_time()
    steps = 0
    while np.square(residual := X @ w - y).mean() > goal and steps < most:
        w -= step_size * (2 / len(y)) * (X.T @ residual)
        steps += 1
    return steps, time.process_time() - began
