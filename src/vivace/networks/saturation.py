"""Saturated, silent and dead units: how much of a network passes no gradient on, and how much puts out nothing.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), section 3.
In: slopes f'(z) or outputs h = f(z) of a layer, (examples, units). Out: a share in [0, 1], or True for each dead unit.
Departs from the paper: saturation is read off the slope, below 0.01 by default, not off histograms of the outputs.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from vivace.base.errors import InputError


def saturated_share(slopes: Float[Tensor, "n units"], *, below: float = 0.01) -> Float[Tensor, ""]:
    """How many of the slopes are smaller than `below`: there a gradient is all but lost."""
    return (_some(slopes).abs() < below).double().mean()


def sparsity(outputs: Float[Tensor, "n units"]) -> Float[Tensor, ""]:
    """How many of the outputs are exactly zero."""
    return (_some(outputs) == 0).double().mean()


def dead_units(slopes: Float[Tensor, "n units"]) -> Bool[Tensor, " units"]:
    """The units whose slope is zero for every example: no gradient reaches their weights; they never learn again.

    Being zero for one example is sparsity; only being so for the whole data set is death.
    """
    return (_some(slopes) == 0).all(0)


def _some(values: Float[Tensor, "n units"]) -> Float[Tensor, "n units"]:
    if not values.numel():
        raise InputError(f"shares of nothing: the array given is {' x '.join(map(str, values.shape))}")
    return values
