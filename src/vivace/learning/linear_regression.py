"""Linear regression: the weights whose weighted sums of the features come nearest to the targets, squares counted.

Legendre, "Nouvelles méthodes pour la détermination des orbites des comètes" (1805), appendix: the normal equation
(X^T X) w = X^T y. Chan, Golub, LeVeque, "Algorithms for computing the sample variance" (1983): rows in parts.
In: features X (n, d), targets y (n,) or (n, k), any finite numbers. Out: `coef_` (d,) or (k, d), `intercept_`.
Departs from the paper: Cholesky's factors (1910) instead of elimination; where X^T X is singular, or its condition
number leaves fewer than half of the digits, the minimum-norm least squares of the rows themselves (singular values).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import linalg
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from vivace.base.errors import InputError
from vivace.base.progress import Step, Tell, ignore

EPS = float(np.finfo(float).eps)
TRUSTED = EPS**-0.5  # a condition number above this costs more than half of float64's digits
LOST = 1000 * EPS  # an eigenvalue of X^T X, over the largest, that may be rounding and nothing else
BLOCK = 2**18  # numbers in a block of rows: it stays in the processor's cache while it is centred and multiplied

Solver = Literal["cholesky", "lstsq", "truncated"]


class LinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ordinary least squares with scikit-learn's manners; rows may also come in batches (`partial_fit`).

    `solver_` says how the last answer was found: "cholesky" (the normal equation), "lstsq" (it could not be trusted:
    the singular values of the rows; minimum norm), "truncated" (the same after `partial_fit`, which has no rows any
    more: directions of X^T X that are lost in rounding are left out, each feature taken at unit length). `condition_`
    says why: the condition number of X^T X with its features at unit length, estimated; infinite where it is singular
    or not formed.
    There is no warning, as in scikit-learn: a singular design is an ordinary one here.
    """

    def __init__(self, *, fit_intercept: Any = True) -> None:  # a truth value; scikit-learn's checks want no check here
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearRegression":
        """Fit to array-likes X (n, d) and y (n,) or (n, k); a row of weight 2 counts as two rows."""
        X, y, weights = self._validated(X, y, sample_weight, reset=True)
        self._moments = None
        self.condition_, solved = np.inf, None
        if len(X) > X.shape[1]:  # else X^T X is singular for sure, and perhaps too large to form
            self._moments = _Moments.empty(X, y)
            self._moments.add(X, y, weights, centred=self.fit_intercept)
            self.condition_, solved = self._moments.solve()
        solver: Solver = "cholesky"
        if solved is None:
            solver, solved = "lstsq", _least_squares(X, y, weights, centred=self.fit_intercept)
        return self._take(*solved, solver)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearRegression":
        """Fit to these rows and all earlier ones. Memory is O(d^2), however many rows have passed."""
        first = not hasattr(self, "n_features_in_")
        X, y, weights = self._validated(X, y, sample_weight, reset=first)
        if first:
            self._moments = _Moments.empty(X, y)
        if self._moments is None:
            raise InputError("fit() saw no more rows than features and kept no X^T X; start with partial_fit()")
        if len(self._moments.mean) != X.shape[1] + y[0].size:
            raise InputError(f"y has {y[0].size} targets a row, unlike the batches before it")
        self._moments.add(X, y, weights, centred=self.fit_intercept)
        self.condition_, solved = self._moments.solve()
        if solved is None:
            return self._take(*self._moments.solve_truncated(), "truncated")
        return self._take(*solved, "cholesky")

    def predict(self, X: Any) -> Float[np.ndarray, "n *k"]:
        """The weighted sums X w + b."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_.T + self.intercept_

    def _validated(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Any, Any, Any]:
        """Finite arrays of one length; rows of no weight are dropped."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, multi_output=True, reset=reset)
        if reset:
            self._shape, self._dtype = y.shape[1:], X.dtype
        if sample_weight is None:
            return X, y, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X[weights > 0], y[weights > 0], weights[weights > 0]

    def _take(self, W: Float[np.ndarray, "d k"], mean: Float[np.ndarray, " m"], solver: Solver) -> "LinearRegression":
        d = len(W)
        intercept = mean[d:] - mean[:d] @ W
        self.coef_ = W.T.reshape(*self._shape, d).astype(self._dtype)
        self.intercept_ = intercept.astype(self._dtype) if self._shape else self._dtype.type(intercept[0])
        self.solver_ = solver
        return self


