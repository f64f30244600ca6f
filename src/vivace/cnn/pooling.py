"""Pooling: each window of a map becomes one number, its maximum or its mean, so that the map shrinks.

LeCun et al., "Gradient-based learning applied to document recognition" (1998), section II.B (average); Scherer, Müller,
Behnke, "Evaluation of pooling operations in convolutional architectures" (2010), section 3 (max); Lin, Chen, Yan,
"Network in network" (2013), section 3.2 (global); He et al., "Spatial pyramid pooling in deep convolutional networks"
(2014), section 2.2 and appendix A; Zhang, "Making convolutional networks shift-invariant again" (2019, blur).
In: maps (B, C, H, W), any range. Out: (B, C, H', W') with H' = floor((H + 2 padding - kernel) / stride) + 1 (adaptive:
the size asked for; global: (B, C); pyramid: (B, C * cells)), every value within the range of its window.
Departs from the paper: LeCun's trainable factor and bias for each averaged map are left out, as everywhere today.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import Function

from vivace.base.errors import InputError

Pair = int | tuple[int, int]  # rows and columns, or one number for both
Maps = Float[Tensor, "b c h w"]
Pooled = Float[Tensor, "b c oh ow"]


def max_pool2d(maps: Maps, kernel: Pair, stride: Pair | None = None, *, padding: Pair = 0) -> Pooled:
    """The largest value of each window; the gradient goes to where it was. Windows touch if no `stride` is given."""
    with torch.no_grad():
        values, argmax = max_pool2d_recorded(maps, kernel, stride, padding=padding)
    return _Recorded.apply(maps, values, argmax)


def max_pool2d_recorded(maps: Maps, kernel: Pair, stride: Pair | None = None, *, padding: Pair = 0
                        ) -> tuple[Pooled, Int[Tensor, "b c oh ow"]]:  # fmt: skip
    """The largest value of each window, and where in the map (row * W + column) it is: the first one, row by row."""
    (kh, kw), (sh, sw), (ph, pw) = _geometry(maps, kernel, stride, padding)
    h, w = maps.shape[-2:]
    padded = F.pad(maps, (pw, pw, ph, ph), value=-math.inf)  # what never wins
    taps = list(_taps(padded, (kh, kw), (sh, sw)))
    values = taps[0].clone()
    for tap in taps[1:]:
        torch.maximum(values, tap, out=values)
    # The winner's number in its window is how many values come before the first that equals the maximum.
    winner = torch.zeros_like(values, dtype=torch.uint8 if kh * kw < 256 else torch.int64)
    ahead = torch.ones_like(values, dtype=torch.bool)
    for tap in taps[:-1]:  # where none of these is the maximum, the last is
        winner += ahead.logical_and_(tap != values)
    row, column = (torch.arange(kh * kw, device=maps.device) // kw, torch.arange(kh * kw, device=maps.device) % kw)
    top = torch.arange(values.shape[2], device=maps.device)[:, None] * sh - ph
    left = torch.arange(values.shape[3], device=maps.device) * sw - pw
    if not ph and not pw:
        return values, (row * w + column)[winner.int()] + (top * w + left)
    rows, columns = (row[winner.int()] + top).clamp(0, h - 1), (column[winner.int()] + left).clamp(0, w - 1)
    return values, rows * w + columns  # the border wins only where a whole window is -inf: its gradient stays inside


def max_pool2d_backward(gradient: Pooled, argmax: Int[Tensor, "b c oh ow"], size: Sequence[int]) -> Maps:
    """The input's gradient: each window's is added where its maximum was, all else is zero. `size` is the input's."""
    flat = gradient.new_zeros(*gradient.shape[:2], size[0] * size[1])
    return flat.scatter_add(2, argmax.flatten(2), gradient.flatten(2)).unflatten(2, size)


def average_pool2d(maps: Maps, kernel: Pair, stride: Pair | None = None, *, padding: Pair = 0,
                   count_padding: bool = True) -> Pooled:  # fmt: skip
    """The mean of each window; zeros of the padding count as values, unless `count_padding` is false."""
    sizes = _geometry(maps, kernel, stride, padding)
    return _Averaged.apply(maps, *sizes, count_padding)


