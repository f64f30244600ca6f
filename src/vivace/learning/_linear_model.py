"""What the linear estimators of this room share: scikit-learn's manners, and the products of rows that they solve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

EPS = float(np.finfo(float).eps)
TRUSTED = EPS**-0.5  # a condition number above this costs more than half of float64's digits
BLOCK = 2**18  # numbers in a block of rows: it stays in the processor's cache while it is centred and multiplied


class LinearModel(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predicts weighted sums X w + b; how w and b are found is the subclass's own."""

    fit_intercept: Any
    coef_: Float[np.ndarray, "*k d"]
    intercept_: Any

    def predict(self, X: Any) -> Float[np.ndarray, "n *k"]:
        """The weighted sums X w + b."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_.T + self.intercept_

    def _validated(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> tuple[Any, Any, Any]:
        """Finite arrays of one length; rows of no weight are dropped."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, multi_output=True, reset=reset)
        if reset:
            self._shape, self._dtype = y.shape[1:], X.dtype
        if sample_weight is None:
            return X, y, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X[weights > 0], y[weights > 0], weights[weights > 0]

    def _take(self, W: Float[np.ndarray, "d k"], mean: Float[np.ndarray, " m"]) -> None:
        """Keep W, and the intercept that lets the fit pass through the mean of the rows [x, y]."""
        d = len(W)
        intercept = mean[d:] - mean[:d] @ W
        self.coef_ = W.T.reshape(*self._shape, d).astype(self._dtype)
        self.intercept_ = intercept.astype(self._dtype) if self._shape else self._dtype.type(intercept[0])


@dataclass
class Moments:
    """Weight, mean and products of the rows [x, y] seen so far: all that least squares needs to know of them."""

    weight: float
    mean: Float[np.ndarray, " m"]  # m = d + k: of x, then of y; stays zero where nothing is centred
    gram: Float[np.ndarray, "d d"]  # sum of x^T x, each less the mean
    cross: Float[np.ndarray, "d k"]  # sum of x^T y

    @classmethod
    def empty(cls, X: Float[np.ndarray, "n d"], y: np.ndarray) -> "Moments":
        d, k = X.shape[1], y[0].size
        return cls(0.0, np.zeros(d + k), np.zeros((d, d)), np.zeros((d, k)))

    def add(
        self, X: Float[np.ndarray, "n d"], y: np.ndarray, weights: np.ndarray | None, *, centred: bool
    ) -> "Moments":
        """Each block is shifted by the mean so far; what the shift leaves of its own mean is taken off its products."""
        d, k = self.cross.shape
        step = max(2048, BLOCK // d)
        space = np.empty((min(step, len(X)), d))
        for start in range(0, len(X), step):
            x, t = X[start : start + step], y[start : start + step].reshape(-1, k)
            w = None if weights is None else weights[start : start + step]
            shift = self.mean
            if centred and not self.weight:
                shift = np.concatenate([np.average(part, axis=0, weights=w) for part in (x, t)])
            Z = np.subtract(x, shift[:d], out=space[: len(x)])
            T = np.column_stack([t - shift[d:], np.ones(len(t))])  # the ones, so that sums come with the products
            if w is not None:
                root = np.sqrt(w)[:, None]
                Z *= root
                T *= root
            self._count(Z.T @ Z, Z.T @ T, T[:, -1] @ T, shift, centred=centred)
        return self

    def _count(self, gram: np.ndarray, cross: np.ndarray, sums: np.ndarray, shift: np.ndarray, *, centred: bool
               ) -> None:  # fmt: skip
        added = float(sums[-1])
        total = self.weight + added
        self.gram += gram
        self.cross += cross[:, :-1]
        if centred:
            gap, gap_y = cross[:, -1] / added, sums[:-1] / added
            self.gram -= np.outer(gap, gap * (added**2 / total))
            self.cross -= np.outer(gap, gap_y * (added**2 / total))
            self.mean = shift + np.concatenate([gap, gap_y]) * (added / total)
        self.weight = total


def centred_rows(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *, centred: bool
                 ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"], Float[np.ndarray, " m"]]:  # fmt: skip
    """X and y in float64 less their mean, each row times the root of its weight, and that mean."""
    Z = np.hstack([X, y.reshape(len(X), -1)]).astype(float)
    mean = np.average(Z, axis=0, weights=weights) if centred else np.zeros(Z.shape[1])
    Z -= mean
    if weights is not None:
        Z *= np.sqrt(weights)[:, None]
    return Z[:, : X.shape[1]], Z[:, X.shape[1] :], mean
