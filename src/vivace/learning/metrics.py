"""Metrics: one number for how far predictions are from the truth.

Willmott, Matsuura, "Advantages of the mean absolute error over the root mean square error" (2005), eq. 2 and 3.
Wright, "Correlation and causation" (1921): R^2. Theil, "Economic forecasts and policy" (1961): adjusted R^2.
In: truth (n,) and predictions (n,), numbers; for classes, labels of any kind. Out: a number; (c, c) for a table.
Departs from the paper: R^2 of a constant target is 1 for exact predictions and 0 for others, as in scikit-learn.
"""

import numpy as np
from jaxtyping import Int, Real, Shaped

from vivace.base.errors import InputError

Numbers = Real[np.ndarray, " _"]  # as many true values as predictions, else InputError
Labels = Shaped[np.ndarray, " _"]


def mean_squared_error(y: Numbers, predicted: Numbers) -> float:
    """In the target's unit squared."""
    errors = _errors(y, predicted)
    return float(errors @ errors) / len(y)


def root_mean_squared_error(y: Numbers, predicted: Numbers) -> float:
    """In the target's unit; never below the mean absolute error, and equal only where all errors have one size."""
    return float(np.sqrt(mean_squared_error(y, predicted)))


def mean_absolute_error(y: Numbers, predicted: Numbers) -> float:
    """In the target's unit; one outlier counts no more than its size."""
    return float(np.mean(np.abs(_errors(y, predicted))))


def mean_absolute_percentage_error(y: Numbers, predicted: Numbers) -> float:
    """Errors as shares of the truth: 0.1 is 10 %. InputError where a true value is zero."""
    errors = _errors(y, predicted)
    if (y == 0).any():
        raise InputError("a percentage error needs true values other than zero")
    return float(np.mean(np.abs(errors / y)))


def r2_score(y: Numbers, predicted: Numbers) -> float:
    """1 - SSE/SST: 1 is exact, 0 is as good as the mean of y, and below 0 is worse; there is no lower limit."""
    errors, off = _errors(y, predicted), y - np.mean(y)
    sse, sst = float(errors @ errors), float(off @ off)
    return 1 - sse / sst if sst > 0 else float(sse == 0)


def adjusted_r2_score(y: Numbers, predicted: Numbers, features: int) -> float:
    """R^2 of the rows that a linear model was fitted to, less what that many features explain by chance."""
    n = len(y)
    if features < 0 or n - features - 1 < 1:
        raise InputError(f"adjusted R^2 needs more than {features} features + 1 rows; there are {n}")
    return 1 - (1 - r2_score(y, predicted)) * (n - 1) / (n - features - 1)


def accuracy_score(y: Labels, predicted: Labels) -> float:
    """The share of labels that are right."""
    _check_lengths(y, predicted)
    return float(np.mean(y == predicted))


def confusion_matrix(y: Labels, predicted: Labels, *,
                     classes: int | None = None) -> Int[np.ndarray, "c c"]:  # fmt: skip
    """How often each class (row) was taken for each class (column), in the order of the sorted labels.

    `classes`: labels are 0 to classes - 1, and those that don't occur have their row and column too.
    """
    _check_lengths(y, predicted)
    if classes is None:
        names, codes = np.unique(np.concatenate([y, predicted]), return_inverse=True)
        classes = len(names)
    else:
        codes = np.concatenate([y, predicted])
        if not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0 or codes.max() >= classes:
            raise InputError(f"labels must be whole numbers from 0 to {classes - 1}")
    cells = codes[: len(y)] * classes + codes[len(y) :]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _errors(y: Numbers, predicted: Numbers) -> Numbers:
    _check_lengths(y, predicted)
    errors = np.subtract(predicted, y, dtype=float)
    if not np.isfinite(errors.sum()) and not np.isfinite(errors).all():  # the sum is the quicker look
        raise InputError("true values and predictions must be finite numbers")
    return errors


def _check_lengths(y: np.ndarray, predicted: np.ndarray) -> None:
    if len(y) != len(predicted) or len(y) == 0:
        raise InputError(f"{len(y)} true values and {len(predicted)} predictions: as many of each, and one at least")
