"""RMSprop: every parameter's step is divided by the recent size of its own gradient.

Tieleman, Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine Learning (2012), slide 29.
In: parameters theta of any shapes, gradients g = dL/dtheta. Out: moved parameters.
Departs from the paper: the mean reaches further back (rho 0.99, there 0.9) and eps keeps the divisor from zero, both as
in torch.optim.RMSprop. Called rho here, alpha there and at the door.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.optimizer import Elementwise, Group, Tensors, within


class RMSprop(Elementwise):
    """The path of torch.optim.RMSprop. The first steps are up to lr / sqrt(1 - alpha) long: nothing corrects v = 0."""

    fixed: ClassVar = {"momentum": 0.0, "centered": False, "maximize": False}

    def __init__(self, params: Any, lr: float = 1e-2, alpha: float = 0.99, *, eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:  # fmt: skip
        within("lr", lr)
        within("alpha", alpha, below=1)
        within("eps", eps)
        within("weight_decay", weight_decay)
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)

    def memory(self, _: Group) -> tuple[str, ...]:
        return ("square_avg", "step")

    def update(self, group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"], v: Float[Tensor, "*n"],
               _: Float[Tensor, ""]) -> None:  # fmt: skip
        rho, decay = group["alpha"], group["weight_decay"]
        g = g.add(theta, alpha=decay) if decay else g
        v.mul_(rho).addcmul_(g, g, value=1 - rho)  # v = rho v + (1 - rho) g^2
        theta.addcdiv_(g, v.sqrt().add_(group["eps"]), value=-group["lr"])  # theta -= lr g / (sqrt(v) + eps)

    def fused(self, group: Group, thetas: Tensors, grads: Tensors, vs: Tensors, _: Tensors) -> bool:
        """By Adam's kernel: with beta1 = 0 its m is g, and may lie in g's place; at t = inf it corrects nothing."""
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, thetas, alpha=group["weight_decay"]))
        steps = [torch.full((), torch.inf, device=thetas[0].device)] * len(thetas)
        torch._fused_adam_(thetas, grads, grads, vs, [], steps, lr=group["lr"], beta1=0.0, beta2=group["alpha"],
                           eps=group["eps"], weight_decay=0.0, amsgrad=False, maximize=False)  # fmt: skip
        return True
