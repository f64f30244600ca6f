"""Nearest neighbours: scikit-learn's, five points by hand, ties, groups kept apart, and wrong versions (mutants)."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from sklearn import neighbors

from vivace.base.errors import InputError
from vivace.explain import nearest_neighbors, neighbor_agreement

LINE = np.array([[0.0], [1], [3], [7], [8]])
LABELS = np.array([0, 0, 1, 1, 1])

Search = Callable[[np.ndarray, int], np.ndarray]


def check(search: Search) -> None:
    """On a line: 0 is next to 1 and 3; 3 is 2 from 1, 3 from 0; 7 is 1 from 8, 4 from 3."""
    assert search(LINE, 2).tolist() == [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2]]


def test_by_hand() -> None:
    check(lambda X, k: nearest_neighbors(X, k=k)[0])
    places, distances = nearest_neighbors(LINE, np.array([[6.0]]), k=3)
    assert places.tolist() == [[3, 4, 2]] and np.allclose(distances, [[1, 2, 3]])
    twice = np.concatenate([LINE, LINE])
    assert nearest_neighbors(twice, np.array([[6.0]]), k=3)[0].tolist() == [[3, 8, 4]]  # of equals the first
    share = neighbor_agreement(LABELS, nearest_neighbors(LINE, k=2)[0])
    assert share.tolist() == [0.5, 0.5, 0, 1, 1]
    assert neighbor_agreement(LABELS, places, np.array([1])).tolist() == [1]


def finds_itself(X: np.ndarray, k: int) -> np.ndarray:
    return nearest_neighbors(X, X, k)[0]


def farthest(X: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-np.abs(X - X.T), axis=1)[:, :k]


def by_angle(X: np.ndarray, k: int) -> np.ndarray:
    return nearest_neighbors(X, k=k, metric="cosine")[0]


@pytest.mark.parametrize("mutant", [finds_itself, farthest, by_angle])
def test_rejects(mutant: Search) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("n", "k"), [(12, 5), (300, 7)])
def test_scikit_learn_agrees(metric: str, n: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("vivace.explain.nearest_neighbors"), "BLOCK", 7 * n)  # several blocks
    random = np.random.default_rng(0)
    X, Q = random.normal(size=(n, 20)) + 100, random.normal(size=(33, 20))
    theirs = neighbors.NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(X)
    for queries in (Q, None):
        far, places = theirs.kneighbors(queries)
        ours, distances = nearest_neighbors(X, queries, k, metric=metric)
        assert np.array_equal(ours, places) and np.allclose(distances, far, rtol=1e-6, atol=1e-9)


def test_a_row_of_zeros_has_a_right_angle_with_each() -> None:
    X = np.array([[1.0, 0], [0, 2], [0, 0], [-1, 0]])
    _, distances = nearest_neighbors(X, np.zeros((1, 2)), 4, metric="cosine")
    assert distances.tolist() == [[1, 1, 1, 1]]
    places, distances = nearest_neighbors(X, X[:1] * 5, 4, metric="cosine")
    assert places.tolist() == [[0, 1, 2, 3]] and distances.tolist() == [[0, 1, 1, 2]]


def test_groups_are_kept_apart() -> None:
    group = np.array([0, 0, 1, 1, 0])
    places, _ = nearest_neighbors(LINE, k=1, apart=(group, group))
    assert places.tolist() == [[2], [2], [1], [4], [3]]
    with pytest.raises(InputError, match="k is 3, but a query has fewer rows outside its own group"):
        nearest_neighbors(LINE, k=3, apart=(group, group))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"k": 0}, "k is 0, but there are 4 rows"),
        ({"k": 5}, "k is 5, but there are 4 rows"),
        ({"metric": "cosin"}, "no metric named 'cosin'; try cosine"),
        ({"queries": np.ones((2, 3))}, "the queries have 3 numbers each, the features 1"),
        ({"queries": np.array([[np.nan]])}, "NaN"),
    ],
)
def test_bad_input(bad: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest_neighbors(LINE, **bad)  # type: ignore[arg-type]
