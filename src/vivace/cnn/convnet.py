"""Convolutional network: the template (Conv-ReLU-Pool) x N - (FC-ReLU) x M - FC, as long and as wide as you say.

LeCun, Bengio, Hinton, "Deep learning" (2015), section "Convolutional neural networks"; a stride in place of pooling:
Springenberg et al., "Striving for simplicity" (2015), section 2.
In: maps (B, C, H, W) of the shape that it was built for, any range. Out: logits (B, classes), with no ReLU on them.
Departs from the paper: 3 x 3 convolutions with zero padding; weights start as He et al. (2015) have it for ReLU and as
Glorot, Bengio (2010) for tanh and sigmoid, biases at zero.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
POOLINGS: dict[str, type[nn.Module] | None] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "stride": None,
    "none": None,
}

Activation = Literal["relu", "tanh", "sigmoid"]
Pooling = Literal["max", "average", "stride", "none"]


class ConvNet(nn.Module):
    """`features.1` to `features.N`: the stages; `classifier`: the fully connected layers.

        ConvNet((1, 28, 28), 10, (16, 32), hidden=(64,))     # N = 2, M = 1: 14 x 14 x 16, 7 x 7 x 32, 64, 10

    shape: channels, height and width of what goes in
    widths: the channels of each stage, so N of them
    hidden: the units of each hidden fully connected layer, so M of them; () leaves one layer from maps to logits
    pooling: "max" or "average" over 2 x 2; "stride" convolves at every second place only; "none" keeps the size
    norm: batch normalisation between each convolution and its activation
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, widths: Sequence[int] = (16, 32), *,
                 hidden: Sequence[int] = (64,), activation: Activation = "relu", pooling: Pooling = "max",
                 norm: bool = False) -> None:  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        if min(*shape, classes, *widths, *hidden) < 1:
            raise InputError(
                f"sizes must be at least 1; got shape {shape}, {classes} classes, {[*widths, *hidden]} units"
            )
        bend = ACTIVATIONS[activation]
        channels, *sides = shape
        self.features = nn.Sequential()
        for stage, width in enumerate(widths, start=1):
            self.features.add_module(str(stage), _stage(channels, width, bend, pooling, norm))
            channels, sides = width, [_shrunk(side, pooling) for side in sides]
            if 0 in sides:
                raise InputError(
                    f"nothing is left of {shape[1]} x {shape[2]} after {stage} poolings; take fewer stages"
                )
        units = [channels * math.prod(sides), *hidden]
        self.classifier = nn.Sequential(nn.Flatten())
        for inputs, outputs in pairwise(units):
            self.classifier.extend([nn.Linear(inputs, outputs), bend()])
        self.classifier.append(nn.Linear(units[-1], classes))
        _initialise(self, activation)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.features(images))


def _stage(inputs: int, outputs: int, bend: type[nn.Module], pooling: str, norm: bool) -> nn.Sequential:
    """Layers `conv`, `norm` (where asked for), `bend` and `pool` (where there is one)."""
    stage = nn.Sequential()
    stride = 2 if pooling == "stride" else 1
    stage.add_module("conv", nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=not norm))
    if norm:
        stage.add_module("norm", nn.BatchNorm2d(outputs))
    stage.add_module("bend", bend())
    pool = POOLINGS[pooling]
    if pool is not None:
        stage.add_module("pool", pool(2))
    return stage


def _shrunk(side: int, pooling: str) -> int:
    """What a stage leaves of a side: a 2 x 2 pooling drops an odd last row, a stride of 2 keeps it."""
    return {"max": side // 2, "average": side // 2, "stride": (side + 1) // 2, "none": side}[pooling]


def _initialise(model: nn.Module, activation: str) -> None:
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        if activation == "relu" and layer is not layers[-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
