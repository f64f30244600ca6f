"""Adam: momentum, with every parameter's step divided by the recent size of its own gradient.

Kingma, Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1.
In: parameters theta of any shapes, gradients g = dL/dtheta. Out: moved parameters.
Departs from the paper: nowhere; `bias_correction=False, eps=0` is the formula as it is often printed.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.optimizer import Elementwise, Group, Tensors, within


class Adam(Elementwise):
    """The path of torch.optim.Adam; weight decay is added to the gradient, and so rescaled with it (AdamW's is not)."""

    fixed: ClassVar = {"amsgrad": False, "maximize": False}

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), *, eps: float = 1e-8,
                 weight_decay: float = 0.0, bias_correction: bool = True) -> None:  # fmt: skip
        within("lr", lr)
        for beta in betas:
            within("each of betas", beta, below=1)
        within("eps", eps)
        within("weight_decay", weight_decay)
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                         bias_correction=bias_correction)  # fmt: skip

    def memory(self, _: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "step")

    def update(self, group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"], m: Float[Tensor, "*n"],
               v: Float[Tensor, "*n"], step: Float[Tensor, ""]) -> None:  # fmt: skip
        descend(group, theta, g.add(theta, alpha=group["weight_decay"]), m, v, step)

    def fused(self, group: Group, thetas: Tensors, grads: Tensors, *memory: Tensors) -> bool:
        return descend_fused(torch._fused_adam_, group, thetas, grads, *memory)


def descend(group: Group, theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"], m: Float[Tensor, "*n"],
            v: Float[Tensor, "*n"], step: Float[Tensor, ""]) -> None:  # fmt: skip
    """Algorithm 1 from its fourth line on: what Adam and AdamW have in common."""
    beta1, beta2 = group["betas"]
    t = step.item() if group["bias_correction"] else torch.inf  # the corrections 1 - beta^t tend to 1
    m.mul_(beta1).add_(g, alpha=1 - beta1)  # m = beta1 m + (1 - beta1) g
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2
    v_hat = v / (1 - beta2**t)
    lr_hat = group["lr"] / (1 - beta1**t)  # so that lr_hat m = lr m_hat
    theta.addcdiv_(m, v_hat.sqrt_().add_(group["eps"]), value=-lr_hat)  # theta -= lr m_hat / (sqrt(v_hat) + eps)


def descend_fused(kernel: Any, group: Group, thetas: Tensors, grads: Tensors, ms: Tensors, vs: Tensors,
                  steps: Tensors) -> bool:  # fmt: skip
    """The same by a kernel of torch's, which always corrects."""
    if not group["bias_correction"]:
        return False
    beta1, beta2 = group["betas"]
    kernel(thetas, grads, ms, vs, [], steps, lr=group["lr"], beta1=beta1, beta2=beta2, eps=group["eps"],
           weight_decay=group["weight_decay"], amsgrad=False, maximize=False)  # fmt: skip
    return True
