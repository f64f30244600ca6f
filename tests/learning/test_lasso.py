"""Lasso against scikit-learn, its optimality condition, the soft threshold by hand, and wrong versions of itself."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.learning import Lasso, LinearRegression, lasso_path
from vivace.learning.lasso import Coordinates

X, Y = load_diabetes(return_X_y=True, scaled=False)
Z = (X - X.mean(0)) / X.std(0)


@parametrize_with_checks([Lasso(), Lasso(fit_intercept=False)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def drawn(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(n, d)) @ (np.eye(d) + 0.3 * generator.normal(size=(d, d)) / math.sqrt(d))
    w = np.where(generator.random(d) < 0.2, generator.normal(size=d), 0)
    return A + generator.normal(size=d), A @ w + generator.normal(size=n)


@pytest.mark.parametrize(("n", "d"), [(442, 10), (2000, 60), (60, 200), (40, 40)])
@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0])
def test_agrees_with_scikit_learn(n: int, d: int, alpha: float) -> None:
    A, y = (Z, Y) if n == 442 else drawn(n, d)
    peer = linear_model.Lasso(alpha=alpha, tol=1e-14, max_iter=10**6).fit(A, y)
    model = Lasso(alpha).fit(A, y)
    assert np.abs(model.coef_ - peer.coef_).max() < 1e-8 and abs(model.intercept_ - peer.intercept_) < 1e-8
    assert ((model.coef_ == 0) == (peer.coef_ == 0)).all()


def test_weights_count_as_rows_and_targets_are_apart() -> None:
    A, y = drawn(200, 12)
    weights = np.random.default_rng(1).integers(0, 3, 200)
    twice = Lasso(0.1).fit(np.repeat(A, weights, axis=0), np.repeat(y, weights))
    assert np.allclose(Lasso(0.1).fit(A, y, weights).coef_, twice.coef_)
    both = Lasso(0.1).fit(A, np.stack([y, y**2], 1))
    assert np.allclose(both.coef_[1], Lasso(0.1).fit(A, y**2).coef_)


def optimal(w: np.ndarray, A: np.ndarray, y: np.ndarray, alpha: float) -> bool:
    """The subgradient's condition: X^T(y - Xw)/n is alpha sign(w) where w is not zero, and within alpha elsewhere."""
    pull = A.T @ (y - A @ w) / len(y)
    inside = np.where(w != 0, np.abs(pull - alpha * np.sign(w)), np.maximum(np.abs(pull) - alpha, 0))
    return bool(inside.max() < 1e-9 * np.abs(A.T @ y / len(y)).max())


class HardThreshold(Coordinates):
    """Keeps a weight whole where it is large enough, instead of drawing it in."""

    def _solve(self, penalty: float) -> bool:
        return False

    def _sweep(self, penalty: float, let_in: int) -> float:
        for j in range(len(self.w)):
            pull = float(self.cross[j] - self.gw[j]) + self.squares[j] * self.w[j]
            new = (pull if abs(pull) > penalty else 0.0) / self.squares[j]
            self.gw += self.column(j) * (new - self.w[j])
            self.w[j] = new
        return 1.0


class OneSweep(Coordinates):
    def _solve(self, penalty: float) -> bool:
        return True

    def _violation(self, penalty: float) -> np.ndarray:
        return super()._violation(penalty) if not self.w.any() else np.zeros(len(self.w))


class NoPenalty(Coordinates):
    def descend(self, penalty: float, *, tol: float, sweeps: int) -> tuple[np.ndarray, int]:
        return super().descend(0.0, tol=tol, sweeps=sweeps)


def solved(kind: type[Coordinates], A: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    G = A.T @ A
    return kind(G.__getitem__, np.diagonal(G), A.T @ y).descend(alpha * len(y), tol=1e-10, sweeps=300)[0]


@pytest.mark.parametrize(("n", "d"), [(300, 20), (30, 80)])
def test_is_optimal(n: int, d: int) -> None:
    A, y = drawn(n, d)
    for alpha in (0.01, 0.1, 1.0):
        assert optimal(solved(Coordinates, A, y, alpha), A, y, alpha)


@pytest.mark.parametrize("mutant", [HardThreshold, OneSweep, NoPenalty])
def test_rejects(mutant: type[Coordinates]) -> None:
    A, y = drawn(300, 20)
    assert not optimal(solved(mutant, A, y, 0.1), A, y, 0.1)


def test_soft_threshold_by_hand() -> None:
    """Orthogonal features: X^T X = 4 I, X^T y = (8, -2, 1), n = 4, alpha = 0.5: w = sign(q) max(|q| - 2, 0) / 4."""
    A = np.array([[1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, 1]], float)
    y = A @ np.array([2, -0.5, 0.25])
    assert Lasso(0.5, fit_intercept=False).fit(A, y).coef_ == pytest.approx([1.5, 0, 0])


def test_the_path_starts_empty_and_ends_near_least_squares() -> None:
    alphas, coefs = lasso_path(Z, Y)
    assert (np.diff(alphas) < 0).all() and not coefs[0].any() and coefs[1].any()
    assert np.allclose(coefs[60], Lasso(alphas[60]).fit(Z, Y).coef_, atol=1e-8)
    _, ends = lasso_path(Z, Y, np.array([0.0]))
    assert np.allclose(ends[0], LinearRegression().fit(Z, Y).coef_)


def test_twins_get_a_minimum_though_there_are_many() -> None:
    A, y = drawn(100, 10)
    twins = np.column_stack([A, A[:, :3]])
    centred, b = twins - twins.mean(0), y - y.mean()
    assert optimal(Lasso(0.05).fit(twins, y).coef_, centred, b, 0.05)


def test_too_few_sweeps_are_warned_of() -> None:
    A, y = drawn(300, 40)
    with pytest.warns(ConvergenceWarning, match="no convergence after 1 sweeps"):
        Lasso(0.01, max_iter=1).fit(A, y)


@pytest.mark.parametrize("alpha", [-1, float("nan")])
def test_an_alpha_out_of_range_is_said(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha is"):
        Lasso(alpha).fit(X, Y)
