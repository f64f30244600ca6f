"""Quantisation: weights and activations as whole numbers of a few bits, a quarter of the bytes and nearly the answers.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018),
eq. 1: r = S (q - Z); per channel: Krishnamoorthi, "Quantizing deep convolutional networks" (2018), section 2.
In: tensors of any range; a model and pictures to calibrate with. Out: int8 with scales, and a model that computes as
if its products were taken in integers.
Departs from the paper: the rounding is simulated exactly, but computed in floating point; biases, normalisation and
sums stay float32; no training with rounding in the loop.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.func import functional_call

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Quantized:
    """q (int8) with scale S and zero point Z: the real numbers are S (q - Z). S has one entry, or one a channel."""

    q: Int8[Tensor, "..."]
    scale: Float[Tensor, " c"]
    zero_point: Int8[Tensor, " c"]
    axis: int = 0  # to which the scales belong, where there are several

    def dequantized(self) -> Float[Tensor, "..."]:
        shape = _along(self.axis, self.q.ndim, len(self.scale))
        return self.scale.view(shape) * (self.q.to(self.scale) - self.zero_point.to(self.scale).view(shape))


def quantize(x: Float[Tensor, "..."], *, bits: int = 8, axis: int | None = None, symmetric: bool = False,
             low: Float[Tensor, " c"] | None = None, high: Float[Tensor, " c"] | None = None) -> Quantized:  # fmt: skip
    """Round x to 2^bits steps between its least and largest number, or between `low` and `high`; zero stays exact.

    bits: 2 to 8
    axis: a scale for each entry along it (0: each output channel of a weight), or one for all
    symmetric: Z = 0, q from -(2^(bits-1) - 1) on, as products of weights want it
    """
    if not 2 <= bits <= 8:
        raise InputError(f"numbers are quantised to 2 to 8 bits; got {bits}")
    if not x.numel() or not bool(torch.isfinite(x).all()):
        raise InputError("what is quantised must be finite numbers, one at least")
    rows = x.flatten()[None] if axis is None else x.movedim(axis, 0).flatten(1)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    low = rows.amin(1) if low is None else low
    high = rows.amax(1) if high is None else high
    low, high = low.clamp(max=0), high.clamp(min=0)  # zero must be one of the steps: padding and ReLU are full of it
    tiny = torch.finfo(x.dtype).tiny
    if symmetric:
        least = -most
        scale = (torch.maximum(-low, high) / most).clamp(min=tiny)
        zero_point = torch.zeros_like(scale)
    else:
        scale = ((high - low) / (most - least)).clamp(min=tiny)
        zero_point = least - (low / scale).round()
    shape = _along(axis or 0, x.ndim, len(scale))
    q = (x / scale.view(shape)).round_().add_(zero_point.view(shape)).clamp_(least, most)
    return Quantized(q.to(torch.int8), scale, zero_point.to(torch.int8), axis or 0)


class QuantizedLayer(nn.Module):
    """A convolution or linear layer whose weight lies in int8, and whose input is rounded where it was calibrated.

    Its `state_dict` holds the int8 weight with its scales: saved, it takes a quarter of the bytes.
    """

    weight: Tensor
    weight_scale: Tensor
    bits: int

    def __init__(self, layer: nn.Conv2d | nn.Linear, *, bits: int = 8, per_channel: bool = True,
                 low: float | None = None, high: float | None = None) -> None:  # fmt: skip
        super().__init__()
        weight = quantize(layer.weight.detach(), bits=bits, axis=0 if per_channel else None, symmetric=True)
        self.bits, self.low, self.high = bits, low, high
        self.register_buffer("weight", weight.q)
        self.register_buffer("weight_scale", weight.scale)
        self.layer = deepcopy(layer)  # for its shape, stride and bias; the weight it is called with is ours
        del self.layer.weight
        self.layer.register_buffer("weight", torch.empty(0), persistent=False)

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if self.low is not None and self.high is not None:
            low, high = x.new_tensor([self.low]), x.new_tensor([self.high])
            x = quantize(x, bits=self.bits, low=low, high=high).dequantized()
        scale = self.weight_scale.view(_along(0, self.weight.ndim, len(self.weight_scale)))
        result: Tensor = functional_call(self.layer, {"weight": scale * self.weight}, (x,))
        return result


def quantized(model: M, images: Float[Tensor, "b ..."] | None = None, *, bits: int = 8, per_channel: bool = True
              ) -> M:  # fmt: skip
    """A copy of the model with the weights of its convolutions and linear layers in `bits` bits, in evaluation mode.

    With `images` to calibrate on, the inputs of those layers are rounded too, between the least and the largest number
    that each saw there.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    if not layers or "" in layers:
        raise InputError(f"{type(model).__name__} has no convolution or linear layer inside to quantise")
    ranges = {} if images is None else input_ranges(model, images)
    copy = deepcopy(model).eval()
    for name, layer in layers.items():
        low, high = ranges.get(name, (None, None))
        copy.set_submodule(name, QuantizedLayer(layer, bits=bits, per_channel=per_channel, low=low, high=high))
    return copy


@torch.no_grad()
def input_ranges(model: nn.Module, images: Float[Tensor, "b ..."]) -> dict[str, tuple[float, float]]:
    """The least and the largest number that each convolution and linear layer gets when the model sees the images."""
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, x: Tensor) -> None:
        low, high = found.get(name, (0.0, 0.0))
        found[name] = min(low, x.min().item()), max(high, x.max().item())

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with evaluating(model):
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def stored_bytes(model: nn.Module) -> int:
    """What the model's `state_dict` takes; weights of fewer than 8 bits count as packed, though they lie in int8."""
    packed = sum(
        layer.weight.numel() - -(-layer.weight.numel() * layer.bits // 8)
        for layer in model.modules()
        if isinstance(layer, QuantizedLayer)
    )
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) - packed


def _along(axis: int, ndim: int, count: int) -> list[int]:
    """The shape in which `count` numbers lie along an axis; any, where there is one only."""
    shape = [1] * ndim
    if count > 1:
        shape[axis] = count
    return shape
