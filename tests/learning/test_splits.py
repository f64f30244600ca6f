"""Splits against scikit-learn's, by hand, and by what must hold for any number of rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as peer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from vivace.base.errors import InputError
from vivace.learning.splits import (
    ForwardChaining,
    GroupKFold,
    KFold,
    StratifiedKFold,
    split_sizes,
    three_way_split,
)

Sizes = Callable[[int], Any]


def rounded(n: int) -> Any:
    return np.array([round(0.7 * n), round(0.15 * n), round(0.15 * n)])


def truncated(n: int) -> Any:
    return np.array([int(0.7 * n), int(0.15 * n), int(0.15 * n)])


def rest_to_test(n: int) -> Any:
    """Adds up, but for n = 2,000 classes of two rows each all of it lands on one part."""
    return np.array([int(0.7 * n), int(0.15 * n), n - int(0.7 * n) - int(0.15 * n)])


def are_sound(sizes: Sizes) -> bool:
    """For n = 1..2000: they add up, none is further than one from its share, and the rounding errors are the least."""
    for n in range(1, 2001):
        found, share = sizes(n), n * np.array([0.7, 0.15, 0.15])
        if found.sum() != n or (np.abs(found - share) > 1 - 1e-9).any():
            return False
        moves = [found + step for step in ([1, -1, 0], [1, 0, -1], [0, 1, -1], [-1, 1, 0], [-1, 0, 1], [0, -1, 1])]
        if min(np.square(moved - share).sum() for moved in moves) < np.square(found - share).sum() - 1e-9:
            return False
    return True


def test_sizes_add_up_for_every_n() -> None:
    assert are_sound(lambda n: split_sizes(n))


@pytest.mark.parametrize("mutant", [rounded, truncated, rest_to_test])
def test_rejects_sizes(mutant: Sizes) -> None:
    assert not are_sound(mutant)


def test_sizes_by_hand() -> None:
    assert split_sizes(10).tolist() == [7, 2, 1]  # 7, 1.5, 1.5: the first of two equal remainders
    assert split_sizes(20).tolist() == [14, 3, 3]
    assert split_sizes(1).tolist() == [1, 0, 0] and split_sizes(3).tolist() == [2, 1, 0]
    assert split_sizes(1000, ratio=(98, 1, 1)).tolist() == [980, 10, 10]
    assert split_sizes(20, ratio=(0.7, 0.15, 0.15)).tolist() == [14, 3, 3]


def class_by_class(labels: np.ndarray) -> Any:
    """Every class rounded by itself: a hundred classes of two rows are all for training."""
    parts: list[list[int]] = [[], [], []]
    for name in np.unique(labels):
        mine = np.flatnonzero(labels == name)
        ends = np.cumsum(split_sizes(len(mine)))
        for part, rows in zip(parts, np.split(mine, ends[:2]), strict=True):
            part.extend(rows)
    return [np.sort(part).astype(int) for part in parts]


def not_stratified(labels: np.ndarray) -> Any:
    return three_way_split(len(labels), random_state=0)


def is_stratified(split: Callable[[np.ndarray], Any]) -> bool:
    for labels in (np.repeat(np.arange(100), 2), np.repeat([0, 1, 2], [900, 90, 10]), np.zeros(7, int)):
        parts = split(labels)
        if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels))):
            return False
        if [len(part) for part in parts] != split_sizes(len(labels)).tolist():
            return False
        counts = np.stack([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts], 1)
        if (np.abs(counts - np.outer(np.bincount(labels), [0.7, 0.15, 0.15])) > 1 + 1e-9).any():
            return False
    return True


def test_stratified_keeps_every_class_and_every_size() -> None:
    assert is_stratified(lambda labels: three_way_split(len(labels), labels=labels, random_state=0))


@pytest.mark.parametrize("mutant", [class_by_class, not_stratified])
def test_rejects_stratified(mutant: Any) -> None:
    assert not is_stratified(mutant)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.tuples(*[st.integers(1, 50)] * 3), st.integers(0, 99))
def test_any_labels_any_ratio(labels: list[int], ratio: tuple[int, int, int], seed: int) -> None:
    y = np.array(labels)
    parts = three_way_split(len(y), ratio=ratio, labels=y, random_state=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert [len(part) for part in parts] == split_sizes(len(y), ratio=ratio).tolist()
    for name in labels:
        share = (y == name).sum() * np.array(ratio) / sum(ratio)
        assert (np.abs([(y[part] == name).sum() for part in parts] - share) <= 1 + 1e-6).all()


def test_groups_stay_together() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 1000).astype(str)
    parts = three_way_split(1000, groups=groups, random_state=0)
    names = [set(groups[part]) for part in parts]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
    assert np.abs([len(part) for part in parts] - np.array([700, 150, 150])).max() <= 10
    few = three_way_split(30, groups=np.repeat([0, 1, 2], 10), random_state=1)
    assert [len(part) for part in few] == [10, 10, 10]  # none is left empty


def test_random_but_reproducible() -> None:
    first, again, other = (three_way_split(100, random_state=seed).test.tolist() for seed in (0, 0, 1))
    assert first == again != other
    where = np.concatenate([three_way_split(20, random_state=seed).test for seed in range(2000)])
    assert np.abs(np.bincount(where, minlength=20) - 300).max() < 80  # 5 deviations: every row as often as any other


X, Y = load_diabetes(return_X_y=True)
LABELS = (np.digitize(Y, [80, 200])).astype(int)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (KFold(7), peer.KFold(7)),
        (KFold(3, shuffle=True, random_state=4), peer.KFold(3, shuffle=True, random_state=4)),
        (ForwardChaining(6), peer.TimeSeriesSplit(6)),
        (ForwardChaining(4, gap=3, test_size=20), peer.TimeSeriesSplit(4, gap=3, test_size=20)),
    ],
)
def test_the_rows_are_scikit_learns(ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours.split(X), theirs.split(X), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))
    assert ours.get_n_splits(X) == theirs.get_n_splits(X)


@pytest.mark.parametrize("cv", [KFold(5), StratifiedKFold(5), GroupKFold(5), ForwardChaining(5)])
def test_cross_val_score_takes_them(cv: Any) -> None:
    scores = peer.cross_val_score(LinearRegression(), X, LABELS, cv=cv, groups=np.arange(len(X)) // 3)
    assert len(scores) == 5 and np.isfinite(scores).all()


def spread(cv: Any) -> tuple[int, int]:
    """The largest difference between two folds' counts of one class, and between their sizes."""
    folds = [test for _, test in cv.split(X, LABELS)]
    counts = np.array([np.bincount(LABELS[test], minlength=3) for test in folds])
    return int(np.ptp(counts, axis=0).max()), int(np.ptp(counts.sum(1)))


