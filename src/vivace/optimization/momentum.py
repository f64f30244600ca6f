"""Momentum: descent with a velocity, in which steps that agree add up and steps that contradict each other cancel.

Polyak, "Some methods of speeding up the convergence of iteration methods" (1964): the heavy ball. Nesterov, "A method
of solving a convex programming problem with convergence rate O(1/k^2)" (1983). Both as in Sutskever et al. (2013),
eq. 1-4.
In: parameters theta of any shapes, gradients g = dL/dtheta. Out: moved parameters; without momentum, plain descent.
Departs from the paper: the rate stands outside the velocity, as in torch.optim.SGD: theta <- theta - lr v with
v <- mu v + g. `rate_inside=True` is the printed form, v <- mu v + lr g: the same path only while the rate is constant.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.optimizer import Elementwise, Group, Tensors, within


class SGD(Elementwise):
    """Gradient descent, plain (momentum 0), as a heavy ball, or Nesterov's; the path is torch.optim.SGD's."""

    fixed: ClassVar = {"dampening": 0.0, "maximize": False}

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.0, *, weight_decay: float = 0.0,
                 nesterov: bool = False, rate_inside: bool = False) -> None:  # fmt: skip
        within("lr", lr)
        within("momentum", momentum, below=1)
        within("weight_decay", weight_decay)
        if nesterov and momentum == 0:
            raise InputError("nesterov=True looks ahead along the velocity, and needs a momentum above 0")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
                         rate_inside=rate_inside)  # fmt: skip

    def memory(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"],
               v: Float[Tensor, "*n"] | None = None) -> None:  # fmt: skip
        mu = group["momentum"]
        inside, outside = (group["lr"], 1) if group["rate_inside"] else (1, group["lr"])
        g = inside * g.add(theta, alpha=group["weight_decay"])
        if v is not None:
            v.mul_(mu).add_(g)  # v = mu v + g
            g = g.add(v, alpha=mu) if group["nesterov"] else v  # Nesterov: where the velocity would lead, already
        theta.sub_(g, alpha=outside)

    def fused(self, group: Group, thetas: Tensors, grads: Tensors, *memory: Tensors) -> bool:
        if group["rate_inside"]:
            return False
        torch._fused_sgd_(thetas, grads, memory[0] if memory else [], lr=group["lr"], momentum=group["momentum"],
                          weight_decay=group["weight_decay"], nesterov=group["nesterov"], dampening=0.0, maximize=False,
                          is_first_step=False)  # fmt: skip
        return True
