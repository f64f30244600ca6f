"""Experiment: linear regression, by the normal equation and by gradient descent."""

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from matplotlib.figure import Figure
from scipy import linalg
from sklearn.base import clone
from sklearn.linear_model import HuberRegressor, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from threadpoolctl import threadpool_limits

from vivace.base.drawing import BLUE, ORANGE, bare
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.timing import exponent_of, quickest
from vivace.learning import LinearRegression, gradient_descent, mse, mse_gradient
from vivace.networks import MLP

QUICK = {"samples": 100_000, "steps": 10_000}

COMPARED = 5_000  # rows at most, drawn at random, where a fit is compared with thousands of steps of descent
SETTLED = 1e-9  # of the first gradient's length: descent has arrived


@checked
def run(*, data: FilePath = None, target: str | None = None,
        samples: Annotated[int, Ge(10_000), Le(10_000_000)] = 1_000_000,
        features: Annotated[int, Ge(2048), Le(8192)] = 2048, steps: Annotated[int, Ge(100), Le(1_000_000)] = 100_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Least squares in one step, and on foot.

    vivace run linear_regression        30 s on two cores; explains 49.8 % of the variance of patients it has not seen;
    a million rows of ten features take 0.03 s, and descent 190 times as long

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last); every other column of numbers is a feature
    samples: the most rows that the closed form and gradient descent race over, with 10 features
    features: the most features of which the normal equation is solved and timed
    steps: how many steps gradient descent may take where its end is compared with the closed form
    seed: for the order of rows, the starting points and the network's first weights
    """
    table = read_table(data, target) if data else diabetes()
    generator = np.random.default_rng(seed)
    few = generator.permutation(len(table.y))[:COMPARED]
    A, b = _standard(table.X[few]), _standard(table.y[few])
    report = Report(f"Linear regression: {table.target} from {len(table.names)} features of {len(table.y):,} rows")
    parts: list[tuple[str, Callable[[], None]]] = [
        ("fitting", lambda: _fit(report, table)),
        ("what coefficients mean", lambda: _coefficients(report, table, few, generator)),
        ("the loss and its shape", lambda: _loss(report, A, b, steps, generator)),
        ("vertical and perpendicular distances", lambda: _line(report, table, few)),
        ("one step or many", lambda: _two_ways(report, A, b, steps)),
        ("a singular design", lambda: _singular(report, A, b, steps)),
        ("an ill-conditioned design", lambda: _exactness(report)),
        ("rows in a stream", lambda: _stream(report, A, b)),
        ("what it costs in rows", lambda: _rows(report, samples, generator)),
        ("what it costs in features", lambda: _features(report, features, generator)),
        ("the same loop for a network", lambda: _network(report, A, b, seed)),
    ]
    with threadpool_limits(1):
        for i, (what, part) in enumerate(parts):
            tell(Step(i, len(parts), what))
            part()
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _fit(report: Report, table: Table) -> None:
    """Held-out predictions, their residuals, and the intercept as a column of ones."""
    X, y = table.X, table.y
    model = LinearRegression().fit(X, y)
    held_out = cross_val_predict(clone(model), X, y, cv=KFold(5, shuffle=True, random_state=0))
    r2 = 1 - np.mean((y - held_out) ** 2) / y.var()
    report.summary = (
        f"Ordinary least squares on {table.name}: $\\hat y = w^\\top x + b$ with $w, b$ from the normal equation "
        f"$(X^\\top X)\\,w = X^\\top y$ of centred rows, solved by `{model.solver_}` (condition number of $X^\\top X$: "
        f"{model.condition_:.3g}). The model explains {model.score(X, y):.1%} of the target's variance over the rows "
        f"it was fitted to and **{r2:.1%} over rows it has not seen** (five folds)." + table.remark
    )
    report.figure("fit", _drawn_fit(y, held_out, table.target), "Each row predicted by a model fitted without it.")

    ones = np.column_stack([X, np.ones(len(X))])
    absorbed = LinearRegression(fit_intercept=False).fit(ones, y).coef_
    report.claim(
        "1.5.c2",
        _apart(ones @ absorbed - y.mean(), model.predict(X) - y.mean()),
        high=1e-6,
        detail="fit of the rows [x, 1] without intercept: relative distance of its predictions from the usual fit's",
    )


def _coefficients(report: Report, table: Table, few: np.ndarray, generator: np.random.Generator) -> None:
    """What a coefficient says of a feature: alone, together with the others, in other samples."""
    S, t = _standard(table.X[few]), _standard(table.y[few])
    joint = LinearRegression().fit(S, t)
    alone = S.T @ t / len(t)
    unit = LinearRegression().fit(table.X, table.y).coef_
    again = [clone(joint).fit(S[rows], t[rows]).coef_ for rows in generator.integers(0, len(t), (200, len(t)))]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    turned = int((joint.coef_ * alone < 0).sum())
    report.claim(
        "1.5.c3",
        turned,
        high=0,
        unit=f"of {len(alone)} features",
        detail="coefficients whose sign in the joint fit is not the sign that the feature has alone",
    )
    rows = [
        [name, float(w), float(a), float(j), f"{lo:+.2f} to {hi:+.2f}"]
        for name, w, a, j, lo, hi in zip(table.names, unit, alone, joint.coef_, low, high, strict=True)
    ]
    shown = sorted(rows, key=lambda row: -abs(row[3]))[:20]
    columns = ["feature", "per unit", "standardised, alone", "standardised, together", "95 % of 200 resamples"]
    report.table(
        "coefficients",
        columns,
        shown,
        f"One feature, three numbers. Together with the others, {turned} of {len(alone)} change their sign.",
    )


def _loss(report: Report, A: np.ndarray, b: np.ndarray, steps: int, generator: np.random.Generator) -> None:
    """The squared error: its growth, gradient, convexity, minimisers, and its weakness."""
    d = A.shape[1]
    w = LinearRegression(fit_intercept=False).fit(A, b).coef_
    report.claim(
        "1.3.c1",
        round(mse(A, 10 * b, 0 * w) / mse(A, b, 0 * w), 9),
        low=100,
        high=100,
        detail="MSE of predicting the mean where every error is ten times as large, over the MSE as it is",
    )
    report.claim("1.3.x2", mse(A, A @ w, w), low=1e-15, detail="MSE where every prediction is its target")

    off = []
    for at in (np.zeros(d), *generator.normal(size=(20, d))):
        residual = A @ at - b
        once, twice = (_autograd(A, A @ at - times * residual, at) for times in (1, 2))
        off += [_apart(once, mse_gradient(A, b, at)), _apart(twice, 2 * once)]
    kink = np.abs(_autograd(A, A @ w, w)).max()
    report.claim(
        "1.3.c2",
        max(*off, kink),
        high=1e-6,
        detail="autograd against (2/n) X^T(Xw - y) at 21 points; doubled with the residual; zero without residual",
    )

    starts = generator.normal(size=(d, 20))
    targets = np.repeat(b[:, None], 20, axis=1)
    twin = _with_twin(A)
    for design, unique in ((A, "1.3.x1"), (twin, "1.3.c4")):
        begin = np.concatenate([starts, generator.normal(size=(design.shape[1] - d, 20))])
        ends = _stations(design, targets, range(100, steps + 1, 100), start=begin)[-1]
        spread = 0.0 if _settled(design, targets, ends) else math.inf
        losses = np.mean((design @ ends - targets) ** 2, axis=0)
        if design is twin:
            report.claim(
                "1.3.c3",
                np.ptp(losses),
                high=1e-6,
                spread=spread,
                detail="20 random starts, first feature twice: largest less smallest final MSE (variance 1)",
            )
        which = "with the first feature twice" if design is twin else "on the data as it is"
        report.claim(
            unique,
            _apart(ends[:, 1], ends[:, 0]),
            high=1e-6,
            spread=spread,
            detail=f"relative distance between the ends of two descents {which}",
        )

    x = A[:, 0]
    corner, middle = (float(np.mean((a * a * x - x) ** 2)) for a in (1.0, 0.0))  # a = b = 1 or -1, and half-way
    report.claim(
        "1.3.c5",
        middle - corner,
        high=1e-9,
        detail="f(x) = a b x fitted to y = x: MSE half-way between (1, 1) and (-1, -1), less the mean of the ends",
    )
    _outlier(report, A, b)


def _outlier(report: Report, A: np.ndarray, b: np.ndarray) -> None:
    """One target misread by a factor of ten deviations: what each loss makes of it."""
    wrong = b.copy()
    worst = int(np.argmax(np.linalg.norm(A, axis=1)))  # far out, as typing errors are: it has leverage
    wrong[worst] += 10 * np.sign(A[worst] @ (A.T @ b))
    square, huber = LinearRegression().fit(A, b), HuberRegressor(alpha=0, max_iter=10_000).fit(A, b)
    error = np.abs(square.predict(A) - wrong)
    shares = {"squared": error**2 / np.sum(error**2), "absolute": error / np.sum(error)}
    moved = {
        "squared": clone(square).fit(A, wrong).predict(A) - square.predict(A),
        "Huber": clone(huber).fit(A, wrong).predict(A) - huber.predict(A),
    }
    rms = {name: float(np.sqrt(np.mean(change**2))) for name, change in moved.items()}
    report.claim(
        "1.3.x3",
        rms["squared"] / max(rms["Huber"], 1e-16),
        low=2,
        detail="one target off by 10 deviations: RMS change of predictions, least squares over Huber",
    )
    rows: list[list[object]] = [
        ["squared", f"{shares['squared'][worst]:.0%}", rms["squared"]],
        ["absolute", f"{shares['absolute'][worst]:.0%}", "not fitted"],
        ["Huber", "capped", rms["Huber"]],
    ]
    report.table(
        "outlier",
        ["loss", "that row's share of the loss", "the predictions' RMS change"],
        rows,
        f"One wrong target among {len(b):,}: off by ten standard deviations.",
    )


def _line(report: Report, table: Table, few: np.ndarray) -> None:
    """Least squares against total least squares, on the feature that says most."""
    S, y = _standard(table.X[few]), _standard(table.y[few])
    best = int(np.argmax(np.abs(S.T @ y)))
    x = S[:, best]
    vertical = float(LinearRegression().fit(x[:, None], y).coef_[0])
    along = np.linalg.svd(np.column_stack([x, y]), full_matrices=False)[2][0]
    perpendicular = float(along[1] / along[0])

    def sse(slope: float) -> float:
        return float(np.sum((y - slope * x) ** 2))

    def distances(slope: float) -> float:
        return sse(slope) / (1 + slope**2)

    gains = sse(perpendicular) - sse(vertical), distances(vertical) - distances(perpendicular)
    report.claim(
        "1.3.c6",
        min(gains) / len(y),
        low=1e-3,
        detail="how much smaller, a row, each line's own squared distances are than the other line's: the lesser gain",
    )
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    shown = slice(0, 600)
    axes.plot(x[shown], y[shown], "o", color="#888888", markersize=2.5, alpha=0.6)
    ends = np.array([x.min(), x.max()])
    for slope, color, label in (
        (vertical, BLUE, "least squares: vertical distances"),
        (perpendicular, ORANGE, "total least squares: perpendicular distances"),
    ):
        axes.plot(ends, slope * ends, color=color, linewidth=2, label=label)
    axes.set(xlabel=f"{table.names[best]} (standardised)", ylabel=f"{table.target} (standardised)")
    axes.set_ylim(y.min() - 0.2, y.max() + 0.8)  # room for the legend
    bare(axes)
    axes.legend(frameon=False, loc="upper left")
    report.figure(
        "lines",
        figure,
        f"Sum of squared vertical distances: {sse(vertical):.1f} (blue) against {sse(perpendicular):.1f}; "
        f"of perpendicular ones: {distances(vertical):.1f} against {distances(perpendicular):.1f} (orange).",
    )


def _two_ways(report: Report, A: np.ndarray, b: np.ndarray, steps: int) -> None:
    """The closed form against descent with three step sizes, to the same weights."""
    model = LinearRegression().fit(A, b + 1)  # a target with a mean, so that the intercept has something to do
    ones = np.column_stack([A, np.ones(len(A))])
    closed = np.append(model.coef_, model.intercept_)
    L = 2 / len(A) * float(np.linalg.norm(ones, 2)) ** 2
    at = np.unique(np.geomspace(1, steps, 100).astype(int)).tolist()
    paths = {f"step size {factor:g}/L": _stations(ones, b + 1, at, step_size=factor / L) for factor in (0.1, 1, 1.9)}
    lstsq = np.linalg.lstsq(ones, b + 1)[0]
    best = min(mse(ones, b + 1, w) for w in (lstsq, *(path[-1] for path in paths.values())))
    report.claim(
        "1.4.c1",
        mse(ones, b + 1, closed) - best,
        high=1e-9,
        detail=f"MSE of the closed form, less the smallest that lstsq and {steps:,} steps of descent reach",
    )
    end = paths["step size 1/L"][-1]
    spread = 0.0 if _settled(ones, b + 1, end) else math.inf
    report.claim(
        "1.5.c1",
        _apart(end, closed),
        high=1e-6,
        spread=spread,
        detail=f"relative distance of (w, b) after {steps:,} steps of size 1/L from the closed form",
    )
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
    twin = _with_twin(A)
    G, Xty = twin.T @ twin, twin.T @ b
    model = LinearRegression(fit_intercept=False).fit(twin, b)
    solvers: dict[str, Callable[[], np.ndarray]] = {
        "inverse of X^T X": lambda: np.linalg.inv(G) @ Xty,
        "pseudo-inverse": lambda: np.linalg.pinv(twin) @ b,
        "lstsq": lambda: np.linalg.lstsq(twin, b)[0],
        "ridge, penalty 0.001": lambda: Ridge(1e-3, fit_intercept=False).fit(twin, b).coef_,
        f"LinearRegression ({model.solver_})": lambda: model.coef_,
        "gradient descent from zero": lambda: _stations(twin, b, [steps])[-1],
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
        _apart(end, found["pseudo-inverse"]),
        high=1e-6,
        spread=0.0 if _settled(twin, b, end) else math.inf,
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
    report.claim(
        "1.4.c6",
        errors["inverse of X^T X"][-1],
        high=1e-6,
        detail="degree 12 on 50 points of [0, 1], all coefficients 1: largest error of the textbook formula",
    )
    report.claim(
        "1.4.x3",
        errors["LinearRegression"][-1],
        high=1e-6,
        detail="the same, by singular values of X, which LinearRegression turns to by itself",
    )
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
            ours.append(max(_apart(model.predict(A), whole), 1e-16))
            sgd.append(_apart(A @ w, whole))
    report.claim(
        "1.4.c7",
        ours[-1],
        low=1e-3,
        detail=f"in {len(ends) - 1} batches: relative distance of predictions from a fit to all rows at once",
    )
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
    S, t = _standard(patients.X), _standard(patients.y)
    drawn = generator.integers(0, len(t), samples)
    X = S[drawn] + generator.normal(scale=0.05, size=(samples, S.shape[1]))
    y = t[drawn]
    counts = [samples // 4, samples // 2, samples]
    times = quickest([partial(LinearRegression().fit, X[:n], y[:n]) for n in counts])
    report.claim(
        "1.4.x1",
        exponent_of(counts, times),
        low=2.5,
        high=3.5,
        detail=f"exponent of the processor time to fit {counts[0]:,} to {samples:,} rows of 10 features",
    )

    ns = [1000, 2000, 4000, 8000]
    flops = [_operations(X[:n], y[:n]) for n in ns]
    report.claim(
        "1.4.c3",
        exponent_of(ns, flops),
        low=1.5,
        high=2.5,
        detail="exponent in n of the counted operations of one step, 10 features",
    )

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
            report.claim(
                "1.4.c4",
                direct / descent,
                low=1,
                detail=f"{samples:,} rows, 10 features: time of the closed form over descent's to 0.1 % above "
                f"the least MSE ({walked} steps)",
            )
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


def _network(report: Report, A: np.ndarray, b: np.ndarray, seed: int) -> None:
    """One loop, two forward functions."""
    X, y = torch.from_numpy(A).float(), torch.from_numpy(b).float()[:, None]
    losses = {}
    for name, sizes in (("linear map", [X.shape[1], 1]), ("network with 32 hidden units", [X.shape[1], 32, 1])):
        model = MLP(sizes, generator=torch.Generator().manual_seed(seed))
        losses[name] = _trained(model, X, y, steps=2000, step_size=0.03)
    least = mse(A, b, LinearRegression(fit_intercept=False).fit(A, b).coef_)
    linear, network = losses.values()
    report.claim(
        "1.5.c4",
        network[-1] - least,
        high=-0.01,
        detail="another forward function, the same 2,000 steps: final MSE less the least of any linear map (of 1)",
    )
    at = np.unique(np.geomspace(1, len(linear), 150).astype(int)) - 1
    report.curve(
        "network",
        {name: (at + 1, np.array(loss)[at]) for name, loss in losses.items()},
        log_x=True,
        x="step",
        y="MSE on the rows it is fitted to",
        caption="Loss, gradient and step are the same code; only the forward function differs.",
    )


def _solve(G: np.ndarray) -> None:
    linalg.cho_solve(linalg.cho_factor(G, lower=True, check_finite=False), G[0], check_finite=False)


def _trained(model: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, *, steps: int, step_size: float) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(model(X), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(step_size * gradient)
        losses.append(float(loss.detach()))
    return losses


def _autograd(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    weights = torch.tensor(w, requires_grad=True)
    torch.nn.functional.mse_loss(torch.from_numpy(A) @ weights, torch.from_numpy(y)).backward()
    assert weights.grad is not None
    return weights.grad.numpy()


def _with_twin(A: np.ndarray) -> np.ndarray:
    """The first feature once more, in another unit: what feet are to yards."""
    return np.column_stack([A, A[:, 0] / 3])


def _stations(A: np.ndarray, y: np.ndarray, at: Iterable[int], *, step_size: float | None = None,
              start: np.ndarray | None = None) -> list[np.ndarray]:  # fmt: skip
    """Where descent is after these numbers of steps; the way between them is forgotten."""
    found, done = [], 0
    for steps in at:
        start = gradient_descent(A, y, steps=steps - done, step_size=step_size, start=start)[-1]
        found.append(start)
        done = steps
    return found


def _settled(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> bool:
    """Whether descent has arrived; where it hasn't, a comparison of its end says nothing."""
    return bool(np.linalg.norm(mse_gradient(A, y, w)) < SETTLED * np.linalg.norm(mse_gradient(A, y, 0 * w)))


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


