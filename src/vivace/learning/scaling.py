"""Scaling: every column of a feature matrix brought to one scale, whatever unit it was measured in.

Galton, "Statistics by intercomparison" (1875): deviations in units of their spread. Chan, Golub, LeVeque, "Algorithms
for computing the sample variance" (1983), eq. 1.7: two passes with a correction, and its bound on the rounding error.
In: features X (n, d), finite. Out: (n, d); z-scores (x - mean)/deviation, or (x - min)/(max - min) in a given range.
Departs from the paper: a column that is constant but for rounding is only shifted, not divided by zero.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError

EPS = float(np.finfo(float).eps)
BLOCK = 2**16  # numbers worked on at once: they stay in the processor's cache between the two operations
FLOATS = [np.float64, np.float32]


class _Scaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """x -> (x - shift) / scale, column by column; a child's `_measure` says which. Only the rows given to fit count."""

    def fit(self, X: Any, y: Any = None) -> "_Scaler":  # noqa: ARG002
        """Measure the columns of the training rows."""
        X = validate_data(self, X, dtype=FLOATS)
        shift, scale = self._measure(X)
        self._shift, self._scale = shift, scale
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n d"]:
        """Any rows, by the numbers that `fit` has measured."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        scaled = np.empty_like(X)
        shift, factor = self._shift.astype(X.dtype), (1 / self._scale).astype(X.dtype)
        for rows in _blocks(X):
            np.subtract(X[rows], shift, out=scaled[rows])
            scaled[rows] *= factor
        return scaled

    def inverse_transform(self, X: Any) -> Float[np.ndarray, "n d"]:
        """Back to the units of measurement."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        return X * self._scale.astype(X.dtype) + self._shift.astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _measure(self, X: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
        raise NotImplementedError


class StandardScaler(_Scaler):
    """Mean 0 and variance 1 in each column (`mean_`, `var_` over n, not n - 1; `scale_`)."""

    def __init__(self, *, with_mean: Any = True, with_std: Any = True) -> None:  # truth values
        self.with_mean = with_mean
        self.with_std = with_std

    def _measure(self, X: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
        n = len(X)
        mean = X.mean(0, dtype=float)
        squares, sums = np.zeros((2, X.shape[1]))
        for rows in _blocks(X):
            off = X[rows] - mean
            squares += np.einsum("ij,ij->j", off, off)
            sums += off.sum(0)
        self.mean_ = mean
        self.var_ = (squares - sums**2 / n) / n
        constant = self.var_ <= n * EPS * self.var_ + np.square(n * EPS * mean)
        self.scale_ = np.where(constant, 1.0, np.sqrt(self.var_))
        zeros, ones = np.zeros_like(mean), np.ones_like(mean)
        return self.mean_ if self.with_mean else zeros, self.scale_ if self.with_std else ones


class MinMaxScaler(_Scaler):
    """The training rows' smallest and largest value of each column (`data_min_`, `data_max_`) to `feature_range`.

    Later rows may lie outside that range, and one outlier squeezes all others together.
    """

    def __init__(self, *, feature_range: Any = (0, 1)) -> None:  # two numbers, checked in fit
        self.feature_range = feature_range

    def _measure(self, X: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
        low, high = self.feature_range
        if not low < high:
            raise InputError(f"feature_range goes from a number to a larger one, not from {low} to {high}")
        self.data_min_ = np.fmin.reduce(X).astype(float)  # no NaN is in X, and fmin is quicker than min
        self.data_max_ = np.fmax.reduce(X).astype(float)
        reach = self.data_max_ - self.data_min_
        scale = np.where(reach < 10 * EPS, 1.0, reach) / (high - low)
        return self.data_min_ - low * scale, scale


def _blocks(X: Float[np.ndarray, "n d"]) -> list[slice]:
    step = max(1, BLOCK // X.shape[1])
    return [slice(start, start + step) for start in range(0, len(X), step)]
