"""SSIM: how alike two pictures are in light, contrast and structure, window by window.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity" (2004),
eq. 6 to 13; Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment" (2003), eq. 7.
In: pictures (B, C, H, W) in [0, 1], sides of at least 11 (MS-SSIM: 176). Out: (B,) or maps (B, C, H - 10, W - 10).
Departs from the paper: each colour channel has its own SSIM, of which the mean is taken; terms that are negative count
as 0 in MS-SSIM, which would take roots of them; side lengths that are odd lose a row when halved.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import check_image

RADIUS, SIGMA = 5, 1.5  # the paper's window: 11 x 11, Gaussian
K1, K2 = 0.01, 0.03
CACHED = 2**16  # pixels: what is made of so many at a time fits into the processor's cache
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # MS-SSIM's exponents, from full size to a sixteenth


class Terms(NamedTuple):
    """The three factors at every position (eq. 6, 9, 10)."""

    luminance: Float[Tensor, "b c oh ow"]
    contrast: Float[Tensor, "b c oh ow"]
    structure: Float[Tensor, "b c oh ow"]


def ssim(x: Float[Tensor, "b c h w"], y: Float[Tensor, "_ _ _ _"], *, data_range: float = 1.0) -> Float[Tensor, " b"]:
    """The mean of the map: 1 for equal pictures. `1 - ssim(x, y)` is a loss."""
    means = [values.mean((1, 2)) for values in _maps(x, y, data_range)]
    return torch.cat(means).view(x.shape[:2]).mean(1)


def ssim_map(
    x: Float[Tensor, "b c h w"], y: Float[Tensor, "_ _ _ _"], *, data_range: float = 1.0
) -> Float[Tensor, "b c oh ow"]:
    """SSIM under every whole window (eq. 13): luminance times the rest."""
    return torch.cat(list(_maps(x, y, data_range))).unflatten(0, x.shape[:2])


def ssim_terms(
    x: Float[Tensor, "b c h w"], y: Float[Tensor, "_ _ _ _"], *, data_range: float = 1.0, C3: float | None = None
) -> Terms:
    """Luminance, contrast and structure; their product is SSIM if C3 = C2 / 2, as where it isn't given."""
    C1, C2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    C3 = C2 / 2 if C3 is None else C3
    terms = []
    for a, b in _planes(x, y, data_range):
        mean_a, mean_b, aa, bb, ab = _means(a, b, a * a, b * b, a * b)
        # rounding may leave a flat window a variance below 0; and the root of 0 has no slope
        variances = aa - mean_a.square(), bb - mean_b.square()
        sd_a, sd_b = (v.clamp_min(1e-12 * data_range**2).sqrt() for v in variances)
        structure = (ab - mean_a * mean_b + C3) / (sd_a * sd_b + C3)
        light = _alike(mean_a + data_range / 2, mean_b + data_range / 2, C1)
        terms.append(torch.stack([light, _alike(sd_a, sd_b, C2), structure]))
    return Terms(*torch.cat(terms, 1).unflatten(1, x.shape[:2]))


def ms_ssim(
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "_ _ _ _"],
    *,
    data_range: float = 1.0,
    weights: Sequence[float] = SCALES,
) -> Float[Tensor, " b"]:
    """Contrast and structure at five sizes, each half of the one before, and luminance at the smallest."""
    smallest = (2 * RADIUS + 1) * 2 ** (len(weights) - 1)
    if min(x.shape[-2:]) < smallest:
        raise InputError(f"MS-SSIM at {len(weights)} scales needs sides of {smallest}; this picture is {_size(x)}")
    product = x.new_ones(x.shape[:2].numel())
    for scale, weight in enumerate(weights):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        last = scale == len(weights) - 1
        means = [values.mean((1, 2)) for values in _maps(x, y, data_range, luminance=last)]
        product = product * torch.cat(means).relu() ** weight
    return product.view(x.shape[:2]).mean(1)


