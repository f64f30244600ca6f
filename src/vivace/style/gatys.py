"""Neural style transfer: change a picture's pixels until a network sees one picture's content in another's style.

Gatys, Ecker, Bethge, "Image style transfer using convolutional neural networks" (2016), eq. 1 to 7.
In: content (3, H, W) and style (3, h, w), RGB, [0, 1], sides of at least 32. Out: the picture (3, H, W) in [0, 1].
Departs from the paper: errors are relative to their target's size, so that a weight means the same in every network.
By default also coarse to fine, with total variation and Grams that are centred and half whitened; the paper:
coarsest=None, init="noise", smoothness=0, center=False, whiten=0. Several styles mixed, each in its place, and large
pictures in tiles, as in Gatys et al., "Controlling perceptual factors in neural style transfer" (2017).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.images import check_image, resize
from vivace.base.progress import Tell, ignore, part_of
from vivace.style._goal import MIN_SIDE, Goal, Optimizer, See, levels, minimized, scaled

Start = Literal["content", "noise", "style"]


def gatys(
    see: See,
    content: Float[Tensor, "3 h w"],
    style: Float[Tensor, "3 sh sw"] | Sequence[Float[Tensor, "3 _ _"]],
    *,
    steps: int = 60,
    content_weight: float = 0.2,
    style_weight: float = 1.0,
    layer_weights: Sequence[float] | None = None,
    mix: Sequence[float] | None = None,
    masks: Float[Tensor, "s mh mw"] | None = None,
    center: bool = True,
    whiten: float = 0.5,
    smoothness: float = 0.1,
    coarsest: int | None = 128,
    init: Start = "content",
    optimizer: Optimizer = "lbfgs",
    rate: float | None = None,
    decay: bool = False,
    tile: int | None = 512,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 h w"]:
    """The content in the style, or in several. `see` is what a network sees, such as `seeing(model, LITE0)`.

    steps: evaluations of the loss at full size; each coarser level takes twice as many, in half the time
    layer_weights: one for each style map, of which the proportions count; equal where not given
    mix: how much each of several styles counts; equal where not given
    masks: where each style goes, in [0, 1], one for each; where all are 0 the content stays as it is
    center: take the style's mean off the features before their Gram, so that it is their variation that has to match
    whiten: 0 leaves the Grams as they are, 1 lets every direction in a layer's feature space count the same
    smoothness: weight of the total variation
    coarsest: shorter side of the first level; more follow, each at most twice as large. None: full size only
    rate: step size of Adam (0.01 where not given) or of gradient descent (0.003)
    decay: let that rate fall to 0 along half a cosine, at every level anew
    tile: a larger level is seen in tiles of this side at most, in the memory of one of them. None: at once
    generator: for `init="noise"`
    """
    styles = [style] if isinstance(style, Tensor) else list(style)
    _check(content, styles, masks, tile)
    shorter = min(content.shape[-2:])
    sides = levels(shorter, coarsest or shorter)
    x = _start(init, content, styles[0], generator)
    for index, side in enumerate(sides):
        size, *style_sizes = (scaled(image.shape[-2:], side / shorter) for image in (content, *styles))
        places = None if masks is None else resize(masks[:, None], size)[:, 0]
        targets = [resize(picture, at)[None] for picture, at in zip(styles, style_sizes, strict=True)]
        goal = Goal(see, resize(content, size)[None], targets, layer_weights, center=center, whiten=whiten,
                    weights=(content_weight, style_weight, smoothness), mix=mix, masks=places, tile=tile)  # fmt: skip
        turns = steps * 2 ** (len(sides) - 1 - index)
        heard = part_of(tell, steps * 2 ** len(sides) - 2 * turns, steps * (2 ** len(sides) - 1))
        x = minimized(goal, resize(x, size), turns, optimizer, rate, heard, decay=decay).clamp(0, 1)
    return x[0]


def _check(content: Tensor, styles: list[Tensor], masks: Tensor | None, tile: int | None) -> None:
    if not styles:
        raise InputError("style transfer needs a style picture")
    for image in (content, *styles):
        check_image(image)
        if min(image.shape[-2:]) < MIN_SIDE:
            found = " x ".join(str(side) for side in image.shape[-2:])
            raise InputError(f"style transfer needs pictures of at least {MIN_SIDE} x {MIN_SIDE}; this one is {found}")
    if masks is not None and masks.shape != (len(styles), *content.shape[-2:]):
        raise InputError(f"masks of {len(styles)} styles are {(len(styles), *content.shape[-2:])}, as the content is; "
                         f"these are {tuple(masks.shape)}")  # fmt: skip
    if masks is not None and not bool(((masks >= 0) & (masks <= 1)).all() and (masks > 0).any((1, 2)).all()):
        raise InputError("masks are in [0, 1], and each style has a place, however small")
    if tile is not None and tile < 64:
        raise InputError(f"tiles are of 64 pixels at least, not {tile}")


def _start(
    init: Start, content: Float[Tensor, "3 h w"], style: Float[Tensor, "3 sh sw"], generator: torch.Generator | None
) -> Float[Tensor, "1 3 h w"]:
    match init:
        case "content":
            return content[None]
        case "style":
            return resize(style, (content.shape[-2], content.shape[-1]))[None]
        case "noise":
            device = generator.device if generator else content.device
            return torch.rand(content[None].shape, generator=generator, device=device).to(content)
    raise unknown("start", init, get_args(Start))
