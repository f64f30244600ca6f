"""Early stopping on curves whose end can be told by hand, against `base.fit`'s, and wrong rules."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from vivace.base.errors import InputError
from vivace.base.fit import fit
from vivace.networks import EarlyStopping

Rule = Callable[[Sequence[float], int], int | None]  # the epoch, from 1, after which training ends


def ours(errors: Sequence[float], patience: int) -> int | None:
    stopping = EarlyStopping(patience)
    return next((stopping.epoch for error in errors if stopping.update(error)), None)


def printed(errors: Sequence[float], patience: int) -> int | None:
    """The error compared with the best error plus a number of epochs."""
    return next((i + 1 for i, error in enumerate(errors) if error > min(errors[: i + 1]) + patience), None)


def never_reset(errors: Sequence[float], patience: int) -> int | None:
    worse = [i + 1 for i in range(1, len(errors)) if errors[i] >= min(errors[:i])]
    return worse[patience - 1] if len(worse) >= patience else None


def against_the_last_epoch(errors: Sequence[float], patience: int) -> int | None:
    risen = 0
    for i in range(1, len(errors)):
        risen = risen + 1 if errors[i] >= errors[i - 1] else 0
        if risen == patience:
            return i + 1
    return None


CURVES: list[tuple[list[float], int, int | None]] = [
    ([1.0 + 0.1 * abs(epoch - 9) for epoch in range(1, 60)], 10, 19),  # best at epoch 9, so the end is at 19
    ([5, 4, 4.5, 3, 3.5, 3.2, 3.4, 3.1], 4, 8),  # bumps on the way, best at 4
    ([5, 4, 5, 3, 5, 2, 5, 1], 2, None),  # always better again in time
    ([3, 3, 3], 2, 3),  # as good is not better
    ([math.nan, math.nan, 1.0], 2, 2),
]


def right(rule: Rule) -> bool:
    return all(rule(errors, patience) == end for errors, patience, end in CURVES)


def test_stops_where_it_should() -> None:
    assert right(ours)


@pytest.mark.parametrize("mutant", [printed, never_reset, against_the_last_epoch])
def test_rejects(mutant: Rule) -> None:
    assert not right(mutant)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(1, 10))
def test_stops_exactly_patience_epochs_after_the_first_best(errors: list[float], patience: int) -> None:
    stopping = EarlyStopping(patience)
    ended = next((i + 1 for i, error in enumerate(errors) if stopping.update(error)), None)
    seen = errors[: ended or len(errors)]
    assert stopping.best_epoch == seen.index(min(seen)) + 1
    assert ended is None or ended - stopping.best_epoch == patience


def test_larger_may_be_better_and_little_may_not_count() -> None:
    stopping = EarlyStopping(2, mode="max", min_delta=0.1)
    assert [stopping.update(value) for value in (0.5, 0.7, 0.75, 0.79)] == [False, False, False, True]
    assert stopping.best_epoch == 2


def test_the_best_weights_come_back() -> None:
    model, stopping = nn.Linear(2, 1), EarlyStopping(5)
    kept = {}
    for epoch, error in enumerate((3.0, 1.0, 2.0)):
        with torch.no_grad():
            model.weight.fill_(epoch)
        stopping.update(error, model)
        kept[epoch] = model.weight.clone()
    stopping.restore(model)
    assert torch.equal(model.weight, kept[1])


def test_ends_with_the_training_loops_own_rule() -> None:
    """base.fit with `patience` and our rule on its history agree."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 20, generator=generator)
    y = torch.randn(40, 1, generator=generator)
    values = iter([5.0, 4.0, 4.2, 4.1, 3.9, 4.0, 4.5, 4.6, 1.0, 1.0])
    fitted = fit(
        nn.Linear(20, 1), TensorDataset(x, y), lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        epochs=10, evaluate=lambda _: {"error": next(values)}, monitor="error", patience=3, device="cpu",
    )  # fmt: skip
    assert ours([row["error"] for row in fitted.history], 3) == len(fitted.history) == 8 and fitted.best == 5


def test_bad_arguments_are_said() -> None:
    with pytest.raises(InputError, match="patience is 0"):
        EarlyStopping(0)
    with pytest.raises(InputError, match="min"):
        EarlyStopping(mode="minimum")
    with pytest.raises(InputError, match="no weights"):
        EarlyStopping().restore(nn.Linear(1, 1))
