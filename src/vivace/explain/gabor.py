"""Gabor fit: the wave under a bell that comes closest to a filter, and how much of the filter it explains.

Jones, Palmer, "An evaluation of the two-dimensional Gabor filter model of simple receptive fields in cat striate
cortex" (1987), eq. 1; the waves are those of Gabor, "Theory of communication" (1946), in two dimensions.
In: filters (N, h, w), any range, with colours (N, C, h, w) to `color_and_shape`. Out: a `GaborFit`: parameters and R^2
of each filter, lengths in pixels, angles in radians, frequencies in cycles a pixel.
Departs from the paper: several starts from a grid and Levenberg-Marquardt steps for all filters at once; the centre
stays within the filter, and R^2 is the share of a filter's energy, for a Gabor function has no constant to take a mean.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError

# what is fitted, in this order: centre, width, height over width, angle, frequency, weights of cosine and sine
LINEAR = slice(6, 8)
WIDEST = 2.5  # the bell's height over its width, at most; at least its inverse
CENTRED = [2, 4, 5, 6, 7]  # what is left free where the centre is the middle and the bell is round


class GaborFit(NamedTuple):
    """The best Gabor function of each filter; `x` and `y` are from the filter's middle."""

    amplitude: Float[Tensor, " n"]
    x: Float[Tensor, " n"]
    y: Float[Tensor, " n"]
    sigma_x: Float[Tensor, " n"]
    sigma_y: Float[Tensor, " n"]
    theta: Float[Tensor, " n"]
    frequency: Float[Tensor, " n"]
    phase: Float[Tensor, " n"]
    r2: Float[Tensor, " n"]

    @property
    def cycles(self) -> Float[Tensor, " n"]:
        """Periods of the wave under the bell (two standard deviations each way): below a half it is a mere blob."""
        return 4 * self.sigma_x * self.frequency

    def drawn(self, height: int, width: int) -> Float[Tensor, "n h w"]:
        """The functions on the filters' pixels."""
        columns = (value[:, None, None] for value in self[:8])
        return gabor(*_pixels(height, width, self.x), *columns)


def gabor(column: Tensor, row: Tensor, amplitude: Tensor | float, x: Tensor | float, y: Tensor | float,
          sigma_x: Tensor | float, sigma_y: Tensor | float, theta: Tensor, frequency: Tensor | float,
          phase: Tensor | float) -> Tensor:  # fmt: skip
    """A cosine of that frequency along the angle theta, under a bell around (x, y), at those places."""
    u = (column - x) * theta.cos() + (row - y) * theta.sin()
    v = (row - y) * theta.cos() - (column - x) * theta.sin()
    bell = torch.exp(-((u / sigma_x).square() + (v / sigma_y).square()) / 2)
    return amplitude * bell * torch.cos(2 * math.pi * frequency * u + phase)


def fit_gabor(filters: Float[Tensor, "n h w"], *, centred: bool = False, starts: int = 4, steps: int = 40
              ) -> GaborFit:  # fmt: skip
    """The Gabor function nearest to each filter, by least squares.

    centred: only five of the eight numbers are free: the bell is round, around the middle; small filters need that,
        since eight numbers come close to any 3 x 3
    starts: how many of the best functions of a coarse grid are refined
    steps: of the refinement
    """
    if filters.ndim != 3 or min(filters.shape[1:]) < 2 or not len(filters):
        raise InputError(f"filters are (N, h, w), 2 x 2 at least; got {tuple(filters.shape)}")
    if not bool(torch.isfinite(filters).all()):
        raise InputError("a filter has NaN or infinite weights")
    if starts < 1 or steps < 0:
        raise InputError(f"starts are 1 or more and steps 0 or more; got {starts} and {steps}")
    energy = filters.double().square().sum((1, 2))
    nothing = energy == 0  # no energy, so none is explained
    energy = energy.clamp(min=1e-30)
    w = (filters.double() / energy.sqrt()[:, None, None]).flatten(1)  # of length 1: steps then fit all filters
    height, width = filters.shape[1:]
    q = _started(w, height, width, centred, starts)  # (n, starts, 8)
    count = q.shape[1]
    q, left = _refined(q.flatten(0, 1), w.repeat_interleave(count, 0), height, width, centred, steps)
    left, best = left.view(-1, count).min(1)
    q = q.view(-1, count, 8)[torch.arange(len(w)), best]
    x, y, sigma, ratio, theta, frequency, a, b = _bounded(q, height, width).unbind(1)
    length = energy.sqrt()
    found = (length * torch.hypot(a, b), x, y, sigma, sigma * ratio, theta % math.pi, frequency,
             torch.atan2(-b, a), torch.where(nothing, 0, 1 - left))  # fmt: skip
    turned = theta % (2 * math.pi) >= math.pi  # half a turn is the same wave, run through backwards
    phase = torch.where(turned, -found[7], found[7])
    return GaborFit(*(value.to(filters.dtype) for value in (*found[:7], phase, found[8])))


