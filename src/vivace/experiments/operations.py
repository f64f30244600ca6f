"""Additions and multiplications of a computation on arrays, counted as it runs: costs that no busy machine changes."""

from collections.abc import Callable
from typing import Any

import numpy as np


class _Counted(np.ndarray):
    """An array that counts the operations it takes part in."""

    count = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, _Counted) else value for value in inputs]
        result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        terms = 2 * np.shape(plain[0])[-1] if ufunc is np.matmul else 1
        _Counted.count += terms * result.size
        return result.view(_Counted)


def operations(compute: Callable[..., object], X: np.ndarray, *others: np.ndarray) -> int:
    """How many `compute(X, *others)` does with X and what comes of it; a matrix product counts both kinds."""
    _Counted.count = 0
    compute(X.view(_Counted), *others)
    return _Counted.count
