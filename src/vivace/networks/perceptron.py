"""Perceptron: one unit that fires when the weighted sum of its inputs is positive, and learns from its mistakes only.

Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the brain" (1958).
Novikoff, "On convergence proofs for perceptrons" (1962): the bound on the number of mistakes.
In: features X (n, d), finite; classes y (n,), any labels. Out: classes (n,); sums (n,), or (n, k) for k > 2 classes.
Departs from the paper: for more than two classes one unit each, against the rest; the largest sum wins.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError

BLOCK = 32  # rows whose sums are kept up to date together


def step(z: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """1 where z > 0, else 0: what the unit puts out. Its derivative is 0 wherever it has one."""
    return (z > 0).astype(int)


def perceptron_epoch(X: Float[np.ndarray, "n d"], T: Bool[np.ndarray, "n k"], W: Float[np.ndarray, "d k"]
                     ) -> Int[np.ndarray, " k"]:  # fmt: skip
    """One pass of w <- w + (t - y) x over the rows, one after the other, for k units at once; W is changed in place.

    Returns how many mistakes each unit made. Rows that no unit gets wrong cost next to nothing: the sums of a block of
    rows are one matrix product, and a mistake moves those still ahead by its inner products with them.
    """
    k = W.shape[1]
    mistakes = np.zeros(k, dtype=int)
    for start in range(0, len(X), BLOCK):
        x, t = X[start : start + BLOCK], T[start : start + BLOCK]
        z, products = x @ W, x @ x.T
        errors = np.zeros_like(z)  # t - y of each row
        row = 0
        while row < len(x):
            wrong = (z[row:] > 0) != t[row:]
            first = int(wrong.argmax())
            if not wrong.flat[first]:
                break
            row += first // k
            errors[row] = t[row] - step(z[row])
            z[row + 1 :] += products[row, row + 1 :, None] * errors[row]
            row += 1
        W += x.T @ errors
        mistakes += np.abs(errors).sum(0).astype(int)
    return mistakes


def mistake_bound(X: Float[np.ndarray, "n d"], t: Bool[np.ndarray, " n"], w: Float[np.ndarray, " d"]) -> float:
    """Novikoff's (R / gamma)^2: no more mistakes are made, starting from zero, if w separates; infinite if it doesn't.

    R is the length of the longest row, gamma the distance of the nearest one to the plane w x = 0. An intercept is the
    weight of a column of ones, in X and in w.
    """
    gamma = (np.where(t, 1, -1) * (X @ w)).min() / np.linalg.norm(w)
    return float((X * X).sum(1).max() / gamma**2) if gamma > 0 else np.inf


class Perceptron(ClassifierMixin, BaseEstimator):
    """Rosenblatt's perceptron with scikit-learn's manners; weights start at zero, rows are taken in their order.

    It stops after the first pass without a mistake, which comes if and only if the classes can be separated by planes
    (each from the rest), else after `max_iter` passes. After fitting: `coef_` (units, d), `intercept_` (units,), where
    two classes need one unit only; `mistakes_` (passes, units); `n_iter_` passes; `separated_`, whether the last one
    was without a mistake.
    """

    def __init__(self, *, max_iter: Any = 1000, fit_intercept: Any = True, shuffle: Any = False,
                 random_state: Any = None) -> None:  # fmt: skip
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.shuffle = shuffle
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "Perceptron":
        """Fit to array-likes X (n, d) and y (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"a perceptron tells classes apart, but all {len(y)} rows are of one class, {y[0]}")
        if self.max_iter < 1:
            raise InputError(f"max_iter is {self.max_iter}, but must be at least 1")
        generator = check_random_state(self.random_state)
        if self.fit_intercept:
            X = np.column_stack([X, np.ones(len(X))])
        T = labels[:, None] == (np.arange(len(self.classes_)) if len(self.classes_) > 2 else [1])
        W = np.zeros((X.shape[1], T.shape[1]))
        mistakes: list[Int[np.ndarray, " k"]] = []
        while len(mistakes) < self.max_iter and not (mistakes and not mistakes[-1].any()):
            order = generator.permutation(len(X)) if self.shuffle else slice(None)
            mistakes.append(perceptron_epoch(X[order], T[order], W))
        d = self.n_features_in_
        self.coef_, self.intercept_ = W[:d].T.copy(), W[d] if self.fit_intercept else np.zeros(T.shape[1])
        self.mistakes_, self.n_iter_ = np.array(mistakes), len(mistakes)
        self.separated_ = not mistakes[-1].any()
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "n *k"]:
        """The weighted sums, before the step."""
        check_is_fitted(self)
        z = validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_.T + self.intercept_
        return z[:, 0] if len(self.classes_) == 2 else z

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row."""
        z = self.decision_function(X)
        return self.classes_[step(z) if z.ndim == 1 else z.argmax(1)]
