"""Diagnostics: what the errors of a model look like, where a single number hides it.

Filliben, "The probability plot correlation coefficient test for normality" (1975), eq. 4 to 6. Cortes et al., "Learning
curves: asymptotic values and rate of convergence" (1993). Cawley, Talbot, "On over-fitting in model selection" (2010).
In: truth and predictions (n,), or an estimator with rows X (n, d). Out: numbers to plot, and what they sum up to.
Departs from the paper: nowhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from scipy import special
from sklearn.base import clone

from vivace.base.errors import InputError


def residuals(y: Real[np.ndarray, " n"], predicted: Real[np.ndarray, " _"]) -> Float[np.ndarray, " n"]:
    """Truth less prediction: positive where the model said too little."""
    if len(y) != len(predicted):
        raise InputError(f"{len(y)} true values, but {len(predicted)} predictions")
    return np.subtract(y, predicted, dtype=float)


class NormalQQ(NamedTuple):
    """Points of a normal quantile-quantile plot, their least-squares line, and their correlation (1: normal)."""

    theoretical: Float[np.ndarray, " n"]
    ordered: Float[np.ndarray, " n"]
    slope: float
    intercept: float
    correlation: float

    @property
    def from_line(self) -> Float[np.ndarray, " n"]:
        """How far each point is from the line, in units of the slope (about a standard deviation)."""
        return (self.ordered - self.intercept) / self.slope - self.theoretical


def normal_qq(values: Real[np.ndarray, " n"]) -> NormalQQ:
    """The sorted values over the medians that order statistics of n normal numbers have."""
    n = len(values)
    if n < 3 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise InputError("a Q-Q plot needs three or more finite numbers that are not all alike")
    probability = (np.arange(1, n + 1) - 0.3175) / (n + 0.365)
    probability[-1] = 0.5 ** (1 / n)
    probability[0] = 1 - probability[-1]
    x, y = special.ndtri(probability), np.sort(values).astype(float)
    off_x, off_y = x - x.mean(), y - y.mean()
    slope = float(off_x @ off_y / (off_x @ off_x))
    correlation = float(off_x @ off_y / np.sqrt((off_x @ off_x) * (off_y @ off_y)))
    return NormalQQ(x, y, slope, float(y.mean() - slope * x.mean()), correlation)


def calibration_line(y: Real[np.ndarray, " n"], predicted: Real[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and intercept of truth over prediction: 1 and 0 where predictions are right on average, wherever they lie.

    A slope below 1 says that the model overshoots: its high predictions are too high and its low ones too low.
    """
    off = predicted - np.mean(predicted)
    if not np.square(off).sum() > 0:
        raise InputError("all predictions are alike: there is no line through truth over prediction")
    slope = float(off @ y / (off @ off))
    return slope, float(np.mean(y) - slope * np.mean(predicted))


class LearningCurve(NamedTuple):
    """Errors over the number of training rows, each averaged over the folds."""

    sizes: Int[np.ndarray, " s"]
    train: Float[np.ndarray, " s"]
    test: Float[np.ndarray, " s"]


def learning_curve(estimator: Any, X: Float[np.ndarray, "n d"], y: Real[np.ndarray, " n"], *, sizes: Sequence[int],
                   error: Callable[[Any, Any], float], folds: Sequence[tuple[Any, Any]],
                   generator: np.random.Generator | None = None) -> LearningCurve:  # fmt: skip
    """Fit to more and more rows of each training part; the error on those rows, and on the part held out.

    The smaller sets lie inside the larger ones, so that steps along the curve are not those of chance.
    """
    generator = generator or np.random.default_rng()
    least = min(len(train) for train, _ in folds)
    if not sizes or min(sizes) < 1 or max(sizes) > least:
        raise InputError(f"sizes must be from 1 to {least}, the rows of the smallest training part; not {list(sizes)}")
    errors = np.zeros((2, len(folds), len(sizes)))
    for f, (train, test) in enumerate(folds):
        shuffled = generator.permutation(train)
        for s, size in enumerate(sizes):
            rows = shuffled[:size]
            model = clone(estimator).fit(X[rows], y[rows])
            errors[:, f, s] = error(y[rows], model.predict(X[rows])), error(y[test], model.predict(X[test]))
    return LearningCurve(np.array(sizes), *errors.mean(1))


class Selection(NamedTuple):
    """Of several candidates the one with the best score: its number, that score, and its score on untouched rows."""

    chosen: Int[np.ndarray, "*repeats"]
    seen: Float[np.ndarray, "*repeats"]
    untouched: Float[np.ndarray, "*repeats"]

    @property
    def optimism(self) -> float:
        """How much better the chosen one looks where it was chosen than it is, on average."""
        return float(np.mean(self.seen - self.untouched))


def selection(seen: Float[np.ndarray, "*repeats k"], untouched: Float[np.ndarray, "*repeats k"]) -> Selection:
    """Choose the best of k candidates (higher is better) by `seen` scores, and score it again on `untouched`."""
    chosen = seen.argmax(-1)
    take = chosen[..., None]
    return Selection(
        chosen, np.take_along_axis(seen, take, -1)[..., 0], np.take_along_axis(untouched, take, -1)[..., 0]
    )