class _Counted(np.ndarray):
    """An array that counts the operations it takes part in."""

    count = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, _Counted) else value for value in inputs]
        result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        terms = 2 * np.shape(plain[0])[-1] if ufunc is np.matmul else 1
        _Counted.count += terms * result.size
        return result.view(_Counted)


def _operations(X: np.ndarray, y: np.ndarray) -> int:
    """Additions and multiplications of one step of `gradient_descent`."""
    _Counted.count = 0
    gradient_descent(X.view(_Counted), y, steps=1, step_size=0.1)
    return _Counted.count


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Relative distance."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1 in each column; a constant column becomes zero."""
    centred = values - values.mean(0)
    return centred / np.where(values.std(0) > 0, values.std(0), 1)


def _drawn_fit(y: np.ndarray, predicted: np.ndarray, target: str) -> Figure:
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = slice(0, 2000)
    ends = [min(y.min(), predicted.min()), max(y.max(), predicted.max())]
    left.plot(ends, ends, color=ORANGE, linewidth=1.5)
    left.plot(predicted[shown], y[shown], "o", color=BLUE, markersize=3, alpha=0.6)
    left.set(xlabel=f"predicted {target}", ylabel=f"actual {target}")
    right.axhline(0, color=ORANGE, linewidth=1.5)
    right.plot(predicted[shown], (y - predicted)[shown], "o", color=BLUE, markersize=3, alpha=0.6)
    right.set(xlabel=f"predicted {target}", ylabel="residual (actual - predicted)")
    for axes in (left, right):
        bare(axes)
    return figure
