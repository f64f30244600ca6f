"""k-means from the same start until no label changes: ours (NumPy) against scikit-learn (Cython)."""

from collections.abc import Iterator

import numpy as np
from sklearn import cluster
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.learning import KMeans, lloyd


def rows() -> Iterator[Row]:
    digits = load_digits().data + np.random.default_rng(1).uniform(size=(1797, 64)) / 10  # no ties
    generator = np.random.default_rng(0)
    X = generator.normal(size=(20_000, 64)) + generator.normal(size=(100, 64))[generator.integers(100, size=20_000)] / 2
    with threadpool_limits(1):
        for what, points, k in (("1,797 digits", digits, 10), ("20,000 rows of 64", X, 10), ("20,000 rows", X, 100)):
            start = points[generator.choice(len(points), k, replace=False)]
            peer = cluster.KMeans(k, init=start, n_init=1, tol=0)
            yield compare(
                f"Lloyd's steps, {what}, {k} centres",
                lambda points=points, start=start: [*lloyd(points, start)][-1][1],
                lambda points=points, peer=peer: peer.fit(points).cluster_centers_,
                peer_name="scikit-learn", repeats=7, agree=apart,
            )  # fmt: skip
        peer = cluster.KMeans(10, n_init=10, tol=0, random_state=0)
        yield compare(
            "k-means, 1,797 digits, 10 centres, the best of 10 starts",
            lambda: KMeans(10, random_state=0).fit(digits).inertia_,
            lambda: peer.fit(digits).inertia_,
            peer_name="scikit-learn", repeats=7, agree=lambda ours, theirs: f"inertia {ours / theirs:.4f} of its",
        )  # fmt: skip


def apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"max difference of centres {np.abs(ours - theirs).max():.0e}"
