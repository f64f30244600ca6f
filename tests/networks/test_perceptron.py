"""Perceptron against a loop of one row at a time, scikit-learn, Novikoff's bound and numbers by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.base.images import write_image
from vivace.base.report import Report
from vivace.experiments.networks.perceptron import run, show_pictures, two_classes
from vivace.networks import Perceptron, mistake_bound, perceptron_epoch
from vivace.networks.perceptron import step

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
X, LABELS = load_digits(return_X_y=True)
Epoch = Callable[[Any, Any, Any], Any]


@parametrize_with_checks(
    [Perceptron(max_iter=20), Perceptron(max_iter=20, fit_intercept=False, shuffle=True, random_state=0)]
)
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def one_row_at_a_time(X: Any, T: Any, W: Any) -> Any:
    """The rule as it is written."""
    mistakes = np.zeros(W.shape[1], dtype=int)
    for k in range(W.shape[1]):
        for x, t in zip(X, T[:, k], strict=True):
            y = 1 if x @ W[:, k] > 0 else 0
            W[:, k] += (t - y) * x
            mistakes[k] += t != y
    return mistakes


def all_rows_at_once(X: Any, T: Any, W: Any) -> Any:
    errors = T - (X @ W > 0).astype(int)
    W += X.T @ errors
    return np.abs(errors).sum(0)


def without_looking(X: Any, T: Any, W: Any) -> Any:
    """Hebb's rule: moved by each row, right or wrong."""
    W += X.T @ (2.0 * T - 1)
    return np.zeros(W.shape[1], dtype=int)


def first_block_only(X: Any, T: Any, W: Any) -> Any:
    return perceptron_epoch(X[:32], T[:32], W)


def wrong_sign(X: Any, T: Any, W: Any) -> Any:
    return perceptron_epoch(X, ~T, W)


def half_of_the_correction(X: Any, T: Any, W: Any) -> Any:
    """Moved when it should have fired, and never when it should not."""
    mistakes = np.zeros(W.shape[1], dtype=int)
    for x, t in zip(X, T, strict=True):
        errors = t & ~(x @ W > 0)
        W += np.outer(x, errors)
        mistakes += errors
    return mistakes


def is_rosenblatts_rule(epoch: Epoch) -> bool:
    """Three passes over digits: the same weights and mistakes as one row at a time (integers, so to the last bit)."""
    T = LABELS[:300, None] == np.arange(10)
    W, expected = np.zeros((2, 64, 10))
    for _ in range(3):
        mistakes, expected_mistakes = epoch(X[:300], T, W), one_row_at_a_time(X[:300], T, expected)
        if not (np.array_equal(mistakes, expected_mistakes) and np.array_equal(W, expected)):
            return False
    return True


def test_is_rosenblatts_rule() -> None:
    assert is_rosenblatts_rule(perceptron_epoch)


@pytest.mark.parametrize(
    "mutant", [all_rows_at_once, without_looking, first_block_only, wrong_sign, half_of_the_correction]
)
def test_rejects(mutant: Epoch) -> None:
    assert not is_rosenblatts_rule(mutant)


@pytest.mark.parametrize("digit", range(10))
def test_scikit_learns_weights(digit: int) -> None:
    """At z = 0 scikit-learn corrects for both classes, we for one: a positive row comes first, then noise avoids 0."""
    order = [int((LABELS == digit).argmax()), *range(len(X))]
    A, y = (X + np.random.default_rng(0).normal(0, 0.1, X.shape))[order], LABELS[order] == digit
    peer = linear_model.Perceptron(max_iter=7, tol=None, shuffle=False).fit(A, y)
    ours = Perceptron(max_iter=7).fit(A, y)
    assert np.allclose(ours.coef_, peer.coef_) and np.allclose(ours.intercept_, peer.intercept_)


