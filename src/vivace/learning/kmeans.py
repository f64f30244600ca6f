"""k-means: every point belongs to the nearest of k centres, and every centre is the mean of its points.

Lloyd, "Least squares quantization in PCM" (1957, printed 1982), method I. The start: Arthur, Vassilvitskii,
"k-means++: the advantages of careful seeding" (2007), section 2.2.
In: points X (n, d), any finite numbers. Out: `cluster_centers_` (k, d), `labels_` (n,), `inertia_`.
Departs from the paper: the start takes the best of 2 + log k candidates at each draw, as its authors suggest; a centre
that loses all its points moves to the point farthest from its own centre, as in scikit-learn.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError
from vivace.learning.matrix_multiplication import squared_distances

BLOCK = 2**15  # numbers in a block of scores: it stays in the processor's cache until its smallest are found


class KMeans(TransformerMixin, ClusterMixin, BaseEstimator):
    """k-means with scikit-learn's manners: the best of `n_init` runs, each until no label changes.

    The runs are scikit-learn's own, in C; `lloyd`, `assign`, `update` and `kmeans_plus_plus` are the same steps to read
    and to watch. `inertia_` is the sum of squared distances to the centres; `n_iter_` the steps of the best run.
    """

    def __init__(self, n_clusters: Any = 8, *, n_init: Any = 10, max_iter: Any = 300, random_state: Any = None) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "KMeans":  # noqa: ARG002 (scikit-learn's manners)
        """Find the centres of array-like X (n, d). There are no labels."""
        X = validate_data(self, X, dtype=np.float64)
        if not 1 <= self.n_clusters <= len(X):
            raise InputError(f"n_clusters is {self.n_clusters}, but n_samples={len(X)} points make 1 to {len(X)}")
        if min(self.n_init, self.max_iter) < 1:
            raise InputError(f"n_init is {self.n_init} and max_iter {self.max_iter}; both must be at least 1")
        from sklearn import cluster  # only now: it takes a sixth of the time that importing this room takes

        found = cluster.KMeans(self.n_clusters, n_init=self.n_init, max_iter=self.max_iter, tol=0.0,
                               random_state=self.random_state).fit(X)  # fmt: skip
        self.cluster_centers_, self.labels_ = found.cluster_centers_, found.labels_.astype(np.int64)
        self.inertia_, self.n_iter_ = float(found.inertia_), found.n_iter_
        return self

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """The nearest centre of each point."""
        check_is_fitted(self)
        return assign(validate_data(self, X, dtype=np.float64, reset=False), self.cluster_centers_)

    def transform(self, X: Any) -> Float[np.ndarray, "n k"]:
        """The distance of each point from each centre."""
        check_is_fitted(self)
        return np.sqrt(squared_distances(validate_data(self, X, dtype=np.float64, reset=False), self.cluster_centers_))


def lloyd(X: Float[np.ndarray, "n d"], centers: Float[np.ndarray, "k d"], *, max_iter: int = 300
          ) -> Iterator[tuple[Int[np.ndarray, " n"], Float[np.ndarray, "k d"]]]:  # fmt: skip
    """Step by step from `centers`: the labels and the means that follow, until no label changes any more."""
    before = None
    for _ in range(max_iter):
        labels = assign(X, centers)
        if before is not None and np.array_equal(labels, before):
            return
        centers = update(X, labels, centers)
        yield labels, centers
        before = labels


def assign(X: Float[np.ndarray, "n d"], centers: Float[np.ndarray, "k d"]) -> Int[np.ndarray, " n"]:
    """The nearest centre: the least |c|^2 - 2 x.c, which is |x - c|^2 but for what x has with every centre."""
    origin = centers.mean(0)  # centres are measured from here: less is lost where all lies far from zero
    C = centers - origin
    W, b = -2 * C.T, np.square(C).sum(1) + 2 * C @ origin
    labels = np.empty(len(X), dtype=np.int64)
    rows = max(256, BLOCK // len(C))
    for start in range(0, len(X), rows):
        scores = X[start : start + rows] @ W
        scores += b
        labels[start : start + rows] = scores.argmin(1)
    return labels


def update(X: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], centers: Float[np.ndarray, "k d"]
           ) -> Float[np.ndarray, "k d"]:  # fmt: skip
    """The mean of each centre's points: one product with the table of who belongs to whom."""
    n, k = len(X), len(centers)
    counts = np.bincount(labels, minlength=k)
    if empty := np.flatnonzero(counts == 0).tolist():
        distances = np.square(X - centers[labels]).sum(1)
        labels = labels.copy()
        labels[np.argsort(distances)[: -len(empty) - 1 : -1]] = empty
        counts = np.bincount(labels, minlength=k)
    belongs = csr_array((np.ones(n), labels, np.arange(n + 1)), shape=(n, k))
    return np.asarray(belongs.T @ X) / np.maximum(counts, 1)[:, None]


def kmeans_plus_plus(X: Float[np.ndarray, "n d"], k: int, *, random_state: Any = None) -> Float[np.ndarray, "k d"]:
    """k of the points, far apart: each drawn with odds in proportion to its squared distance from the others."""
    random = check_random_state(random_state)
    candidates = 2 + int(np.log(k))
    Z = X - X.mean(0)
    lengths = np.einsum("nd,nd->n", Z, Z)

    def squared_from(rows: Any) -> Float[np.ndarray, "c n"]:
        return np.maximum(lengths - 2 * Z[rows] @ Z.T + lengths[rows, None], 0)

    chosen = [random.randint(len(X))]
    nearest = squared_from(chosen)[0]
    for _ in range(k - 1):
        drawn = np.searchsorted(np.cumsum(nearest), random.uniform(size=candidates) * nearest.sum())
        drawn = np.minimum(drawn, len(X) - 1)
        distances = np.minimum(squared_from(drawn), nearest)
        best = int(distances.sum(1).argmin())
        chosen.append(drawn[best])
        nearest = distances[best]
    return X[chosen]