def test_stratified_folds_are_as_even_as_can_be_and_a_plain_fold_is_not() -> None:
    assert spread(StratifiedKFold(5)) == (1, 1)
    assert spread(StratifiedKFold(5, shuffle=True, random_state=0)) == (1, 1)
    mutant = KFold(5, shuffle=True, random_state=0)
    assert spread(mutant)[0] > 1


def test_groups_never_lie_on_both_sides() -> None:
    groups = np.random.default_rng(0).integers(0, 40, len(X))
    for shuffle in (False, True):
        cv = GroupKFold(5, shuffle=shuffle, random_state=0 if shuffle else None)
        tests = []
        for train, test in cv.split(X, groups=groups):
            assert not set(groups[train]) & set(groups[test])
            tests.append(test)
        assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(X)))
        assert np.ptp([len(test) for test in tests]) <= 5
    mutant = KFold(5)
    assert any(set(groups[train]) & set(groups[test]) for train, test in mutant.split(X))


def looks_ahead(cv: Any, gap: int) -> bool:
    return any(train.max() + gap >= test.min() for train, test in cv.split(X))


def test_forward_chaining_never_looks_ahead() -> None:
    assert not looks_ahead(ForwardChaining(5, gap=4), 4)
    for mutant in (KFold(5), KFold(5, shuffle=True, random_state=0), ForwardChaining(5)):
        assert looks_ahead(mutant, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: split_sizes(0), "at least one row"),
        (lambda: split_sizes(9, ratio=(70, 30)), "three numbers"),
        (lambda: split_sizes(9, ratio=(70, -15, 15)), "three numbers"),
        (lambda: split_sizes(9, ratio=(0, 0, 0)), "three numbers"),
        (lambda: three_way_split(9, labels=np.zeros(9), groups=np.zeros(9)), "not both"),
        (lambda: three_way_split(9, groups=np.repeat([0, 1], [4, 5])), "2 groups can't be spread over 3"),
        (lambda: KFold(1), "at least 2"),
        (lambda: list(KFold(5).split(X[:3])), "3 rows can't be cut into 5"),
        (lambda: list(StratifiedKFold(5).split(X)), "need the labels"),
        (lambda: list(StratifiedKFold(5).split(X, Y[:-1])), "one for each of 442 rows"),
        (lambda: list(GroupKFold(5).split(X)), "need groups"),
        (lambda: list(GroupKFold(5).split(X, groups=np.arange(442) % 4)), "4 groups"),
        (lambda: ForwardChaining(5, gap=-1), "must not be negative"),
        (lambda: list(ForwardChaining(5, test_size=90).split(X)), "leave none to train on"),
        (lambda: list(ForwardChaining(5).split(X[:4])), "leave none to train on"),
    ],
)
def test_bad_input_is_named(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
