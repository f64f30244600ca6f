"""Neural texture synthesis: noise, changed until a network's Gram matrices are those of an exemplar; no content at all.

Gatys, Ecker, Bethge, "Texture synthesis using convolutional neural networks" (2015), eq. 3 to 5; coarse to fine as in
Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling perceptual factors in neural style transfer" (2017), section 6.
In: an exemplar (3, h, w), RGB, [0, 1], sides of at least 32. Out: a texture (3, H, W) of any size of at least 32.
Departs from the paper: coarse to fine (its own: coarsest=None), errors relative to each Gram's size, and colours
held to the exemplar's axes, so that a grey one gives a grey texture; `seamless` shows the network what lies around the
borders.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import check_image, resize, total_variation
from vivace.base.progress import Tell, ignore, part_of
from vivace.style._goal import MIN_SIDE, Goal, Optimizer, See, inner, levels, minimized, scaled

SIGHT = 32  # pixels that a seamless texture shows the network beyond its borders


def neural_texture(
    see: See,
    exemplar: Float[Tensor, "3 h w"],
    size: tuple[int, int],
    *,
    steps: int = 60,
    layer_weights: Sequence[float] | None = None,
    smoothness: float = 0.0,
    coarsest: int | None = 64,
    seamless: bool = False,
    optimizer: Optimizer = "lbfgs",
    rate: float | None = None,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 oh ow"]:
    """A texture of `size` (height, width). `see` is what a network sees, such as `seeing(model, LITE0)`.

    steps: evaluations of the loss at full size; each coarser level takes twice as many, in half the time
    layer_weights: one for each style map, of which the proportions count; equal where not given
    smoothness: weight of the total variation
    coarsest: shorter side of the first level; the exemplar is reduced alike. None: full size only
    seamless: wrap around, so that copies fit side by side; `see`'s maps are to cover the whole of what it is shown
    rate: step size of Adam (0.01 where not given) or of gradient descent (0.003)
    """
    check_image(exemplar)
    own, shorter = min(exemplar.shape[-2:]), min(size)
    if min(own, shorter) < MIN_SIDE:
        raise InputError(f"textures and exemplars have sides of at least {MIN_SIDE}; got {tuple(size)} from "
                         f"{tuple(exemplar.shape[-2:])}")  # fmt: skip
    along = color_axes(exemplar)
    device = generator.device if generator else exemplar.device
    noise = torch.randn(3, *size, generator=generator, device=device).to(exemplar)
    x = _colored(noise, exemplar)[None]
    smallest = math.ceil(MIN_SIDE * shorter / own)  # at which the exemplar has `MIN_SIDE` left
    sides = levels(shorter, min(max(coarsest or shorter, smallest), shorter))
    for index, side in enumerate(sides):
        at, exemplar_at = (scaled(torch.Size(shape), side / shorter) for shape in (size, exemplar.shape[-2:]))
        goal = TextureGoal(see, resize(exemplar, exemplar_at)[None], layer_weights, along=along, smoothness=smoothness,
                           sight=min(SIGHT, *at) if seamless else 0)  # fmt: skip
        turns = steps * 2 ** (len(sides) - 1 - index)
        heard = part_of(tell, steps * 2 ** len(sides) - 2 * turns, steps * (2 ** len(sides) - 1))
        x = along(minimized(goal, resize(x, at), turns, optimizer, rate, heard)).clamp(0, 1)
    return x[0]


class TextureGoal(Goal):
    """What is minimised at one size: the style's part of style transfer's goal (eq. 5)."""

    def __init__(self, see: See, exemplar: Float[Tensor, "1 3 h w"], layer_weights: Sequence[float] | None = None, *,
                 along: Callable[[Tensor], Tensor], smoothness: float, sight: int) -> None:  # fmt: skip
        super().__init__(see, exemplar, [exemplar], layer_weights, weights=(0, 1, smoothness), center=False, whiten=0.0)
        self.along, self.sight = along, sight

    def __call__(self, x: Float[Tensor, "1 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and, of it, the content's error, which is none, and the style's."""
        around = F.pad(self.along(x), (self.sight,) * 4, mode="circular")
        maps = [inner(f, self.sight / min(around.shape[-2:])) for f in self.see(around)[1]]  # no pixel counts twice
        style = torch.stack([w * target(f) for w, (target,), f in zip(self.w, self.styles, maps, strict=True)]).sum()
        return style + self.weights[2] * total_variation(around), style.new_zeros(()), style


def _colored(noise: Float[Tensor, "3 h w"], exemplar: Float[Tensor, "3 eh ew"]) -> Float[Tensor, "3 h w"]:
    """Normal noise with the exemplar's mean colour and covariance."""
    covariance = torch.cov(exemplar.flatten(1)) + 1e-6 * torch.eye(3).to(exemplar)
    mean = exemplar.mean((1, 2))[:, None, None]
    return (torch.einsum("ab,bhw->ahw", torch.linalg.cholesky(covariance), noise) + mean).clamp(0, 1)


def color_axes(exemplar: Float[Tensor, "3 h w"]) -> Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b 3 h w"]]:
    """Pictures moved into the space of the exemplar's colours: a plane, or a line if it is grey."""
    colors = exemplar.flatten(1)
    mean = colors.mean(1, keepdim=True)
    axes, lengths, _ = torch.linalg.svd(colors - mean, full_matrices=False)
    basis = axes[:, lengths > max(1e-4 * float(lengths[0]), 1e-5)]

    def along(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        away = images - mean[..., None]
        return torch.einsum("ak,bk,nbhw->nahw", basis, basis, away) + mean[..., None]

    return along
