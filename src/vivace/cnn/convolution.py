"""Convolution: a small window of weights slides over the picture, and every place gets one weighted sum.

Fukushima, "Neocognitron" (1980), sec. 2, for the layer; Chellapilla, Puri, Simard, "High performance convolutional
neural networks for document processing" (2006), sec. 3, for the matrix product; Stockham, "High-speed convolution and
correlation" (1966), for the FFT in blocks.
In: images (B, C, H, W), weights (O, C / groups, h, w), biases (O). Out: maps (B, O, H', W'), as torch's `conv2d`.
Departs from the paper: nothing is flipped (cross-correlation), as in every library; `flipped` makes it a convolution.
"""

from collections.abc import Sequence
from itertools import product
from math import log2, prod
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError

Pair = int | tuple[int, int]  # (down, across), or one number for both
Padding = Pair | Literal["valid", "same"]

CACHED = 2**18  # numbers of which `conv2d_im2col` makes a matrix at a time: more would leave the processor's cache


def conv2d_output_size(size: Pair, kernel: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
                       ) -> tuple[int, int]:  # fmt: skip
    """floor((N + 2 P - D (F - 1) - 1) / S) + 1 on each axis: height and width of the map."""
    axes = zip(*map(_pair, (size, kernel, stride, padding, dilation)), strict=True)
    height, width = (_places(n + 2 * p, f, s, d) for n, f, s, p, d in axes)
    return height, width


