"""AdamW: Adam that shrinks the weights themselves, by the same share for all, instead of adding to their gradients.

Loshchilov, Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
In: parameters theta of any shapes, gradients g = dL/dtheta. Out: moved parameters.
Departs from the paper: its lambda is lr * weight_decay here, as in torch.optim.AdamW, so it follows the schedule too.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.optimizer import Group, Tensors
from vivace.optimization.adam import Adam, descend, descend_fused


class AdamW(Adam):
    """The path of torch.optim.AdamW."""

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), *, eps: float = 1e-8,
                 weight_decay: float = 0.01, bias_correction: bool = True) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps=eps, weight_decay=weight_decay, bias_correction=bias_correction)

    def update(self, group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"], m: Float[Tensor, "*n"],
               v: Float[Tensor, "*n"], step: Float[Tensor, ""]) -> None:  # fmt: skip
        theta.mul_(1 - group["lr"] * group["weight_decay"])
        descend(group, theta, g, m, v, step)

    def fused(self, group: Group, thetas: Tensors, grads: Tensors, *memory: Tensors) -> bool:
        return descend_fused(torch._fused_adamw_, group, thetas, grads, *memory)
