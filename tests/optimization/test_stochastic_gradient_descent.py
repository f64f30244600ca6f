"""Batch, stochastic and mini-batch descent against a plain NumPy loop, torch's loader, running means and lstsq."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vivace.base.errors import InputError
from vivace.exam import bank
from vivace.optimization import minibatches, stochastic_gradient_descent

Descend = Callable[..., Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(50, 3, generator=seeded(1), dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + torch.randn(50, generator=seeded(2), dtype=torch.float64)
START = torch.zeros(3, dtype=torch.float64)
LSTSQ = torch.linalg.lstsq(X, Y).solution


def half_squared(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (x @ w - y).square() / 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 9))
def test_an_epoch_has_each_row_once(n: int, batch_size: int, seed: int) -> None:
    batches = minibatches(n, batch_size, generator=seeded(seed))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert len(batches[-1]) == (n % batch_size or batch_size)
    assert [b.tolist() for b in minibatches(n, batch_size, generator=seeded(seed))] == [b.tolist() for b in batches]


def test_batches_as_given_are_torchs() -> None:
    ours = [X[rows] for rows in minibatches(50, 8, order="as given")]
    theirs = [batch for (batch,) in DataLoader(TensorDataset(X), batch_size=8)]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_orders_differ_and_are_fair() -> None:
    generator = seeded()
    firsts = Counter(minibatches(5, 1, generator=generator)[0].item() for _ in range(2000))
    assert all(300 < firsts[i] < 500 for i in range(5))
    drawn = torch.cat(minibatches(1000, 7, order="with replacement", generator=generator))
    assert 580 < len(drawn.unique()) < 690  # (1 - 1/e) of 1,000: 632, give or take 10


def ours(**more: Any) -> Tensor:
    return stochastic_gradient_descent(half_squared, START, (X, Y), **more).path


def plain_loop(*, batch_size: int, learning_rate: float, decay: float, epochs: int, generator: torch.Generator,
               divisor: Callable[[int], int] = lambda b: b, reshuffle: bool = True, late: int = 0,
               ) -> Tensor:  # fmt: skip
    """NumPy, the gradient by hand; the keyword arguments after `generator` make mutants."""
    A, b, w, t = X.numpy(), Y.numpy(), np.zeros(3), late
    path, order = [w], torch.randperm(50, generator=generator)
    for epoch in range(epochs):
        if epoch and reshuffle:
            order = torch.randperm(50, generator=generator)
        for first in range(0, 50, batch_size):
            some = order[first : first + batch_size].numpy()
            g = A[some].T @ (A[some] @ w - b[some]) / divisor(len(some))
            w = w - learning_rate / (1 + decay * t) * g
            t += 1
            path.append(w)
    return torch.from_numpy(np.stack(path))


def divided_by_nominal_size(**more: Any) -> Tensor:
    return plain_loop(divisor=lambda _: more["batch_size"], **more)


def summed(**more: Any) -> Tensor:
    return plain_loop(divisor=lambda _: 1, **more)


def shuffled_once(**more: Any) -> Tensor:
    return plain_loop(reshuffle=False, **more)


def decays_too_early(**more: Any) -> Tensor:
    return plain_loop(late=1, **more)


def follows_our_path(descend: Descend) -> bool:
    return all(
        torch.allclose(
            ours(batch_size=m, learning_rate=0.1, decay=0.01, epochs=3, generator=seeded()),
            descend(batch_size=m, learning_rate=0.1, decay=0.01, epochs=3, generator=seeded()),
            rtol=1e-10,
        )
        for m in (1, 8, 50)
    )


def test_follows_a_plain_loop() -> None:
    assert follows_our_path(plain_loop)


@pytest.mark.parametrize("mutant", [divided_by_nominal_size, summed, shuffled_once, decays_too_early])
def test_rejects(mutant: Descend) -> None:
    assert not follows_our_path(mutant)


def test_rates_of_one_over_t_give_the_running_mean() -> None:
    """Robbins and Monro's example: (theta - x)^2 / 2 at rate 1/t; theta is the mean of the examples so far."""
    path = stochastic_gradient_descent(lambda theta, y: (theta - y).square() / 2, torch.tensor(9.0).double(), (Y,),
                                       learning_rate=1.0, decay=1.0, epochs=1, order="as given").path  # fmt: skip
    torch.testing.assert_close(path[1:], Y.cumsum(0) / torch.arange(1, 51))


