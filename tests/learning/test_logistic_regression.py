"""Logistic and softmax regression against scikit-learn, autograd and numbers by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import linear_model
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.learning import LogisticRegression, cross_entropy, descend, one_hot, probabilities

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[float, np.ndarray]]


@parametrize_with_checks([LogisticRegression(), LogisticRegression(fit_intercept=False, C=0.1)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer, load_digits])
@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_coefficients_are_scikit_learns(load: Any, C: float, fit_intercept: bool) -> None:
    X, y = load(return_X_y=True)
    X = X / X.max(0).clip(1)
    model = LogisticRegression(C=C, fit_intercept=fit_intercept).fit(X, y)
    peer = linear_model.LogisticRegression(C=C, fit_intercept=fit_intercept, solver="newton-cg", tol=1e-11).fit(X, y)
    assert np.abs(model.coef_ - peer.coef_).max() < 1e-6 * np.abs(peer.coef_).max()
    assert np.allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-6)
    assert (model.predict(X) == peer.predict(X)).all()


def test_two_points_by_hand() -> None:
    """x = -1 and 1: 2 log(1 + e^-w) + w^2 / 2 is least where w (1 + e^w) = 2."""
    model = LogisticRegression(fit_intercept=False).fit([[-1.0], [1.0]], ["no", "yes"])
    w = model.coef_[0, 0]
    assert w * (1 + np.exp(w)) == pytest.approx(2, abs=1e-6)
    assert model.predict_proba([[1.0]])[0] == pytest.approx([1 / (1 + np.exp(w)), 1 / (1 + np.exp(-w))])
    assert model.predict([[0.5], [-0.5]]).tolist() == ["yes", "no"]


def test_units_origins_and_copies_of_features_do_not_matter() -> None:
    X, y = load_iris(return_X_y=True)
    plain = LogisticRegression(C=np.inf).fit(X[50:], y[50:])
    moved = LogisticRegression(C=np.inf).fit(X[50:] * [1e-4, 1, 1e3, 1e6] + [0, 1e4, 1e5, 1e8], y[50:])
    assert np.allclose(moved.coef_ * [1e-4, 1, 1e3, 1e6], plain.coef_, rtol=1e-4)
    twice = LogisticRegression(C=np.inf).fit(X[50:][:, [0, 1, 2, 3, 3]], y[50:])
    assert np.allclose(twice.coef_[0, 3] + twice.coef_[0, 4], plain.coef_[0, 3], rtol=1e-4)
    assert twice.coef_[0, 3] == pytest.approx(twice.coef_[0, 4], rel=1e-3)


def test_more_features_than_rows() -> None:
    X, y = load_digits(return_X_y=True)
    model = LogisticRegression().fit(X[:40], y[:40])
    peer = linear_model.LogisticRegression(solver="newton-cg", tol=1e-11).fit(X[:40], y[:40])
    assert np.abs(model.coef_ - peer.coef_).max() < 1e-6


def without_n(X: np.ndarray, Y: np.ndarray, W: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    loss, gradient = cross_entropy(X, Y, W, penalty=penalty)
    return loss, gradient * len(X)


def penalty_forgotten(X: np.ndarray, Y: np.ndarray, W: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    return cross_entropy(X, Y, W, penalty=penalty)[0], cross_entropy(X, Y, W)[1]


def squared_errors_gradient(X: np.ndarray, Y: np.ndarray, W: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    P = probabilities(X @ W)[:, -Y.shape[1] :]
    return cross_entropy(X, Y, W, penalty=penalty)[0], X.T @ ((P - Y) * P * (1 - P)) / len(X) + penalty * W


def logits_not_compared(X: np.ndarray, Y: np.ndarray, W: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    """A sigmoid for each class where softmax is meant."""
    P = 1 / (1 + np.exp(-X @ W))
    return cross_entropy(X, Y, W, penalty=penalty)[0], X.T @ (P - Y) / len(X) + penalty * W


def is_the_loss(loss_and_gradient: Loss) -> bool:
    generator = np.random.default_rng(0)
    for classes in (2, 3):
        X = generator.normal(size=(12, 4))
        _, Y = one_hot(np.arange(12) % classes)
        W = torch.from_numpy(generator.normal(size=(4, Y.shape[1]))).requires_grad_()
        logits = torch.from_numpy(X) @ W
        truth = torch.from_numpy(Y)
        data = (torch.nn.functional.binary_cross_entropy_with_logits(logits, truth) if classes == 2
                else torch.nn.functional.cross_entropy(logits, truth))  # fmt: skip
        (data + 0.3 * W.square().sum() / 2).backward()
        loss, gradient = loss_and_gradient(X, Y, W.detach().numpy(), 0.3)
        expected = float((data + 0.3 * W.square().sum() / 2).detach())
        if not (np.isclose(loss, expected) and np.allclose(gradient, W.grad.numpy())):
            return False
    return True


def test_loss_and_gradient_are_autograds() -> None:
    assert is_the_loss(lambda X, Y, W, penalty: cross_entropy(X, Y, W, penalty=penalty))


@pytest.mark.parametrize("mutant", [without_n, penalty_forgotten, squared_errors_gradient, logits_not_compared])
def test_rejects(mutant: Loss) -> None:
    assert not is_the_loss(mutant)


def test_huge_logits_are_no_trouble() -> None:
    for logits in (np.array([[1e4], [-1e4]]), np.array([[1e4, 0.0], [0.0, 1e4]])):
        p = probabilities(logits)
        assert np.isfinite(p).all() and p.sum(1) == pytest.approx([1, 1]) and p.max(1).tolist() == [1, 1]
    loss, gradient = cross_entropy(np.array([[1e4]]), np.array([[0.0]]), np.array([[1.0]]))
    assert loss == pytest.approx(1e4) and gradient.tolist() == [[1e4]]


@pytest.mark.parametrize("classes", [2, 10])
def test_descent_never_rises_and_arrives(classes: int) -> None:
    X, y = load_digits(n_class=classes, return_X_y=True)
    X = np.column_stack([X / 16, np.ones(len(X))])
    Y = one_hot(y)[1]
    W, losses = descend(X, Y, steps=1000, penalty=0.1)
    assert losses[0] == pytest.approx(np.log(classes)) and (np.diff(losses) <= 1e-14).all()
    best = LogisticRegression(C=10 / len(X), fit_intercept=False).fit(X, y)
    assert np.allclose(W.T, best.coef_, atol=1e-5)
    too_far = descend(X, Y, steps=400, penalty=0.1, step_size=20.0)[1]
    assert (np.diff(too_far) > 0).any()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="y has one class, 1"):
        LogisticRegression().fit([[1.0], [2.0]], [1, 1])
    with pytest.raises(InputError, match="C is -1, but must be above 0"):
        LogisticRegression(C=-1).fit([[1.0], [2.0]], [0, 1])
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LogisticRegression(max_iter=2).fit(*load_iris(return_X_y=True))
