"""RMS normalisation: each example is divided by the root of its features' mean square; the mean stays where it is.

Zhang, Sennrich, "Root mean square layer normalization" (2019), eq. 4.
In: features (..., *shape), any range. Out: the same; before gamma, a mean square of 1 over the last axes.
Departs from the paper: a small eps in the root. `rms_norm` is the formula; the module computes the same with torch's
kernel.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def rms_norm(x: Float[Tensor, "*batch"], gamma: Float[Tensor, "*shape"], *,
             eps: float = 1e-5) -> Float[Tensor, "*batch"]:  # fmt: skip
    """The formula: one mean square per example, over the axes that gamma has, the last ones."""
    axes = list(range(-gamma.dim(), 0))
    return gamma * x / torch.sqrt(x.square().mean(axes, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """torch's RMSNorm: `RMSNorm(512)` over the last axis; layer normalisation without the mean and without beta."""

    def __init__(self, shape: int | Sequence[int], *, eps: float = 1e-5) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"RMS normalisation needs at least one axis, each of at least 1, not {self.shape}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(self.shape))  # gamma

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise InputError(f"this RMS normalisation is over {self.shape}, but the input is {tuple(x.shape)}")
        return F.rms_norm(x, self.shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.shape}, eps={self.eps}"
