"""Image quilting: a texture sewn from overlapping blocks of its exemplar, each cut where the seam shows least.

Efros, Freeman, "Image quilting for texture synthesis and transfer" (2001), sections 2 and 3.
In: an exemplar (3, h, w), RGB, [0, 1]. Out: a texture (3, H, W) of any size, each pixel one of the exemplar's.
Departs from the paper: `seamless` lets blocks overlap around the borders, too, so that copies fit side by side;
transfer (`guide`) takes one pass, not several with ever smaller blocks.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import check_image
from vivace.base.progress import Step, Tell, ignore


def image_quilting(
    exemplar: Float[Tensor, "3 h w"],
    size: tuple[int, int] | None = None,
    block: int | None = None,
    *,
    overlap: int | None = None,
    tolerance: float = 0.1,
    seamless: bool = False,
    guide: Float[Tensor, "3 oh ow"] | None = None,
    guide_weight: float = 0.8,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 oh ow"]:
    """A texture of `size` (height, width), which the guide has where one is given.

    block: side of the blocks, to be larger than the texture's largest feature; a third of the exemplar's shorter side
    overlap: pixels in which neighbours lie over each other; a sixth of the block
    tolerance: a block is drawn from those whose error is at most so much above the smallest
    seamless: wrap around
    guide: a picture whose light and dark the texture follows (texture transfer)
    guide_weight: how much, from 0 to 1
    """
    check_image(exemplar)
    if (size is None) == (guide is None):
        raise InputError("quilting needs either a size or a guide, which has one")
    height, width = size or (guide.shape[-2], guide.shape[-1])  # type: ignore[union-attr]
    b = block or max(4, min(exemplar.shape[-2:]) // 3)
    o = max(1, b // 6) if overlap is None else overlap
    if not 1 <= o <= b // 2:
        raise InputError(f"blocks of {b} overlap in 1 to {b // 2} pixels, not {o}")
    if b > min(*exemplar.shape[-2:], height, width):
        raise InputError(f"blocks of {b} x {b} don't fit into the exemplar and the texture, {height} x {width}")
    errors_of = _BlockErrors(exemplar, b)
    canvas = exemplar.new_zeros(3, height, width)
    tops, lefts = _Places(height, b, o, seamless), _Places(width, b, o, seamless)
    guides = _BlockErrors(_ranked_luma(exemplar), b) if guide is not None else None
    target = _ranked_luma(guide) if guide is not None else None
    ahead = torch.arange(b, device=exemplar.device)
    for row, top in enumerate(tops.starts):
        for column, left in enumerate(lefts.starts):
            at = ((top + ahead) % height)[:, None], (left + ahead) % width
            old = canvas[:, *at]
            sides = (*tops.laps(row), *lefts.laps(column))  # pixels that are there already: above, below, left, right
            errors = errors_of(old, sides)
            if guides is not None and target is not None:
                errors = (1 - guide_weight) * errors + guide_weight * guides(target[:, *at], (b, 0, 0, 0))
            y, x = _drawn(errors, tolerance, generator)
            new = exemplar[:, y : y + b, x : x + b]
            canvas[:, *at] = torch.where(_kept((old - new).square().sum(0), sides), old, new)
        tell(Step(row + 1, len(tops.starts), "rows of blocks", image=canvas))
    return canvas


class _Places:
    """Where blocks begin along one side of the texture, at even distances."""

    def __init__(self, length: int, block: int, overlap: int, wrap: bool) -> None:
        self.block, self.length, self.wrap = block, length, wrap
        step = block - overlap
        if wrap:
            count = max(2, math.ceil(length / step))
            self.starts = [i * length // count for i in range(count)]
        else:
            count = math.ceil((length - block) / step) + 1
            self.starts = [i * (length - block) // max(1, count - 1) for i in range(count)]

    def laps(self, index: int) -> tuple[int, int]:
        """Pixels in which block `index` lies over the one before it, and over the first one, around the border."""
        start, last = self.starts[index], len(self.starts) - 1
        before = self.starts[index - 1] + self.block - start if index else 0
        return before, start + self.block - self.length if self.wrap and index == last else 0


class _BlockErrors:
    """Sums of squared differences of a block from each block of the exemplar, by Fourier transforms."""

    def __init__(self, exemplar: Float[Tensor, "c h w"], block: int) -> None:
        self.block, (h, w) = block, exemplar.shape[-2:]
        self.fits = (h - block + 1, w - block + 1)
        self.mean = exemplar.mean((1, 2), keepdim=True)
        self.E = torch.fft.rfft2(exemplar - self.mean)
        self.energy = torch.fft.rfft2((exemplar - self.mean).square().sum(0))
        self.masks: dict[Sequence[int], tuple[Tensor, Tensor]] = {}  # there are few kinds

    def __call__(self, old: Float[Tensor, "c b b"], sides: tuple[int, int, int, int]) -> Float[Tensor, "fh fw"]:
        """For each place of the exemplar, the sum over the pixels that are there already."""
        if sides not in self.masks:
            mask = _there(self.block, sides, old.device)
            self.masks[sides] = mask, self._correlation(self.energy, mask.to(old))
        mask, energy = self.masks[sides]
        known = (old - self.mean) * mask
        cross = self._correlation(self.E, known).sum(0)
        return (known.square().sum() - 2 * cross + energy).clamp_min(0)

    def _correlation(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        size = (self.fits[0] + self.block - 1, self.fits[1] + self.block - 1)
        product = spectrum * torch.fft.rfft2(kernel, s=size).conj()
        return torch.fft.irfft2(product, s=size)[..., : self.fits[0], : self.fits[1]]


def _there(b: int, sides: tuple[int, int, int, int], device: torch.device) -> Bool[Tensor, "b b"]:
    above, below, left, right = sides
    at = torch.arange(b, device=device)
    return ((at < above) | (at >= b - below))[:, None] | (at < left) | (at >= b - right)


def _drawn(errors: Float[Tensor, "fh fw"], tolerance: float, generator: torch.Generator | None) -> tuple[int, int]:
    """A place drawn from those whose error is almost the smallest."""
    good = torch.nonzero((errors <= (1 + tolerance) * errors.min()).flatten())[:, 0]
    device = generator.device if generator else None
    pick = int(good[int(torch.randint(len(good), (), generator=generator, device=device))])
    return pick // errors.shape[1], pick % errors.shape[1]


def _kept(error: Float[Tensor, "b b"], sides: tuple[int, int, int, int]) -> Bool[Tensor, "b b"]:
    """Which pixels stay: those on the old side of a cut along any of the block's overlaps."""
    kept = torch.zeros_like(error, dtype=torch.bool)
    for width, turns in zip(sides, (1, 3, 0, 2), strict=True):
        if width:  # turned so that the overlap is at the left, and back
            strip = torch.rot90(error, turns)[:, :width]
            before = torch.zeros_like(kept)
            before[:, :width] = torch.arange(width, device=error.device) < minimum_cut(strip)[:, None]
            kept |= torch.rot90(before, -turns)
    return kept


def minimum_cut(error: Float[Tensor, "n w"]) -> Int[Tensor, " n"]:
    """The column of each row on the path from the first row to the last along which the errors' sum is least (eq. 1).

    From row to row the path moves by one column at most.
    """
    rows = [error[0]]
    for row in error[1:]:
        best = -F.max_pool1d(-rows[-1][None], 3, stride=1, padding=1)[0]
        rows.append(row + best)
    at = int(rows[-1].argmin())
    path = [at]
    for row in reversed(rows[:-1]):
        low = max(0, at - 1)
        at = low + int(row[low : at + 2].argmin())
        path.append(at)
    return torch.tensor(path[::-1], device=error.device)


def _ranked_luma(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"]:
    """Brightness as its rank in the picture, in [0, 1]: the guide's darkest goes with the exemplar's darkest."""
    luma = (image * torch.tensor([0.299, 0.587, 0.114]).to(image)[:, None, None]).sum(0)
    ranks = torch.searchsorted(luma.flatten().sort().values, luma)
    return (ranks / luma.numel()).to(image)[None]
