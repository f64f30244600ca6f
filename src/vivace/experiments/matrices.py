"""A table, of houses or of yours, as feature matrices of training and test rows: what two experiments begin with."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vivace.base.tables import Columns, houses, read_columns
from vivace.learning.feature_matrix import FeatureMatrix
from vivace.learning.splits import three_way_split


class Matrices(NamedTuple):
    """Training rows X with targets y, test rows `asked` with targets `truth`, and how they were made."""

    table: Columns
    matrix: FeatureMatrix
    X: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    asked: Float[np.ndarray, "m d"]
    truth: Float[np.ndarray, " m"]


def matrices(data: str | Path | None, target: str | None, *, rows: int, seed: int) -> Matrices:
    """The file's table, or that many houses, split 70:15:15; medians and categories are the training rows'."""
    table = read_columns(data, target) if data else houses(rows, seed=seed)
    parts = three_way_split(len(table.y), random_state=seed)
    train, test = ({name: values[part] for name, values in table.columns.items()} for part in (parts.train, parts.test))
    matrix = FeatureMatrix().fit(train)
    return Matrices(
        table, matrix, matrix.transform(train), table.y[parts.train], matrix.transform(test), table.y[parts.test]
    )
