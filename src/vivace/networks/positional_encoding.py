"""Positional encoding: a number as many sines and cosines, from slow to fast, so that a network can tell it finely.

Vaswani et al., "Attention is all you need" (2017), section 3.5. Mildenhall et al., "NeRF" (2020), eq. 4. Tancik et al.,
"Fourier features let networks learn high frequency functions" (2020), section 6. Su et al., "RoFormer" (2021), 3.2.
In: positions (...), or coordinates (..., c) in [-1, 1]. Out: codes (..., d) in [-1, 1].
Departs from the paper: nowhere.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


def frequencies(d: int, *, base: float = 10_000.0) -> Float[Tensor, " {d}//2"]:
    """omega_i = base^(-2i/d) for i = 0 ... d/2 - 1: wavelengths from 2 pi to nearly 2 pi base."""
    if d < 2 or d % 2:
        raise InputError(f"a code is pairs of sine and cosine, so its size must be even and at least 2; got {d}")
    return base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)


def positional_encoding(positions: Float[Tensor, "*n"], d: int, *, base: float = 10_000.0) -> Float[Tensor, "*n {d}"]:
    """The Transformer's code: sin(omega_i p) at 2i and cos(omega_i p) at 2i + 1."""
    angles = positions[..., None] * frequencies(d, base=base).to(positions)  # (..., d/2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def shift_matrix(offset: float, d: int, *, base: float = 10_000.0) -> Float[Tensor, "{d} {d}"]:
    """R_k, with code(p + k) = R_k code(p) for every p: a rotation of each pair by omega_i k (float64)."""
    angles = offset * frequencies(d, base=base)
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)  # (d/2, 2, 2)
    return torch.block_diag(*blocks)


def rotary(x: Float[Tensor, "*b n d"], positions: Float[Tensor, " n"], *, base: float = 10_000.0
           ) -> Float[Tensor, "*b n d"]:  # fmt: skip
    """RoPE: each pair of a query or key turned by omega_i p, so that their inner products see offsets only."""
    angles = positions[:, None] * frequencies(x.shape[-1], base=base).to(x)  # (n, d/2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def fourier_features(x: Float[Tensor, "*n c"], octaves: int) -> Float[Tensor, "*n 2*{octaves}*c"]:
    """NeRF's code: sin(2^k pi x), cos(2^k pi x) of each coordinate, k = 0 ... octaves - 1.

    In the paper 10 octaves for a place in space (60 numbers) and 4 for a direction (24).
    """
    angles = x[..., None] * (math.pi * 2 ** torch.arange(octaves).to(x))  # (..., c, octaves)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-3)


def gaussian_features(x: Float[Tensor, "*n c"], B: Float[Tensor, "m c"]) -> Float[Tensor, "*n 2*m"]:
    """cos(2 pi B x) and sin(2 pi B x); the rows of B are frequencies in every direction, from `random_frequencies`."""
    angles = 2 * math.pi * x @ B.T
    return torch.cat([angles.cos(), angles.sin()], -1)


def random_frequencies(
    m: int, c: int, *, sigma: float, generator: torch.Generator | None = None
) -> Float[Tensor, "{m} {c}"]:
    """B for `gaussian_features`: entries from N(0, sigma^2). A larger sigma fits finer detail, and more noise."""
    return sigma * torch.randn(m, c, generator=generator)


class LearnedPositions(nn.Module):
    """A code for each of `length` positions, learnt like any weight: there is none for a position beyond."""

    def __init__(self, length: int, d: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.codes = nn.Parameter(0.02 * torch.randn(length, d, generator=generator))

    def forward(self, positions: Float[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        if positions.min() < 0 or positions.max() >= len(self.codes):
            raise InputError(f"codes were learnt for positions 0 to {len(self.codes) - 1}; "
                             f"asked for {positions.min():g} to {positions.max():g}")  # fmt: skip
        return self.codes[positions.long()]
