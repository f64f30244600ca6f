"""Group normalisation: the channels of each example are taken in groups, each brought to mean 0 and variance 1.

Wu, He, "Group normalization" (2018), eq. 1 to 3 and 7.
In: features (B, C) or maps (B, C, ...), any range. Out: the same shape; before gamma and beta, mean 0 and variance 1
over each group of C / groups channels. One group is layer, C groups are instance normalisation, but for gamma and beta.
Departs from the paper: nowhere. `group_norm` is the formula; the module computes the same with torch's fused kernel, in
a fraction of the time.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def group_norm(x: Float[Tensor, "b c *space"], gamma: Float[Tensor, " c"], beta: Float[Tensor, " c"], *, groups: int,
               eps: float = 1e-5) -> Float[Tensor, "b c *space"]:  # fmt: skip
    """The formula: one mean and one variance per example and group, over the group's channels and space."""
    grouped = x.reshape(len(x), groups, -1)  # (B, G, C / G * space)
    mean = grouped.mean(2, keepdim=True)
    variance = (grouped - mean).square().mean(2, keepdim=True)
    x_hat = ((grouped - mean) / torch.sqrt(variance + eps)).view_as(x)
    each = (-1, *[1] * (x.dim() - 2))  # (C, 1, 1): one number a channel
    return gamma.view(each) * x_hat + beta.view(each)


class GroupNorm(nn.Module):
    """torch's GroupNorm: `GroupNorm(32, 64)` takes 64 channels in 32 groups; the same in training and evaluation."""

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        if min(groups, channels) < 1 or channels % groups:
            raise InputError(f"{channels} channels can't be taken in {groups} groups of the same size")
        self.groups, self.channels, self.eps = groups, channels, eps
        self.weight = nn.Parameter(torch.ones(channels))  # gamma
        self.bias = nn.Parameter(torch.zeros(channels))  # beta

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        if x.shape[1] != self.channels:
            raise InputError(f"this group normalisation has {self.channels} channels, but the input has {x.shape[1]}")
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.channels}, eps={self.eps}"
