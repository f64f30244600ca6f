"""Many small MLPs trained side by side, each with its own weights, order of the pictures and learning rate.

One batched product serves all, so that a sweep of twenty rates costs little more than one of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.data import Labelled
from vivace.networks import MLP

Optimizer = Literal["sgd", "momentum", "adam"]
BETA, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class SideBySide:
    """MLPs of one shape; `rates` has the learning rate of each, `seeds` that of its weights and of its order."""

    sizes: Sequence[int]
    rates: Sequence[float]
    seeds: Sequence[int]
    optimizer: Optimizer = "sgd"
    weights: list[Float[Tensor, "n ..."]] = field(init=False)

    def __post_init__(self) -> None:
        nets = [MLP(self.sizes, generator=torch.Generator().manual_seed(seed)) for seed in self.seeds]
        each = zip(*(net.parameters() for net in nets), strict=True)
        self.weights = [torch.stack([weight.detach() for weight in same]).requires_grad_() for same in each]
        self.moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in self.weights]
        self.orders = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self.steps = 0
        self.walked: tuple[int, int] | None = None  # how many pictures, in batches of what
        self.batches: Iterator[Tensor] = iter(())

    def logits(self, x: Float[Tensor, "m b p"]) -> Float[Tensor, "n b k"]:
        return forward(self.weights, x)

    def train(self, given: Labelled, batch: int, steps: int, *,
              share: Callable[[int], float] = lambda _: 1.0) -> None:  # fmt: skip
        """Go on for so many steps; `share` is what a schedule leaves of the rates at each."""
        x = given.images.flatten(1)
        if (len(x), batch) != self.walked:  # else go on with the epoch that was begun
            self.walked, self.batches = (len(x), batch), self._batches(len(x), batch)
        for _ in range(steps):
            places = next(self.batches)
            loss = losses(self.logits(x[places]), given.labels[places])
            gradients = torch.autograd.grad(loss.sum(), self.weights)
            self._step(gradients, share(self.steps))

    @torch.no_grad()
    def measured(self, given: Labelled) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The mean cross-entropy of each net on these pictures, and its accuracy."""
        logits = self.logits(given.images.flatten(1)[None])
        right = (logits.argmax(2) == given.labels).float().mean(1)
        return losses(logits, given.labels.expand(len(logits), -1)), right

    def _batches(self, count: int, batch: int) -> Iterator[Tensor]:
        """Places (n, batch): each net goes through all pictures in an order of its own; a remainder is left out."""
        while True:
            order = torch.stack([torch.randperm(count, generator=generator) for generator in self.orders])
            yield from order[:, : count // batch * batch].split(batch, 1)

    @torch.no_grad()
    def _step(self, gradients: Sequence[Tensor], share: float) -> None:
        self.steps += 1
        rates = share * torch.tensor(self.rates)
        for weight, gradient, (m, v) in zip(self.weights, gradients, self.moments, strict=True):
            rate = rates.view(-1, *[1] * (weight.dim() - 1))
            if self.optimizer == "sgd":
                weight.addcmul_(gradient, rate, value=-1)
            elif self.optimizer == "momentum":
                m.mul_(BETA).add_(gradient)
                weight.addcmul_(m, rate, value=-1)
            else:
                m.lerp_(gradient, 1 - BETA)
                v.lerp_(gradient.square(), 1 - BETA2)
                root = (v / (1 - BETA2**self.steps)).sqrt_().add_(EPSILON)
                weight.addcmul_(m / root, rate / (1 - BETA**self.steps), value=-1)


def forward(weights: Sequence[Float[Tensor, "n ..."]], x: Float[Tensor, "m b p"]) -> Float[Tensor, "n b k"]:
    """The logits of MLPs with these weights and biases (W1, b1, ...), each for its own pictures or all for the same."""
    for W, b in zip(weights[::2], weights[1::2], strict=True):
        x = torch.baddbmm(b[:, None], x.expand(len(W), -1, -1), W.mT)
        x = torch.relu(x) if W is not weights[-2] else x
    return x


def losses(logits: Float[Tensor, "n b k"], labels: Tensor) -> Float[Tensor, " n"]:
    """The mean cross-entropy of each net."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(1)
