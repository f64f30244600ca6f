"""Multi-layer perceptron: layers that each take weighted sums of everything below them and bend the result.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors" (1986), eq. 1-6.
In: images (B, ...) of any shape, flattened to (B, sizes[0]). Out: logits (B, sizes[-1]), before softmax or sigmoid.
Departs from the paper: ReLU unless another activation is asked for; He initialisation unless Xavier's is, biases zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.networks.activations import ACTIVATIONS, LEAK
from vivace.networks.initialization import he_, xavier_

ActivationName = Literal["relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus", "silu", "gelu", "identity"]
Initialization = Literal["he", "xavier"]

# the slope f'(z) written with h = f(z), which the forward pass has stored; SiLU and GELU take some values twice
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: (h > 0).to(h),
    "leaky_relu": lambda h: torch.where(h > 0, torch.ones_like(h), LEAK),
    "sigmoid": lambda h: h * (1 - h),
    "tanh": lambda h: 1 - h * h,
    "elu": lambda h: h.clamp(max=0) + 1,
    "softplus": lambda h: -torch.expm1(-h),
    "identity": torch.ones_like,
}


class MLP(nn.Module):
    """A net of `sizes`: inputs, hidden layers, outputs. `MLP([784, 128, 64, 10])` sorts digits into ten classes."""

    def __init__(self, sizes: Sequence[int], *, activation: ActivationName = "relu",
                 initialization: Initialization = "he", generator: torch.Generator | None = None) -> None:  # fmt: skip
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"an MLP needs an input and an output size, all at least 1; got {list(sizes)}")
        if activation not in get_args(ActivationName):
            raise unknown("activation", activation, get_args(ActivationName))
        if initialization not in get_args(Initialization):
            raise unknown("initialization", initialization, get_args(Initialization))
        self.sizes = tuple(sizes)
        self.activation = activation
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
        fill = he_ if initialization == "he" else xavier_
        for layer in layers:
            fill(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        return self.forward_stored(images)[-1]

    def forward_stored(self, images: Float[Tensor, "b ..."]) -> list[Float[Tensor, "b _"]]:
        """The forward pass with everything that backpropagation needs: x, h1, h2, ..., and the logits last."""
        x = images.flatten(1)
        if x.shape[1] != self.sizes[0]:
            given = " x ".join(str(side) for side in images.shape[1:])
            raise InputError(f"this MLP takes {self.sizes[0]} values an image, but the images given are {given}")
        f = ACTIVATIONS[self.activation].fused
        stored = [x]
        for layer in self.layers[:-1]:
            stored.append(f(layer(stored[-1])))
        return [*stored, self.layers[-1](stored[-1])]


def deltas(model: MLP, stored: Sequence[Float[Tensor, "b _"]], delta: Float[Tensor, "b k"]) -> list[Tensor]:
    """Backpropagation: dL/dz (B, outputs) of each layer, from that of the last one; the paper's eq. 6 in matrices.

    `stored` is what `forward_stored` returned. `delta` is dL/dy g'(z) for a loss on y = g(z): (y - target) y (1 - y)
    for squared loss through a sigmoid, p - onehot for softmax with cross-entropy. The gradient of layer l's weights is
    deltas[l].T @ stored[l], that of its biases the sum of deltas[l] over the batch.
    """
    if model.activation not in SLOPES:
        raise InputError(f"the slope of {model.activation} can't be told from its output; use autograd")
    slope = SLOPES[model.activation]
    found = [delta]
    for layer, h in zip(reversed(model.layers[1:]), reversed(stored[1:-1]), strict=True):
        assert isinstance(layer, nn.Linear)
        found.insert(0, found[0] @ layer.weight * slope(h))  # V^T delta2, then times f'(z1)
    return found


@dataclass(frozen=True)
class LayerCost:
    """What one fully connected layer costs."""

    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        return self.weights + self.outputs  # a bias for each output

    @property
    def multiply_adds(self) -> int:
        return self.weights  # each weight is used once an image; adding the biases is not counted


def layer_costs(sizes: Sequence[int]) -> list[LayerCost]:
    """The cost of each layer of an MLP of these sizes; memory in float32 is 4 bytes a parameter."""
    return [LayerCost(inputs, outputs) for inputs, outputs in pairwise(sizes)]


def count_parameters(sizes: Sequence[int]) -> int:
    """Weights and biases of an MLP of these sizes: 109,386 for 784-128-64-10."""
    return sum(layer.parameters for layer in layer_costs(sizes))
