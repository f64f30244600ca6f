"""The perceptron's passes over digits, ten units at once, against scikit-learn's (the same number of passes)."""

from collections.abc import Iterator

import numpy as np
from sklearn import linear_model
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.networks import Perceptron

PASSES = 20


def rows() -> Iterator[Row]:
    X, y = load_digits(return_X_y=True)
    larger = np.kron(X.reshape(-1, 8, 8), np.ones((1, 3, 3))).reshape(len(X), -1)  # 24 x 24, as many pixels as MNIST
    peer = linear_model.Perceptron(max_iter=PASSES, tol=None, shuffle=False)
    with threadpool_limits(1):
        for A in (X, larger + np.random.default_rng(0).uniform(size=larger.shape)):
            yield compare(
                f"perceptron, {PASSES} passes over {len(A):,} digits of {A.shape[1]} pixels",
                lambda A=A: Perceptron(max_iter=PASSES).fit(A, y).score(A, y),
                lambda A=A: peer.fit(A, y).score(A, y),
                peer_name="scikit-learn", repeats=7, agree=accuracies,
            )  # fmt: skip


def accuracies(ours: float, theirs: float) -> str:
    return f"{100 * ours:.1f} and {100 * theirs:.1f} % right"
