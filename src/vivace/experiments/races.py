"""Races: one task, many nets that differ in seed and rate, all trained together by one kind of optimiser.

Weights are stacked, runs first, so that one batched product serves all; our optimisers treat each number alone, so the
runs don't disturb each other, and one that diverges is NaN by itself.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from vivace.base.data import Labelled
from vivace.experiments.networks.mlp_depth import forward_together
from vivace.networks import MLP

Weights = Mapping[str, Tensor]
BATCH = 32


@dataclass(frozen=True)
class Task:
    """Initial weights for each seed (s, ...), and the loss of each of several runs (their weights stacked) at a step.

    Runs come rate by rate, each with all seeds; a seed sees the same examples whatever the rate and the optimiser.
    """

    name: str
    start: Weights
    losses: Callable[[Weights, int], Float[Tensor, " runs"]]

    @property
    def seeds(self) -> int:
        return len(next(iter(self.start.values())))


@dataclass(frozen=True)
class Contestant:
    """An optimiser with its grid of rates."""

    name: str
    make: Callable[[Any], Optimizer]
    rates: Sequence[float]


def race(task: Task, contestant: Contestant, *, steps: int, look: Callable[[Weights], None] | None = None,
         every: int = 10) -> Float[Tensor, "t r s"]:  # fmt: skip
    """The loss before each step, for each rate and seed; `look` sees the weights every few steps."""
    nets = [{name: tensor.clone().requires_grad_() for name, tensor in task.start.items()} for _ in contestant.rates]
    optimizer = contestant.make([{"params": [*net.values()], "lr": rate}
                                 for net, rate in zip(nets, contestant.rates, strict=True)])  # fmt: skip
    history = []
    for step in range(steps):
        together = {name: torch.cat([net[name] for net in nets]) for name in task.start}
        if look is not None and step % every == 0:
            look(together)
        losses = task.losses(together, step)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        history.append(losses.detach().view(len(nets), -1))
    return torch.stack(history)


def best_rate(history: Float[Tensor, "t r s"]) -> tuple[int, Float[Tensor, " s"]]:
    """Which rate has the lowest mean loss over the last tenth of the steps, and that loss for each seed."""
    end = history[-max(1, len(history) // 10) :].mean(0)
    which = int(end.mean(1).nan_to_num(nan=math.inf).argmin())
    return which, end[which]


def quadratic_task(condition: float, *, seeds: int, seed: int, axes: int = 10) -> Task:
    """Half of theta^T H theta with the largest curvature 1, turned at random."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(seeds, axes, axes, dtype=torch.float64, generator=generator)).Q
    curvature = torch.logspace(-math.log10(condition), 0, axes, dtype=torch.float64)
    H = Q.mT @ (curvature[:, None] * Q)

    def losses(weights: Weights, _: int) -> Tensor:
        theta = weights["theta"][..., None]
        return (theta * (H.repeat(len(theta) // seeds, 1, 1) @ theta)).sum((1, 2)) / 2

    start = torch.randn(seeds, axes, dtype=torch.float64, generator=generator)
    return Task(f"quadratic, condition {condition:g}", {"theta": start}, losses)


def digits_task(train: Labelled, *, steps: int, seeds: int, seed: int) -> Task:
    """An MLP 64-32-10 on digits."""
    nets = [MLP([64, 32, 10], generator=torch.Generator().manual_seed(seed + i)).state_dict() for i in range(seeds)]
    start = {name: torch.stack([net[name] for net in nets]) for name in nets[0]}
    order = _order(len(train.labels), steps, seeds, seed)

    def losses(weights: Weights, step: int) -> Tensor:
        places = _for_runs(order[step], weights)
        logits = forward_together(weights, train.images[places].flatten(2))
        return F.cross_entropy(logits.mT, train.labels[places], reduction="none").mean(1)

    return Task("digits, MLP", start, losses)


def adding_task(*, length: int, units: int, seeds: int, seed: int) -> Task:
    """Hochreiter and Schmidhuber's adding problem: two of `length` numbers are marked; a tanh RNN says their sum."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(seeds, *shape, generator=generator)

    start = {"U": normal(2, units) / 2, "W": torch.linalg.qr(normal(units, units)).Q, "b": torch.zeros(seeds, 1, units),
             "V": normal(units, 1) / units**0.5, "c": torch.zeros(seeds, 1, 1)}  # fmt: skip

    def losses(weights: Weights, step: int) -> Tensor:
        fresh = torch.Generator().manual_seed(1000 * seed + step)
        x = torch.rand(seeds, length, BATCH, generator=fresh)
        first = torch.randint(length // 2, (seeds, 1, BATCH), generator=fresh)
        second = torch.randint(length // 2, length, (seeds, 1, BATCH), generator=fresh)
        marks = torch.zeros_like(x).scatter_(1, first, 1.0).scatter_(1, second, 1.0)
        inputs, total = _for_runs(torch.stack([x, marks], -1), weights), _for_runs((x * marks).sum(1), weights)
        h = torch.zeros(len(total), BATCH, units)
        driven = torch.baddbmm(weights["b"], inputs.flatten(1, 2), weights["U"]).unflatten(1, (length, BATCH))
        for t in range(length):
            h = torch.tanh(torch.baddbmm(driven[:, t], h, weights["W"]))
        return ((h @ weights["V"] + weights["c"])[..., 0] - total).square().mean(1)

    return Task(f"adding {length} numbers, RNN", start, losses)


MODULES = ("stats", "signal", "special", "optimize", "linalg", "ndimage")


def words_task(*, texts: int, steps: int, seeds: int, seed: int) -> tuple[Task, float]:
    """From which part of SciPy do these 40 words of documentation come? Logistic regression on words; most are rare.

    Also the mean share of texts in which a word is.
    """
    found: list[tuple[Counter[str], int]] = []
    for label, name in enumerate(MODULES):
        module = import_module(f"scipy.{name}")
        for symbol in sorted(module.__all__):
            words = re.findall(r"[a-z]{2,}", (getattr(module, symbol).__doc__ or "").lower())
            found += [(Counter(words[i : i + 40]), label) for i in range(0, len(words) - 39, 40)]
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:texts].tolist()
    found = [found[i] for i in chosen]
    counts = Counter(word for words, _ in found for word in words)
    place = {word: i for i, word in enumerate(sorted(word for word, count in counts.items() if count > 1))}
    X = torch.zeros(len(found), len(place))
    for row, (text, _) in enumerate(found):
        X[row, [place[word] for word in text if word in place]] = 1
    labels = torch.tensor([label for _, label in found])
    order = _order(len(found), steps, seeds, seed)

    def losses(weights: Weights, step: int) -> Tensor:
        places = _for_runs(order[step], weights)
        return F.cross_entropy((X[places] @ weights["W"]).mT, labels[places], reduction="none").mean(1)

    return Task("words of texts", {"W": torch.zeros(seeds, len(place), len(MODULES))}, losses), float(X.mean())


def _order(count: int, steps: int, seeds: int, seed: int) -> Tensor:
    """Which examples each seed sees at each step (steps, seeds, batch)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (steps, seeds, BATCH), generator=generator)


def _for_runs(given: Tensor, weights: Weights) -> Tensor:
    """What the seeds see, once for each rate."""
    runs = len(next(iter(weights.values())))
    return given.repeat(runs // len(given), *[1] * (given.dim() - 1))
