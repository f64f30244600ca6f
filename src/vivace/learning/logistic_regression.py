"""Logistic regression: weighted sums of the features, turned into the probability of each class.

Cox, "The regression analysis of binary sequences" (1958); softmax for more classes: Bridle, "Probabilistic
interpretation of feedforward classification network outputs" (1990). Liu, Nocedal, "On the limited memory BFGS method"
(1989) is the solver.
In: features X (n, d), labels y (n,) of two or more classes. Out: `coef_`, `intercept_`, probabilities (n, k).
Departs from the paper: weights are penalised by 1/C as in scikit-learn, the intercept is not; L-BFGS walks in the
coordinates in which the Hessian's diagonal blocks at W = 0 are the identity, so units and correlations don't slow it.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import linalg, optimize
from scipy.sparse import diags_array
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError
from vivace.base.progress import Step, Tell, ignore

# weights W (d, m) and targets Y (n, m) have m columns: one for each class, but a single one where there are two classes
Penalty = float | Float[np.ndarray, "d 1"]


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Logistic (two classes) and softmax regression (more) with scikit-learn's manners.

    C: the inverse of the penalty: sum of cross-entropies + |coef|^2 / (2 C) is minimised; infinite for none.
    tol: where the gradient is small enough, in the solver's own coordinates.
    """

    def __init__(self, *, C: Any = 1.0, fit_intercept: Any = True, tol: Any = 1e-8, max_iter: Any = 1000) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> "LogisticRegression":
        """Fit to array-likes X (n, d) and labels y (n,)."""
        if not self.C > 0:
            raise InputError(f"C is {self.C}, but must be above 0")
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, Y = one_hot(y)
        mean = X.mean(0) if self.fit_intercept else np.zeros(X.shape[1])
        Z = X - mean
        penalty = np.full((X.shape[1], 1), 1 / (self.C * len(X)))
        if self.fit_intercept:
            Z, penalty = np.column_stack([Z, np.ones(len(Z))]), np.vstack([penalty, [0.0]])
        W, self.n_iter_, slope = _minimise(Z, Y, penalty, tol=self.tol, max_iter=self.max_iter)
        self.coef_ = W[: X.shape[1]].T
        self.intercept_ = (W[-1] if self.fit_intercept else np.zeros(W.shape[1])) - self.coef_ @ mean
        if slope > max(self.tol, 1e-6):
            warnings.warn(f"gradient {slope:.0e} after {self.n_iter_} steps: raise max_iter", ConvergenceWarning, 2)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "n *k"]:
        """The logits X w + b: one a class, or one alone for two classes (positive: the second)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        logits = X @ self.coef_.T + self.intercept_
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n k"]:
        logits = self.decision_function(X)
        return probabilities(logits[:, None] if logits.ndim == 1 else logits)

    def predict(self, X: Any) -> np.ndarray:
        logits = self.decision_function(X)
        return self.classes_[(logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(1)]


def one_hot(y: np.ndarray) -> tuple[np.ndarray, Float[np.ndarray, "n m"]]:
    """The classes, sorted, and the targets: a column of 0 and 1 for each; for the second alone where there are two."""
    classes, places = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"two classes at least are needed to tell them apart; y has one class, {classes[0]}")
    Y = np.eye(len(classes))[places]
    return classes, Y[:, 1:] if len(classes) == 2 else Y


def probabilities(logits: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n k"]:
    """Softmax; the sigmoid for a single column, which is the softmax of (0, z)."""
    if logits.shape[1] == 1:
        return np.hstack([expit(-logits), expit(logits)])
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def cross_entropy(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n m"], W: Float[np.ndarray, "d m"], *,
                  penalty: Penalty = 0.0) -> tuple[float, Float[np.ndarray, "d m"]]:  # fmt: skip
    """The mean of -log p(true class) plus penalty / 2 |W|^2, and its gradient X^T (P - Y) / n + penalty W.

    `penalty` is a number, or one for each row of W: zero for that of the intercept (a column of ones in X).
    """
    Z = X @ W
    if W.shape[1] == 1:
        loss = np.logaddexp(0, Z).mean() - np.vdot(Y, Z) / len(Y)
        P = expit(Z)
    else:
        Z -= Z.max(1, keepdims=True)
        P = np.exp(Z)
        total = P.sum(1, keepdims=True)
        loss = np.log(total).mean() - np.vdot(Y, Z) / len(Y)
        P /= total
    gradient = X.T @ (P - Y) / len(X) + penalty * W
    return float(loss + (penalty * W * W).sum() / 2), gradient


def descend(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n m"], *, steps: int = 1000, penalty: Penalty = 0.0,
            step_size: float | None = None, tell: Tell = ignore
            ) -> tuple[Float[np.ndarray, "d m"], Float[np.ndarray, " {steps}+1"]]:  # fmt: skip
    """Full-batch gradient descent from W = 0: the last weights, and the loss before each step and at the end.

    `step_size` is 1/L by default, L a bound on the Hessian's largest eigenvalue: with it the loss never rises.
    """
    if step_size is None:
        curvature = 0.25 if Y.shape[1] == 1 else 0.5  # of log sum exp in the logits, at most
        step_size = 1 / (curvature * float(np.linalg.norm(X, 2)) ** 2 / len(X) + float(np.max(penalty)))
    W = np.zeros((X.shape[1], Y.shape[1]))
    losses = np.empty(steps + 1)
    for step in range(steps):
        losses[step], gradient = cross_entropy(X, Y, W, penalty=penalty)
        W -= step_size * gradient
        if step % 100 == 0:
            tell(Step(step, steps, f"loss {losses[step]:.4f}"))
    losses[steps] = cross_entropy(X, Y, W, penalty=penalty)[0]
    return W, losses


def _minimise(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n m"], penalty: Float[np.ndarray, "d 1"], *,
              tol: float, max_iter: int) -> tuple[Float[np.ndarray, "d m"], int, float]:  # fmt: skip
    """L-BFGS on V with W = T V; the weights, the number of steps, and the largest slope that is left."""
    shape = X.shape[1], Y.shape[1]
    T = _coordinates(X, penalty, classes=max(2, Y.shape[1]))

    def objective(v: Float[np.ndarray, " dm"]) -> tuple[float, Float[np.ndarray, " dm"]]:
        loss, gradient = cross_entropy(X, Y, T @ v.reshape(shape), penalty=penalty)
        return loss, (T.T @ gradient).ravel()

    options = {"maxiter": max_iter, "maxfun": 10 * max_iter, "gtol": tol, "ftol": 0.0, "maxcor": 20}
    found = optimize.minimize(objective, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options=options)
    return T @ found.x.reshape(shape), int(found.nit), float(np.abs(found.jac).max())


def _coordinates(X: Float[np.ndarray, "n d"], penalty: Float[np.ndarray, "d 1"], *, classes: int) -> Any:
    """T with T^T H T = I, H the Hessian's diagonal block at W = 0, where each class has probability 1/k.

    With more features than rows, forming H (d, d) does not pay: there T only brings the features to one scale.
    """
    k = classes
    curvature = (k - 1) / k**2  # p (1 - p)
    diagonal = curvature * np.einsum("nd,nd->d", X, X) / len(X) + penalty[:, 0]
    diagonal[diagonal == 0] = 1.0  # a feature that is always zero, not penalised
    if X.shape[1] > len(X):
        return diags_array(1 / np.sqrt(diagonal))
    H = curvature * (X.T @ X) / len(X)
    H[np.diag_indices_from(H)] = diagonal * (1 + 1e-9)  # positive definite even where features are collinear
    L = linalg.cholesky(H, lower=True)
    return linalg.solve_triangular(L, np.eye(len(L)), lower=True).T
