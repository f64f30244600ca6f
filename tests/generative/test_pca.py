"""PCA against scikit-learn, numbers by hand, and what defines it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.generative import PCA
from vivace.generative.pca import by_covariance, by_singular_values

DIGITS = load_digits().data
Fit = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@parametrize_with_checks([PCA(), PCA(n_components=1)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def ours(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    model = PCA(r).fit(X)
    return model.components_, model.explained_variance_


def not_centred(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    return Vt[:r] * np.sign(Vt[range(r), np.abs(Vt[:r]).argmax(1)])[:, None], s[:r] ** 2 / (len(X) - 1)


def standardised(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    return ours((X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1), r)


def smallest_first(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    components, variances = ours(X, r)
    return components[::-1], variances[::-1]


def over_n(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    components, variances = ours(X, r)
    return components, variances * (len(X) - 1) / len(X)


def signs_as_they_come(X: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    components, variances = ours(X, r)
    return components * np.sign(components[:, [20]]), variances


def is_scikit_learns(fit: Fit) -> bool:
    """Digits, more columns than rows, and rows far from the origin: to 1e-8, signs included."""
    for X, r in ((DIGITS, 20), (DIGITS[:30], 10), (DIGITS + 1e5, 5)):
        peer = decomposition.PCA(r, svd_solver="full").fit(X)
        components, variances = fit(X, r)
        if not (np.allclose(components, peer.components_, atol=1e-8)
                and np.allclose(variances, peer.explained_variance_, rtol=1e-8)):  # fmt: skip
            return False
    return True


def test_is_scikit_learns() -> None:
    assert is_scikit_learns(ours)


@pytest.mark.parametrize("mutant", [not_centred, standardised, smallest_first, over_n, signs_as_they_come])
def test_rejects(mutant: Fit) -> None:
    assert not is_scikit_learns(mutant)


def test_three_points_by_hand() -> None:
    """On the line y = 2 x: one direction (1, 2) / sqrt 5, variance 5, nothing left for the second."""
    model = PCA().fit([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
    assert model.components_[0] == pytest.approx(np.array([1, 2]) / 5**0.5)
    assert model.explained_variance_ == pytest.approx([5, 0]) and model.explained_variance_ratio_ == pytest.approx(
        [1, 0]
    )
    assert model.transform([[2.0, 5.0]])[0] == pytest.approx([5**0.5, 0])


def test_both_ways_agree() -> None:
    (a, V, total), (b, W, same) = (way(DIGITS, DIGITS.mean(0), 12) for way in (by_covariance, by_singular_values))
    assert (
        np.allclose(a, b)
        and total == pytest.approx(same) == pytest.approx(DIGITS.var(0, ddof=1).sum())
        and np.allclose(np.abs(np.sum(V * W, axis=1)), 1)
    )


def test_what_is_left_out_is_the_error_and_codes_are_uncorrelated() -> None:
    model = PCA(8).fit(DIGITS)
    codes = model.transform(DIGITS)
    error = np.square(DIGITS - model.inverse_transform(codes)).sum() / np.square(DIGITS - DIGITS.mean(0)).sum()
    assert error == pytest.approx(1 - model.explained_variance_ratio_.sum())
    assert np.allclose(np.cov(codes.T), np.diag(model.explained_variance_), atol=1e-9)
    assert np.allclose(model.components_ @ model.components_.T, np.eye(8))
    assert np.allclose(PCA().fit(DIGITS).inverse_transform(PCA().fit_transform(DIGITS)), DIGITS)


@pytest.mark.parametrize("X", [DIGITS, DIGITS[:50]])
def test_a_share_of_the_variance_takes_as_few_as_reach_it(X: np.ndarray) -> None:
    model, peer = PCA(0.9).fit(X), decomposition.PCA(0.9, svd_solver="full").fit(X)
    assert model.n_components_ == peer.n_components_
    assert np.allclose(model.explained_variance_ratio_, peer.explained_variance_ratio_)


def test_constant_rows_have_no_variance() -> None:
    model = PCA(2).fit(np.ones((5, 3)))
    assert not model.explained_variance_ratio_.any() and np.isfinite(model.components_).all()
    assert PCA(0.9).fit(np.ones((5, 3))).n_components_ == 1


@pytest.mark.parametrize("wanted", [0, 65, 2.5, -1, 1.0001])
def test_bad_input(wanted: Any) -> None:
    with pytest.raises(InputError, match="must be a whole number from 1 to 64, a share, or None"):
        PCA(wanted).fit(DIGITS)