def average_pool2d_backward(gradient: Pooled, size: Sequence[int], kernel: Pair, *, stride: Pair | None = None,
                            padding: Pair = 0, count_padding: bool = True) -> Maps:  # fmt: skip
    """The input's gradient: each window's is spread evenly over it, and windows that overlap add up."""
    kernel, (ph, pw) = _pair(kernel), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    share = gradient / _counts(gradient, size, kernel, stride, (ph, pw), count_padding)
    padded = gradient.new_zeros(*gradient.shape[:2], size[0] + 2 * ph, size[1] + 2 * pw)
    for tap in _taps(padded, kernel, stride):
        tap += share
    return padded[..., ph : ph + size[0], pw : pw + size[1]]


def global_average_pool(maps: Maps) -> Float[Tensor, "b c"]:
    """One number a map: its mean, whatever its size."""
    return maps.mean((2, 3))


def adaptive_bins(length: int, count: int) -> list[slice]:
    """`count` cells that cover 0 to `length`; they overlap by one where `count` does not divide it."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def adaptive_max_pool2d(maps: Maps, size: Pair) -> Pooled:
    """The largest value of each cell of a grid of `size`, whatever the map's own size."""
    (rows, columns), (h, w) = _adaptive(maps, size), maps.shape[-2:]
    grid, values, places = torch.arange(h * w, device=maps.device).view(h, w), [], []
    with torch.no_grad():
        for cell in ((..., row, column) for row in rows for column in columns):
            largest, where = maps[cell].flatten(2).max(2)
            values.append(largest)
            places.append(grid[cell].flatten()[where])
        shape = (len(rows), len(columns))
        pooled, argmax = torch.stack(values, 2).unflatten(2, shape), torch.stack(places, 2).unflatten(2, shape)
    return _Recorded.apply(maps, pooled, argmax)


def adaptive_average_pool2d(maps: Maps, size: Pair) -> Pooled:
    """The mean of each cell of a grid of `size`: a matrix that averages rows, one that averages columns."""
    means = []
    for bins, length in zip(_adaptive(maps, size), maps.shape[-2:], strict=True):
        mean = maps.new_zeros(len(bins), length)
        for row, cell in zip(mean, bins, strict=True):
            row[cell] = 1 / (cell.stop - cell.start)
        means.append(mean)
    return means[0] @ maps @ means[1].mT


def spatial_pyramid_pool(maps: Maps, levels: Sequence[int] = (1, 2, 4)) -> Float[Tensor, "b n"]:
    """The largest value in each cell of several grids, n x n for each level n: a vector as long for every size of map.

    Level by level, in each the channels one after the other: C * (1 + 4 + 16) numbers for the levels 1, 2, 4.
    """
    if not levels:
        raise InputError("a pyramid needs at least one level, such as (1, 2, 4)")
    return torch.cat([adaptive_max_pool2d(maps, level).flatten(1) for level in levels], 1)


def blur_pool2d(maps: Maps, size: int = 3, *, stride: int = 2) -> Pooled:
    """Every `stride`-th value of the map blurred by the binomial filter of `size` (3: 1 2 1); edges are mirrored.

    Instead of `max_pool2d(maps, 2)`: `blur_pool2d(max_pool2d(maps, 2, 1))`, which keeps what is too fine for the
    smaller grid from posing as something coarse.
    """
    before, after = (size - 1) // 2, size // 2
    if size < 1 or stride < 1:
        raise InputError(f"a blur needs a size and a stride of at least 1, not {size} and {stride}")
    if min(maps.shape[-2:]) <= after:
        raise InputError(f"a blur of size {size} needs a map larger than {after} x {after}, not "
                         f"{maps.shape[-2]} x {maps.shape[-1]}")  # fmt: skip
    maps = F.pad(maps, (before, after, before, after), mode="reflect")
    weights = [math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)]
    for kernel, step in (((size, 1), (stride, 1)), ((1, size), (1, stride))):
        taps = _taps(maps, kernel, step)
        maps = torch.stack([weight * tap for weight, tap in zip(weights, taps, strict=True)]).sum(0)
    return maps


