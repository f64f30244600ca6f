"""Initialisation: random weights of such a size that signals and gradients neither fade nor explode with depth.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), eq. 12 and 16; He
et al., "Delving deep into rectifiers" (2015), eq. 10 and 14; Poole et al. (2016), eq. 3, and Schoenholz et al. (2017),
eq. 9, for what a layer does to the variances.
In: a weight (outputs, inputs, ...), filled in place. Out: that weight; or the variances after each layer, float64.
Departs from the paper: normal or uniform, either fan and any gain for both.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown

Distribution = Literal["normal", "uniform"]
Fan = Literal["in", "out"]

QUADRATURE = 200  # points: exact for polynomials up to degree 399; even, so that a kink at zero lies between two


@torch.no_grad()
def xavier_(weight: Float[Tensor, "..."], *, gain: float = 1.0, distribution: Distribution = "uniform",
            generator: torch.Generator | None = None) -> Float[Tensor, "..."]:  # fmt: skip
    """Variance gain^2 * 2 / (fan in + fan out): a compromise between signals and gradients, for slopes near 1."""
    return _filled(weight, 2 * gain**2 / sum(fans(weight.shape)), distribution, generator)


@torch.no_grad()
def he_(weight: Float[Tensor, "..."], *, fan: Fan = "in", leak: float = 0.0, distribution: Distribution = "normal",
        generator: torch.Generator | None = None) -> Float[Tensor, "..."]:  # fmt: skip
    """Variance 2 / ((1 + leak^2) fan): for ReLU, which halves a signal's mean square; `leak` is a leaky ReLU's slope.

    Fan "in" keeps the signals' size, "out" the gradients'.
    """
    if fan not in ("in", "out"):
        raise unknown("fan", fan, ("in", "out"))
    count = fans(weight.shape)[fan == "out"]
    return _filled(weight, 2 / ((1 + leak**2) * count), distribution, generator)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs a unit of this weight has, and to how many units an input goes: times the kernel's places."""
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(f"fans need a weight (outputs, inputs, ...), each at least 1; this one is {tuple(shape)}")
    places = math.prod(shape[2:])
    return shape[1] * places, shape[0] * places


def _filled(weight: Tensor, variance: float, distribution: Distribution, generator: torch.Generator | None) -> Tensor:
    if distribution == "normal":
        return weight.normal_(0, math.sqrt(variance), generator=generator)
    if distribution == "uniform":
        reach = math.sqrt(3 * variance)  # uniform on (-a, a) has variance a^2 / 3
        return weight.uniform_(-reach, reach, generator=generator)
    raise unknown("distribution", distribution, ("normal", "uniform"))


def signals(f: Callable[[Tensor], Tensor], layers: int, *, scale: float, start: float = 1.0
            ) -> Float[Tensor, "{layers}+1"]:  # fmt: skip
    """The mean square of z before each of the layers and after the last, in a wide net: q <- scale * E f(sqrt(q) x)^2.

    x is a standard normal number; `scale` is fan in * Var(weight): 1 for Xavier at equal fans, 2 for He. `start` is
    that of the first z. With ReLU, q <- scale * q / 2.
    """
    x, share = _normal_quadrature()
    q = [start]
    for _ in range(layers):
        q.append(scale * float(share @ f(math.sqrt(q[-1]) * x).square()))
    return torch.tensor(q, dtype=torch.float64)


def gradients(slope: Callable[[Tensor], Tensor], variances: Float[Tensor, " n"], *, scale: float
              ) -> Float[Tensor, " n"]:  # fmt: skip
    """The mean square of dL/dz at each place of `signals`, that of the last being 1: times scale * E f'(z)^2 a layer.

    `scale` is fan out * Var(weight). Gradients are taken as independent of the signals, as the papers do.
    """
    x, share = _normal_quadrature()
    passed = [scale * float(share @ slope(math.sqrt(q) * x).square()) for q in variances[:-1].tolist()]
    return torch.tensor([1.0, *passed[::-1]], dtype=torch.float64).cumprod(0).flip(0)


def _normal_quadrature() -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Points and shares with which sums over points are expectations over a standard normal number."""
    points, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    return torch.from_numpy(points), torch.from_numpy(weights / math.sqrt(2 * math.pi))
