"""Feature matrix: a table of mixed columns made into numbers, one row a sample and one column a feature.

Wickham, "Tidy data" (2014), section 2.3: each variable a column, each observation a row. Little, Rubin, "Statistical
analysis with missing data" (2002), section 4.2: imputing a centre. Suits, "Dummy variables" (1957): one-hot columns.
In: named columns (n,), of numbers (a hole is NaN) or of text. Out: X (n, d) without holes, and d names beside it.
Departs from the paper: holes get the median of the training rows, and a column of 0 and 1 that says where they were.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError

Columns = Mapping[str, np.ndarray]


class FeatureMatrix:
    """Learns medians and categories from training rows, and writes any rows as the matrix that follows from them.

    A number stays a number; text becomes a column of 0 and 1 for each of its values seen in training (a value not seen
    is 0 in all). The names of the features are in `names_`, never inside the matrix.
    """

    def __init__(self, *, mark_holes: bool = True) -> None:
        self.mark_holes = mark_holes

    def fit(self, columns: Columns) -> "FeatureMatrix":
        _check(columns)
        self.medians_: dict[str, float] = {}
        self.categories_: dict[str, list[str]] = {}
        self.holes_: list[str] = []
        for name, values in columns.items():
            if not _is_number(values):
                self.categories_[name] = np.unique(values).tolist()
                continue
            known = values[~np.isnan(values)]
            if len(known) == 0:
                raise InputError(f"column '{name}' has no number in the training rows")
            self.medians_[name] = float(np.median(known))
            if self.mark_holes and len(known) < len(values):
                self.holes_.append(name)
        one_hot = [f"{name}={value}" for name, known in self.categories_.items() for value in known]
        self.names_ = [*self.medians_, *(f"{name}?" for name in self.holes_), *one_hot]
        return self

    def transform(self, columns: Columns) -> Float[np.ndarray, "n d"]:
        if not hasattr(self, "names_"):
            raise InputError("fit the feature matrix to training rows first")
        n = _check(columns)
        missing = [name for name in (*self.medians_, *self.categories_) if name not in columns]
        if missing:
            raise InputError(f"no column {', '.join(missing)}; there are {', '.join(columns)}")
        X = np.empty((n, len(self.names_)))
        features = iter(X.T)  # filled column by column, in the order of names_
        for name, median in self.medians_.items():
            if not _is_number(columns[name]):
                raise InputError(f"column '{name}' was numbers in the training rows and is text now")
            next(features)[:] = np.where(np.isnan(columns[name]), median, columns[name])
        for name in self.holes_:
            next(features)[:] = np.isnan(columns[name])
        for name, known in self.categories_.items():
            if _is_number(columns[name]):
                raise InputError(f"column '{name}' was text in the training rows and is numbers now")
            for value in known:
                next(features)[:] = columns[name] == value
        return X

    def fit_transform(self, columns: Columns) -> Float[np.ndarray, "n d"]:
        return self.fit(columns).transform(columns)


def _is_number(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.number) or values.dtype == bool


def _check(columns: Columns) -> int:
    """The number of rows."""
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise InputError(f"columns of one length are needed, with a row at least; there are {lengths}")
    for name, values in columns.items():
        if _is_number(values) and np.isinf(values).any():
            raise InputError(f"column '{name}' holds an infinite number")
    return next(iter(lengths.values()))
