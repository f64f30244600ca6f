"""Mahalanobis distance: two numbers by hand, scikit-learn's covariances, invariants, and wrong versions (mutants)."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from vivace.base.errors import InputError
from vivace.explain import Mahalanobis

CROSS = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def check(score: Score) -> None:
    """Variances 2 and 0.5, mean 1.25; shrunk by half: 1.625 and 0.875. So (3, 0) is at 3 / sqrt(1.625) from 0."""
    far = score(CROSS, np.array([[3.0, 0], [0, 3.0], [0, 0]]))
    assert np.allclose(far, [3 / 1.625**0.5, 3 / 0.875**0.5, 0])


def ours(X: np.ndarray, Q: np.ndarray) -> np.ndarray:
    return Mahalanobis(shrinkage=0.5).fit(X).score(Q)


def squared(X: np.ndarray, Q: np.ndarray) -> np.ndarray:
    return ours(X, Q) ** 2


def euclidean(X: np.ndarray, Q: np.ndarray) -> np.ndarray:
    return Mahalanobis(shrinkage=1).fit(X).score(Q)


def covariance_not_inverted(X: np.ndarray, Q: np.ndarray) -> np.ndarray:
    S = 0.5 * np.diag([2, 0.5]) + 0.5 * 1.25 * np.eye(2)
    return np.sqrt(np.einsum("md,de,me->m", Q, S, Q))


def not_shrunk(X: np.ndarray, Q: np.ndarray) -> np.ndarray:
    return Mahalanobis(shrinkage=1e-9).fit(X).score(Q)


def test_by_hand() -> None:
    check(ours)


@pytest.mark.parametrize("mutant", [squared, euclidean, covariance_not_inverted, not_shrunk])
def test_rejects(mutant: Score) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("shape", [(60, 7), (20, 50)])
def test_scikit_learn_agrees(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=shape) * np.linspace(1, 4, shape[1]) + 3
    Q = 3 * random.normal(size=(9, shape[1]))
    theirs, mine = LedoitWolf().fit(X), Mahalanobis().fit(X)
    assert mine.shrinkage_ == pytest.approx(theirs.shrinkage_)
    assert np.allclose(mine.score(Q) ** 2, theirs.mahalanobis(Q))


def test_the_nearest_class_counts() -> None:
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    noise = random.normal(size=(40, 5))
    X = noise + 10 * y[:, None]
    model = Mahalanobis(shrinkage=0.1).fit(X, y)
    S = 0.9 * sum(np.cov(X[y == c].T, bias=True) for c in (0, 1)) / 2
    S += 0.1 * np.trace(S) / 0.9 / 5 * np.eye(5)
    Q = random.normal(size=(6, 5)) * 8
    far = [np.einsum("md,de,me->m", Q - X[y == c].mean(0), np.linalg.inv(S), Q - X[y == c].mean(0)) for c in (0, 1)]
    assert np.allclose(model.score(Q), np.sqrt(np.minimum(*far)))
    assert Mahalanobis(shrinkage=0.1).fit(X).score(np.full((1, 5), 5.0)) < model.score(np.full((1, 5), 5.0))


def test_bad_input() -> None:
    for wrong in (0, 1.5, -1):
        with pytest.raises(InputError, match="above 0 and at most 1"):
            Mahalanobis(shrinkage=wrong)
    with pytest.raises(InputError, match="1 features; two at least"):
        Mahalanobis().fit(CROSS[:1])
    with pytest.raises(InputError, match="NaN"):
        Mahalanobis().fit(CROSS * np.nan)
    with pytest.raises(InputError, match="all the same"):
        Mahalanobis().fit(np.ones((4, 2)))
