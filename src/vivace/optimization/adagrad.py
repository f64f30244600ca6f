"""AdaGrad: every parameter's step is divided by the size of all its gradients so far, so that rare ones keep theirs.

Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011), fig. 1.
In: parameters theta of any shapes, gradients g = dL/dtheta. Out: moved parameters.
Departs from the paper: the diagonal of its matrix only, without projection, eps (its delta) 1e-10.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.optimizer import Elementwise, Group, Tensors, within


class Adagrad(Elementwise):
    """The path of torch.optim.Adagrad. Rates only ever shrink: the sum forgets nothing."""

    fixed: ClassVar = {"lr_decay": 0.0, "initial_accumulator_value": 0.0, "maximize": False}

    def __init__(self, params: Any, lr: float = 1e-2, *, eps: float = 1e-10, weight_decay: float = 0.0) -> None:
        within("lr", lr)
        within("eps", eps)
        within("weight_decay", weight_decay)
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)

    def memory(self, _: Group) -> tuple[str, ...]:
        return ("sum", "step")

    def update(self, group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"], total: Float[Tensor, "*n"],
               _: Float[Tensor, ""]) -> None:  # fmt: skip
        g = g.add(theta, alpha=group["weight_decay"])
        total.addcmul_(g, g)  # G = G + g^2
        theta.addcdiv_(g, total.sqrt().add_(group["eps"]), value=-group["lr"])  # theta -= lr g / (sqrt(G) + eps)

    def fused(self, group: Group, thetas: Tensors, grads: Tensors, totals: Tensors, steps: Tensors) -> bool:
        if thetas[0].device.type != "cpu":  # not every torch has the kernel elsewhere
            return False
        torch._fused_adagrad_(thetas, grads, totals, steps, lr=group["lr"], lr_decay=0.0, eps=group["eps"],
                              weight_decay=group["weight_decay"], maximize=False)  # fmt: skip
        return True
