"""Linear regression: the weights whose weighted sums of the features come nearest to the targets, squares counted.

Legendre, "Nouvelles méthodes pour la détermination des orbites des comètes" (1805), appendix: the normal equation
(X^T X) w = X^T y. Chan, Golub, LeVeque, "Algorithms for computing the sample variance" (1983): rows in parts.
In: features X (n, d), targets y (n,) or (n, k), any finite numbers. Out: `coef_` (d,) or (k, d), `intercept_`.
Departs from the paper: Cholesky's factors (1910) instead of elimination; where X^T X is singular, or its condition
number leaves fewer than half of the digits, the minimum-norm least squares of the rows themselves (singular values).
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import linalg

from vivace.base.errors import InputError
from vivace.base.progress import Step, Tell, ignore
from vivace.learning._linear_model import EPS, TRUSTED, LinearModel, Moments, centred_rows

LOST = 1000 * EPS  # an eigenvalue of X^T X, over the largest, that may be rounding and nothing else

Solver = Literal["cholesky", "lstsq", "truncated"]


class LinearRegression(LinearModel):
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
        X, y, weights = self._validated(X, y, sample_weight)
        self._moments = None
        self.condition_ = np.inf
        if len(X) > X.shape[1]:  # else X^T X is singular for sure, and perhaps too large to form
            self._moments = Moments.empty(X, y).add(X, y, weights, centred=self.fit_intercept)
            self.condition_, solved = _solve(self._moments)
            if solved is not None:
                return self._found(solved, self._moments.mean, "cholesky")
        Z, targets, mean = centred_rows(X, y, weights, centred=self.fit_intercept)
        return self._found(linalg.lstsq(Z, targets, cond=EPS * max(X.shape))[0], mean, "lstsq")

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearRegression":
        """Fit to these rows and all earlier ones. Memory is O(d^2), however many rows have passed."""
        first = not hasattr(self, "n_features_in_")
        X, y, weights = self._validated(X, y, sample_weight, reset=first)
        if first:
            self._moments = Moments.empty(X, y)
        if self._moments is None:
            raise InputError("fit() saw no more rows than features and kept no X^T X; start with partial_fit()")
        if len(self._moments.mean) != X.shape[1] + y[0].size:
            raise InputError(f"y has {y[0].size} targets a row, unlike the batches before it")
        self._moments.add(X, y, weights, centred=self.fit_intercept)
        self.condition_, solved = _solve(self._moments)
        if solved is None:
            return self._found(_solve_truncated(self._moments), self._moments.mean, "truncated")
        return self._found(solved, self._moments.mean, "cholesky")

    def _found(self, W: Float[np.ndarray, "d k"], mean: Float[np.ndarray, " m"], solver: Solver) -> "LinearRegression":
        self.solver_ = solver
        self._take(W, mean)
        return self


def _solve(moments: Moments) -> tuple[float, Float[np.ndarray, "d k"] | None]:
    """The condition number, and W by Cholesky factors unless that number is beyond trust."""
    G, XtY, length = _at_unit_length(moments)
    constant = length <= np.sqrt(EPS * moments.weight) * np.abs(moments.mean[: len(length)])  # but for rounding
    if constant.any() or not length.all():
        return np.inf, None
    factor, failed = linalg.lapack.dpotrf(G)
    if failed:
        return np.inf, None
    inverse_condition, _ = linalg.lapack.dpocon(factor, np.abs(G).sum(0).max())
    condition = 1 / max(inverse_condition, EPS**2)
    if condition > TRUSTED:
        return condition, None
    return condition, linalg.lapack.dpotrs(factor, XtY)[0] / length[:, None]


def _solve_truncated(moments: Moments) -> Float[np.ndarray, "d k"]:
    """W of minimum norm, without the directions of X^T X that are lost in rounding."""
    G, XtY, length = _at_unit_length(moments)
    return linalg.lstsq(G, XtY, cond=LOST)[0] / np.where(length > 0, length, 1.0)[:, None]


def _at_unit_length(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X^T X and X^T Y for columns of unit length, and the lengths: units of measurement don't matter any more."""
    length = np.sqrt(np.diagonal(moments.gram))
    safe = np.where(length > 0, length, 1.0)
    return moments.gram / np.outer(safe, safe), moments.cross / safe[:, None], length


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
