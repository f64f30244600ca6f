"""Layer normalisation: each example is brought to mean 0 and variance 1 over its own features, whatever the batch.

Ba, Kiros, Hinton, "Layer normalization" (2016), eq. 3 and 4.
In: features (..., *shape), any range. Out: the same; before gamma and beta, mean 0 and variance 1 over the last axes.
Departs from the paper: a small eps in the root; with several axes in `shape`, over all of them. `layer_norm` is the
formula; the module computes the same with torch's fused kernel, in a fifth of the time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def layer_norm(x: Float[Tensor, "*batch"], gamma: Float[Tensor, "*shape"], beta: Float[Tensor, "*shape"], *,
               eps: float = 1e-5) -> Float[Tensor, "*batch"]:  # fmt: skip
    """The formula: one mean and one variance per example, over the axes that gamma has, the last ones."""
    axes = list(range(-gamma.dim(), 0))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    x_hat = (x - mean) / torch.sqrt(variance + eps)
    return gamma * x_hat + beta


class LayerNorm(nn.Module):
    """torch's LayerNorm: `LayerNorm(512)` over the last axis, `LayerNorm((64, 32, 32))` over the last three."""

    def __init__(self, shape: int | Sequence[int], *, eps: float = 1e-5) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"layer normalisation needs at least one axis, each of at least 1, not {self.shape}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(self.shape))  # gamma
        self.bias = nn.Parameter(torch.zeros(self.shape))  # beta

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise InputError(f"this layer normalisation is over {self.shape}, but the input is {tuple(x.shape)}")
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.shape}, eps={self.eps}"
