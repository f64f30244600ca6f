"""Receptive field: the part of the picture that a unit can see, and the part that it really listens to.

Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks" (Distill, 2019), eq. 2 to 4;
the effective one: Luo, Li, Urtasun, Zemel, "Understanding the effective receptive field" (2016), section 2.
In: any torch model of pictures (B, C, H, W), the names of layers. Out: a `Field` for each layer whose output is a map,
in pixels; the effective field as a map (H, W) that is nowhere negative and sums to 1.
Departs from the paper: sizes come from a run without numbers, so that branches, functions and paddings count as they
are; the field of several branches is the smallest box around all. Effective fields are means over all channels' sum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vivace.base.cost import run_on_shapes
from vivace.base.errors import InputError
from vivace.base.hooks import Layer, activations, evaluating

aten = torch.ops.aten


@dataclass(frozen=True)
class Field:
    """What the units of a layer see, (vertical, horizontal), in pixels of the picture.

    The first unit's field is `size` pixels from `start` on (negative: it begins in the padding); the next unit's field
    begins `jump` pixels further. A size of infinity is the whole picture.
    """

    size: tuple[float, float]
    jump: tuple[float, float]
    start: tuple[float, float]

    def box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) of a unit's field; it may reach beyond the picture."""
        y, x = (s + at * j for s, at, j in zip(self.start, (row, column), self.jump, strict=True))
        return x, y, x + self.size[1], y + self.size[0]


PIXEL = Field((1, 1), (1, 1), (0, 0))
EVERYTHING = Field((math.inf, math.inf), (0, 0), (-math.inf, -math.inf))


def receptive_fields(model: nn.Module, shape: Sequence[int] = (3, 224, 224)) -> dict[str, Field]:
    """The field of every layer of the model whose output is a map (B, C, h, w), by dotted name, in the order of work.

    Convolutions (transposed ones too), poolings, paddings and enlargements count by their settings; any other
    operation is taken to see its own place alone where it keeps the size of the map, and the whole picture where not.
    A layer that runs several times answers with its last run. Only shapes are computed.
    """
    dtype = next((weight.dtype for weight in model.parameters()), None)
    picture = torch.empty(1, *shape, dtype=dtype, device="meta")
    tracer = _Tracer(picture)
    found: dict[str, Field] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found.pop(name, None)
                found[name] = tracer.field_of(output)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad(), evaluating(model), tracer:
            run_on_shapes(model, picture)
    finally:
        for handle in handles:
            handle.remove()
    return found


def effective_field(model: nn.Module, images: Float[Tensor, "b c h w"], layer: Layer) -> Float[Tensor, "h w"]:
    """How much each pixel moves the layer's middle unit: |d sum of channels / d pixel|, averaged, as shares of 1."""
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        seen = images.detach().clone().requires_grad_()
        (maps,) = activations(model, seen, [layer])
        if maps.ndim != 4:
            raise InputError(f"the layer {layer} puts out {tuple(maps.shape)}, not a map (B, C, h, w)")
        middle = maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2]
        (gradient,) = torch.autograd.grad(middle.sum(), seen)
    total = gradient.abs().mean((0, 1))
    if not total.any():
        raise InputError(f"the middle unit of the layer {layer} answers to no pixel of these pictures")
    return total / total.sum()


def spread(field: Float[Tensor, "h w"]) -> tuple[float, float]:
    """The standard deviation of an effective field, (vertical, horizontal), in pixels."""
    deviations = []
    for profile in (field.sum(1).double(), field.sum(0).double()):
        at = torch.arange(len(profile), dtype=torch.float64, device=field.device)
        p = profile / profile.sum()
        deviations.append((p * (at - (p * at).sum()).square()).sum().sqrt().item())
    return deviations[0], deviations[1]


def pixels_holding(field: Float[Tensor, "h w"], mass: float = 0.95) -> int:
    """The smallest number of pixels that hold this share of an effective field."""
    if not 0 < mass <= 1:
        raise InputError(f"the share of a field is above 0 and at most 1, not {mass}")
    held = field.double().flatten().sort(descending=True).values.cumsum(0)
    return min(int((held < mass * held[-1]).sum()) + 1, held.numel())


