"""Diagnostics against SciPy, scikit-learn, and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import model_selection
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from vivace.base.errors import InputError
from vivace.learning.diagnostics import calibration_line, learning_curve, normal_qq, residuals, selection

X, Y = load_diabetes(return_X_y=True)
QQ = Callable[[np.ndarray], Any]


def with_plain_ranks(values: np.ndarray) -> Any:
    """Quantiles at i/(n + 1)."""
    x, y = stats.norm.ppf(np.arange(1, len(values) + 1) / (len(values) + 1)), np.sort(values)
    slope, intercept, r = stats.linregress(x, y)[:3]
    return x, y, slope, intercept, r


def unsorted(values: np.ndarray) -> Any:
    x = normal_qq(values).theoretical
    slope, intercept, r = stats.linregress(x, values)[:3]
    return x, values, slope, intercept, r


def agrees_with_probplot(qq: QQ) -> bool:
    for values in (Y, np.random.default_rng(0).standard_t(3, 500), np.array([3.0, 1.0, 2.0])):
        (x, y), (slope, intercept, r) = stats.probplot(values)
        ours = qq(values)
        for mine, theirs in zip(ours, (x, y, slope, intercept, r), strict=True):
            if not np.allclose(mine, theirs, rtol=1e-10):
                return False
    return True


def test_qq_agrees_with_scipy() -> None:
    assert agrees_with_probplot(normal_qq)


@pytest.mark.parametrize("mutant", [with_plain_ranks, unsorted])
def test_rejects_qq(mutant: QQ) -> None:
    assert not agrees_with_probplot(mutant)


def test_qq_distance_from_the_line() -> None:
    exact = normal_qq(np.arange(9.0)).theoretical * 3 + 7
    straight = normal_qq(exact)
    assert straight.slope == pytest.approx(3) and straight.intercept == pytest.approx(7)
    assert straight.correlation == pytest.approx(1) and np.abs(straight.from_line).max() < 1e-12


def test_residuals_and_calibration_by_hand() -> None:
    y, p = np.array([1, 2, 6]), np.array([2.0, 2.0, 5.0])
    assert residuals(y, p).tolist() == [-1, 0, 1]
    assert calibration_line(y, p) == pytest.approx((1.5, -1.5))  # line through (2, 1.5) and (5, 6)
    model = LinearRegression().fit(X, Y)
    assert calibration_line(Y, model.predict(X)) == pytest.approx((1, 0), abs=1e-8)  # true of any least squares
    slope, _ = calibration_line(Y, 2 * model.predict(X))
    assert slope == pytest.approx(0.5)


def test_learning_curve_agrees_with_scikit_learn_at_full_size() -> None:
    folds = list(model_selection.KFold(4).split(X))
    mse = lambda y, p: float(np.mean((y - p) ** 2))  # noqa: E731
    ours = learning_curve(LinearRegression(), X, Y, sizes=[40, 331], error=mse, folds=folds)
    _, train, test = model_selection.learning_curve(
        LinearRegression(), X, Y, train_sizes=[331], cv=folds[2:], scoring="neg_mean_squared_error"
    )
    whole = learning_curve(LinearRegression(), X, Y, sizes=[331], error=mse, folds=folds[2:])
    assert -train.mean() == pytest.approx(whole.train[0], rel=0.02) and -test.mean() == pytest.approx(
        whole.test[0], rel=0.02
    )
    assert ours.train[0] < ours.train[1] < ours.test[1] < ours.test[0]


class Recorder(LinearRegression):
    """Remembers what it was fitted to."""

    seen: list[Any] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any) -> Any:
        Recorder.seen.append(X[:, 0].tolist())
        return super().fit(X, y)


def test_learning_curve_trains_on_nested_rows_of_the_training_part_only() -> None:
    A = np.arange(40.0)[:, None]
    folds = [(np.arange(30), np.arange(30, 40))]
    Recorder.seen.clear()
    rng = np.random.default_rng(0)
    learning_curve(Recorder(), A, A[:, 0], sizes=[5, 20, 30], error=lambda y, p: 0.0, folds=folds, generator=rng)
    small, middle, large = map(set, Recorder.seen)
    assert small < middle < large == set(range(30))


def test_selection_by_hand() -> None:
    seen, untouched = np.array([[0.5, 0.9, 0.7], [0.8, 0.2, 0.1]]), np.array([[0.6, 0.5, 0.9], [0.6, 0.9, 0.0]])
    found = selection(seen, untouched)
    assert found.chosen.tolist() == [1, 0] and found.untouched.tolist() == [0.5, 0.6]
    assert found.optimism == pytest.approx((0.4 + 0.2) / 2)
    mutant = float(np.mean(seen.max(-1) - untouched.max(-1)))  # each set chooses for itself
    assert mutant != pytest.approx(found.optimism)


def test_selection_optimism_is_the_expected_maximum_of_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 20_000, 10))
    assert selection(*noise).optimism == pytest.approx(1.5388, abs=0.03)  # E[max of 10 normal numbers]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: residuals(Y, Y[:-1]), "442 true values, but 441"),
        (lambda: normal_qq(np.ones(9)), "not all alike"),
        (lambda: normal_qq(np.array([1.0, 2.0])), "three or more"),
        (lambda: calibration_line(Y, np.ones(len(Y))), "all predictions are alike"),
        (lambda: learning_curve(LinearRegression(), X, Y, sizes=[400], error=lambda y, p: 0.0,
                                folds=[(np.arange(300), np.arange(300, 442))]), "from 1 to 300"),
    ],
)  # fmt: skip
def test_bad_input_is_named(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
