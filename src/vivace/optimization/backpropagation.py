"""Backpropagation, step by step: one training step of a net with a hidden layer, with every number on the way.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors" (1986), eq. 1 to 8.
In: a `Net` (inputs, hidden units, outputs), an input and its target, float64. Out: a `Trace` of named numbers.
Departs from the paper: the output unit may have any of four activations, the hidden units too; no momentum.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError, unknown

Vector = Float[np.ndarray, " _"]
Activation = Literal["sigmoid", "tanh", "relu", "leaky relu"]

LEAK = 0.01
Pair = tuple[Callable[[Vector], Vector], Callable[[Vector], Vector]]
# name: (f, its slope f'(z) written with h = f(z), which the forward pass has stored)
ACTIVATIONS: dict[str, Pair] = {
    "sigmoid": (lambda z: np.exp(-np.logaddexp(0, -z)), lambda h: h * (1 - h)),
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "relu": (lambda z: np.maximum(z, 0), lambda h: np.where(h > 0, 1.0, 0.0)),
    "leaky relu": (lambda z: np.where(z > 0, z, LEAK * z), lambda h: np.where(h > 0, 1.0, LEAK)),
}


@dataclass(frozen=True)
class Net:
    """A net with one hidden layer: h = f(W1 x + b1), y = f(W2 h + b2)."""

    W1: Float[np.ndarray, "_hidden _inputs"]
    b1: Float[np.ndarray, " _hidden"]
    W2: Float[np.ndarray, "_outputs _hidden"]
    b2: Float[np.ndarray, " _outputs"]

    def __post_init__(self) -> None:
        shapes = self.W1.shape[:1], self.b1.shape, self.W2.shape[1:], self.W2.shape[:1], self.b2.shape
        if not (shapes[0] == shapes[1] == shapes[2] and shapes[3] == shapes[4]):
            given = ", ".join(f"{field.name} {getattr(self, field.name).shape}" for field in fields(self))
            raise InputError(f"these don't make a net: {given}")


@dataclass(frozen=True)
class Forward:
    """What the forward pass computes; z are the weighted sums, before the activation."""

    z1: Vector
    h: Vector
    z2: Vector
    y: Vector
    loss: float


@dataclass(frozen=True)
class Trace:
    """One training step: the forward pass, the deltas dE/dz, the changes of all parameters, and the pass after them."""

    forward: Forward
    delta2: Vector
    delta1: Vector
    changes: Net  # what is added: -rate times the gradient
    updated: Net
    after: Forward

    def named(self) -> dict[str, float]:
        """Every number under a name, in the order of computing: z_h1, h1, ..., delta_y, ..., change_w11, ..."""
        found = _forward_named(self.forward)
        found |= _numbered("delta_y", self.delta2) | _numbered("delta_h", self.delta1, always=True)
        found |= {f"change_{name}": value for name, value in _net_named(self.changes).items()}
        found |= {f"new_{name}": value for name, value in _net_named(self.updated).items()}
        return found | {f"{name}_after": value for name, value in _forward_named(self.after).items()}


def backpropagation_step(
    net: Net, x: Vector, target: Vector, *, activation: Activation = "sigmoid", rate: float = 0.1
) -> Trace:
    """One step of gradient descent on E = |y - target|^2 / 2 for one sample."""
    if not np.isfinite(rate):
        raise InputError(f"the learning rate has to be a number, not {rate}")
    _, slope = _known(activation)
    now = forward(net, x, target, activation=activation)
    delta2 = (now.y - target) * slope(now.y)  # dE/dz2
    delta1 = net.W2.T @ delta2 * slope(now.h)  # dE/dz1: back along the weights that went there
    changes = Net(-rate * np.outer(delta1, x), -rate * delta1, -rate * np.outer(delta2, now.h), -rate * delta2)
    updated = Net(net.W1 + changes.W1, net.b1 + changes.b1, net.W2 + changes.W2, net.b2 + changes.b2)
    return Trace(now, delta2, delta1, changes, updated, forward(updated, x, target, activation=activation))


def forward(net: Net, x: Vector, target: Vector, *, activation: Activation = "sigmoid") -> Forward:
    """The forward pass, with the loss E = |y - target|^2 / 2."""
    f, _ = _known(activation)
    if x.shape != net.W1.shape[1:] or target.shape != net.b2.shape:
        raise InputError(f"this net takes {net.W1.shape[1]} inputs and has {net.b2.size} outputs; the input given has "
                         f"shape {x.shape}, the target {target.shape}")  # fmt: skip
    z1 = net.W1 @ x + net.b1
    h = f(z1)
    z2 = net.W2 @ h + net.b2
    y = f(z2)
    return Forward(z1, h, z2, y, 0.5 * float(np.sum((y - target) ** 2)))


def _known(activation: str) -> Pair:
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]


def _forward_named(values: Forward) -> dict[str, float]:
    hidden = _numbered("z_h", values.z1, always=True) | _numbered("h", values.h, always=True)
    return hidden | _numbered("z_y", values.z2) | _numbered("y", values.y) | {"loss": values.loss}


def _net_named(net: Net) -> dict[str, float]:
    """w21 leads to hidden unit 2 from input 1; v1 from hidden unit 1 to the only output, else v11."""
    found = {f"w{i + 1}{j + 1}": float(net.W1[i, j]) for i, j in np.ndindex(net.W1.shape)}
    found |= _numbered("b", net.b1, always=True)
    one = len(net.b2) == 1
    found |= {f"v{'' if one else k + 1}{i + 1}": float(net.W2[k, i]) for k, i in np.ndindex(net.W2.shape)}
    return found | _numbered("c", net.b2)


def _numbered(name: str, values: Vector, *, always: bool = False) -> dict[str, float]:
    if len(values) == 1 and not always:
        return {name: float(values[0])}
    return {f"{name}{i + 1}": float(value) for i, value in enumerate(values)}
