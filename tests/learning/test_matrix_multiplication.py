"""Matrix multiplication and what is made of it, against NumPy, SciPy, torch and numbers by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from vivace.learning import (
    blocked,
    correlation,
    cosine_similarities,
    covariance,
    gram,
    linear_layer,
    squared_distances,
    triple_loop,
)

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]
X = np.random.default_rng(0).normal([0, 1, 2, 30, -4], size=(40, 5))


def elementwise(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return A * B if A.shape == B.shape else np.zeros((len(A), B.shape[1]))


def the_other_way_round(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return (B.T @ A.T) if len(A) == B.shape[1] else np.zeros((len(A), B.shape[1]))


def ragged_edge_forgotten(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    whole = A.shape[1] // 4 * 4
    return A[:, :whole] @ B[:whole]


def is_the_product(product: Product) -> bool:
    by_hand = product(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]]))
    generator = np.random.default_rng(1)
    A, B = generator.normal(size=(7, 9)), generator.normal(size=(9, 5))
    return by_hand.tolist() == [[19, 22], [43, 50]] and np.allclose(product(A, B), A @ B, rtol=1e-13)


@pytest.mark.parametrize("product", [triple_loop, blocked, lambda A, B: blocked(A, B, block=4)])
def test_multiplies(product: Product) -> None:
    assert is_the_product(product)


@pytest.mark.parametrize("mutant", [elementwise, the_other_way_round, ragged_edge_forgotten])
def test_rejects_the_mutant(mutant: Product) -> None:
    assert not is_the_product(mutant)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 10))
def test_blocks_of_any_size_make_the_whole(n: int, d: int, m: int, block: int) -> None:
    generator = np.random.default_rng(n + d)
    A, B = generator.normal(size=(n, d)), generator.normal(size=(d, m))
    assert np.allclose(blocked(A, B, block=block), A @ B) and np.allclose(triple_loop(A, B), A @ B)


def test_a_linear_layer_is_torchs() -> None:
    layer = torch.nn.Linear(5, 3).double()
    W, b = (parameter.detach().numpy() for parameter in layer.parameters())
    assert np.allclose(linear_layer(X, W, b), layer(torch.from_numpy(X)).detach().numpy())


def test_distances_and_cosines_are_scipys() -> None:
    Y = X[::-3] + 0.5
    assert np.allclose(squared_distances(X, Y), cdist(X, Y, "sqeuclidean"))
    assert np.allclose(cosine_similarities(X, Y), 1 - cdist(X, Y, "cosine"))
    assert squared_distances(X, X).diagonal() == pytest.approx(0, abs=1e-11)
    assert cosine_similarities(np.zeros((1, 5)), X).tolist() == [[0.0] * 40]


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    far = X + 1e8
    exact = cdist(far, far, "sqeuclidean")
    expanded = np.square(far).sum(1)[:, None] - 2 * far @ far.T + np.square(far).sum(1)  # a mutant: not centred
    assert np.allclose(squared_distances(far, far), exact, rtol=1e-6, atol=1e-6)
    assert not np.allclose(expanded, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [(covariance, np.cov), (correlation, np.corrcoef)])
def test_only_the_right_gram_is_the_statistic(ours: Any, theirs: Any) -> None:
    expected = theirs(X, rowvar=False)
    assert np.allclose(ours(X), expected)
    mutants = [gram(X), gram(X) / 40, gram(X - X.mean(0)), gram(X / X.std(0)) / 40, ours(X - X.mean(0)) * 39 / 40]
    assert not any(np.allclose(mutant, expected) for mutant in mutants)


def test_a_constant_feature_is_correlated_with_none() -> None:
    R = correlation(np.column_stack([X, np.full(40, 3.0)]))
    assert np.isfinite(R).all() and not R[-1].any()
