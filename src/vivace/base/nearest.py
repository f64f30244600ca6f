"""The smallest of each row of a table of distances: what every exact search ends with."""

import numpy as np
from jaxtyping import Float, Int


def smallest(D: Float[np.ndarray, "m n"], k: int) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """Of each row the places of its k smallest numbers, in order, and these numbers; of equals the first are taken."""
    if 4 * k > D.shape[1]:
        order = np.argsort(D, axis=1, kind="stable")[:, :k]
    else:
        limit = np.partition(D, k - 1, axis=1)[:, k - 1, None]
        order = np.stack([_first(row, np.flatnonzero(row <= most), k) for row, most in zip(D, limit, strict=True)])
    return order, np.take_along_axis(D, order, axis=1)


def _first(row: Float[np.ndarray, " n"], near: Int[np.ndarray, " c"], k: int) -> Int[np.ndarray, " k"]:
    return near[np.argsort(row[near], kind="stable")[:k]]
