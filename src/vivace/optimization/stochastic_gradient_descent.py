"""Stochastic gradient descent: each step follows the mean gradient of a few examples, or of one, instead of all.

Robbins, Monro, "A stochastic approximation method" (1951), sequences "of type 1/n": one example a step, rates as 1/t.
Polyak, Juditsky, "Acceleration of stochastic approximation by averaging" (1992): the mean of the points on the way.
In: a loss of (parameters, rows) that gives each row's own (b,), first parameters (*shape), data: tensors of n rows.
Out: a `Walk`: the points (t, *shape), each epoch's mean loss, and why it ended.
Departs from the paper: shuffled epochs instead of independent draws, and batches: `batch_size` 1 is stochastic, m is
mini-batch, n or more is batch gradient descent; the rate is constant unless `decay` is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.progress import Step, Tell, ignore

Loss = Callable[..., Float[Tensor, " b"]]
Order = Literal["reshuffled", "with replacement", "as given"]


@dataclass(frozen=True)
class Walk:
    """Where it went. `stopped` is "epochs" (all done), "loss" (it hardly fell any more) or "diverged"."""

    path: Float[Tensor, "t *shape"]  # the start, then a point after each update, or after each epoch
    losses: Float[Tensor, " e"]  # of each epoch: the mean over its examples, each before its own update
    stopped: Literal["epochs", "loss", "diverged"]

    @property
    def end(self) -> Float[Tensor, "*shape"]:
        return self.path[-1]


def minibatches(n: int, batch_size: int, *, order: Order = "reshuffled", generator: torch.Generator | None = None
                ) -> tuple[Int[Tensor, " _"], ...]:  # fmt: skip
    """The rows of one epoch's batches. Each of the n rows comes once; the last batch has what is left.

    "with replacement": n independent draws, as the theory has them. "as given": 0, 1, 2, ..., for comparison.
    """
    if n < 1 or batch_size < 1:
        raise InputError(f"{n} rows in batches of {batch_size}: at least 1 of each is needed")
    if order not in ("reshuffled", "with replacement", "as given"):
        raise unknown("order", order, ("reshuffled", "with replacement", "as given"))
    device = generator.device if generator else None
    if order == "with replacement":
        return torch.randint(n, (n,), generator=generator, device=device).split(batch_size)
    if order == "as given":
        return torch.arange(n, device=device).split(batch_size)
    return torch.randperm(n, generator=generator, device=device).split(batch_size)


def stochastic_gradient_descent(
    loss: Loss,
    start: Float[Tensor, "*shape"],
    data: Sequence[Tensor],
    *,
    batch_size: int = 1,
    learning_rate: float | Float[Tensor, "*_"] = 0.01,
    decay: float = 0.0,
    epochs: int = 10,
    average_from: int | None = None,
    tolerance: float | None = None,
    order: Order = "reshuffled",
    keep: Literal["updates", "epochs"] = "updates",
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Walk:
    """Descend the mean of `loss(theta, *rows)` over the data, a batch at a time.

    `learning_rate`: one for all parameters, or a tensor that spreads over them; the t-th update (from 0) takes
    learning_rate / (1 + decay t). `average_from`: from this epoch (from 0) on, the path is the mean of its points.
    `tolerance`: stop when an epoch's mean loss is not below the one before by at least this share of it.
    """
    n = _check(start, data, learning_rate, decay, epochs)
    theta = start.detach().clone()
    point, path, losses, updates, averaged = theta, [theta], [], 0, 0
    for epoch in range(epochs):
        total, whole = theta.new_zeros(()), len(path)
        for rows in minibatches(n, batch_size, order=order, generator=generator):
            at = theta.detach().requires_grad_()
            each = loss(at, *(column.index_select(0, rows.to(column.device)) for column in data))  # (b,)
            (g,) = torch.autograd.grad(each.mean(), at)  # b is this batch's own length, in the last one too
            theta = theta - learning_rate / (1 + decay * updates) * g
            updates += 1
            total += each.detach().sum()
            averaged += average_from is not None and epoch >= average_from
            point = point + (theta - point) / averaged if averaged else theta
            if keep == "updates":
                path.append(point)
        if keep == "epochs":
            path.append(point)
        losses.append(float(total) / n)
        tell(Step(epoch + 1, epochs, f"batches of {batch_size}: loss {losses[-1]:.4g}"))
        if not math.isfinite(losses[-1]) or not theta.isfinite().all():
            return Walk(torch.stack(path[:whole]), start.new_tensor(losses[:-1]), "diverged")
        if tolerance is not None and epoch and losses[-2] - losses[-1] < tolerance * losses[-2]:
            return Walk(torch.stack(path), start.new_tensor(losses), "loss")
    return Walk(torch.stack(path), start.new_tensor(losses), "epochs")


def _check(start: Tensor, data: Sequence[Tensor], learning_rate: float | Tensor, decay: float, epochs: int) -> int:
    """How many rows there are."""
    lengths = {len(column) for column in data}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"data must be tensors of as many rows, at least 1; they have {[len(c) for c in data]}")
    if not start.isfinite().all():
        raise InputError("start must be finite numbers")
    rates = torch.as_tensor(learning_rate)
    if not (rates.isfinite() & (rates > 0)).all():
        raise InputError(f"learning_rate is {learning_rate}; finite numbers above 0 are needed")
    if not 0 <= decay < math.inf or epochs < 1:
        raise InputError(f"decay {decay}, epochs {epochs}: a decay of 0 or more and at least 1 epoch are needed")
    return lengths.pop()