def color_and_shape(filters: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n h w"]]:
    """Each filter as one colour (length 1) times one shape, as near to it as such a product comes (by SVD)."""
    u, s, v = torch.linalg.svd(filters.flatten(2), full_matrices=False)
    sign = u[:, :, 0].sum(1, keepdim=True).sign()
    sign = torch.where(sign == 0, 1, sign)
    return u[:, :, 0] * sign, (s[:, 0, None] * v[:, 0] * sign).view(-1, *filters.shape[2:])


def _pixels(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (1, w) and rows (h, 1), the middle at 0."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device) - (height - 1) / 2
    columns = torch.arange(width, dtype=like.dtype, device=like.device) - (width - 1) / 2
    return columns[None, :], rows[:, None]


def _bounds(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Within what the first six numbers stay: the centre in the filter, the bell wider than a pixel's half."""
    side = max(height, width)
    low = torch.tensor([-width / 2, -height / 2, 0.5, 0, 0, 0], dtype=like.dtype, device=like.device)
    high = torch.tensor([width / 2, height / 2, side, 0, 0, 0.5], dtype=like.dtype, device=like.device)
    return low, high


def _bounded(q: Float[Tensor, "*n 8"], height: int, width: int) -> Float[Tensor, "*n 8"]:
    """The numbers as they are meant, from ones that may be anything."""
    low, high = _bounds(height, width, q)
    inside = low + (high - low) * q[..., :6].sigmoid()
    ratio = WIDEST ** (2 * q[..., 3:4].sigmoid() - 1)  # 1 in the middle
    return torch.cat([inside[..., :3], ratio, q[..., 4:5], inside[..., 5:6], q[..., LINEAR]], -1)


def _model(q: Float[Tensor, "m 8"], height: int, width: int) -> tuple[Float[Tensor, "m p"], Float[Tensor, "m p 8"]]:
    """The functions on the filters' pixels, and their slopes by each of the eight numbers."""
    low, high = _bounds(height, width, q)
    x, y, sigma, ratio, theta, frequency, a, b = _bounded(q, height, width)[..., None, None].unbind(1)
    column, row = _pixels(height, width, q)
    cos, sin = theta.cos(), theta.sin()
    u, v = (column - x) * cos + (row - y) * sin, (row - y) * cos - (column - x) * sin
    tall = sigma * ratio
    turn = 2 * math.pi * frequency
    bell = torch.exp(-((u / sigma).square() + (v / tall).square()) / 2)
    even, odd = bell * torch.cos(turn * u), bell * torch.sin(turn * u)
    g, wave = a * even + b * odd, b * even - a * odd
    by_u, by_v = turn * wave - g * u / sigma.square(), -g * v / tall.square()
    s = q[:, :6].sigmoid()
    inside = ((high - low) * s * (1 - s))[..., None, None].unbind(1)  # how fast the bounded number moves
    by_ratio = g * (v / tall).square() * 2 * math.log(WIDEST) * (s * (1 - s))[:, 3, None, None]
    slopes = (
        (by_v * sin - by_u * cos) * inside[0],
        (-by_u * sin - by_v * cos) * inside[1],
        g * ((u / sigma).square() + (v / tall).square()) / sigma * inside[2],
        by_ratio,
        by_u * v - by_v * u,
        2 * math.pi * u * wave * inside[5],
        even,
        odd,
    )
    return g.flatten(1), torch.stack([slope.flatten(1) for slope in slopes], 2)


def _started(w: Float[Tensor, "n p"], height: int, width: int, centred: bool, starts: int) -> Float[Tensor, "n s 8"]:
    """For each filter the best of a grid of functions, the weights of cosine and sine solved for."""
    low, high = _bounds(height, width, w)
    middle = torch.tensor([0.5], dtype=w.dtype, device=w.device)
    third = middle if centred else torch.tensor([0.3, 0.5, 0.7], dtype=w.dtype, device=w.device)
    side = max(height, width)
    sigmas = (torch.tensor([0.2, 0.4], dtype=w.dtype, device=w.device) * side - low[2]) / (high[2] - low[2])
    axes = (third, third, sigmas.clamp(0.05, 0.95), middle, torch.arange(8).to(w) * math.pi / 8,
            torch.tensor([0.1, 0.25, 0.45, 0.65, 0.9], dtype=w.dtype, device=w.device))  # fmt: skip
    grid = torch.cartesian_prod(*axes)
    raw = grid.logit()
    raw[:, 4] = grid[:, 4]
    pair = _model(torch.cat([raw, raw.new_zeros(len(raw), 2)], 1), height, width)[1][..., LINEAR]  # (g, p, 2)
    inverse = torch.linalg.pinv(pair, rtol=1e-6)  # (g, 2, p)
    solved = torch.einsum("gkp,np->ngk", inverse, w)
    explained = (solved * torch.einsum("gpk,np->ngk", pair, w)).sum(2)
    best = explained.topk(min(starts, explained.shape[1])).indices
    return torch.cat([raw[best], torch.gather(solved, 1, best[..., None].expand(-1, -1, 2))], -1)


def _refined(q: Float[Tensor, "m 8"], w: Float[Tensor, "m p"], height: int, width: int, centred: bool, steps: int
             ) -> tuple[Float[Tensor, "m 8"], Float[Tensor, " m"]]:  # fmt: skip
    """Levenberg-Marquardt for all at once: the parameters, and the squared distance that is left."""
    free = torch.zeros(8, dtype=q.dtype, device=q.device)
    free[CENTRED if centred else slice(None)] = 1
    damping = torch.full_like(q[:, 0], 1e-2)
    g, J = _model(q, height, width)
    for _ in range(steps):
        rest = w - g
        J = J * free
        JJ = J.mT @ J
        scale = torch.diagonal(JJ, dim1=1, dim2=2)
        system = JJ + torch.diag_embed(damping[:, None] * scale + 1e-9 + (1 - free))
        step = torch.linalg.solve(system, J.mT @ rest[..., None])[..., 0]
        tried = q + step.clamp(-2, 2)
        g_there, J_there = _model(tried, height, width)
        better = (w - g_there).square().sum(1) < rest.square().sum(1)
        q = torch.where(better[:, None], tried, q)
        g = torch.where(better[:, None], g_there, g)
        J = torch.where(better[:, None, None], J_there, J)
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-8, 1e8)
    return q, (w - g).square().sum(1)