def conv2d_parameters(inputs: int, outputs: int, kernel: Pair, *, groups: int = 1, bias: bool = True) -> int:
    """Numbers that a layer learns: h w C / groups weights and a bias for each output, whatever the picture's size."""
    if inputs % groups or outputs % groups:
        raise InputError(f"{groups} groups do not divide {inputs} inputs and {outputs} outputs")
    height, width = _pair(kernel)
    return outputs * (height * width * inputs // groups + bias)


def flipped(weight: Float[Tensor, "*any h w"]) -> Float[Tensor, "*any h w"]:
    """The kernel turned by 180 degrees: sliding this instead gives the mathematical convolution."""
    return weight.flip(-2, -1)


def conv2d_loops(images: Float[Tensor, "b c h w"], weight: Float[Tensor, "o i m n"],
                 bias: Float[Tensor, " _"] | None = None, *, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1,
                 groups: int = 1) -> Float[Tensor, "b o y x"]:  # fmt: skip
    """The definition: slide the window, multiply, sum, store. Slow; what the others are held to."""
    given = _checked(images, weight, bias, stride, padding, dilation, groups)
    padded = F.pad(images, given.pad)
    (m, n), (down, across), (dy, dx) = weight.shape[2:], given.stride, given.dilation
    channels, outputs = weight.shape[1], len(weight) // groups
    maps = images.new_zeros(len(images), len(weight), *given.size)
    for b, o, y, x in product(*map(range, maps.shape)):
        first, top, left = o // outputs * channels, y * down, x * across
        window = padded[b, first : first + channels, top : top + dy * m : dy, left : left + dx * n : dx]
        maps[b, o, y, x] = (window * weight[o]).sum()
    return _biased(maps, bias)


def unfold(images: Float[Tensor, "b c h w"], kernel: Pair | torch.Size, *, stride: Pair = 1, dilation: Pair = 1
           ) -> Float[Tensor, "b c m n y x"]:  # fmt: skip
    """All windows as a view of the picture: what lies under weight (m, n) when the window is at (y, x). No copy."""
    (m, n), (dy, dx), (down, across) = _pair(kernel), _pair(dilation), _pair(stride)
    rows = images.unfold(2, dy * (m - 1) + 1, down)[..., ::dy]  # (b, c, y, w, m)
    return rows.unfold(3, dx * (n - 1) + 1, across)[..., ::dx].permute(0, 1, 4, 5, 2, 3)


def conv2d_im2col(images: Float[Tensor, "b c h w"], weight: Float[Tensor, "o i m n"],
                  bias: Float[Tensor, " _"] | None = None, *, stride: Pair = 1, padding: Padding = 0,
                  dilation: Pair = 1, groups: int = 1) -> Float[Tensor, "b o y x"]:  # fmt: skip
    """One matrix product: kernels as rows, windows as columns (im2col); made of as many windows as the cache holds."""
    given = _checked(images, weight, bias, stride, padding, dilation, groups)
    windows = unfold(F.pad(images, given.pad), weight.shape[2:], stride=given.stride, dilation=given.dilation)
    kernels = weight.reshape(groups, len(weight) // groups, -1)
    (height, width), depth = given.size, groups * weight[0].numel()  # depth: of a column, all groups together
    several, rows = (max(1, CACHED // count) for count in (depth * height * width, depth * width))
    some = []
    for few in windows.split(several):
        bands = []
        for band in few.split(rows, 4):
            columns = band.reshape(len(few), groups, depth // groups, -1)
            bands.append((kernels @ columns).view(len(few), len(weight), -1, width))
        some.append(torch.cat(bands, 2) if len(bands) > 1 else bands[0])
    return _biased(torch.cat(some) if len(some) > 1 else some[0], bias)


def conv2d_fft(images: Float[Tensor, "b c h w"], weight: Float[Tensor, "o i m n"],
               bias: Float[Tensor, " _"] | None = None, *, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1,
               groups: int = 1) -> Float[Tensor, "b o y x"]:  # fmt: skip
    """A product of spectra, in overlapping blocks (overlap-save); strides are taken from the whole map afterwards."""
    given = _checked(images, weight, bias, stride, padding, dilation, groups)
    padded = F.pad(images, given.pad)
    reach = [d * (f - 1) for d, f in zip(given.dilation, weight.shape[2:], strict=True)]
    whole = [n - r for n, r in zip(padded.shape[2:], reach, strict=True)]  # the map at stride 1
    block = _blocks(whole, reach, len(images) * (images.shape[1] + len(weight)), weight.shape[:2].numel())
    step = [n - r for n, r in zip(block, reach, strict=True)]
    lower, right = (-n % s for n, s in zip(whole, step, strict=True))
    tiles = F.pad(padded, (0, right, 0, lower)).unfold(2, block[0], step[0]).unfold(3, block[1], step[1])
    spread = weight.new_zeros(*weight.shape[:2], reach[0] + 1, reach[1] + 1)
    spread[..., :: given.dilation[0], :: given.dilation[1]] = weight
    spectra = torch.fft.rfft2(tiles).unflatten(1, (groups, -1))
    kernels = torch.fft.rfft2(spread, s=block).conj().unflatten(0, (groups, -1))
    if weight.shape[1] == 1:
        mixed = spectra * kernels[:, :, 0, None, None]
    else:
        mixed = torch.einsum("bgctsyx,gocyx->bgotsyx", spectra, kernels)
    maps = torch.fft.irfft2(mixed.flatten(1, 2), s=block)[..., : step[0], : step[1]]  # the rest has wrapped around
    maps = maps.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., : whole[0], : whole[1]]
    return _biased(maps[..., :: given.stride[0], :: given.stride[1]].contiguous(), bias)


def toeplitz_matrix(weight: Float[Tensor, "o i m n"], size: tuple[int, int], *, stride: Pair = 1, padding: Padding = 0,
                    dilation: Pair = 1, groups: int = 1) -> Tensor:  # fmt: skip
    """The sparse matrix (O H' W', C H W) whose product with a flattened picture is the convolution.

    A row for each place of the map, with the kernel's numbers in the columns of the pixels under it: "doubly block
    Toeplitz", as blocks and what is in them repeat along the diagonals. Padded pixels have no column.
    """
    channels = weight.shape[1] * groups
    pixels = torch.arange(1.0, channels * size[0] * size[1] + 1, dtype=torch.float64, device=weight.device)
    numbered = pixels.view(1, channels, *size)
    given = _checked(numbered, weight, None, stride, padding, dilation, groups)
    under = unfold(F.pad(numbered, given.pad), weight.shape[2:], stride=given.stride, dilation=given.dilation)
    under = under.reshape(groups, 1, weight[0].numel(), -1).long() - 1  # which pixel; -1 for padding
    under = under.expand(-1, len(weight) // groups, -1, -1).reshape(len(weight), weight[0].numel(), -1)
    places = torch.arange(len(weight) * under.shape[2], device=weight.device).view(len(weight), 1, -1)
    there = under >= 0
    values = weight.flatten(1)[:, :, None].expand_as(under)[there]
    indices = torch.stack([places.expand_as(under)[there], under[there]])
    return torch.sparse_coo_tensor(indices, values, (places.numel(), pixels.numel()), check_invariants=False).coalesce()


def conv2d_toeplitz(images: Float[Tensor, "b c h w"], weight: Float[Tensor, "o i m n"],
                    bias: Float[Tensor, " _"] | None = None, *, stride: Pair = 1, padding: Padding = 0,
                    dilation: Pair = 1, groups: int = 1) -> Float[Tensor, "b o y x"]:  # fmt: skip
    """One fixed matrix times the flattened picture."""
    given = _checked(images, weight, bias, stride, padding, dilation, groups)
    T = toeplitz_matrix(weight, (images.shape[2], images.shape[3]), stride=stride, padding=padding, dilation=dilation,
                        groups=groups)  # fmt: skip
    maps = torch.sparse.mm(T, images.flatten(1).T).T.reshape(len(images), len(weight), *given.size)
    return _biased(maps, bias)


class _Setting(NamedTuple):
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int, int, int]  # left, right, top, bottom, as `F.pad` wants it
    size: tuple[int, int]  # of the map


def _checked(images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Padding, dilation: Pair,
             groups: int) -> _Setting:  # fmt: skip
    """The setting as pairs, and the map's size; InputError where the sizes don't fit together."""
    if images.ndim != 4 or weight.ndim != 4:
        raise InputError(f"images are (B, C, H, W) and weights (O, C / groups, h, w), not {tuple(images.shape)} and "
                         f"{tuple(weight.shape)}")  # fmt: skip
    if 0 in images.shape or 0 in weight.shape:
        raise InputError(f"no pictures or no kernels: {tuple(images.shape)}, {tuple(weight.shape)}")
    if groups < 1 or len(weight) % groups or images.shape[1] != weight.shape[1] * groups:
        raise InputError(f"{len(weight)} kernels of {weight.shape[1]} channels in {groups} groups do not fit pictures "
                         f"of {images.shape[1]} channels")  # fmt: skip
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f"{len(weight)} kernels need as many biases, not {tuple(bias.shape)}")
    down, dilate = _pair(stride), _pair(dilation)
    if padding == "same":
        if down != (1, 1):
            raise InputError(f"padding 'same' needs stride 1, not {down}")
        total = [d * (f - 1) for d, f in zip(dilate, weight.shape[2:], strict=True)]
        top, left = (t // 2 for t in total)
        pad = (left, total[1] - left, top, total[0] - top)
    else:
        p, q = _pair(0 if padding == "valid" else padding)
        pad = (q, q, p, p)
    rows, columns = images.shape[2] + pad[2] + pad[3], images.shape[3] + pad[0] + pad[1]
    size = (_places(rows, weight.shape[2], down[0], dilate[0]), _places(columns, weight.shape[3], down[1], dilate[1]))
    if min(pad) < 0:
        raise InputError(f"padding is {padding}, but must be at least 0")
    return _Setting(down, dilate, pad, size)


def _places(length: int, kernel: int, stride: int, dilation: int) -> int:
    """How many places a window has on a padded axis."""
    if min(kernel, stride, dilation) < 1:
        raise InputError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
    reach = dilation * (kernel - 1) + 1
    if reach > length:
        raise InputError(f"a window of {reach} does not fit into {length} pixels, padding included")
    return (length - reach) // stride + 1


def _pair(value: Pair | torch.Size) -> tuple[int, int]:
    down, across = (value, value) if isinstance(value, int) else value
    return down, across


def _biased(maps: Tensor, bias: Tensor | None) -> Tensor:
    return maps if bias is None else maps + bias.view(-1, 1, 1)


def _blocks(places: Sequence[int], reach: Sequence[int], maps: int, kernels: int) -> list[int]:
    """Height and width of the transforms that do the least work, for as many maps (in and out) and kernels."""
    whole = [next((n for n in _QUICK if n >= p + r), p + r) for p, r in zip(places, reach, strict=True)]

    def work(block: Sequence[int]) -> float:
        tiles = prod(-(-p // (n - r)) for n, p, r in zip(block, places, reach, strict=True))
        return (tiles * maps + kernels) * (prod(block) * log2(prod(block)) + 80 * sum(block))  # 80: measured overhead

    sides = [n for n in _QUICK if max(reach) < n < max(whole)]
    return min([whole, *([min(n, w) for w in whole] for n in sides)], key=work)


# Without prime factors above 5, so that the FFT splits into small steps; multiples of 512 would share a cache's lines.
_QUICK = sorted(2**i * 3**j * 5**k for i in range(9) for j in range(6) for k in range(4))
