"""Sliced Wasserstein distance: how far one cloud of features has to be moved to become another, on lines through it.

Heitz, Vanhoey, Chambon, Belcour, "A sliced Wasserstein loss for neural texture synthesis" (2021), eq. 3 to 5; Bonneel,
Rabin, Peyre, Pfister, "Sliced and Radon Wasserstein barycenters of measures" (2015).
In: features (B, C, H, W) and (B, C, h, w) of any two sizes. Out: (B,), the mean over the lines of $W_p^p$.
Departs from the paper: maps of different sizes are compared exactly, quantile by quantile, not resampled.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


def sliced_wasserstein(
    features: Float[Tensor, "b c h w"],
    others: Float[Tensor, "_ _ oh ow"],
    directions: int | None = None,
    *,
    p: int = 2,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " b"]:
    """Mean of the exact 1-D distances along random directions: as many as channels where not given, as in the paper."""
    if features.shape[:2] != others.shape[:2]:
        raise InputError(f"features {tuple(features.shape)} and {tuple(others.shape)} differ in pictures or channels")
    lines = features.shape[1] if directions is None else directions
    if lines < 1:
        raise InputError(f"at least one direction is needed; got {directions}")
    device = generator.device if generator else features.device
    V = torch.randn(lines, features.shape[1], generator=generator, device=device).to(features)
    V = V / V.norm(dim=1, keepdim=True)
    return wasserstein_1d(V @ features.flatten(2), V @ others.flatten(2), p=p).mean(1)


def wasserstein_1d(x: Float[Tensor, "*b n"], y: Float[Tensor, "*b m"], *, p: int = 2) -> Float[Tensor, "*b"]:
    """$W_p^p$ of two sets of numbers: the mean over all quantiles of $|x_q - y_q|^p$. Sorting solves the transport."""
    x, y = x.sort(-1).values, y.sort(-1).values
    n, m = x.shape[-1], y.shape[-1]
    if n == m:
        return (x - y).abs().pow(p).mean(-1)
    # both quantile functions are steps; counted in units of 1 / (n m), they change at multiples of m and of n
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values.to(x.device)
    widths = steps.diff(prepend=steps.new_zeros(1)).to(x) / (n * m)
    apart = x[..., (steps - 1) // m] - y[..., (steps - 1) // n]
    return (apart.abs().pow(p) * widths).sum(-1)
