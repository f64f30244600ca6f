"""What style transfer minimises (Gatys et al. 2016, eq. 1 to 7), its gradient, at once or by tiles, and the descent.

All that the network sees of the picture enters as sums over positions: the content's squared error and the Grams. So a
picture too large to be seen at once is seen twice in tiles: first for the sums, then, with the loss's slope in each sum
known, for each tile's gradient. That is the whole picture's gradient for 4/3 of the work and the memory of one tile.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.images import total_variation
from vivace.base.progress import Step, Tell
from vivace.style.gram import gram_matrix

GRID, CONTEXT = 32, 32  # pixels: tiles start at multiples, and see this far beyond their edges

ALL = (slice(None), slice(None))

MIN_SIDE = 32  # below this the deepest layers have a pixel or two, and no statistics

Optimizer = Literal["lbfgs", "adam", "gd"]
Maps = list[Float[Tensor, "b _ _ _"]]
See = Callable[[Float[Tensor, "b 3 h w"]], tuple[Maps, Maps]]  # pictures to (content maps, style maps)
Where = tuple[slice, slice, slice, slice]


@dataclass(frozen=True)
class Part:
    """A tile: where it is, what its content is, and how much each position counts (None: all positions the same)."""

    where: Where
    P: Maps
    content_shares: list[Tensor | None]
    style_shares: list[Tensor | None]  # (styles, h, w) each


class Goal:
    """What is minimised at one size: the targets are taken once, from pictures of that size.

    mix: how much each style counts; equal where not given
    masks: where each style's Grams are taken, one mask for each style, in [0, 1]; everywhere where not given. What no
        mask covers is the content as it is
    tile: side of the tiles that are seen one at a time; None: the whole picture at once
    """

    def __init__(
        self,
        see: See,
        content: Float[Tensor, "1 3 h w"],
        styles: Sequence[Float[Tensor, "1 3 _ _"]],
        layer_weights: Sequence[float] | None = None,
        *,
        weights: tuple[float, float, float],
        center: bool,
        whiten: float,
        mix: Sequence[float] | None = None,
        masks: Float[Tensor, "s h w"] | None = None,
        tile: int | None = None,
    ) -> None:
        self.see, self.content, self.weights = see, content, weights
        self.cover = None if masks is None else masks.amax(0)
        with torch.no_grad():
            seen = [see(style)[1] for style in styles]
            self.styles = [
                [StyleTarget(A, center=center, whiten=whiten) for A in maps] for maps in zip(*seen, strict=True)
            ]
            self.parts = self._parts(content, masks, tile)
        self.size = [sum(_summed(P.square(), share) for P, share in pairs) for pairs in self._contents()]
        self.w = proportions("layer weights", layer_weights, len(self.styles))
        self.mix = proportions("shares of the styles", mix, len(styles))

    def __call__(self, x: Float[Tensor, "1 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and, of it, the content's error and the style's."""
        return self._total(self._sums(x), x)

    def shown(self, x: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
        """The picture, with the content where no mask is."""
        return x if self.cover is None else torch.lerp(self.content, x, self.cover)

    def gradient(self, x: Float[Tensor, "1 3 h w"]) -> tuple[Tensor, Tensor, Tensor, Float[Tensor, "1 3 h w"]]:
        """The loss, the content's error, the style's, and the loss's gradient; none for the network's weights."""
        x = self.shown(x.detach()).requires_grad_()
        if len(self.parts) == 1:
            losses = self(x)
            (gradient,) = torch.autograd.grad(losses[0], x)
        else:
            losses, gradient = self._by_tiles(x)
        return *losses, gradient if self.cover is None else gradient * self.cover

    def _by_tiles(self, x: Float[Tensor, "1 3 h w"]) -> tuple[tuple[Tensor, Tensor, Tensor], Float[Tensor, "1 3 h w"]]:
        with torch.no_grad():
            sums = self._sums(x)
        losses = self._total([value.requires_grad_() for value in sums], x)
        *slopes, gradient = torch.autograd.grad(losses[0], [*sums, x])
        for part in self.parts:
            piece = x.detach()[part.where].clone().requires_grad_()
            moved = [(value * slope).sum() for value, slope in zip(self._seen(piece, part), slopes, strict=True)]
            gradient[part.where] += torch.autograd.grad(torch.stack(moved).sum(), piece)[0]
        return losses, gradient

    def _parts(self, content: Tensor, masks: Tensor | None, tile: int | None) -> list[Part]:
        tiles = _tiles(content.shape[-2], content.shape[-1], tile)
        parts = []
        for where, inner in tiles:
            P, maps = self.see(content[where])
            if masks is None and len(tiles) == 1:
                parts.append(Part(where, P, [None] * len(P), [None] * len(maps)))
                continue
            inside = torch.zeros(content.shape[-2:]).to(content)
            inside[inner[2:]] = 1
            counted = (inside[None] if masks is None else masks * inside)[:, where[2], where[3]]
            parts.append(Part(where, P, [_reduced(inside[where[2:]][None], f) for f in P],
                              [_reduced(counted, f) for f in maps]))  # fmt: skip
        for layer in range(len(self.styles)):  # all positions of all tiles together are to count 1
            shares = [share for part in parts if (share := part.style_shares[layer]) is not None]
            total = sum((share.sum((1, 2), keepdim=True) for share in shares), content.new_zeros(()))
            for share in shares:
                share /= total
        return parts

    def _contents(self) -> list[list[tuple[Tensor, Tensor | None]]]:
        """For each content layer its target and shares in each tile."""
        return [[(part.P[layer], part.content_shares[layer]) for part in self.parts]
                for layer in range(len(self.parts[0].P))]  # fmt: skip

    def _sums(self, x: Float[Tensor, "1 3 h w"]) -> list[Tensor]:
        """Over all tiles: for each content layer the relative error; for each style layer and style the Gram."""
        seen = [self._seen(x[part.where], part) for part in self.parts]
        return [torch.stack(values).sum(0) for values in zip(*seen, strict=True)]

    def _seen(self, piece: Float[Tensor, "1 3 h w"], part: Part) -> list[Tensor]:
        content_maps, style_maps = self.see(piece)
        contents = zip(content_maps, part.P, part.content_shares, self.size, strict=True)
        errors = [_summed((f - P).square(), share) / size for f, P, share, size in contents]
        grams = []
        for f, targets, shares in zip(style_maps, self.styles, part.style_shares, strict=True):
            each = [None] * len(targets) if shares is None else shares.expand(len(targets), -1, -1)
            grams += [_gram(f - target.mean, share) for target, share in zip(targets, each, strict=True)]
        return [*errors, *grams]

    def _total(self, sums: list[Tensor], x: Float[Tensor, "1 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        layers = len(self.parts[0].P)
        content = torch.stack(sums[:layers]).mean()
        grams = iter(sums[layers:])
        errors = [w * share * target.error(next(grams)) for w, targets in zip(self.w, self.styles, strict=True)
                  for share, target in zip(self.mix, targets, strict=True)]  # fmt: skip
        style = torch.stack(errors).sum()
        alpha, beta, gamma = self.weights
        return alpha * content + beta * style + gamma * total_variation(x), content, style


class StyleTarget:
    """A layer's style: its Gram A, about the style's mean, and the measure in which others are compared with it."""

    def __init__(self, features: Float[Tensor, "1 c h w"], *, center: bool, whiten: float) -> None:
        self.mean = features.mean((2, 3), keepdim=True) * center
        self.A = gram_matrix(features - self.mean)
        values, vectors = torch.linalg.eigh(self.A.double())
        values = values.clamp_min(1e-6)  # a style without variation is a target, too
        shrunk = (values + 0.1 * values.mean()) ** -whiten  # few positions leave directions empty: not to be blown up
        self.root = ((vectors * shrunk.sqrt()[:, None]) @ vectors.mT).to(features)
        self.size = float((values * shrunk).square().sum())

    def __call__(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """The relative error, summed over the pictures."""
        return self.error(gram_matrix(features - self.mean))

    def error(self, G: Float[Tensor, "b c c"]) -> Float[Tensor, ""]:
        return (self.root @ (G - self.A) @ self.root).square().sum() / self.size


def _reduced(shares: Float[Tensor, "s h w"], maps: Float[Tensor, "1 c mh mw"]) -> Float[Tensor, "s mh mw"]:
    """Shares of pixels as shares of a map's cells."""
    return F.adaptive_avg_pool2d(shares, (maps.shape[-2], maps.shape[-1]))


def _gram(features: Float[Tensor, "1 c h w"], share: Float[Tensor, "h w"] | None) -> Float[Tensor, "1 c c"]:
    return gram_matrix(features) if share is None else gram_matrix(features * share.sqrt(), divide=False)


def _summed(squares: Float[Tensor, "1 c h w"], share: Float[Tensor, "1 h w"] | None) -> Float[Tensor, ""]:
    return squares.sum() if share is None else (squares * share).sum()


def proportions(name: str, values: Sequence[float] | None, count: int) -> list[float]:
    w = [1.0] * count if values is None else list(values)
    if len(w) != count or min(w) < 0 or sum(w) == 0:
        raise InputError(f"{name} are {count} numbers of at least 0 that are not all 0, not {w}")
    return [value / sum(w) for value in w]


def inner(maps: Float[Tensor, "b c h w"], margin: float) -> Float[Tensor, "b c ih iw"]:
    """Maps without a margin around them, which is given as a share of the shorter side."""
    cells = math.ceil(margin * min(maps.shape[-2:]))
    return maps[..., cells : maps.shape[-2] - cells, cells : maps.shape[-1] - cells]


def _tiles(height: int, width: int, tile: int | None) -> list[tuple[Where, Where]]:
    """Where each tile is, with what it sees around it and without, in equal parts on a grid of 32 pixels."""
    tiles = []
    for top, bottom in _cuts(height, tile or height):
        for left, right in _cuts(width, tile or width):
            outer = slice(max(0, top - CONTEXT), bottom + CONTEXT), slice(max(0, left - CONTEXT), right + CONTEXT)
            tiles.append(((*ALL, *outer), (*ALL, slice(top, bottom), slice(left, right))))
    return tiles


def _cuts(side: int, tile: int) -> list[tuple[int, int]]:
    count = math.ceil(side / tile)
    cuts = [round(side * i / count / GRID) * GRID for i in range(count)] + [side]
    return list(pairwise(cuts))


def minimized(
    goal: Goal, x: Float[Tensor, "1 3 h w"], steps: int, optimizer: Optimizer, rate: float | None, tell: Tell, *,
    decay: bool = False,
) -> Float[Tensor, "1 3 h w"]:  # fmt: skip
    """The picture after `steps` evaluations of the goal and its gradient."""
    x = x.clone().contiguous().requires_grad_()
    rounds, scale = steps, 1.0
    solver: torch.optim.Optimizer
    match optimizer:
        case "lbfgs":  # all in one call; it takes gradients as small as ours for zero, hence the scale
            solver = torch.optim.LBFGS([x], max_iter=steps, max_eval=steps, history_size=20, tolerance_grad=0,
                                       tolerance_change=0)  # fmt: skip
            rounds, scale = 1, 1e4
        case "adam":
            solver = torch.optim.Adam([x], lr=rate or 0.01, fused=True)
        case "gd":
            solver = torch.optim.SGD([x], lr=rate or 0.003)
        case _:
            raise unknown("optimizer", optimizer, get_args(Optimizer))
    size, done = f"{x.shape[-1]} x {x.shape[-2]}", 0

    def closure() -> Tensor:
        nonlocal done
        done += 1
        if decay and optimizer != "lbfgs":
            solver.param_groups[0]["lr"] = solver.defaults["lr"] * (1 + math.cos(math.pi * done / steps)) / 2
        loss, content, style, gradient = goal.gradient(x)
        x.grad = scale * gradient
        values = {"loss": loss.item(), "content": content.item(), "style": style.item()}
        tell(Step(done, steps, size, values, goal.shown(x.detach())[0].clamp(0, 1)))
        return scale * loss.detach()

    for _ in range(rounds):
        solver.step(closure)
    if not bool(x.isfinite().all()):
        raise InputError(f"{optimizer} diverged at {size}: take a smaller rate, or the optimizer lbfgs")
    return goal.shown(x.detach())


def levels(full: int, coarsest: int) -> list[float]:
    """The shorter side at each level, the coarsest first, in equal ratios of at most 2."""
    count = max(0, math.ceil(math.log2(full / coarsest)))
    return [full * (coarsest / full) ** (level / count) for level in range(count, 0, -1)] + [full]


def scaled(size: torch.Size, scale: float) -> tuple[int, int]:
    return max(MIN_SIDE, round(size[0] * scale)), max(MIN_SIDE, round(size[1] * scale))
