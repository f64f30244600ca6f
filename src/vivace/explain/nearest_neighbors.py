"""Nearest neighbours: the pictures whose features lie closest to a picture's.

Fix, Hodges, "Discriminatory analysis: nonparametric discrimination" (1951), section 4; Cover, Hart, "Nearest neighbor
pattern classification" (1967), section II, who show that one neighbour errs at most twice as often as the best rule.
In: features (n, d) to search and queries (m, d), finite. Out: the places of the nearest (m, k) in order, and distances.
Departs from the paper: also by angle ("cosine"); equally near ones come in their order; rows may be told not to match.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from vivace.base.errors import InputError, unknown
from vivace.base.nearest import smallest

Metric = Literal["euclidean", "cosine"]
BLOCK = 2**22  # numbers in a block of distances


def nearest_neighbors(
    features: Float[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m e"] | None = None,
    k: int = 5,
    *,
    metric: Metric | str = "euclidean",
    apart: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]] | None = None,
) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """The k nearest rows of `features` for each query, and how far they are. Exact: all distances are computed.

    queries: where not given, each row of `features` looks for others than itself
    metric: "euclidean", or "cosine", which is 1 less the cosine of the angle
    apart: a group of each row and of each query; those of one group don't match (parts of one photograph, say)
    """
    own = queries is None
    Q = features if queries is None else queries
    if metric not in get_args(Metric):
        raise unknown("metric", metric, get_args(Metric))
    if Q.shape[1] != features.shape[1]:
        raise InputError(f"the queries have {Q.shape[1]} numbers each, the features {features.shape[1]}")
    if not (np.isfinite(features).all() and np.isfinite(Q).all()):
        raise InputError("features have NaN or infinite numbers")
    most = len(features) - own
    if not 1 <= k <= most:
        raise InputError(f"k is {k}, but there are {most} rows to find")
    X, Q = (_unit(features), _unit(Q)) if metric == "cosine" else (features - features.mean(0), Q - features.mean(0))
    places, distances = np.empty((len(Q), k), np.int64), np.empty((len(Q), k))
    rows = max(1, BLOCK // len(X))
    for start in range(0, len(Q), rows):
        some = slice(start, min(start + rows, len(Q)))
        D = 1 - Q[some] @ X.T if metric == "cosine" else _squared_distances(Q[some], X)
        if own:
            D[np.arange(len(D)), np.arange(some.start, some.stop)] = np.inf
        if apart is not None:
            D[apart[1][some, None] == apart[0]] = np.inf
        places[some], distances[some] = smallest(D, k)
    if np.isinf(distances).any():
        raise InputError(f"k is {k}, but a query has fewer rows outside its own group")
    return places, distances if metric == "cosine" else np.sqrt(distances)


def neighbor_agreement(
    labels: Int[np.ndarray, " n"], places: Int[np.ndarray, "m k"], query_labels: Int[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, " m"]:
    """For each query the share of its neighbours that have its own label."""
    wanted = labels if query_labels is None else query_labels
    return (labels[places] == wanted[:, None]).mean(1)


def _unit(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1. A row of zeros stays one: it has a right angle with each."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)


def _squared_distances(Q: Float[np.ndarray, "m d"], X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n"]:
    """|q - x|^2 as |q|^2 - 2 q.x + |x|^2; little cancels where X has its mean at zero."""
    D = np.einsum("md,md->m", Q, Q)[:, None] - 2 * Q @ X.T + np.einsum("nd,nd->n", X, X)
    return np.maximum(D, 0)