class _Tracer(TorchDispatchMode):
    """Follows the fields of tensors through every operation that torch carries out."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.fields: dict[int, tuple[Tensor, Field]] = {id(picture): (picture, PIXEL)}  # the tensor: its id stays its

    def field_of(self, tensor: Tensor) -> Field:
        return self.fields[id(tensor)][1] if id(tensor) in self.fields else EVERYTHING

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        inputs = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else (arg,)) if id(a) in self.fields]
        outputs = [o for o in (output if isinstance(output, list | tuple) else (output,)) if isinstance(o, Tensor)]
        if inputs:
            before = _around([self.field_of(tensor) for tensor in inputs])
            for tensor in outputs:
                field = _after(func.overloadpacket, args, before, inputs[0].shape, tensor.shape)
                self.fields[id(tensor)] = tensor, field
        return output


def _around(fields: Sequence[Field]) -> Field:
    """The smallest field around those of several branches that meet."""
    first, *others = fields
    for other in others:
        if any(math.isinf(n) for n in (*first.size, *other.size)) or first.jump != other.jump:
            return EVERYTHING
        start = tuple(min(pair) for pair in zip(first.start, other.start, strict=True))
        ends = tuple(max(s + n, t + m) for s, n, t, m in
                     zip(first.start, first.size, other.start, other.size, strict=True))  # fmt: skip
        first = Field((ends[0] - start[0], ends[1] - start[1]), first.jump, (start[0], start[1]))
    return first


def _after(operation: Any, args: Any, field: Field, before: Sequence[int], after: Sequence[int]) -> Field:
    """The field behind one operation, with these arguments, on maps of shape `before` whose fields were `field`."""
    if math.isinf(field.size[0]):
        return field
    if operation is aten.convolution:
        return _by_axis(_enlarged if args[6] else _slid, field, args[1].shape[2:], *args[3:6])
    if operation in (aten.max_pool2d_with_indices, aten.avg_pool2d):
        given: list[Any] = [*args[1:5], *[(), (0, 0), (1, 1)][len(args) - 2 :]]
        kernel, stride, padding, fourth = given
        dilation = fourth if operation is aten.max_pool2d_with_indices else (1, 1)
        return _by_axis(_slid, field, kernel, stride or kernel, padding, dilation)
    if operation is aten.constant_pad_nd:
        left, _, top, *_ = (*list(args[1]), 0, 0)
        return _by_axis(_slid, field, (1, 1), (1, 1), (top, left), (1, 1))
    if operation in (aten.upsample_nearest2d, aten.upsample_bilinear2d):
        return _resized(field, before, after, corners=args[2] if operation is aten.upsample_bilinear2d else None)
    return field if tuple(before[-2:]) == tuple(after[-2:]) else EVERYTHING


def _resized(field: Field, before: Sequence[int], after: Sequence[int], corners: bool | None) -> Field:
    """Behind an enlargement: the nearest unit (`corners` None), or the two around a place (bilinear) on each axis."""
    pairs = [(before[axis], after[axis]) for axis in (-2, -1)]
    if corners is None:
        scale = [n / m for m, n in pairs]
        return _by_axis(_enlarged, field, scale, scale, (0, 0), (1, 1))
    scale = [(n - corners) / max(m - corners, 1) for m, n in pairs]  # between corners there is one step less
    return _by_axis(_enlarged, field, [2 * s + 1 for s in scale], scale,
                    [s + (0 if corners else (1 - s) / 2) for s in scale], (1, 1))  # fmt: skip


def _by_axis(step: Callable[..., tuple[float, float, float]], field: Field, *settings: Sequence[float]) -> Field:
    """`step`, from (size, jump, start) along one axis to the next, with the kernel, stride ... of that axis."""
    vertical, horizontal = (
        step(field.size[axis], field.jump[axis], field.start[axis], *(setting[axis] for setting in settings))
        for axis in (0, 1)
    )
    return Field(*zip(vertical, horizontal, strict=True))


def _slid(size: float, jump: float, start: float, kernel: int, stride: int, padding: int, dilation: int
          ) -> tuple[float, float, float]:  # fmt: skip
    """Behind a kernel that slides: it spans (kernel - 1) * dilation jumps more, and begins in the padding."""
    return size + (kernel - 1) * dilation * jump, jump * stride, start - padding * jump


def _enlarged(size: float, jump: float, start: float, kernel: float, stride: float, padding: float, dilation: float
              ) -> tuple[float, float, float]:  # fmt: skip
    """Behind a transposed kernel: unit o sees (o + padding - (kernel - 1) * dilation ... o + padding) / stride."""
    span, jump = (kernel - 1) * dilation, jump / stride
    return size + span * jump, jump, start + (padding - span) * jump
