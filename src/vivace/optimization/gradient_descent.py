"""Gradient descent: go downhill, each step along the negative gradient, until a rule says that it is enough.

Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées" (1847). Armijo, "Minimization of
functions having Lipschitz continuous first partial derivatives" (1966), corollary 2: the rate halved until it is right.
In: f, any differentiable function from a tensor to a number; start, of any shape. Out: a `Descent`: every point
(t, *shape), its value and its gradient's norm (t,), and why it ended.
Departs from the paper: the rate is given, as taught today; `backtrack=True` is Armijo's search, from that rate down.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.progress import Step, Tell, ignore

Function = Callable[[Float[Tensor, "*shape"]], Float[Tensor, ""]]
Stop = Literal["gradient", "parameters", "loss change", "loss", "steps", "diverged", "no descent"]

HALVINGS = 60  # of a rate that is too large; where none of them helps, only rounding is left


@dataclass(frozen=True)
class Descent:
    """The way down. `stopped` names the rule that ended it; see `gradient_descent`."""

    path: Float[Tensor, "t *shape"]
    values: Float[Tensor, " t"]
    gradient_norms: Float[Tensor, " t"]
    stopped: Stop
    evaluations: int  # of f; a step without line search takes one

    @property
    def end(self) -> Float[Tensor, "*shape"]:
        return self.path[-1]

    @property
    def steps(self) -> int:
        return len(self.path) - 1


def gradient_descent(
    f: Function,
    start: Float[Tensor, "*shape"],
    learning_rate: float = 0.1,
    *,
    steps: int = 1000,
    gradient_below: float | None = 1e-6,
    move_below: float | None = None,
    change_below: float | None = None,
    loss_below: float | None = None,
    far: float = 1e6,
    backtrack: bool = False,
    tell: Tell = ignore,
) -> Descent:
    """theta <- theta - learning_rate * gradient of f, until the first of the rules that are not None applies.

    `gradient_below` ("gradient"): the gradient's norm; only this one says that the end is stationary.
    `move_below` ("parameters"): the length of the step, which is also short where the rate is.
    `change_below` ("loss change"): how much f changed; it is also zero while descent jumps to and fro.
    `loss_below` ("loss"): f itself; right only if its smallest value is known.
    "steps": all taken. "diverged": f or its gradient is not finite any more (that point is left out), or the distance
    from the start is `far` times its own size (or 1, if that is larger). "no descent": no halved rate lowers f.
    """
    _check(start, learning_rate, steps)
    first = theta = start.detach().clone()
    value, g = _value_and_gradient(f, theta)
    norm = _length(g)
    if not math.isfinite(value + norm):
        raise InputError(f"f or its gradient is not finite at the start: f = {value:g}, norm of the gradient {norm:g}")
    path, values, norms = [theta], [value], [norm]
    limit = far * max(1.0, _length(first))
    evaluations, stopped = 1, _at_rest(value, norm, gradient_below, loss_below)
    while stopped is None and len(path) <= steps:
        rate, tried = _armijo(f, theta, g, value, learning_rate) if backtrack else (learning_rate, 0)
        evaluations += tried
        if rate == 0:
            stopped = "no descent"
            break
        theta = theta - rate * g
        before, moved = value, rate * norm  # a step is as long as the rate times the gradient's norm
        value, g = _value_and_gradient(f, theta)
        norm = _length(g)
        evaluations += 1
        if not math.isfinite(value + norm):
            stopped = "diverged"
            break
        path.append(theta)
        values.append(value)
        norms.append(norm)
        if len(path) % 1000 == 0:
            tell(Step(len(path), steps + 1, "gradient descent"))
        stopped = _at_rest(value, norm, gradient_below, loss_below)
        if stopped is None and _length(theta - first) > limit:
            stopped = "diverged"
        elif stopped is None and move_below is not None and moved < move_below:
            stopped = "parameters"
        elif stopped is None and change_below is not None and abs(value - before) < change_below:
            stopped = "loss change"
    return Descent(
        torch.stack(path), start.new_tensor(values), start.new_tensor(norms), stopped or "steps", evaluations
    )


def _armijo(f: Function, theta: Float[Tensor, "*shape"], g: Float[Tensor, "*shape"], value: float, rate: float
            ) -> tuple[float, int]:  # fmt: skip
    """The rate, halved until f falls by half of what its slope promises; 0 if it never does. And the tries."""
    slope = float(g.square().sum())
    with torch.no_grad():
        for tried in range(1, HALVINGS + 1):
            reached = float(f(theta - rate * g))
            if reached < value and reached <= value - rate * slope / 2:  # which rounding may make the same
                return rate, tried
            rate /= 2
    return 0.0, HALVINGS


def _at_rest(value: float, norm: float, gradient_below: float | None, loss_below: float | None) -> Stop | None:
    if gradient_below is not None and norm < gradient_below:
        return "gradient"
    return "loss" if loss_below is not None and value < loss_below else None


def _value_and_gradient(f: Function, theta: Float[Tensor, "*shape"]) -> tuple[float, Float[Tensor, "*shape"]]:
    at = theta.detach().requires_grad_()
    value = f(at)
    if value.shape != () or not value.requires_grad:
        raise InputError(f"f must give one number that depends on theta, differentiably; it gave {value.shape}")
    (g,) = torch.autograd.grad(value, at)
    return value.item(), g


def _length(vector: Float[Tensor, "*shape"]) -> float:
    return float(torch.linalg.vector_norm(vector))


def _check(start: Tensor, learning_rate: float, steps: int) -> None:
    if start.numel() == 0 or not start.isfinite().all():
        raise InputError("start must be finite numbers, at least one")
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate is {learning_rate}; a finite number above 0 is needed")
    if steps < 1:
        raise InputError(f"steps is {steps}; at least 1 is needed")
