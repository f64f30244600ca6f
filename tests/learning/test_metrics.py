"""Metrics against scikit-learn's, and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from vivace.base.errors import InputError
from vivace.learning import metrics

rng = np.random.default_rng(0)
Y, P = rng.normal(50, 10, (2, 200))
NAMES = (
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "r2_score",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("y", "predicted"), [(Y, P), (Y[:1], P[:1]), (Y, Y), (np.arange(1, 9), np.arange(8)[::-1])])
def test_agrees_with_scikit_learn(name: str, y: Any, predicted: Any) -> None:
    if len(y) == 1 and name == "r2_score":
        return  # scikit-learn warns and returns NaN
    assert getattr(metrics, name)(y, predicted) == pytest.approx(getattr(peer, name)(y, predicted), rel=1e-12)


def test_three_points_by_hand() -> None:
    y, p = np.array([1.0, 2.0, 3.0]), np.array([3.0, 3.0, -5.0])
    assert metrics.mean_squared_error(y, p) == 23 and metrics.mean_absolute_error(y, p) == pytest.approx(11 / 3)
    assert metrics.r2_score(y, p) == pytest.approx(-33.5)
    assert metrics.r2_score(y, np.full(3, 2.0)) == 0  # the mean explains nothing
    assert metrics.r2_score(np.ones(3), np.ones(3)) == 1 and metrics.r2_score(np.ones(3), y) == 0
    assert metrics.adjusted_r2_score(y, p, 1) == pytest.approx(1 - 34.5 * 2)


def correlation_squared(y: np.ndarray, p: np.ndarray) -> float:
    return float(np.corrcoef(y, p)[0, 1] ** 2)


def clipped(y: np.ndarray, p: np.ndarray) -> float:
    return max(0.0, metrics.r2_score(y, p))


def explained_over_total(y: np.ndarray, p: np.ndarray) -> float:
    return float(np.sum((p - y.mean()) ** 2) / np.sum((y - y.mean()) ** 2))


def about_the_predictions_mean(y: np.ndarray, p: np.ndarray) -> float:
    return 1 - float(np.sum((y - p) ** 2) / np.sum((y - p.mean()) ** 2))


@pytest.mark.parametrize("mutant", [correlation_squared, clipped, explained_over_total, about_the_predictions_mean])
def test_rejects_r2(mutant: Callable[[Any, Any], float]) -> None:
    assert mutant(Y, P) != pytest.approx(peer.r2_score(Y, P), rel=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_rmse_is_never_below_mae(errors: list[float]) -> None:
    p = np.array(errors)
    zero = np.zeros(len(p))
    assert metrics.root_mean_squared_error(zero, p) >= metrics.mean_absolute_error(zero, p) * (1 - 1e-12) - 1e-150


def test_adjusted_r2_does_not_rise_with_chance_features() -> None:
    """Fits of noise to noise: R^2 grows with the features, adjusted R^2 stays at zero on average."""
    plain, adjusted = [], []
    for seed in range(200):
        A, y = (g := np.random.default_rng(seed)).normal(size=(50, 21)), g.normal(size=50)
        A[:, 0] = 1
        fitted = A @ np.linalg.lstsq(A, y)[0]
        plain.append(metrics.r2_score(y, fitted))
        adjusted.append(metrics.adjusted_r2_score(y, fitted, 20))
    assert np.mean(plain) == pytest.approx(20 / 49, abs=0.03) and abs(np.mean(adjusted)) < 0.05


LABELS = rng.integers(0, 5, 300)
SAID = np.where(rng.random(300) < 0.6, LABELS, rng.integers(0, 5, 300))


def transposed(y: np.ndarray, said: np.ndarray) -> np.ndarray:
    return metrics.confusion_matrix(said, y)


def test_classes_agree_with_scikit_learn() -> None:
    words = np.array(["red", "green", "blue", "grey", "black"])
    for y, said in ((LABELS, SAID), (words[LABELS], words[SAID]), (LABELS % 2 == 0, SAID % 2 == 0)):
        assert metrics.accuracy_score(y, said) == peer.accuracy_score(y, said)
        assert np.array_equal(metrics.confusion_matrix(y, said), peer.confusion_matrix(y, said))
    mutant = transposed
    assert not np.array_equal(mutant(LABELS, SAID), peer.confusion_matrix(LABELS, SAID))
    wide = metrics.confusion_matrix(LABELS, SAID, classes=7)
    assert np.array_equal(wide, peer.confusion_matrix(LABELS, SAID, labels=range(7)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: metrics.mean_squared_error(Y, P[:-1]), "200 true values and 199 predictions"),
        (lambda: metrics.mean_absolute_error(Y[:0], P[:0]), "one at least"),
        (lambda: metrics.r2_score(Y, P * np.nan), "finite"),
        (lambda: metrics.mean_absolute_percentage_error(np.zeros(3), np.ones(3)), "other than zero"),
        (lambda: metrics.adjusted_r2_score(Y[:5], P[:5], 4), "more than 4 features"),
        (lambda: metrics.confusion_matrix(LABELS, SAID, classes=3), "0 to 2"),
        (lambda: metrics.accuracy_score(LABELS, SAID[:2]), "300 true values and 2"),
    ],
)
def test_bad_input_is_named(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
