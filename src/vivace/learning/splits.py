"""Splits: rows set aside before training, so that what is measured on them says something about new rows.

Stone, "Cross-validatory choice and assessment of statistical predictions" (1974), section 2. Hyndman, Athanasopoulos,
"Forecasting: principles and practice" (2021), section 5.10: forward chaining. Gale, "A theorem on flows" (1957).
In: a number of rows n, or rows with labels (n,) or groups (n,). Out: row numbers of each part, ascending.
Departs from the paper: a three-way split's sizes are rounded by the largest remainder, in every class as well.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples

from vivace.base.errors import InputError

Rows = Int[np.ndarray, " _"]


def three_way_split(n: int, *, ratio: Sequence[float] = (70, 15, 15), labels: Shaped[np.ndarray, " n"] | None = None,
                    groups: Shaped[np.ndarray, " n"] | None = None, random_state: Any = None) -> "Split":  # fmt: skip
    """n rows at random into train, validation and test.

    `labels`: every class is cut in the same ratio (each count is the exact share, rounded down or up).
    `groups`: rows of one group stay together, so sizes are as near as whole groups allow.
    """
    sizes = split_sizes(n, ratio=ratio)
    order = check_random_state(random_state).permutation(n)
    if labels is not None and groups is not None:
        raise InputError("give labels (the same classes in each part) or groups (kept together), not both")
    keys = _codes(labels if groups is None else groups, n)
    part = np.empty(n, int)
    if groups is not None:
        part = _whole_groups(keys, sizes, order)[keys]
    else:
        counts = _stratified_sizes(np.bincount(keys), sizes, ratio)
        by_class = order[np.argsort(keys[order], kind="stable")]
        part[by_class] = np.repeat(np.tile(np.arange(3), len(counts)), counts.ravel())
    return Split(*(np.flatnonzero(part == i) for i in range(3)))


class Split(NamedTuple):
    """Row numbers of the three parts; no row is in two of them."""

    train: Rows
    validation: Rows
    test: Rows


def split_sizes(n: int, *, ratio: Sequence[float] = (70, 15, 15)) -> Int[np.ndarray, "3"]:
    """Whole numbers that add up to n, each its exact share rounded down or up (largest remainders up)."""
    if n < 1:
        raise InputError(f"a split needs at least one row, not {n}")
    if len(ratio) != 3 or not all(0 <= share < np.inf for share in ratio) or not sum(ratio) > 0:
        raise InputError(f"a ratio is three numbers, none negative, such as 70, 15, 15; not {tuple(ratio)}")
    exact = n * np.asarray(ratio, float) / sum(ratio)
    sizes = np.floor(exact + 1e-9).astype(int)  # 3, where rounding has made it 2.9999999999999996
    sizes[np.argsort(sizes - exact, kind="stable")[: n - sizes.sum()]] += 1
    return sizes


def _stratified_sizes(counts: Int[np.ndarray, " c"], sizes: Int[np.ndarray, "3"], ratio: Sequence[float]
                      ) -> Int[np.ndarray, "c 3"]:  # fmt: skip
    """How many of each class go to each part: exact shares rounded, rows add up to `counts`, columns to `sizes`.

    What is left of a class when its shares are rounded down goes to the parts that still lack most. That never fails:
    with three columns, the unrounded shares show that Gale's condition for such a table of zeros and ones is met.
    """
    exact = np.outer(counts, np.asarray(ratio, float) / sum(ratio))
    table = np.floor(exact + 1e-9).astype(int)
    lacking = sizes - table.sum(0)
    left = counts - table.sum(1)
    for c in np.argsort(-left, kind="stable"):
        # where two parts lack as much, the one with the larger remainder in this class
        parts = np.lexsort((table[c] - exact[c], -lacking))[: left[c]]
        table[c, parts] += 1
        lacking[parts] -= 1
    return table


def _whole_groups(keys: Int[np.ndarray, " n"], sizes: Int[np.ndarray, "3"], order: Int[np.ndarray, " n"]
                  ) -> Int[np.ndarray, " g"]:  # fmt: skip
    """The part of each group: the largest first (equals in random order), each to the part that lacks most rows."""
    counts = np.bincount(keys)
    if len(counts) < np.count_nonzero(sizes):
        raise InputError(f"{len(counts)} groups can't be spread over {np.count_nonzero(sizes)} parts")
    _, first_seen = np.unique(keys[order], return_index=True)
    part, lacking = np.empty(len(counts), int), sizes.copy()
    empty = sizes > 0
    for done, group in enumerate(np.lexsort((first_seen, -counts))):
        scarce = len(counts) - done <= empty.sum()  # the last groups go to parts that have none yet
        part[group] = np.argmax(np.where(empty, lacking, lacking.min() - 1) if scarce else lacking)
        lacking[part[group]] -= counts[group]
        empty[part[group]] = False
    return part


class KFold:
    """k parts of nearly equal size; each is the test part once. A cross-validator for scikit-learn's `cv=`."""

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None) -> None:
        if n_splits < 2:
            raise InputError(f"n_splits is {n_splits}; at least 2 folds are needed")
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: ARG002
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Row numbers (train, test) of each fold."""
        n = _num_samples(X)
        if n < self.n_splits:
            raise InputError(f"{n} rows can't be cut into {self.n_splits} folds")
        order = check_random_state(self.random_state).permutation(n) if self.shuffle else np.arange(n)
        fold = np.empty(n, int)
        fold[order] = self._folds(n, order, y, groups)
        for i in range(self.n_splits):
            yield np.flatnonzero(fold != i), np.flatnonzero(fold == i)

    def _folds(self, n: int, order: Rows, y: Any, groups: Any) -> Rows:  # noqa: ARG002
        """The fold of each row of `order`: blocks, the first n mod k of them one longer."""
        sizes = np.full(self.n_splits, n // self.n_splits)
        sizes[: n % self.n_splits] += 1
        return np.repeat(np.arange(self.n_splits), sizes)


class StratifiedKFold(KFold):
    """Folds in which each class has the same share: its counts in two folds differ by one at most."""

    def _folds(self, n: int, order: Rows, y: Any, groups: Any) -> Rows:  # noqa: ARG002
        if y is None:
            raise InputError("stratified folds need the labels y")
        fold = np.empty(n, int)
        fold[np.argsort(_codes(y, n)[order], kind="stable")] = np.arange(n) % self.n_splits  # class by class, dealt out
        return fold


class GroupKFold(KFold):
    """Folds that keep the rows of a group (a person, a photograph) together."""

    def _folds(self, n: int, order: Rows, y: Any, groups: Any) -> Rows:  # noqa: ARG002
        if groups is None:
            raise InputError("folds by group need groups")
        keys = _codes(groups, n)[order]
        counts = np.bincount(keys)
        if len(counts) < self.n_splits:
            raise InputError(f"{len(counts)} groups can't be spread over {self.n_splits} folds")
        load, fold = np.zeros(self.n_splits, int), np.empty(len(counts), int)
        _, first_seen = np.unique(keys, return_index=True)
        for group in np.lexsort((first_seen, -counts)):  # the largest first, to the fold with fewest rows
            fold[group] = np.argmin(load)
            load[fold[group]] += counts[group]
        return fold[keys]


class ForwardChaining(KFold):
    """For rows in order of time: train on what came before, test on the block that follows; never the other way.

    `gap` rows between the two are left out, for targets or features that reach over several time steps.
    """

    def __init__(self, n_splits: int = 5, *, gap: int = 0, test_size: int | None = None) -> None:
        super().__init__(n_splits)
        if gap < 0 or (test_size is not None and test_size < 1):
            raise InputError(f"gap must not be negative and test_size at least 1, not {gap} and {test_size}")
        self.gap = gap
        self.test_size = test_size

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: ARG002
        n = _num_samples(X)
        size = self.test_size or n // (self.n_splits + 1)
        first = n - self.n_splits * size
        if size < 1 or first - self.gap < 1:
            raise InputError(
                f"{n} rows leave none to train on before {self.n_splits} blocks of {size} and a gap of {self.gap}"
            )
        for start in range(first, n, size):
            yield np.arange(start - self.gap), np.arange(start, start + size)


def _codes(keys: Any, n: int) -> Rows:
    """Labels or groups as numbers from 0; all alike where there are none."""
    if keys is None:
        return np.zeros(n, int)
    if np.shape(keys) != (n,):
        raise InputError(f"labels or groups are one for each of {n} rows, not of shape {np.shape(keys)}")
    return np.unique(keys, return_inverse=True)[1]
