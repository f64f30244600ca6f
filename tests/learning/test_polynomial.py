"""Polynomial features against scikit-learn, NumPy's polynomials and counting."""

from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev, legendre
from PIL import Image
from sklearn import preprocessing
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.experiments.learning.polynomial import run
from vivace.learning import LinearRegression, PolynomialFeatures

X = np.random.default_rng(0).normal(size=(30, 3))


@parametrize_with_checks([PolynomialFeatures(), PolynomialFeatures(3, basis="legendre", include_bias=False)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


class WithoutMixedTerms(PolynomialFeatures):
    def fit(self, X: Any, y: Any = None) -> "WithoutMixedTerms":
        super().fit(X)
        self.powers_ = self.powers_[(self.powers_ > 0).sum(1) <= 1]
        return self


class DegreePerFeature(PolynomialFeatures):
    """Each exponent up to the degree, instead of their sum."""

    def fit(self, X: Any, y: Any = None) -> "DegreePerFeature":
        super().fit(X)
        self.powers_ = np.stack(np.meshgrid(*[range(self.degree + 1)] * X.shape[1], indexing="ij"), -1).reshape(-1, 3)
        return self


def agrees_with_scikit_learn(kind: type[PolynomialFeatures]) -> bool:
    for degree in range(5):
        for bias in (True, False):
            if degree == 0 and not bias:
                continue
            peer = preprocessing.PolynomialFeatures(degree, include_bias=bias).fit(X)
            ours = kind(degree, include_bias=bias).fit(X)
            if ours.powers_.tolist() != peer.powers_.tolist() or not np.allclose(ours.transform(X), peer.transform(X)):
                return False
            assert ours.get_feature_names_out().tolist() == peer.get_feature_names_out().tolist()
    return True


def test_agrees_with_scikit_learn() -> None:
    assert agrees_with_scikit_learn(PolynomialFeatures)


@pytest.mark.parametrize("mutant", [WithoutMixedTerms, DegreePerFeature])
def test_rejects(mutant: type[PolynomialFeatures]) -> None:
    assert not agrees_with_scikit_learn(mutant)


@given(st.integers(1, 6), st.integers(0, 5))
def test_there_are_as_many_terms_as_ways_to_choose(features: int, degree: int) -> None:
    terms = PolynomialFeatures(degree).fit(np.zeros((2, features))).powers_
    assert len(terms) == comb(features + degree, degree) and len({tuple(row) for row in terms}) == len(terms)


def test_orthogonal_bases_are_numpys() -> None:
    x = np.linspace(-3, 5, 50)[:, None]
    scaled = np.linspace(-1, 1, 50)
    for basis, peer in (("legendre", legendre.legvander), ("chebyshev", chebyshev.chebvander)):
        assert np.allclose(PolynomialFeatures(9, basis=basis).fit_transform(x), peer(scaled, 9))
    names = PolynomialFeatures(2, basis="legendre").fit(X[:, :2]).get_feature_names_out(["a", "b"])
    assert names.tolist() == ["1", "P1(a)", "P1(b)", "P2(a)", "P1(a) P1(b)", "P2(b)"]


def test_all_bases_span_the_same_functions() -> None:
    y = np.random.default_rng(1).normal(size=30)
    fits = []
    for basis in ("monomial", "legendre", "chebyshev"):
        terms = PolynomialFeatures(2, basis=basis).fit_transform(X)
        fits.append(LinearRegression(fit_intercept=False).fit(terms, y).predict(terms))
    assert np.allclose(fits[0], fits[1]) and np.allclose(fits[0], fits[2])


def test_a_quadratic_surface_is_found_again() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 200))
    z = 3 * x**2 - x * y + 0.5 * y**2 + 2 * x - 4 * y + 7
    terms = PolynomialFeatures(2).fit_transform(np.stack([x, y], 1))
    assert LinearRegression(fit_intercept=False).fit(terms, z).coef_ == pytest.approx([7, 2, -4, 3, -1, 0.5])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"degree": -1}, "degree is -1"), ({"degree": 1.5}, "degree is 1.5"), ({"basis": "legendr"}, "legendre")],
)
def test_bad_arguments_are_said(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PolynomialFeatures(**wrong).fit(X)


@pytest.mark.parametrize(("size", "grey"), [((1, 1), 90), ((64, 48), 0), ((64, 48), 255)])
def test_a_picture_without_uneven_light_is_said(size: tuple[int, int], grey: int, tmp_path: Path) -> None:
    Image.new("L", size, grey).save(tmp_path / "flat.png")
    with pytest.raises(InputError, match="is even, or there is none"):
        run(image=tmp_path / "flat.png")