def test_averaging_is_the_mean_of_the_points_since() -> None:
    more: dict[str, Any] = {"batch_size": 8, "learning_rate": 0.1, "epochs": 4}
    plain = ours(**more, generator=seeded())
    averaged = ours(**more, generator=seeded(), average_from=2)
    assert torch.equal(averaged[:15], plain[:15])  # seven updates an epoch, and the start
    since = plain[15:]
    torch.testing.assert_close(averaged[15:], since.cumsum(0) / torch.arange(1, 15)[:, None])


def test_a_rate_for_each_of_two_descents() -> None:
    def both(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return half_squared(w[0], x, y) + half_squared(w[1], x, y)

    more: dict[str, Any] = {"batch_size": 8, "epochs": 2}
    rates = torch.tensor([[0.1], [0.01]], dtype=torch.float64)
    together = stochastic_gradient_descent(both, torch.stack([START, START]), (X, Y), learning_rate=rates,
                                           generator=seeded(), **more).path  # fmt: skip
    for i, rate in enumerate((0.1, 0.01)):
        torch.testing.assert_close(together[:, i], ours(learning_rate=rate, generator=seeded(), **more))


@pytest.mark.parametrize(("batch_size", "decay", "within"), [(50, 0.0, 1e-8), (8, 0.05, 0.02), (1, 0.01, 0.02)])
def test_reaches_least_squares(batch_size: int, decay: float, within: float) -> None:
    end = ours(batch_size=batch_size, learning_rate=0.1, decay=decay, epochs=300, generator=seeded())[-1]
    assert (end - LSTSQ).norm() < within * LSTSQ.norm()


def test_keeps_a_point_an_epoch_and_tells_the_loss() -> None:
    more: dict[str, Any] = {"batch_size": 8, "learning_rate": 0.1, "epochs": 3}
    walk = stochastic_gradient_descent(half_squared, START, (X, Y), keep="epochs", generator=seeded(), **more)
    every = ours(generator=seeded(), **more)
    assert torch.equal(walk.path, every[::7]) and walk.stopped == "epochs"
    batch = stochastic_gradient_descent(half_squared, START, (X, Y), batch_size=50, epochs=2, learning_rate=0.1)
    expected = torch.stack([half_squared(w, X, Y).mean() for w in batch.path[:2]])
    torch.testing.assert_close(batch.losses, expected)


def test_stops_when_the_loss_hardly_falls() -> None:
    walk = stochastic_gradient_descent(half_squared, START, (X, Y), batch_size=50, learning_rate=0.5, epochs=500,
                                       tolerance=1e-3)  # fmt: skip
    assert walk.stopped == "loss" and len(walk.losses) < 50
    assert walk.losses[-2] - walk.losses[-1] < 1e-3 * walk.losses[-2]
    assert (walk.losses[:-2] - walk.losses[1:-1] >= 1e-3 * walk.losses[:-2]).all()


def test_divergence_is_said_and_leaves_finite_numbers() -> None:
    walk = stochastic_gradient_descent(half_squared, START, (X, Y), learning_rate=10.0, epochs=50, generator=seeded())
    assert walk.stopped == "diverged" and walk.path.isfinite().all() and len(walk.path) == 50 * len(walk.losses) + 1


def test_the_model_answers_pseudocode_runs_and_reaches_least_squares() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", bank.questions()["2.10"].answer, re.DOTALL)
    names: dict[str, Any] = {"np": np}
    exec(code, names)
    w, m = LSTSQ.numpy(), len(X)
    for batch_size, within in ((m, 1e-4), (32, 0.05), (1, 0.1)):
        found = names["descend"](X.numpy(), Y.numpy(), batch_size, rate=0.01 if batch_size < m else 0.3, epochs=500,
                                 tolerance=1e-12, rng=np.random.default_rng(0))  # fmt: skip
        assert np.linalg.norm(found - w) < within * np.linalg.norm(w)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": (X, Y[:-1])}, r"as many rows, at least 1; they have \[50, 49\]"),
        ({"data": ()}, "as many rows"),
        ({"data": (X[:0], Y[:0])}, "as many rows"),
        ({"start": START / 0}, "finite"),
        ({"batch_size": 0}, "batches of 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": torch.tensor([0.1, float("nan"), 0.1])}, "finite numbers above 0"),
        ({"decay": -0.1}, "decay -0.1"),
        ({"epochs": 0}, "epochs 0"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stochastic_gradient_descent(**{"loss": half_squared, "start": START, "data": (X, Y), **changes})