class BlurPool2d(nn.Module):
    """`blur_pool2d` as a layer without parameters: `nn.Sequential(nn.MaxPool2d(2, stride=1), BlurPool2d())`."""

    def __init__(self, size: int = 3, *, stride: int = 2) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, maps: Maps) -> Pooled:
        return blur_pool2d(maps, self.size, stride=self.stride)

    def extra_repr(self) -> str:
        return f"{self.size}, stride={self.stride}"


class _Recorded(Function):
    """Values taken from a map at recorded places: forward they are known already, backward they are scattered."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, values: Tensor, argmax: Tensor) -> Tensor:
        ctx.save_for_backward(argmax)
        ctx.size = maps.shape[-2:]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (argmax,) = ctx.saved_tensors
        return max_pool2d_backward(gradients[0], argmax, ctx.size), None, None


class _Averaged(Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
                count_padding: bool) -> Tensor:  # fmt: skip
        ctx.size, ctx.settings = maps.shape[-2:], (kernel, stride, padding, count_padding)
        ph, pw = padding
        taps = _taps(F.pad(maps, (pw, pw, ph, ph)), kernel, stride)
        total = next(taps).clone()
        for tap in taps:
            total += tap
        return total.div_(_counts(total, ctx.size, kernel, stride, padding, count_padding))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        kernel, stride, padding, count_padding = ctx.settings
        gradient = average_pool2d_backward(gradients[0], ctx.size, kernel, stride=stride, padding=padding,
                                           count_padding=count_padding)  # fmt: skip
        return gradient, None, None, None, None


def _taps(padded: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Iterator[Tensor]:
    """For each place in a window, row by row, what all windows have there: views (B, C, H', W')."""
    (kh, kw), (sh, sw) = kernel, stride
    height, width = padded.shape[-2] - kh + 1, padded.shape[-1] - kw + 1
    return (padded[..., i : i + height : sh, j : j + width : sw] for i in range(kh) for j in range(kw))


def _counts(like: Tensor, size: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int],
            padding: tuple[int, int], count_padding: bool) -> int | Float[Tensor, "oh ow"]:  # fmt: skip
    """By how much each window's sum is divided: its size, or how much of it lies inside the map."""
    if count_padding or padding == (0, 0):
        return kernel[0] * kernel[1]
    inside = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        start = torch.arange((n + 2 * p - k) // s + 1, device=like.device) * s - p
        inside.append((start + k).clamp(max=n) - start.clamp(min=0))
    return (inside[0][:, None] * inside[1]).to(like.dtype)


def _geometry(maps: Tensor, kernel: Pair, stride: Pair | None, padding: Pair) -> tuple[tuple[int, int], ...]:
    """Kernel, stride and padding as pairs, after a look at whether they make sense."""
    (kh, kw), (ph, pw) = kernel, padding = _pair(kernel), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise InputError(f"pooling needs a kernel and a stride of at least 1 and no negative padding, not kernel "
                         f"{kernel}, stride {stride}, padding {padding}")  # fmt: skip
    if 2 * ph > kh or 2 * pw > kw:
        raise InputError(f"padding {padding} is more than half of the kernel {kernel}: some windows would be empty")
    h, w = maps.shape[-2:]
    if h + 2 * ph < kh or w + 2 * pw < kw:
        raise InputError(f"a window of {kh} x {kw} does not fit into a map of {h} x {w} with padding {padding}")
    return kernel, stride, padding


def _adaptive(maps: Tensor, size: Pair) -> tuple[list[slice], list[slice]]:
    rows, columns = _pair(size)
    if min(rows, columns, *maps.shape[-2:]) < 1:
        raise InputError(f"a map of {maps.shape[-2]} x {maps.shape[-1]} cannot be pooled to {rows} x {columns} cells")
    return adaptive_bins(maps.shape[-2], rows), adaptive_bins(maps.shape[-1], columns)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
