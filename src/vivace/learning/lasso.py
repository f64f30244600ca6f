"""Lasso: least squares that pays for the sum of its absolute weights, and so leaves most features out altogether.

Tibshirani, "Regression shrinkage and selection via the lasso" (1996), eq. 1; coordinate descent as in Friedman, Hastie,
Tibshirani, "Regularization paths for generalized linear models via coordinate descent" (2010), section 2.2.
In: features X (n, d), targets y (n,) or (n, k), alpha >= 0. Out: `coef_` (d,) or (k, d) with exact zeros, `intercept_`.
Departs from the paper: minimises |Xw - y|^2 / (2n) + alpha |w|_1, scikit-learn's scale; features are not scaled and the
intercept is not penalised; after each sweep the linear system of the features that are in is solved outright.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import linalg
from sklearn.exceptions import ConvergenceWarning

from vivace.base.errors import InputError
from vivace.learning._linear_model import EPS, LinearModel, Moments, centred_rows

SLACK = 1e-12  # of the largest correlation: a subgradient this far outside its interval is rounding
LET_IN = 8  # features at most in a sweep: most of those that a first sweep would let in must leave again


class Lasso(LinearModel):
    """Lasso with scikit-learn's manners and its meaning of `alpha`; several targets are fitted one by one.

    `n_iter_` says how many sweeps over the features it took, for the target that took most.
    """

    def __init__(  # any: scikit-learn's manners are to check in `fit`
        self, alpha: Any = 1.0, *, fit_intercept: Any = True, max_iter: Any = 10_000, tol: Any = 1e-10
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Lasso":
        """Fit to array-likes X (n, d) and y (n,) or (n, k); a row of weight 2 counts as two rows.

        Warns (scikit-learn's ConvergenceWarning) where `max_iter` sweeps were not enough.
        """
        if not 0 <= self.alpha < np.inf:
            raise InputError(f"alpha is {self.alpha}, but must be a finite number of at least 0")
        X, y, weights = self._validated(X, y, sample_weight)
        problem, mean = _problem(X, y, weights, centred=self.fit_intercept)
        penalty = self.alpha * (len(X) if weights is None else float(weights.sum()))
        found = [problem(k).descend(penalty, tol=self.tol, sweeps=self.max_iter) for k in range(y[0].size)]
        self.n_iter_ = max(sweeps for _, sweeps in found)
        if self.n_iter_ > self.max_iter:
            warnings.warn(f"no convergence after {self.max_iter} sweeps; raise max_iter or alpha", ConvergenceWarning,
                          stacklevel=2)  # fmt: skip
        self._take(np.stack([w for w, _ in found], axis=1), mean)
        return self


def lasso_path(
    X: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    alphas: Float[np.ndarray, " a"] | None = None,
    *,
    count: int = 100,
    fit_intercept: bool = True,
    tol: float = 1e-10,
) -> tuple[Float[np.ndarray, " a"], Float[np.ndarray, "a d"]]:
    """The alphas, falling, and the weights for each; every fit starts from the one before.

    By default `count` alphas, evenly spaced in their logarithm, from the least that leaves no feature to 1/1000 of it.
    """
    problem, _ = _problem(X, y, None, centred=fit_intercept)
    whole = problem(0)
    if alphas is None:
        most = np.abs(whole.cross).max() / len(X)
        alphas = most * np.geomspace(1, 1e-3, count)
    alphas = np.sort(np.asarray(alphas, float))[::-1]
    coefs = [whole.descend(alpha * len(X), tol=tol, sweeps=10_000)[0].copy() for alpha in alphas]
    return alphas, np.stack(coefs)


class Coordinates:
    """The lasso's objective, w^T G w / 2 - q^T w + penalty |w|_1, minimised one weight at a time.

    Of G = X^T X only the columns of features that have been let in are ever asked for.
    """

    def __init__(self, column: Callable[[int], Float[np.ndarray, " d"]], squares: Float[np.ndarray, " d"],
                 cross: Float[np.ndarray, " d"]) -> None:  # fmt: skip
        self.column, self.squares, self.cross = column, squares, cross
        self.w = np.zeros(len(cross))
        self.gw = np.zeros(len(cross))  # G w, kept up to date

    def descend(self, penalty: float, *, tol: float, sweeps: int) -> tuple[Float[np.ndarray, " d"], int]:
        """The minimiser, from where the last descent ended, and the sweeps it took (one more than `sweeps`: too few).

        It is found when a sweep moves no weight by more than `tol` (as a share of the largest correlation), or when the
        minimum over the features that are in satisfies the subgradient's condition for those that are out.
        """
        smallest = tol * math.sqrt(EPS + np.max(self.cross**2 / np.maximum(self.squares, EPS), initial=0))
        let_in = LET_IN
        for sweep in range(1, sweeps + 1):
            before = self.w.copy(), self.gw.copy()
            if self._sweep(penalty, let_in) <= smallest:
                return self.w, sweep
            if self._solve(penalty):
                if not self._violation(penalty).any():
                    return self.w, sweep
            elif let_in > 1:  # one at a time, a feature is never within reach of those that are in
                (self.w, self.gw), let_in = before, 1
        return self.w, sweeps + 1

    def _sweep(self, penalty: float, let_in: int) -> float:
        """Minimise over each weight that is in, and those most wrongly out, in turn; the furthest that one went."""
        furthest = 0.0
        outside = self._violation(penalty)
        most = np.argsort(-outside)[:let_in]
        for j in (*np.flatnonzero(self.w).tolist(), *most[outside[most] > 0].tolist()):
            old, square = float(self.w[j]), float(self.squares[j])
            pull = float(self.cross[j] - self.gw[j]) + square * old  # the residual's correlation without feature j
            new = math.copysign(max(abs(pull) - penalty, 0.0), pull) / square  # soft threshold
            if new != old:
                self.w[j] = new
                self.gw += self.column(j) * (new - old)
                furthest = max(furthest, abs(new - old) * math.sqrt(square))
        return furthest

    def _solve(self, penalty: float) -> bool:
        """Go straight to the minimum over the weights that are not zero, leaving out each that reaches zero on the way.

        False where their columns are dependent, and there is no single minimum.
        """
        while (active := np.flatnonzero(self.w)).size:
            columns = np.stack([self.column(j) for j in active.tolist()], axis=1)
            factor, failed = linalg.lapack.dpotrf(columns[active])
            if failed or linalg.lapack.dpocon(factor, np.abs(columns[active]).sum(0).max())[0] < SLACK:
                return False
            signs, here = np.sign(self.w[active]), self.w[active]
            there = linalg.lapack.dpotrs(factor, self.cross[active] - penalty * signs)[0]
            turned = np.sign(there) != signs
            share = here[turned] / (here[turned] - there[turned])  # of the way, where a weight is zero
            end = here + share.min(initial=1.0) * (there - here)
            if turned.any():
                end[np.flatnonzero(turned)[share.argmin()]] = 0
            self.w[active], self.gw = end, columns @ end
            if not turned.any():
                break
        return True

    def _violation(self, penalty: float) -> Float[np.ndarray, " d"]:
        """How much more each feature that is out correlates with the residual than the penalty allows."""
        slack = SLACK * np.abs(self.cross).max(initial=0)
        beyond = np.abs(self.cross - self.gw) - penalty
        return np.where((self.w == 0) & (beyond > slack) & (self.squares > 0), beyond, 0)


def _problem(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *, centred: bool
             ) -> tuple[Callable[[int], Coordinates], Float[np.ndarray, " m"]]:  # fmt: skip
    """A descent for each target, and the mean of the rows [x, y]."""
    n, d = X.shape
    if n > d:
        moments = Moments.empty(X, y).add(X, y, weights, centred=centred)
        gram, cross = moments.gram, moments.cross
        return lambda k: Coordinates(gram.__getitem__, np.diagonal(gram), cross[:, k]), moments.mean
    Z, Y, mean = centred_rows(X, y, weights, centred=centred)
    Z = np.asfortranarray(Z)
    known: dict[int, np.ndarray] = {}

    def column(j: int) -> np.ndarray:
        if j not in known:
            known[j] = Z.T @ Z[:, j]
        return known[j]

    return lambda k: Coordinates(column, np.square(Z).sum(0), Z.T @ Y[:, k]), mean
