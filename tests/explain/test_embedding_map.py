"""Maps: t-SNE's own cost by the paper's formula, clusters kept, starts that count, and wrong versions (mutants)."""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn import manifold
from sklearn.decomposition import PCA

from vivace.base.errors import InputError
from vivace.explain import embedding_map, nearest_neighbors, neighbor_agreement, umap_at_hand

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) // 20
CLUSTERS = RANDOM.normal(size=(60, 8)) + 6 * np.eye(8)[LABELS]
START = PCA(2).fit_transform(CLUSTERS)

METHODS = ["t-sne", pytest.param("umap", marks=pytest.mark.skipif(not umap_at_hand(), reason="umap-learn is an extra"))]


def from_seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", METHODS)
def test_clusters_stay_together_and_the_start_counts(method: str) -> None:
    make = partial(embedding_map, CLUSTERS, method)
    found = make(START, generator=from_seed(0))
    assert found.shape == (60, 2) and np.isfinite(found).all()
    check(lambda: found)
    assert np.array_equal(found, make(START, generator=from_seed(0)))
    assert not np.allclose(found, make(generator=from_seed(0)))


def check(make: Callable[[], np.ndarray]) -> None:
    assert neighbor_agreement(LABELS, nearest_neighbors(make(), k=5)[0]).mean() > 0.95


def of_the_columns() -> np.ndarray:
    return embedding_map(RANDOM.permutation(CLUSTERS.T).T[:, :1] * np.ones((1, 8)), generator=from_seed(0))


def start_only() -> np.ndarray:
    return RANDOM.normal(size=(60, 2))


def rows_shuffled() -> np.ndarray:
    return embedding_map(CLUSTERS, generator=from_seed(0))[RANDOM.permutation(60)]


@pytest.mark.parametrize("mutant", [of_the_columns, start_only, rows_shuffled])
def test_rejects(mutant: Callable[[], np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_t_sne_is_scikit_learns_from_our_start() -> None:
    start = (1e-4 * START / START[:, 0].std()).astype(np.float32)
    theirs = manifold.TSNE(init=start, perplexity=10, random_state=0).fit_transform(CLUSTERS)
    ours = embedding_map(CLUSTERS, "t-sne", START * 1000 + 5, neighbors=10, generator=from_seed(3))
    assert cost(ours) == pytest.approx(cost(theirs), rel=0.05)
    assert cost(ours) < 0.8 * cost(START), "the formula's cost is what is lowered"


def cost(Y: np.ndarray, perplexity: float = 10) -> float:
    """Kullback and Leibler's divergence of the map's similarities from the features' (eq. 2 to 4 of the paper)."""
    n = len(Y)
    D = np.square(CLUSTERS[:, None] - CLUSTERS).sum(2)
    P = np.zeros((n, n))
    for i in range(n):
        low, high = 1e-6, 1e6
        for _ in range(60):  # the width with which the row's entropy is that of `perplexity` equal ones
            beta = (low * high) ** 0.5
            p = np.exp(-beta * (D[i] - np.delete(D[i], i).min()))
            p[i] = 0
            p /= p.sum()
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        P[i] = p
    P = (P + P.T) / (2 * n)
    Q = 1 / (1 + np.square(Y[:, None] - Y).sum(2))
    np.fill_diagonal(Q, 0)
    Q /= Q.sum()
    return float((P[P > 0] * np.log(P[P > 0] / Q[P > 0])).sum())


def test_without_umap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("vivace.explain.embedding_map"), "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="UMAP needs the package umap-learn"):
        embedding_map(CLUSTERS, "umap")


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (CLUSTERS[:4], {}, "a map needs five at least"),
        (CLUSTERS * np.nan, {}, "NaN"),
        (CLUSTERS, {"method": "tsne"}, "no map named 'tsne'; try t-sne"),
        (CLUSTERS, {"neighbors": 1}, "neighbors is 1, but must be from 2"),
        (CLUSTERS, {"neighbors": 60}, "less than the number of points, 60"),
        (CLUSTERS, {"start": np.ones((60, 2))}, "points apart in both directions"),
        (CLUSTERS, {"start": START[:5]}, r"a start is \(60, 2\)"),
    ],
)
def test_bad_input(features: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedding_map(features, **arguments)  # type: ignore[arg-type]
