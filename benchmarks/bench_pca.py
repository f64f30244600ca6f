"""PCA: ours against scikit-learn, which for these shapes takes the covariance's eigenvectors or singular values too."""

from collections.abc import Iterator

import numpy as np
from sklearn import decomposition
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.generative import PCA


def rows() -> Iterator[Row]:
    with threadpool_limits(1):
        for n, d, r in ((10_000, 784, 50), (10_000, 784, None), (60_000, 64, 10), (200, 4096, None)):
            generator = np.random.default_rng(0)
            X = generator.normal(size=(n, min(n, d))) * np.geomspace(1, 0.01, min(n, d))
            X = X @ generator.normal(size=(min(n, d), d)) + generator.normal(size=d)
            yield compare(
                f"PCA, {n:,} rows of {d}, {r or 'all'} components",
                lambda X=X, r=r: PCA(r).fit(X).components_,
                lambda X=X, r=r: decomposition.PCA(r).fit(X).components_,
                peer_name="scikit-learn", repeats=7, agree=apart,
            )  # fmt: skip


def apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"max difference of the first 10 components {np.abs(ours - theirs)[:10].max():.0e}"
