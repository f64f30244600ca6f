"""Residual MLP: each block adds a correction to what it was given, so that even fifty layers train.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (2015), eq. 1.
In: images (B, ...) of any shape, flattened to (B, inputs). Out: logits (B, outputs).
Departs from the paper: fully connected; no batch normalisation; nothing is done to the sum (He et al. 2016, eq. 2), and
the corrections start smaller by the root of their number (Hanin, Rolnick 2018, section 2).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.networks.initialization import he_


class ResidualBlock(nn.Module):
    """x + V relu(W relu(x)); without the skip, V relu(W relu(x)). Its slope holds the identity, which can't vanish."""

    def __init__(self, width: int, *, skip: bool = True, scale: float = 1.0,
                 generator: torch.Generator | None = None) -> None:  # fmt: skip
        super().__init__()
        self.skip = skip
        self.first = _linear(width, width, generator)
        self.second = _linear(width, width, generator)
        with torch.no_grad():
            self.second.weight *= scale

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        correction: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + correction if self.skip else correction


class ResidualMLP(nn.Module):
    """A layer in, blocks of two layers each, a layer out: 2 * blocks + 2 layers. `skip=False`: the same, plain."""

    def __init__(self, inputs: int, width: int, outputs: int, *, blocks: int = 24, skip: bool = True,
                 generator: torch.Generator | None = None) -> None:  # fmt: skip
        super().__init__()
        if min(inputs, width, outputs, blocks) < 1:
            raise InputError(f"sizes are at least 1; got {inputs}, {width}, {outputs} and {blocks} blocks")
        self.inputs = inputs
        scale = 1 / math.sqrt(blocks) if skip else 1.0  # each block adds 1/blocks of variance: at most e-fold in all
        self.embed = _linear(inputs, width, generator)
        self.blocks = nn.ModuleList(
            [ResidualBlock(width, skip=skip, scale=scale, generator=generator) for _ in range(blocks)]
        )
        self.head = _linear(width, outputs, generator)

    @property
    def depth(self) -> int:
        """The layers with weights on the longest way through."""
        return 2 * len(self.blocks) + 2

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        x = images.flatten(1)
        if x.shape[1] != self.inputs:
            raise InputError(f"this net takes {self.inputs} values an image, but the images given have {x.shape[1]}")
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(torch.relu(x))
        return logits


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    he_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
