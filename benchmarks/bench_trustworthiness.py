"""How far a map can be believed, and its neighbours: ours against scikit-learn."""

from collections.abc import Iterator

import numpy as np
from sklearn import manifold, neighbors
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.explain import nearest_neighbors, trustworthiness


def rows() -> Iterator[Row]:
    random = np.random.default_rng(0)
    with threadpool_limits(1):
        for n in (300, 1000):
            X, Y = random.normal(size=(n, 1280)), random.normal(size=(n, 2))
            yield compare(
                f"trustworthiness, {n:,} pictures of 1,280 numbers",
                lambda X=X, Y=Y: trustworthiness(X, Y),
                lambda X=X, Y=Y: manifold.trustworthiness(X, Y),
                peer_name="scikit-learn", repeats=5, agree=lambda a, b: f"difference {abs(a - b):.0e}",
            )  # fmt: skip
        X, Q = random.normal(size=(5000, 1280)), random.normal(size=(200, 1280))
        peer = neighbors.NearestNeighbors(n_neighbors=5, algorithm="brute").fit(X)
        yield compare(
            "5 nearest of 200 pictures among 5,000, 1,280 numbers",
            lambda: nearest_neighbors(X, Q, 5)[0],
            lambda: peer.kneighbors(Q)[1],
            peer_name="scikit-learn", repeats=5, agree=lambda a, b: f"{(a != b).sum()} places differ",
        )  # fmt: skip
