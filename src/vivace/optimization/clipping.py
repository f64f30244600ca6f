"""Gradient clipping: a gradient that is too long is shortened before the step; its direction stays.

Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013), algorithm 1; by value:
Mikolov, "Statistical language models based on neural networks" (2012), section 3.2.2; to unit length: Hazan, Levy,
Shalev-Shwartz, "Beyond convexity: stochastic quasi-convex optimization" (2015), algorithm 1.
In: parameters with gradients, on one device, after backward() and before the optimizer's step. Out: the norm of all
gradients together, as it was before they are changed in place.
Departs from the paper: divides by the norm + 1e-6, as torch does, so that a gradient of zero stays zero.
"""

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown

NonFinite = Literal["raise", "zero", "keep"]
EPSILON = 1e-6


@torch.no_grad()
def clip_norm(parameters: Iterable[Tensor], limit: float, *, order: float = 2.0,
              nonfinite: NonFinite = "raise") -> Float[Tensor, ""]:  # fmt: skip
    """Scale all gradients by min(1, limit / norm): clip_grad_norm_. `order` 2 is the length, inf the largest entry.

    nonfinite: what to do with a gradient that holds infinities or NaN: "raise" an InputError that says where, make all
    gradients "zero" (a step that moves nothing, for plain descent), or "keep" on as torch does by default, which
    spreads the NaN to every weight but never makes the program wait for the GPU.
    """
    gradients = _gradients(parameters, limit)
    norm = _norm(gradients, order)
    coefficient = (limit / (norm + EPSILON)).clamp(max=1)
    if _usable(gradients, norm, nonfinite) and (nonfinite == "keep" or coefficient < 1):
        torch._foreach_mul_(gradients, coefficient)
    return norm


@torch.no_grad()
def clip_value(parameters: Iterable[Tensor], limit: float, *, order: float = 2.0,
               nonfinite: NonFinite = "raise") -> Float[Tensor, ""]:  # fmt: skip
    """Bring every entry of the gradients into [-limit, limit]: clip_grad_value_. This changes the direction."""
    gradients = _gradients(parameters, limit)
    norm = _norm(gradients, order)
    if _usable(gradients, norm, nonfinite):
        if gradients[0].is_cuda:  # two launches for all, however many
            torch._foreach_clamp_min_(gradients, -limit)
            torch._foreach_clamp_max_(gradients, limit)
        else:  # one pass over memory
            for gradient in gradients:
                gradient.clamp_(-limit, limit)
    return norm


@torch.no_grad()
def normalize_gradient(parameters: Iterable[Tensor], *, order: float = 2.0,
                       nonfinite: NonFinite = "raise") -> Float[Tensor, ""]:  # fmt: skip
    """Divide all gradients by their norm: a step then has the learning rate's length, be the gradient long or short."""
    gradients = _gradients(parameters)
    norm = _norm(gradients, order)
    if _usable(gradients, norm, nonfinite):
        torch._foreach_mul_(gradients, 1 / (norm + EPSILON))
    return norm


def _gradients(parameters: Iterable[Tensor], limit: float = 1.0) -> list[Tensor]:
    if not limit > 0:
        raise InputError(f"the limit of the gradient is {limit}, but must be above 0")
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter.grad for parameter in given if parameter.grad is not None]


def _norm(gradients: list[Tensor], order: float) -> Float[Tensor, ""]:
    """The norm of all gradients laid end to end, which is the norm of their norms."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, order)), order)


def _usable(gradients: list[Tensor], norm: Float[Tensor, ""], nonfinite: NonFinite) -> bool:
    """Whether the gradients are to be changed, once those that are no numbers are dealt with."""
    if nonfinite not in get_args(NonFinite):
        raise unknown("way with gradients that are not finite", nonfinite, get_args(NonFinite))
    if not gradients or nonfinite == "keep" or norm.isfinite():
        return bool(gradients)
    if nonfinite == "zero":
        torch._foreach_zero_(gradients)
        return False
    broken = [i for i, gradient in enumerate(gradients) if not gradient.isfinite().all()]
    where = f"gradient {broken[0]} of {len(gradients)} is the first that isn't finite" if broken else "it overflows"
    raise InputError(f"the gradient's norm is {norm.item()} ({where}): lower the learning rate, or pass "
                     'nonfinite="zero" to leave such steps out')  # fmt: skip
