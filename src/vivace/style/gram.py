"""Gram matrix: which feature channels fire together, with all positions forgotten.

Gatys, Ecker, Bethge, "Texture synthesis using convolutional neural networks" (2015), eq. 2 to 4.
In: features (B, C, H, W), any range. Out: (B, C, C), symmetric, positive semidefinite; distances are numbers.
Departs from the paper: divided by H*W, so that pictures of different sizes compare; `divide=False` is the paper's sum.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


def gram_matrix(features: Float[Tensor, "b c h w"], *, divide: bool = True) -> Float[Tensor, "b c c"]:
    """Inner products of the channels over all positions: their mean, or the paper's sum (`divide=False`)."""
    grams: Tensor = _Gram.apply(features.flatten(2))
    return grams / features.shape[2:].numel() if divide else grams


def style_distance(
    features: Sequence[Float[Tensor, "b _ _ _"]],
    others: Sequence[Float[Tensor, "b _ _ _"]],
    weights: Sequence[float] | None = None,
    *,
    relative: bool = False,
) -> Float[Tensor, " b"]:
    """The style loss between pictures' maps, layer by layer; the maps may differ in size, but not in channels.

    Each layer's squared difference of Grams is taken over 4 C^2, which with H*W in the Grams is the paper's eq. 4, or
    relative to the square of the other's Gram. `weights`: one a layer; equal and summing to 1 where not given.
    """
    w = weights or [1 / len(features)] * len(features)
    if not len(features) == len(others) == len(w):
        raise InputError(f"{len(features)} and {len(others)} layers of features, but {len(w)} weights")
    distance = features[0].new_zeros(len(features[0]))
    for w_l, F, P in zip(w, features, others, strict=True):
        if F.shape[1] != P.shape[1]:
            raise InputError(f"{F.shape[1]} and {P.shape[1]} channels in the same layer: features of two networks?")
        G, A = gram_matrix(F), gram_matrix(P)
        size = A.square().sum((1, 2)) if relative else 4 * G.shape[1] ** 2
        distance = distance + w_l * (G - A).square().sum((1, 2)) / size
    return distance


class _Gram(torch.autograd.Function):
    """F F^T. Its gradient (dG + dG^T) F is one product; autograd would take two, one for each factor."""

    @staticmethod
    def forward(ctx: Any, F: Float[Tensor, "b c n"]) -> Float[Tensor, "b c c"]:
        ctx.save_for_backward(F)
        return F @ F.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, dG: Float[Tensor, "b c c"]) -> Float[Tensor, "b c n"]:
        (F,) = ctx.saved_tensors
        return (dG + dG.transpose(1, 2)) @ F
