"""Least squares on float64 rows: ours (Cholesky of X^T X, block by block) against scikit-learn (singular values)."""

from collections.abc import Iterator

import numpy as np
from sklearn import linear_model
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.learning import LinearRegression


def rows() -> Iterator[Row]:
    with threadpool_limits(1):
        for n, d in ((442, 10), (100_000, 64), (1_000_000, 10)):
            generator = np.random.default_rng(0)
            X = generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)
            y = X @ generator.normal(size=d) + generator.normal(size=n)
            yield compare(
                f"linear regression, {n:,} rows of {d} features",
                lambda X=X, y=y: LinearRegression().fit(X, y).coef_,
                lambda X=X, y=y: linear_model.LinearRegression().fit(X, y).coef_,
                peer_name="scikit-learn", repeats=101 if n < 1000 else 11, agree=apart,
            )  # fmt: skip


def apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"max relative difference {np.abs(ours - theirs).max() / np.abs(theirs).max():.0e}"
