"""Colour tuning: which hue a first-layer filter prefers, and whether it answers to colour more than to light and dark.

Johnson, Hawken, Shapley, "The spatial transformation of color in the primary visual cortex of the macaque monkey"
(2001), methods: colour against luminance; hues turned around grey as in Derrington, Krauskopf, Lennie, "Chromatic
mechanisms in lateral geniculate nucleus of macaque" (1984).
In: first-layer filters (N, 3, h, w) over R, G, B. Out: a `ColorTuning`: index in [0, 1], hue in radians (0 red, a third
of a turn green), amplitudes by hue.
Departs from the paper: gratings are gone through in closed form, every angle of a grid at its best phase, since a
convolution is linear; "light" is the mean of R, G and B, and strengths are amplitudes for stimuli of length 1.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


class ColorTuning(NamedTuple):
    """How strongly each filter answers to gratings of its best size, angle and phase."""

    color: Float[Tensor, " n"]  # between a hue and its complement, both as bright as grey: the best hue
    light: Float[Tensor, " n"]  # between light and dark grey
    hue: Float[Tensor, " n"]  # the best one's angle
    by_hue: Float[Tensor, "n hues"]
    color_frequency: Float[Tensor, " n"]  # cycles a pixel of the best coloured grating
    light_frequency: Float[Tensor, " n"]

    @property
    def color_index(self) -> Float[Tensor, " n"]:
        """0: light and dark alone; above a half: rather colour; 1: colour alone."""
        return self.color / (self.color + self.light).clamp(min=1e-12)


def color_tuning(filters: Float[Tensor, "n 3 h w"], *, hues: int = 24, angles: int = 16, frequencies: int = 9
                 ) -> ColorTuning:  # fmt: skip
    """Answers to gratings between two complementary colours, for each hue, and to grey gratings.

    hues, angles: how many of each, all the way round
    frequencies: from 0 (one even field) to half a cycle a pixel
    """
    if filters.ndim != 4 or filters.shape[1] != 3:
        raise InputError(f"colours need filters over R, G and B, (N, 3, h, w); got {tuple(filters.shape)}")
    if min(hues, angles, frequencies) < 2:
        raise InputError("at least 2 hues, angles and frequencies are needed")
    waves, frequency = _waves(filters, angles, frequencies)
    of_hue = torch.einsum("nchw,kc,ahw->nka", filters.to(waves.dtype), hue_colors(hues).to(waves), waves).abs()
    grey = torch.full((3,), 3**-0.5, dtype=filters.dtype, device=filters.device)
    of_light = torch.einsum("nchw,c,ahw->na", filters.to(waves.dtype), grey.to(waves.dtype), waves).abs()
    by_hue, best = of_hue.max(2)
    color, which = by_hue.max(1)
    light, at = of_light.max(1)
    chosen = best.gather(1, which[:, None])[:, 0]
    # an even field tells a hue from its complement; a wave has both in it
    sign = (filters.sum((2, 3)) * hue_colors(hues).to(filters)[which]).sum(1)
    which = torch.where(sign < 0, which + hues / 2, which.to(filters.dtype)) % hues
    return ColorTuning(color, light, which * 2 * math.pi / hues, by_hue, frequency[chosen], frequency[at])


def hue_colors(count: int) -> Float[Tensor, "k 3"]:
    """Directions of length 1 in RGB around grey, orthogonal to it: the first is red, then by way of green to blue."""
    angle = torch.arange(count) * 2 * math.pi / count
    red = torch.tensor([2.0, -1.0, -1.0]) / 6**0.5
    across = torch.tensor([0.0, 1.0, -1.0]) / 2**0.5
    return angle.cos()[:, None] * red + angle.sin()[:, None] * across


def _waves(filters: Tensor, angles: int, frequencies: int) -> tuple[Tensor, Float[Tensor, " a"]]:
    """Complex waves (a, h, w), whose size of answer is that at the best phase, and the frequency of each."""
    height, width = filters.shape[2:]
    y = torch.arange(height, dtype=filters.dtype, device=filters.device)[:, None]
    x = torch.arange(width, dtype=filters.dtype, device=filters.device)[None, :]
    theta = torch.arange(angles, dtype=filters.dtype, device=filters.device) * math.pi / angles
    each = torch.linspace(0, 0.5, frequencies, dtype=filters.dtype, device=filters.device)
    f, t = (part.flatten()[:, None, None] for part in torch.meshgrid(each, theta, indexing="ij"))
    phase = 2 * math.pi * f * (x * t.cos() + y * t.sin())
    return torch.polar(torch.ones_like(phase), phase), f[:, 0, 0]
