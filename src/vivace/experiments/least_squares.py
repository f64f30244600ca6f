"""Least squares on foot: what the experiments about linear models share."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vivace.base.tables import Table, diabetes, read_table
from vivace.learning import gradient_descent, mse_gradient

COMPARED = 5_000  # rows at most, drawn at random, where a fit is compared with thousands of steps of descent
SETTLED = 1e-9  # of the first gradient's length: descent has arrived


class Compared(NamedTuple):
    """A table, those of its rows that are compared on foot, standardised to A and b, and the generator of the draw."""

    table: Table
    few: Int[np.ndarray, " n"]
    A: Float[np.ndarray, "n d"]
    b: Float[np.ndarray, " n"]
    generator: np.random.Generator


def compared_rows(data: str | Path | None, target: str | None, seed: int) -> Compared:
    """The file's table, or the diabetes patients, and at most COMPARED of its rows in an order of their own."""
    table = read_table(data, target) if data else diabetes()
    generator = np.random.default_rng(seed)
    few = generator.permutation(len(table.y))[:COMPARED]
    return Compared(table, few, standard(table.X[few]), standard(table.y[few]), generator)


def standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1 in each column; a constant column becomes zero."""
    centred = values - values.mean(0)
    return centred / np.where(values.std(0) > 0, values.std(0), 1)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Relative distance."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def with_twin(A: np.ndarray) -> np.ndarray:
    """The first feature once more, in another unit: what feet are to yards."""
    return np.column_stack([A, A[:, 0] / 3])


def stations(A: np.ndarray, y: np.ndarray, at: Iterable[int], *, step_size: float | None = None,
              start: np.ndarray | None = None) -> list[np.ndarray]:  # fmt: skip
    """Where descent is after these numbers of steps; the way between them is forgotten."""
    found, done = [], 0
    for steps in at:
        start = gradient_descent(A, y, steps=steps - done, step_size=step_size, start=start)[-1]
        found.append(start)
        done = steps
    return found


def settled(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> bool:
    """Whether descent has arrived; where it hasn't, a comparison of its end says nothing."""
    return bool(np.linalg.norm(mse_gradient(A, y, w)) < SETTLED * np.linalg.norm(mse_gradient(A, y, 0 * w)))
