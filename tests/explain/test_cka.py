"""CKA: numbers by hand, the paper's definition by HSIC, invariants, and wrong versions (mutants)."""

from collections.abc import Callable

import numpy as np
import pytest

from vivace.base.errors import InputError
from vivace.explain import cka

Similarity = Callable[[np.ndarray, np.ndarray], float]

X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
Y = np.array([[3.0], [1], [2], [2]])  # centred: 1, -1, 0, 0, which is X's first column


def check(similarity: Similarity) -> None:
    """X^T X = 2 I, of norm 2 sqrt 2; Y^T Y = 2; Y^T X = (2, 0): 4 / (2 sqrt 2 * 2) = 1 / sqrt 2."""
    assert similarity(X, Y) == pytest.approx(0.5**0.5)


def not_centred(X: np.ndarray, Y: np.ndarray) -> float:
    return float(np.square(Y.T @ X).sum() / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)))


def not_squared(X: np.ndarray, Y: np.ndarray) -> float:
    return cka(X, Y) ** 0.5


def regression(X: np.ndarray, Y: np.ndarray) -> float:
    """The share of Y's variance that a linear map from X explains: here all of it."""
    Y = Y - Y.mean(0)
    return float(np.square(np.linalg.qr(X - X.mean(0))[0].T @ Y).sum() / np.square(Y).sum())


def test_by_hand() -> None:
    check(cka)


@pytest.mark.parametrize("mutant", [not_centred, not_squared, regression])
def test_rejects(mutant: Similarity) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize(("n", "d", "e"), [(30, 5, 8), (12, 40, 20), (12, 40, 5)])
def test_is_the_papers_hsic(n: int, d: int, e: int) -> None:
    random = np.random.default_rng(0)
    A, B = random.normal(size=(n, d)) + 2, random.normal(size=(n, e))
    H = np.eye(n) - 1 / n

    def hsic(K: np.ndarray, L: np.ndarray) -> float:
        return float(np.trace(K @ H @ L @ H)) / (n - 1) ** 2

    K, L = A @ A.T, B @ B.T
    assert cka(A, B) == pytest.approx(hsic(K, L) / (hsic(K, K) * hsic(L, L)) ** 0.5)
    assert cka(A, B) == pytest.approx(cka(B, A))


def test_turning_and_scaling_change_nothing_but_stretching_does() -> None:
    random = np.random.default_rng(0)
    A, B = random.normal(size=(50, 6)), random.normal(size=(50, 6))
    turn, _ = np.linalg.qr(random.normal(size=(6, 6)))
    assert cka(A, A) == pytest.approx(1)
    assert cka(3 * A @ turn - 7, B) == pytest.approx(cka(A, B))
    assert cka(A * [9, 1, 1, 1, 1, 1], A) < 0.8


def test_bad_input() -> None:
    with pytest.raises(InputError, match="features of 4 and of 3 pictures"):
        cka(X, Y[:3])
    with pytest.raises(InputError, match="every picture in the same way"):
        cka(X, np.ones((4, 2)))
