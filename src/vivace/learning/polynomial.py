"""Polynomial features: products of the features' powers, over which a linear model becomes a polynomial.

Gergonne, "Application de la méthode des moindres quarrés à l'interpolation des suites" (1815): powers as regressors.
In: features X (n, d), any finite numbers, and the degree p >= 0. Out: (n, C(d + p, p)), the constant column among them.
Departs from the paper: several variables; by name, Legendre or Chebyshev polynomials of features scaled to [-1, 1] over
the rows seen in `fit`: the same functions in other coordinates, of which rounding loses far less.
"""

from itertools import combinations_with_replacement
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from vivace.base.errors import InputError, unknown

Basis = Literal["monomial", "legendre", "chebyshev"]


class PolynomialFeatures(TransformerMixin, BaseEstimator):
    """All products of powers up to a total degree, in scikit-learn's order: 1, x, y, x^2, x y, y^2 for two features.

    `powers_` (m, d) has each term's exponents. A linear model after it, with `fit_intercept=False` or without
    `include_bias`, fits polynomials: `make_pipeline(PolynomialFeatures(2), Ridge())`.
    """

    def __init__(  # any: scikit-learn's manners are to check in `fit`
        self, degree: Any = 2, *, basis: Any = "monomial", include_bias: Any = True
    ) -> None:
        self.degree = degree
        self.basis = basis
        self.include_bias = include_bias

    def fit(self, X: Any, y: Any = None) -> "PolynomialFeatures":  # noqa: ARG002 (scikit-learn's manners)
        """Learn the number of features, and their ranges; there is nothing else to learn."""
        if not isinstance(self.degree, int | np.integer) or self.degree < 0:
            raise InputError(f"degree is {self.degree!r}, but must be a whole number of at least 0")
        if self.basis not in get_args(Basis):
            raise unknown("basis", self.basis, get_args(Basis))
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self.powers_ = exponents(X.shape[1], int(self.degree))[0 if self.include_bias else 1 :]
        self._low, self._high = X.min(0), X.max(0)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n m"]:
        """The terms' values, a column each; Legendre and Chebyshev grow fast outside the range seen in `fit`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if self.basis != "monomial":
            reach = np.where(self._high > self._low, (self._high - self._low) / 2, 1)
            X = (X - (self._high + self._low) / 2) / reach
        tables = _powers(X, self.degree, self.basis)  # P_0(x), P_1(x), ... of each feature
        terms = np.ones((len(X), len(self.powers_)), X.dtype)
        for column, powers in zip(terms.T, self.powers_, strict=True):
            for j in np.flatnonzero(powers):
                column *= tables[powers[j]][:, j]
        return terms

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """What each column is: "1", "x0", "x0^2", "x0 x1"; P3(x0) in another basis."""
        names = _check_feature_names_in(self, input_features)
        letter = {"legendre": "P", "chebyshev": "T"}.get(self.basis)

        def word(j: int, power: int) -> str:
            if letter:
                return f"{letter}{power}({names[j]})"
            return names[j] if power == 1 else f"{names[j]}^{power}"

        rows = self.powers_.tolist()
        terms = [" ".join(word(j, power) for j, power in enumerate(row) if power) for row in rows]
        return np.array([term or "1" for term in terms], dtype=object)


def exponents(features: int, degree: int) -> Int[np.ndarray, "m {features}"]:
    """The exponents of every monomial of total degree 0 to `degree`: C(features + degree, degree) rows."""
    chosen = (which for total in range(degree + 1) for which in combinations_with_replacement(range(features), total))
    return np.array([np.bincount(np.array(which, int), minlength=features) for which in chosen])


def _powers(X: Float[np.ndarray, "n d"], degree: int, basis: str) -> list[Float[np.ndarray, "n d"]]:
    """P_0(x) = 1, P_1(x) = x and on to P_degree(x), each from the two before it."""
    table = [np.ones_like(X), X]
    for k in range(1, degree):
        match basis:
            case "monomial":
                table.append(X * table[k])
            case "chebyshev":
                table.append(2 * X * table[k] - table[k - 1])
            case _:
                table.append(((2 * k + 1) * X * table[k] - k * table[k - 1]) / (k + 1))
    return table
