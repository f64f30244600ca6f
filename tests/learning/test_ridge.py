"""Ridge regression against scikit-learn, a numerical minimiser and numbers by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from sklearn import linear_model
from sklearn.datasets import load_diabetes
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.learning import LinearRegression, Ridge, ridge_path

X, Y = load_diabetes(return_X_y=True, scaled=False)
WIDE = np.random.default_rng(0).normal(size=(20, 60))


@parametrize_with_checks([Ridge(), Ridge(fit_intercept=False)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def agrees_with_scikit_learn(make: Callable[[float], Any]) -> bool:
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    for alpha in (0.01, 1.0, 300.0):
        for given in ((X, Y), (X, np.stack([Y, np.log(Y)], 1)), (X, Y, weights), (WIDE, WIDE[:, 0] + 3)):
            model, peer = make(alpha).fit(*given), linear_model.Ridge(alpha).fit(*given)
            if not (np.allclose(model.coef_, peer.coef_, atol=1e-8) and np.allclose(model.intercept_, peer.intercept_)):
                return False
    return True


class PenalisedIntercept(Ridge):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "PenalisedIntercept":
        ones = np.column_stack([X, np.ones(len(X))])
        root = np.sqrt(np.ones(len(X)) if sample_weight is None else sample_weight)[:, None]
        whole = ridge_path(ones * root, np.asarray(y).reshape(len(X), -1) * root, np.array([self.alpha]))[0].T
        self.coef_, self.intercept_ = whole[:, :-1].squeeze(), whole[:, -1].squeeze()
        return self


def mean_and_sum_confused(alpha: float) -> Ridge:
    return Ridge(alpha * len(X))


def test_agrees_with_scikit_learn() -> None:
    assert agrees_with_scikit_learn(Ridge)


@pytest.mark.parametrize("mutant", [PenalisedIntercept, mean_and_sum_confused, lambda alpha: LinearRegression()])
def test_rejects(mutant: Any) -> None:
    assert not agrees_with_scikit_learn(mutant)


def test_by_hand() -> None:
    """One feature (1, 2), targets (1, 3), no intercept: w = (1*1 + 2*3) / (1 + 4 + alpha)."""
    assert Ridge(2.0, fit_intercept=False).fit([[1.0], [2.0]], [1.0, 3.0]).coef_ == pytest.approx([1.0])


def test_minimises_the_mean_squared_error_plus_lambda_when_alpha_is_n_lambda() -> None:
    A, b = (X - X.mean(0)) / X.std(0), Y - Y.mean()
    penalty = 0.3
    least = optimize.minimize(lambda w: np.mean((A @ w - b) ** 2) + penalty * w @ w, np.zeros(10), tol=1e-12).x
    assert np.allclose(Ridge(len(A) * penalty, fit_intercept=False).fit(A, b).coef_, least, atol=1e-4)
    assert not np.allclose(Ridge(penalty, fit_intercept=False).fit(A, b).coef_, least, atol=1e-2)


def test_a_singular_design_is_solved_and_twins_share_their_weight() -> None:
    twins = np.column_stack([X, X[:, 2]])
    model = Ridge(1e-3).fit(twins, Y)
    assert model.coef_[2] == pytest.approx(model.coef_[10])
    assert np.allclose(model.predict(twins), LinearRegression().fit(X, Y).predict(X), atol=0.01)
    shortest = Ridge(0).fit(twins, Y)
    assert shortest.solver_ == "svd" and np.allclose(shortest.coef_, LinearRegression().fit(twins, Y).coef_)


def test_each_road_leads_to_the_same_weights() -> None:
    roads = {"cholesky": X, "dual": WIDE, "svd": np.vander(np.linspace(0, 1, 50), 12)}
    for solver, A in roads.items():
        y = A.sum(1) + 1
        alpha = 1e-13 if solver == "svd" else 0.5
        model = Ridge(alpha).fit(A, y)
        assert model.solver_ == solver
        C = np.vstack([A - A.mean(0), np.sqrt(alpha) * np.eye(A.shape[1])])
        augmented = np.linalg.lstsq(C, np.append(y - y.mean(), np.zeros(A.shape[1])), rcond=None)[0]
        assert np.allclose(model.coef_, augmented, atol=1e-5), solver


def test_the_path_is_ridge_at_every_alpha() -> None:
    A, b = X - X.mean(0), Y - Y.mean()
    alphas = np.array([0.0, 1e-3, 1.0, 1e4])
    for alpha, coef in zip(alphas, ridge_path(A, b, alphas), strict=True):
        assert np.allclose(coef, Ridge(alpha, fit_intercept=False).fit(A, b).coef_)
    assert ridge_path(A, np.stack([b, 2 * b], 1), alphas).shape == (4, 10, 2)
    lengths = np.linalg.norm(ridge_path(A, b, np.geomspace(1e-3, 1e6, 30)), axis=1)
    assert (np.diff(lengths) < 0).all()


@pytest.mark.parametrize("alpha", [-1, float("nan"), float("inf")])
def test_an_alpha_out_of_range_is_said(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha is"):
        Ridge(alpha).fit(X, Y)
