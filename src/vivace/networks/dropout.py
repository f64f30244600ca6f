"""Dropout: each unit is left out of a training step at random, so that no unit can rely on another being there.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout" (2014), section 4.
In: x of any shape, p the probability to DROP a unit, 0 to 1. Out: x's shape, with the expected value of x.
Departs from the paper: inverted, that is scaled by 1 / (1 - p) in training instead of by 1 - p when predicting; the
paper's p is the probability to KEEP, here as in torch it is that to drop.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def dropout(x: Float[Tensor, "*shape"], p: float = 0.5, *, generator: torch.Generator | None = None
            ) -> Float[Tensor, "*shape"]:  # fmt: skip
    """Zero each value with probability p, and scale the others by 1 / (1 - p)."""
    if not 0 <= p <= 1:
        raise InputError(f"p is {p}, but the probability to drop a unit must be 0 to 1")
    if p == 1:
        return torch.zeros_like(x)
    kept = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * kept.div_(1 - p)


class Dropout(nn.Module):
    """`dropout` while the module is in training mode; when it predicts, nothing is dropped and nothing scaled."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise InputError(f"p is {p}, but the probability to drop a unit must be 0 to 1")
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return dropout(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