@dataclass
class _Moments:
    """Weight, mean and products of the rows [x, y] seen so far: all that least squares needs to know of them."""

    d: int
    weight: float
    mean: Float[np.ndarray, " m"]  # m = d + k; stays zero where nothing is centred
    products: Float[np.ndarray, "m m"]  # sum of [x, y]^T [x, y], each less its mean

    @classmethod
    def empty(cls, X: Float[np.ndarray, "n d"], y: np.ndarray) -> "_Moments":
        size = X.shape[1] + y[0].size
        return cls(X.shape[1], 0.0, np.zeros(size), np.zeros((size, size)))

    def add(self, X: Float[np.ndarray, "n d"], y: np.ndarray, weights: np.ndarray | None, *, centred: bool) -> None:
        """Each block is centred on its own mean; what lies between the two means is added as one more row."""
        size = len(self.mean)
        step = max(2048, BLOCK // size)
        space = np.empty((min(step, len(X)), size))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            Z = space[: len(X[rows])]
            Z[:, : self.d] = X[rows]
            Z[:, self.d :] = y[rows].reshape(len(Z), -1)
            w = None if weights is None else weights[rows]
            added = float(len(Z) if w is None else w.sum())
            total = self.weight + added
            if centred:
                mean = np.average(Z, axis=0, weights=w)
                Z -= mean
                gap = mean - self.mean
                self.products += np.outer(gap, gap * (self.weight * added / total))
                self.mean = self.mean + gap * (added / total)
            if w is not None:
                Z *= np.sqrt(w)[:, None]
            self.products += Z.T @ Z
            self.weight = total

    def solve(self) -> tuple[float, tuple[np.ndarray, np.ndarray] | None]:
        """The condition number, and (W, mean) by Cholesky factors unless that number is beyond trust."""
        G, XtY, length = self._at_unit_length()
        if not (length > np.sqrt(EPS * self.weight) * np.abs(self.mean[: self.d])).all():  # constant but for rounding
            return np.inf, None
        factor, failed = linalg.lapack.dpotrf(G)
        if failed:
            return np.inf, None
        inverse_condition, _ = linalg.lapack.dpocon(factor, np.abs(G).sum(0).max())
        condition = 1 / max(inverse_condition, EPS**2)
        if condition > TRUSTED:
            return condition, None
        W, _ = linalg.lapack.dpotrs(factor, XtY)
        return condition, (W / length[:, None], self.mean)

    def solve_truncated(self) -> tuple[np.ndarray, np.ndarray]:
        """(W, mean) of minimum norm, without the directions of X^T X that are lost in rounding."""
        G, XtY, length = self._at_unit_length()
        W = linalg.lstsq(G, XtY, cond=LOST)[0]
        return W / length[:, None], self.mean

    def _at_unit_length(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X^T X and X^T Y for columns of unit length, and the lengths: units of measurement don't matter any more."""
        d = self.d
        length = np.sqrt(np.diagonal(self.products)[:d])
        safe = np.where(length > 0, length, 1.0)
        return self.products[:d, :d] / np.outer(safe, safe), self.products[:d, d:] / safe[:, None], safe


def _least_squares(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *, centred: bool) -> tuple[Any, Any]:
    """(W, mean) by the singular values of the rows."""
    Z = np.hstack([X, y.reshape(len(X), -1)]).astype(float)
    mean = np.average(Z, axis=0, weights=weights) if centred else np.zeros(Z.shape[1])
    Z -= mean
    if weights is not None:
        Z *= np.sqrt(weights)[:, None]
    d = X.shape[1]
    return linalg.lstsq(Z[:, :d], Z[:, d:], cond=EPS * max(X.shape))[0], mean


def mse(X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"], w: Float[np.ndarray, "d *k"]) -> float:
    """The mean squared error of X w."""
    return float(np.mean(np.square(X @ w - y)))


def mse_gradient(X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"], w: Float[np.ndarray, "d *k"]
                 ) -> Float[np.ndarray, "d *k"]:  # fmt: skip
    """(2/n) X^T (X w - y): linear in the residual. Each of k columns of targets has an error of its own."""
    return 2 / len(X) * (X.T @ (X @ w - y))


def gradient_descent(X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"], *, steps: int = 1000,
                     step_size: float | None = None, start: Float[np.ndarray, "d *k"] | None = None,
                     tell: Tell = ignore) -> Float[np.ndarray, "{steps}+1 d *k"]:  # fmt: skip
    """All weights on the way down the mean squared error, from `start` (zero): w <- w - step_size * gradient.

    `step_size` is 1/L by default, L the largest eigenvalue of the Hessian (2/n) X^T X; from 2/L on, descent diverges.
    """
    n, d = X.shape
    if step_size is None:
        step_size = n / (2 * float(linalg.eigvalsh(X.T @ X if n > d else X @ X.T)[-1]))
    path = np.empty((steps + 1, d, *y.shape[1:]))
    path[0] = 0 if start is None else start
    for step in range(steps):
        path[step + 1] = path[step] - step_size * mse_gradient(X, y, path[step])
        if step % 1000 == 0:
            tell(Step(step, steps, "gradient descent"))
    return path
