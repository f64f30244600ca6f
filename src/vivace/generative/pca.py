"""PCA: the few directions along which data varies most, and the data seen along them alone.

Pearson, "On lines and planes of closest fit to systems of points in space" (1901); Hotelling, "Analysis of a complex of
statistical variables into principal components" (1933): eigenvectors of the covariance matrix.
In: rows X (n, d), any finite numbers. Out: `components_` (r, d), orthonormal; codes (n, r); rows rebuilt (n, d).
Departs from the paper: variances over n - 1; singular values of the rows where these are fewer than the columns.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import linalg
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError

ROWS = 2048  # that are centred and multiplied at a time: no copy of all rows is made


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal component analysis with scikit-learn's manners.

    n_components: how many directions to keep; a share of the variance in (0, 1), which as few as possible must reach;
        or None for all.
    Sign rule: of each component, the entry that is largest in absolute value is positive (scikit-learn's, too).
    """

    def __init__(self, n_components: Any = None) -> None:
        self.n_components = n_components

    def fit(self, X: Any, y: Any = None) -> "PCA":  # noqa: ARG002 (scikit-learn's manners)
        """Find the directions of array-like X (n, d)."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        most = min(X.shape)
        wanted = most if self.n_components is None else self.n_components
        share = isinstance(wanted, float) and 0 < wanted < 1
        if not share and not (wanted == int(wanted) and 1 <= wanted <= most):
            raise InputError(f"n_components is {wanted}, but must be a whole number from 1 to {most}, a share, or None")
        self.mean_ = X.mean(0)
        count = most if share else int(wanted)
        solve = by_covariance if len(X) >= X.shape[1] else by_singular_values
        variances, components, total = solve(X, self.mean_, count)
        if share:
            count = min(most, int(np.searchsorted(np.cumsum(variances), wanted * total)) + 1)
        self.n_components_ = count
        self.components_ = positive(components[:count])
        self.explained_variance_ = variances[:count]
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n r"]:
        """The codes: each row's coordinates along the components, measured from the mean."""
        check_is_fitted(self)
        return (validate_data(self, X, dtype=np.float64, reset=False) - self.mean_) @ self.components_.T

    def inverse_transform(self, codes: Any) -> Float[np.ndarray, "n d"]:
        """The rows that have these codes: of all that do, the nearest to the mean."""
        check_is_fitted(self)
        return np.asarray(codes) @ self.components_ + self.mean_

    @property
    def _n_features_out(self) -> int:
        return self.n_components_


def by_covariance(X: Float[np.ndarray, "n d"], mean: Float[np.ndarray, " d"], count: int
                  ) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"], float]:  # fmt: skip
    """The covariance's largest eigenvalues, their eigenvectors, and the variance in all: products and an eigen-solver.

    Squaring costs digits: a direction with less than 1e-16 of the largest variance is rounding.
    """
    n, d = X.shape
    S = np.zeros((d, d))
    for start in range(0, n, ROWS):
        Z = X[start : start + ROWS] - mean
        S += Z.T @ Z
    S /= n - 1
    total = float(np.trace(S))
    if count == d:
        values, vectors = linalg.eigh(S, driver="evd", overwrite_a=True, check_finite=False)
    else:
        values, vectors = linalg.eigh(S, subset_by_index=(d - count, d - 1), overwrite_a=True, check_finite=False)
    return np.maximum(values[::-1], 0), vectors.T[::-1], total


def by_singular_values(X: Float[np.ndarray, "n d"], mean: Float[np.ndarray, " d"], count: int
                       ) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"], float]:  # fmt: skip
    """The same without a (d, d) matrix: X - mean = U S V^T has the components V and the variances S^2 / (n - 1)."""
    _, singular, Vt = linalg.svd(X - mean, full_matrices=False, check_finite=False)
    variances = singular**2 / (len(X) - 1)
    return variances[:count], Vt[:count], float(variances.sum())


def positive(components: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r d"]:
    """Each component turned so that its largest entry in absolute value is positive."""
    largest = np.abs(components).argmax(1)
    return components * np.sign(components[np.arange(len(components)), largest])[:, None]