def _maps(x: Tensor, y: Tensor, data_range: float, *, luminance: bool = True) -> Iterator[Float[Tensor, "k oh ow"]]:
    """SSIM of some planes after others; without the luminance, contrast times structure alone."""
    for a, b in _planes(x, y, data_range):
        height = a.shape[1] - 2 * RADIUS
        # a large plane band after band; not for a gradient, to which each band would add a plane of zeros
        step = height if a.requires_grad or b.requires_grad else max(1, CACHED // (len(a) * a.shape[2]))
        bands = [slice(i, i + step + 2 * RADIUS) for i in range(0, height, step)]
        yield torch.cat([_similarity(a[:, rows], b[:, rows], data_range, luminance) for rows in bands], 1)


def _similarity(a: Tensor, b: Tensor, data_range: float, luminance: bool) -> Float[Tensor, "k oh ow"]:
    """Contrast times structure in one, which needs no root and one variance, the sum; times luminance, if asked for."""
    C1, C2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_a, mean_b, squares, product = _means(a, b, torch.addcmul(a * a, b, b), a * b)
    ab, aabb = mean_a * mean_b, torch.addcmul(mean_a * mean_a, mean_b, mean_b)
    rest = (2 * (product - ab) + C2) / (squares - aabb + C2)
    if not luminance:
        return rest
    shift = data_range * (mean_a + mean_b) + (data_range**2 / 2 + C1)  # from numbers about 0 to the pictures' own
    return torch.add(shift, ab, alpha=2) / (aabb + shift) * rest


def _planes(x: Tensor, y: Tensor, data_range: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Channel after channel, or some at once where they are small: three times as fast as all large ones at once.

    Half of `data_range` is taken off: variances don't change, and float32 rounds the squares of small numbers less.
    """
    check_image(x[:, :1])
    check_image(y[:, :1])
    if x.shape != y.shape:
        raise InputError(f"SSIM compares pictures of one size; these are {tuple(x.shape)} and {tuple(y.shape)}")
    if min(x.shape[-2:]) < 2 * RADIUS + 1:
        raise InputError(f"SSIM needs pictures of at least 11 x 11, its window; this one is {_size(x)}")
    if data_range <= 0:
        raise InputError(f"data_range is the pictures' largest value less their smallest, above 0; got {data_range}")
    count = max(1, CACHED // x.shape[-2:].numel())
    for a, b in zip(x.flatten(0, 1).split(count), y.flatten(0, 1).split(count), strict=True):
        yield a - data_range / 2, b - data_range / 2


def _means(*planes: Float[Tensor, "k h w"]) -> list[Float[Tensor, "k oh ow"]]:
    """Each plane's Gaussian means; small ones all at once, in a fourth of the calls."""
    groups = [torch.cat(planes)] if planes[0].numel() <= CACHED else planes
    return [means for group in groups for means in _Blur.apply(group).split(len(planes[0]))]


def _alike(a: Tensor, b: Tensor, C: float) -> Tensor:
    """1 where a = b; C keeps it so where both are near 0."""
    return (2 * a * b + C) / (a.square() + b.square() + C)


class _Blur(torch.autograd.Function):
    """The Gaussian mean under every whole window, down and then across: as shifted sums, since one-channel
    convolutions are slow. It is linear, so its gradient is the same sums over a margin of zeros."""

    @staticmethod
    def forward(_: Any, x: Float[Tensor, "k h w"]) -> Float[Tensor, "k oh ow"]:
        return _along(_along(x, 1), 2)

    @staticmethod
    def backward(_: Any, gradient: Float[Tensor, "k oh ow"]) -> Float[Tensor, "k h w"]:
        blurred: Tensor = _Blur.apply(F.pad(gradient, (2 * RADIUS,) * 4))
        return blurred


def _along(x: Tensor, dim: int) -> Tensor:
    """One pass. The window is symmetric: two neighbours share a weight."""
    weights = [math.exp(-(k**2) / (2 * SIGMA**2)) for k in range(RADIUS + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    length = x.shape[dim] - 2 * RADIUS
    out = x.narrow(dim, RADIUS, length) * (weights[0] / total)
    for k in range(1, RADIUS + 1):
        for start in (RADIUS - k, RADIUS + k):
            out.add_(x.narrow(dim, start, length), alpha=weights[k] / total)
    return out


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
