"""Logistic and softmax regression: ours (L-BFGS in better coordinates) against scikit-learn (L-BFGS)."""

from collections.abc import Iterator

import numpy as np
from sklearn import linear_model
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.learning import LogisticRegression

EXACT = 1e-8  # scikit-learn's tolerance; with its default, 1e-4, coefficients are right to two or three digits


def rows() -> Iterator[Row]:
    with threadpool_limits(1):
        for what, X, y in problems():
            for tol in (1e-4, EXACT):
                peer = linear_model.LogisticRegression(tol=tol, max_iter=100_000)
                yield compare(
                    f"{what}, scikit-learn's tol={tol:g}",
                    lambda X=X, y=y: LogisticRegression().fit(X, y).coef_,
                    lambda X=X, y=y, peer=peer: peer.fit(X, y).coef_,
                    peer_name="scikit-learn", repeats=3, agree=apart,
                )  # fmt: skip


def problems() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    X, y = load_digits(return_X_y=True)
    yield "softmax regression, digits (1,797 rows of 64 pixels)", X / 16, y
    generator = np.random.default_rng(0)
    X = generator.normal(size=(20_000, 64)) @ (np.eye(64) + generator.normal(size=(64, 64)) / 16)
    for what, classes in (("logistic", 2), ("softmax", 10)):
        scores = X @ generator.normal(size=(64, classes)) / 8 + generator.gumbel(size=(len(X), classes))
        yield f"{what} regression, 20,000 rows of 64 features, {classes} classes", X, scores.argmax(1)


def apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"max relative difference {np.abs(ours - theirs).max() / np.abs(theirs).max():.0e}"
