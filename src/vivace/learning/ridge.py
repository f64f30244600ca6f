"""Ridge regression: least squares that also pays for the length of its weights, so that they stay small and stable.

Hoerl, Kennard, "Ridge regression: biased estimation for nonorthogonal problems" (1970), eq. 2.1: (X^T X + alpha I) w =
X^T y, which minimises |Xw - y|^2 + alpha |w|^2. For a *mean* squared error plus lambda |w|^2, alpha is n lambda.
In: features X (n, d), targets y (n,) or (n, k), alpha >= 0. Out: `coef_` (d,) or (k, d), `intercept_`.
Departs from the paper: the intercept is not penalised (rows are centred); with no more rows than features the n x n
system of the rows is solved instead; where alpha is too small for either, singular values. Features are not scaled.
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import linalg

from vivace.base.errors import InputError
from vivace.learning._linear_model import EPS, TRUSTED, LinearModel, Moments, centred_rows

Solver = Literal["cholesky", "dual", "svd"]


class Ridge(LinearModel):
    """Ridge regression with scikit-learn's manners and its meaning of `alpha`.

    `solver_` says how the answer was found: "cholesky" of X^T X + alpha I, its "dual" X X^T + alpha I where there are
    no more rows than features, "svd" where that matrix is too ill-conditioned. With alpha = 0 it is least squares, and
    of many solutions the shortest.
    """

    def __init__(self, alpha: Any = 1.0, *, fit_intercept: Any = True) -> None:  # any: scikit-learn checks in `fit`
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Ridge":
        """Fit to array-likes X (n, d) and y (n,) or (n, k); a row of weight 2 counts as two rows."""
        alpha = _checked(self.alpha)
        X, y, weights = self._validated(X, y, sample_weight)
        n, d = X.shape
        if n > d:
            moments = Moments.empty(X, y).add(X, y, weights, centred=self.fit_intercept)
            W, mean = _solve(moments.gram, moments.cross, alpha), moments.mean
            if W is not None:
                return self._found(W, mean, "cholesky")
        Z, Y, mean = centred_rows(X, y, weights, centred=self.fit_intercept)
        A = _solve(Z @ Z.T, Y, alpha) if n <= d else None
        if A is not None:
            return self._found(Z.T @ A, mean, "dual")
        return self._found(ridge_path(Z, Y, np.array([alpha]))[0], mean, "svd")

    def _found(self, W: Float[np.ndarray, "d k"], mean: Float[np.ndarray, " m"], solver: Solver) -> "Ridge":
        self.solver_ = solver
        self._take(W, mean)
        return self


def ridge_path(X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n *k"], alphas: Float[np.ndarray, " a"]
               ) -> Float[np.ndarray, "a d *k"]:  # fmt: skip
    """The weights for every alpha, from one decomposition X = U S V^T: w = V S / (S^2 + alpha) U^T y; no intercept.

    Directions that are lost in rounding are left out, so that alpha = 0 gives the shortest least squares.
    """
    U, S, Vt = linalg.svd(X, full_matrices=False)
    kept = S > EPS * max(X.shape) * S.max(initial=0)
    U, S, Vt = U[:, kept], S[kept], Vt[kept]
    shrunk = S / (S**2 + np.asarray(alphas, float)[:, None])  # (a, r)
    return np.einsum("rd,ar,r...->ad...", Vt, shrunk, U.T @ y)


def _solve(K: Float[np.ndarray, "m m"], B: Float[np.ndarray, "m k"], alpha: float) -> Float[np.ndarray, "m k"] | None:
    """(K + alpha I)^-1 B by Cholesky factors; None where the condition number is beyond trust."""
    K = K.copy()
    K[np.diag_indices_from(K)] += alpha
    factor, failed = linalg.lapack.dpotrf(K)
    if failed or linalg.lapack.dpocon(factor, np.abs(K).sum(0).max())[0] < 1 / TRUSTED:
        return None
    return linalg.lapack.dpotrs(factor, B)[0]


def _checked(alpha: float) -> float:
    if not 0 <= alpha < np.inf:
        raise InputError(f"alpha is {alpha}, but must be a finite number of at least 0")
    return float(alpha)
