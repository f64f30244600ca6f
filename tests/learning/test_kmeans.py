"""k-means against scikit-learn from the same start, a naive loop, and numbers by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from sklearn.datasets import load_digits, load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.experiments.labelled_pictures import directions
from vivace.learning import KMeans, assign, kmeans_plus_plus, lloyd, update

Step = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@parametrize_with_checks([KMeans(n_init=1), KMeans(n_clusters=3, max_iter=5)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def test_four_points_by_hand() -> None:
    X = np.array([[0.0], [1.0], [5.0], [6.0]])
    steps = list(lloyd(X, np.array([[0.0], [1.0]])))
    assert [labels.tolist() for labels, _ in steps] == [[0, 1, 1, 1], [0, 0, 1, 1]]
    assert [centers.ravel().tolist() for _, centers in steps] == [[0, 4], [0.5, 5.5]]
    model = KMeans(2, random_state=0).fit(X)
    assert model.inertia_ == pytest.approx(1) and sorted(model.cluster_centers_.ravel()) == [0.5, 5.5]


def from_the_same_start(step: Step) -> bool:
    """Whether Lloyd's algorithm with this update ends where scikit-learn's does, with an empty cluster on the way."""
    for X, k, seed in ((load_digits().data, 10, 0), (load_iris().data, 3, 1), (load_iris().data, 12, 2)):
        start = X[np.random.default_rng(seed).choice(len(X), k, replace=False)]
        if k == 12:
            start[0] += 100  # nobody's nearest
        peer = cluster.KMeans(k, init=start, n_init=1, tol=0).fit(X)
        centers, labels = start, np.zeros(0)
        for _ in range(100):
            before, labels = labels, assign(X, centers)
            if np.array_equal(labels, before):
                break
            centers = step(X, labels, centers)
        if not (np.array_equal(labels, peer.labels_) and np.allclose(centers, peer.cluster_centers_)):
            return False
    return True


def test_ends_where_scikit_learn_ends() -> None:
    assert from_the_same_start(update)


def medians(X: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return np.stack(
        [np.median(X[labels == j], axis=0) if (labels == j).any() else centers[j] for j in range(len(centers))]
    )


def half_way(X: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return (update(X, labels, centers) + centers) / 2


def empty_ones_stay(X: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return np.stack([X[labels == j].mean(0) if (labels == j).any() else centers[j] for j in range(len(centers))])


@pytest.mark.parametrize("mutant", [medians, half_way, empty_ones_stay])
def test_rejects(mutant: Step) -> None:
    assert not from_the_same_start(mutant)


def test_assigns_the_nearest_also_far_from_the_origin() -> None:
    generator = np.random.default_rng(0)
    X, centers = generator.normal(size=(5000, 3)), generator.normal(size=(40, 3))
    naive = np.square(X[:, None] - centers).sum(2).argmin(1)
    assert (assign(X, centers) == naive).all()
    assert (assign(X + 1e8, centers + 1e8) == naive).mean() > 0.999
    uncentred = (np.square(centers + 1e8).sum(1) - 2 * (X + 1e8) @ (centers + 1e8).T).argmin(1)  # a mutant
    assert (uncentred == naive).mean() < 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 8))
def test_a_step_never_raises_the_inertia(seed: int, k: int) -> None:
    X = np.random.default_rng(seed).normal(size=(30, 2)).round(1)
    start = kmeans_plus_plus(X, k, random_state=seed)
    inertias = [np.square(X - centers[labels]).sum() for labels, centers in lloyd(X, start)]
    assert (np.diff(inertias) <= 1e-9).all() and (start[:, None] == X).all(2).any(1).all()


def test_as_good_as_scikit_learns_on_digits() -> None:
    X = load_digits().data
    ours, peer = KMeans(10, random_state=0).fit(X), cluster.KMeans(10, n_init=10, random_state=0).fit(X)
    assert ours.inertia_ < 1.005 * peer.inertia_
    assert ours.inertia_ == pytest.approx(np.square(ours.transform(X).min(1)).sum())
    assert (ours.predict(X) == ours.labels_).all() and (ours.transform(X).argmin(1) == ours.labels_).all()


def test_the_start_is_far_apart() -> None:
    """Three tight groups: k-means++ takes one point of each; three at random rarely do (2/9 of the time)."""
    X = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 20, axis=0) + np.random.default_rng(0).normal(size=(60, 2))
    starts = [kmeans_plus_plus(X, 3, random_state=seed) for seed in range(50)]
    assert sum(len({tuple(row) for row in (start > 50).tolist()}) == 3 for start in starts) >= 49


def test_directions_have_length_one_and_nothing_stays_nothing() -> None:
    assert directions(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0, 0]]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="n_clusters is 5, but n_samples=3"):
        KMeans(5).fit([[1.0], [2.0], [3.0]])
    with pytest.raises(InputError, match="both must be at least 1"):
        KMeans(2, max_iter=0).fit([[1.0], [2.0], [3.0]])
    with pytest.warns(UserWarning, match="Number of distinct clusters .2."):
        KMeans(3, random_state=0).fit([[1.0], [1.0], [2.0], [2.0]])
