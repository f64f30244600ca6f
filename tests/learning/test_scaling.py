"""Scaling against scikit-learn's, and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import preprocessing
from sklearn.datasets import load_diabetes
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.learning.scaling import MinMaxScaler, StandardScaler

X = load_diabetes(scaled=False).data
TRAIN, TEST = X[:300], X[300:]
Scale = Callable[[np.ndarray, np.ndarray], np.ndarray]


@parametrize_with_checks([StandardScaler(), MinMaxScaler()])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def ours(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return StandardScaler().fit(train).transform(test)


def over_n_minus_one(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return (test - train.mean(0)) / train.std(0, ddof=1)


def fitted_on_the_test_rows(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return ours(test, test)


def fitted_on_all_rows(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return ours(np.concatenate([train, test]), test)


def by_variance(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return (test - train.mean(0)) / train.var(0)


def by_rows(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return (test - test.mean(1, keepdims=True)) / test.std(1, keepdims=True)


def mean_of_squares(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """One pass, E[x^2] - E[x]^2: cancels far from zero."""
    return (test - train.mean(0)) / np.sqrt(np.abs((train**2).mean(0) - train.mean(0) ** 2))


def agrees_with_scikit_learn(scale: Scale) -> bool:
    for shift in (0.0, 1e7):  # far from zero there are nine digits left, not sixteen
        theirs = preprocessing.StandardScaler().fit(TRAIN + shift).transform(TEST + shift)
        if not np.allclose(scale(TRAIN + shift, TEST + shift), theirs, rtol=0, atol=1e-12 + shift * 1e-15):
            return False
    return True


def test_standard_agrees_with_scikit_learn() -> None:
    assert agrees_with_scikit_learn(ours)


@pytest.mark.parametrize(
    "mutant", [over_n_minus_one, fitted_on_the_test_rows, fitted_on_all_rows, by_variance, by_rows, mean_of_squares]
)
def test_rejects(mutant: Scale) -> None:
    assert not agrees_with_scikit_learn(mutant)


@pytest.mark.parametrize("feature_range", [(0, 1), (-1, 1), (2, 7.5)])
def test_min_max_agrees_with_scikit_learn(feature_range: tuple[float, float]) -> None:
    ours, theirs = MinMaxScaler(feature_range=feature_range), preprocessing.MinMaxScaler(feature_range=feature_range)
    assert np.allclose(ours.fit(TRAIN).transform(TEST), theirs.fit(TRAIN).transform(TEST), rtol=0, atol=1e-12)
    mutant = MinMaxScaler(feature_range=feature_range).fit(X)
    assert not np.allclose(mutant.transform(TEST), theirs.transform(TEST), rtol=0, atol=1e-12)
    assert np.allclose(ours.inverse_transform(ours.transform(TEST)), TEST)


def test_three_numbers_by_hand() -> None:
    column = [[1.0], [2.0], [6.0]]  # mean 3, variance (4 + 1 + 9)/3
    assert StandardScaler().fit_transform(column).ravel() == pytest.approx(np.array([-2, -1, 3]) / np.sqrt(14 / 3))
    assert MinMaxScaler().fit_transform(column).ravel() == pytest.approx([0, 0.2, 1])
    assert MinMaxScaler().fit(column).transform([[11.0]]).ravel() == pytest.approx([2])  # later rows may lie outside


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e15, -1e-12])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()])
def test_a_constant_column_is_not_divided_by_zero(scaler: Any, value: float) -> None:
    column = np.full((1000, 1), value)
    assert np.abs(scaler.fit(column).transform(column)).max() < 1e-9
    assert scaler.transform(column + 1.0) == pytest.approx(1.0, rel=0.2)


def test_many_blocks_and_float32() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(rng.normal(size=7) * 100, 10.0 ** np.arange(-3, 4), (40_000, 7))
    peer = preprocessing.StandardScaler().fit(A)
    model = StandardScaler().fit(A)
    assert np.allclose(model.mean_, peer.mean_, rtol=1e-12) and np.allclose(model.scale_, peer.scale_, rtol=1e-12)
    assert np.allclose(model.transform(A), peer.transform(A), rtol=0, atol=1e-9)
    single = StandardScaler().fit(A.astype(np.float32))
    assert single.transform(A.astype(np.float32)).dtype == np.float32
    assert np.allclose(single.scale_, peer.scale_, rtol=1e-4)
    assert np.allclose(model.inverse_transform(model.transform(A)), A)


@pytest.mark.parametrize("half", [{"with_mean": False}, {"with_std": False}])
def test_half_of_it_agrees_with_scikit_learn(half: dict[str, bool]) -> None:
    assert np.allclose(StandardScaler(**half).fit_transform(X), preprocessing.StandardScaler(**half).fit_transform(X))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="to a larger one"):
        MinMaxScaler(feature_range=(1, 1)).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        StandardScaler().fit(np.array([[1.0], [np.nan]]))
