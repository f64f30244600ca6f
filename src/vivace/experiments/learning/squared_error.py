"""Experiment: the mean squared error, its shape and its weakness."""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from sklearn.base import clone
from sklearn.linear_model import HuberRegressor

from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.base.tables import Table
from vivace.experiments.least_squares import apart, compared_rows, settled, standard, stations, with_twin
from vivace.experiments.parts import in_turn
from vivace.learning import LinearRegression, mse, mse_gradient

QUICK = {"steps": 10_000}


@checked
def run(*, data: FilePath = None, target: str | None = None, steps: Annotated[int, Ge(100), Le(1_000_000)] = 100_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The mean squared error: a bowl for linear models, and easily pulled by one wrong target.

    vivace run squared_error        8 s on two cores; 20 random starts of descent end at one loss, to 1e-9

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last); every other column of numbers is a feature
    steps: how many steps gradient descent may take from each starting point
    seed: for the order of rows and the starting points
    """
    table, few, A, b, generator = compared_rows(data, target, seed)
    report = Report(
        f"The mean squared error of {table.target} from {len(table.names)} features",
        f"$L(w) = \\frac1n \\lVert Xw - y \\rVert^2$ on {table.name}, standardised: how it grows, its gradient "
        "$\\frac2n X^\\top (Xw - y)$, where it is convex, whether its minimum is one point, what one wrong target does."
        + table.remark,
    )
    parts: list[tuple[str, Callable[[], None]]] = [
        ("the loss and its shape", lambda: _loss(report, A, b, steps, generator)),
        ("vertical and perpendicular distances", lambda: _line(report, table, few)),
    ]
    in_turn(parts, tell)
    report.claims.sort(key=lambda claim: claim.id)
    return report


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
        off += [apart(once, mse_gradient(A, b, at)), apart(twice, 2 * once)]
    kink = np.abs(_autograd(A, A @ w, w)).max()
    report.claim(
        "1.3.c2",
        max(*off, kink),
        high=1e-6,
        detail="autograd against (2/n) X^T(Xw - y) at 21 points; doubled with the residual; zero without residual",
    )

    starts = generator.normal(size=(d, 20))
    targets = np.repeat(b[:, None], 20, axis=1)
    twin = with_twin(A)
    for design, unique in ((A, "1.3.x1"), (twin, "1.3.c4")):
        begin = np.concatenate([starts, generator.normal(size=(design.shape[1] - d, 20))])
        ends = stations(design, targets, range(100, steps + 1, 100), start=begin)[-1]
        spread = 0.0 if settled(design, targets, ends) else math.inf
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
            apart(ends[:, 1], ends[:, 0]),
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
    """One target misread by ten deviations: what each loss makes of it."""
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
    S, y = standard(table.X[few]), standard(table.y[few])
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
    figure, axes = drawing()
    shown = slice(0, 600)
    axes.plot(x[shown], y[shown], "o", color=GREY, markersize=2.5, alpha=0.6)
    ends = np.array([x.min(), x.max()])
    for slope, color, label in (
        (vertical, BLUE, "least squares: vertical distances"),
        (perpendicular, ORANGE, "total least squares: perpendicular distances"),
    ):
        axes.plot(ends, slope * ends, color=color, linewidth=2, label=label)
    axes.set(xlabel=f"{table.names[best]} (standardised)", ylabel=f"{table.target} (standardised)")
    axes.set_ylim(y.min() - 0.2, y.max() + 0.8)  # room for the legend
    axes.legend(frameon=False, loc="upper left")
    report.figure(
        "lines",
        figure,
        f"Sum of squared vertical distances: {sse(vertical):.1f} (blue) against {sse(perpendicular):.1f}; "
        f"of perpendicular ones: {distances(vertical):.1f} against {distances(perpendicular):.1f} (orange).",
    )


def _autograd(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    weights = torch.tensor(w, requires_grad=True)
    torch.nn.functional.mse_loss(torch.from_numpy(A) @ weights, torch.from_numpy(y)).backward()
    assert weights.grad is not None
    return weights.grad.numpy()
