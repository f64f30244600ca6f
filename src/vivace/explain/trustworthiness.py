"""Trustworthiness and continuity: how far a map of few dimensions can be believed, as two numbers.

Venna, Kaski, "Neighborhood preservation in nonlinear projection methods: an experimental study" (2001), eq. 1 and 2.
In: features X (n, d) and where the map puts them, Y (n, e). Out: numbers in [0, 1]; 1 is a map without a fault.
Departs from the paper: nowhere; equal distances have any order. `distance_correlation` asks another question, whether
far is far (rank correlation of all distances).
"""

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError


def trustworthiness(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m e"], n_neighbors: int = 5) -> float:
    """Are neighbours on the map neighbours in truth? Each false one costs its true rank beyond `n_neighbors`."""
    return _preserved(_distances(X), _distances(Y), n_neighbors)


def continuity(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m e"], n_neighbors: int = 5) -> float:
    """Are true neighbours neighbours on the map? Each one lost costs its rank there beyond `n_neighbors`."""
    return _preserved(_distances(Y), _distances(X), n_neighbors)


def distance_correlation(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m e"]) -> float:
    """Is far on the map far in truth? Spearman's rank correlation of the distances of all pairs, in [-1, 1]."""
    if len(X) != len(Y) or len(X) < 3:
        raise InputError(f"a map of {len(Y)} points for {len(X)} features; both need the same 3 points or more")
    from scipy.stats import spearmanr

    pairs = np.triu_indices(len(X), 1)
    return float(spearmanr(_distances(X)[pairs], _distances(Y)[pairs])[0])


def _preserved(true: Float[np.ndarray, "n n"], found: Float[np.ndarray, "m m"], k: int) -> float:
    """1 less the scaled sum of (rank by `true`) - k over those among the k nearest by `found` that `true` has not."""
    n = len(true)
    if len(found) != n:
        raise InputError(f"{len(found)} and {n} points: a map has one for each row of features")
    if not 1 <= k < n / 2:
        raise InputError(f"n_neighbors is {k}, but must be from 1 to less than half of {n} points")
    near = np.argpartition(_others(found), k - 1, axis=1)[:, :k]
    D = _others(true)
    limits = np.take_along_axis(D, near, axis=1)  # (n, k)
    rank = np.stack([1 + (D < limit[:, None]).sum(1) for limit in limits.T], axis=1)  # 1 is the nearest
    beyond = np.maximum(rank - k, 0).sum()
    return 1 - 2 * float(beyond) / (n * k * (2 * n - 3 * k - 1))


def _others(D: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The same distances, but each point is farthest from itself."""
    return np.where(np.eye(len(D), dtype=bool), np.inf, D)


def _distances(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    if not np.isfinite(X).all():
        raise InputError("features have NaN or infinite numbers")
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(X - X.mean(0))
