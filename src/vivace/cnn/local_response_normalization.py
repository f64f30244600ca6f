"""Local response normalisation: a channel that responds strongly at a place holds down its neighbours there.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (2012), section 3.3.
In: maps (B, C, H, W), any range. Out: as large, of the same sign, closer to zero where k >= 1.
Departs from the paper: nowhere. Its alpha weighs the sum of n squares; torch.nn.LocalResponseNorm and Caffe take the
mean, so that the paper's 1e-4 with n = 5 is their 5e-4 (and their 1e-4 five times weaker than the paper).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vivace.base.errors import InputError


def local_response_normalization(
    maps: Float[Tensor, "b c h w"], *, neighbours: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> Float[Tensor, "b c h w"]:
    """b_i = a_i / (k + alpha * sum_j a_j^2)^beta over the n = `neighbours` channels j around i, or as many as exist."""
    if neighbours < 1 or neighbours % 2 == 0:
        raise InputError(f"neighbours must be odd, so that a channel stands in their middle; got {neighbours}")
    b: Tensor = _Normalized.apply(maps, neighbours // 2, alpha, beta, k)
    return b


class LocalResponseNormalization(nn.Module):
    """The same as a layer; it has no weights."""

    def __init__(self, *, neighbours: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.settings = {"neighbours": neighbours, "alpha": alpha, "beta": beta, "k": k}

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return local_response_normalization(maps, **self.settings)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


class _Normalized(torch.autograd.Function):
    """b = a s^-beta with s = k + alpha W(a^2), W the window's sum. W is symmetric, so that with the gradient g of b

        g s^-beta - 2 alpha beta a W(g a s^(-beta - 1))

    is that of a: one more window, where autograd would go back through each of its slices.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, reach: int, alpha: float, beta: float, k: float) -> Tensor:
        s = _window_sum(a.square(), reach).mul_(alpha).add_(k)
        ctx.save_for_backward(a, s)
        ctx.constants = reach, alpha, beta
        return s.pow(-beta).mul_(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        a, s = ctx.saved_tensors
        reach, alpha, beta = ctx.constants
        direct = s.pow(-beta).mul_(g)
        shared = _window_sum(direct * a / s, reach)
        return direct.sub_(shared.mul_(a), alpha=2 * alpha * beta), None, None, None, None


def _window_sum(values: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """For each channel the sum over it and the `reach` channels on either side, at the same place."""
    total = values.clone()
    for distance in range(1, min(reach, values.shape[1] - 1) + 1):
        total[:, distance:] += values[:, :-distance]
        total[:, :-distance] += values[:, distance:]
    return total
