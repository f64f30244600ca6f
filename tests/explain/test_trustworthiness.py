"""Trustworthiness, continuity: scikit-learn's, six points by hand, invariants, and wrong versions (mutants)."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import manifold

from vivace.base.errors import InputError
from vivace.explain import continuity, distance_correlation, trustworthiness

Score = Callable[[np.ndarray, np.ndarray, int], float]

TRUE = np.array([[0.0], [1], [3], [6], [10], [15]])
FOUND = np.array([[0.0], [1], [3], [6], [10], [1.9]])  # the last one comes to lie between the second and the third


def check(score: Score) -> None:
    """With k = 1. On the map the nearest are 1 to 0, 15 to 1, 15 to 3, 3 to 6, 6 to 10, and 1 to 15.

    Ranks in truth: 1, 5, 5, 1, 1, 4. Beyond 1: 0 + 4 + 4 + 0 + 0 + 3 = 11. Scale: 2 / (6 * 1 * (12 - 3 - 1)) = 1/24.
    """
    assert score(TRUE, FOUND, 1) == pytest.approx(1 - 11 / 24)


def test_by_hand() -> None:
    check(trustworthiness)
    # continuity: the true neighbours 1, 0, 1, 3, 6, 10 have the map's ranks 1, 2, 2, 1, 1, 5: 0 + 1 + 1 + 0 + 0 + 4 = 6
    assert continuity(TRUE, FOUND, 1) == pytest.approx(1 - 6 / 24)


def roles_swapped(X: np.ndarray, Y: np.ndarray, k: int) -> float:
    return trustworthiness(Y, X, k)


def share_of_neighbours(X: np.ndarray, Y: np.ndarray, k: int) -> float:
    order = [np.argsort(np.abs(Z - Z.T) + np.diag([np.inf] * len(Z)), axis=1)[:, :k] for Z in (X, Y)]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*order, strict=True)]))


def rank_not_beyond_k(X: np.ndarray, Y: np.ndarray, k: int) -> float:
    n = len(X)
    return trustworthiness(X, Y, k) - 2 / (n * k * (2 * n - 3 * k - 1)) * 3 * k


def unscaled(X: np.ndarray, Y: np.ndarray, k: int) -> float:
    n = len(X)
    return 1 - (1 - trustworthiness(X, Y, k)) * (2 * n - 3 * k - 1) / n


@pytest.mark.parametrize("mutant", [roles_swapped, share_of_neighbours, rank_not_beyond_k, unscaled])
def test_rejects(mutant: Score) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("k", [1, 5, 24])
def test_scikit_learn_agrees(k: int) -> None:
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(50, 9)), random.normal(size=(50, 2))
    assert trustworthiness(X, Y, k) == pytest.approx(manifold.trustworthiness(X, Y, n_neighbors=k), abs=1e-12)
    assert continuity(X, Y, k) == pytest.approx(manifold.trustworthiness(Y, X, n_neighbors=k), abs=1e-12)


def test_turning_scaling_and_shifting_cost_nothing() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 3))
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    for score in (trustworthiness, continuity, distance_correlation):
        assert score(X, 3 * X @ turn + 1) == pytest.approx(1)


def test_distances_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(20, 5)), random.normal(size=(20, 2))
    pairs = [(i, j) for i in range(20) for j in range(i)]
    far = [[np.linalg.norm(Z[i] - Z[j]) for i, j in pairs] for Z in (X, Y)]
    assert distance_correlation(X, Y) == pytest.approx(spearmanr(*far)[0])


def test_bad_input() -> None:
    for k in (0, 3):
        with pytest.raises(InputError, match=f"n_neighbors is {k}, but must be from 1 to less than half of 6 points"):
            trustworthiness(TRUE, FOUND, k)
    with pytest.raises(InputError, match="a map has one for each row"):
        continuity(TRUE, FOUND[:5], 1)
    with pytest.raises(InputError, match="same 3 points or more"):
        distance_correlation(TRUE[:2], FOUND[:2])
    with pytest.raises(InputError, match="NaN"):
        trustworthiness(TRUE, FOUND * np.nan, 1)