def test_and_by_hand() -> None:
    """Passes over (0,0), (0,1), (1,0), (1,1), from zero: AND is learnt in the sixth, OR in the fourth, XOR never."""
    both = Perceptron(max_iter=100).fit(CORNERS, [0, 0, 0, 1])
    assert both.n_iter_ == 6 and both.coef_.tolist() == [[2, 1]] and both.intercept_.tolist() == [-2]
    assert both.mistakes_[:, 0].tolist() == [1, 3, 3, 2, 1, 0] and both.separated_
    either = Perceptron(max_iter=100).fit(CORNERS, [0, 1, 1, 1])
    assert either.n_iter_ == 4 and either.separated_
    xor = Perceptron(max_iter=100).fit(CORNERS, [0, 1, 1, 0])
    assert xor.n_iter_ == 100 and not xor.separated_ and xor.score(CORNERS, [0, 1, 1, 0]) < 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.05, 1))
def test_novikoffs_bound_holds(seed: int, d: int, margin: float) -> None:
    """Random points kept at a distance from a random plane: the mistakes never exceed (R / gamma)^2."""
    random = np.random.default_rng(seed)
    w, A = random.normal(size=d), random.normal(size=(80, d))
    w /= np.linalg.norm(w)
    t = A @ w > 0
    A += np.outer(np.where(t, margin, -margin), w)
    found = Perceptron(max_iter=10**5, fit_intercept=False).fit(np.vstack([A, w, -w]), [*t, True, False])
    bound = mistake_bound(np.vstack([A, w, -w]), np.array([*t, True, False]), w)
    assert found.separated_ and found.mistakes_.sum() <= bound <= ((A * A).sum(1).max() + 1) / margin**2


def test_the_bound_by_hand() -> None:
    A, t = np.array([[3.0, 4.0], [-1.0, 0.0]]), np.array([True, False])
    assert mistake_bound(A, t, np.array([2.0, 0.0])) == 25  # R = 5, gamma = 1
    assert mistake_bound(A, ~t, np.array([2.0, 0.0])) == np.inf


def test_step_is_zero_at_zero() -> None:
    assert step(np.array([-1.0, 0.0, 1e-300])).tolist() == [0, 0, 1]


def test_more_classes_than_two() -> None:
    model = Perceptron(max_iter=60).fit(X[:900], LABELS[:900])
    assert model.coef_.shape == (10, 64) and model.mistakes_.shape == (model.n_iter_, 10)
    assert model.score(X[900:], LABELS[900:]) > 0.88
    names = Perceptron().fit([[0.0], [3.0], [9.0]], ["low", "low", "high"])
    assert names.predict([[-5.0], [20.0]]).tolist() == ["low", "high"]


def test_shuffled_rows_are_taken_in_the_order_drawn() -> None:
    A, y = X[:200], LABELS[:200] == 8
    order = np.random.RandomState(0).permutation(len(A))
    shuffled = Perceptron(max_iter=1, shuffle=True, random_state=0).fit(A, y)
    assert np.array_equal(shuffled.coef_, Perceptron(max_iter=1).fit(A[order], y[order]).coef_)
    assert not np.array_equal(shuffled.coef_, Perceptron(max_iter=1).fit(A, y).coef_)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="all 2 rows are of one class, 7"):
        Perceptron().fit([[0.0], [1.0]], [7, 7])
    with pytest.raises(InputError, match="max_iter is 0"):
        Perceptron(max_iter=0).fit([[0.0], [1.0]], [0, 1])


def test_two_classes_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both 3; two different digits"):
        run(first=3, second=3)
    for name in ("cats", "dogs", "fish"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "one.png", torch.rand(3, 20, 30))
    with pytest.raises(InputError, match="has 3 sub-folders; one perceptron tells two"):
        run(data=tmp_path)


def test_pictures_of_ones_own_are_told_apart(tmp_path: Path) -> None:
    for name, level in (("dark", 0.2), ("light", 0.8)):
        (tmp_path / name).mkdir()
        for i in range(4):
            write_image(tmp_path / name / f"{i}.png", torch.full((3, 20, 30), level + i / 50))
    report = Report("two classes", "")
    show_pictures(report, two_classes(0, 1, tmp_path))
    assert [artefact.name for artefact in report.artefacts] == ["weights", "line"]
    assert "learnt after" in report.artefacts[0].caption
