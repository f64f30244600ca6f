"""Efros-Leung sampling: a texture grown pixel by pixel, each copied from where its surroundings look alike.

Efros, Leung, "Texture synthesis by non-parametric sampling" (1999), section 2.
In: an exemplar (3, h, w), RGB, [0, 1]; or a picture (3, H, W) with a hole (H, W). Out: a picture (3, H, W), each new
pixel one of the exemplar's.
Departs from the paper: pixels out of each other's sight are drawn together, which changes nothing for any of them; no
limit on the error, so that none is put off; `seamless` looks around the borders.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import check_image
from vivace.base.progress import Step, Tell, ignore

MOST = 2**28  # numbers in all windows of an exemplar: 1 GiB


def efros_leung(
    exemplar: Float[Tensor, "3 h w"],
    size: tuple[int, int],
    window: int = 11,
    *,
    tolerance: float = 0.1,
    seamless: bool = False,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 oh ow"]:
    """A texture of `size` (height, width), grown from a 3 x 3 seed in the middle.

    window: odd side of the surroundings that are compared, to be larger than the texture's largest feature
    tolerance: a pixel is drawn from those whose error is at most so much above the smallest
    seamless: wrap around
    """
    check_image(exemplar)
    if min(size) < 3 or min(exemplar.shape[-2:]) < 3:
        raise InputError(f"textures and exemplars have sides of at least 3; got {size} and {tuple(exemplar.shape)}")
    everywhere = torch.ones(exemplar.shape[-2:], dtype=torch.bool, device=exemplar.device)
    windows = _Windows(exemplar, everywhere, window)
    canvas = exemplar.new_zeros(3, *size)
    known = torch.zeros(size, dtype=torch.bool, device=exemplar.device)
    y, x = (_below(side - 2, generator) for side in exemplar.shape[-2:])
    middle = slice(size[0] // 2 - 1, size[0] // 2 + 2), slice(size[1] // 2 - 1, size[1] // 2 + 2)
    canvas[:, *middle], known[middle] = exemplar[:, y : y + 3, x : x + 3], True
    return _grown(windows, canvas, known, tolerance=tolerance, seamless=seamless, generator=generator, tell=tell)


def fill_hole(
    image: Float[Tensor, "3 h w"],
    hole: Bool[Tensor, "h w"],
    window: int = 11,
    *,
    tolerance: float = 0.1,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 h w"]:
    """The picture with its hole filled from what is around it (texture completion)."""
    check_image(image)
    return _grown(_Windows(image, ~hole, window), image.clone(), ~hole, tolerance=tolerance, seamless=False,
                  generator=generator, tell=tell)  # fmt: skip


class _Windows:
    """The exemplar's windows without unknown pixels, to be compared with windows that are known in part."""

    def __init__(self, exemplar: Float[Tensor, "3 h w"], known: Bool[Tensor, "h w"], window: int) -> None:
        if window < 3 or window % 2 == 0:
            raise InputError(f"a window has an odd side of at least 3, not {window}")
        if min(exemplar.shape[-2:]) < window:
            raise InputError(f"windows of {window} x {window} don't fit into {tuple(exemplar.shape[-2:])} pixels")
        self.radius = window // 2
        whole = F.max_pool2d((~known[None]).float(), window, stride=1).flatten() == 0  # (places,)
        if not bool(whole.any()):
            raise InputError(f"no window of {window} x {window} is free of the hole; take a smaller one")
        colors = exemplar[:, known]
        self.mean = colors.mean(1)  # taken off: squares of small numbers lose less
        axes, lengths, _ = torch.linalg.svd(colors - self.mean[:, None], full_matrices=False)
        self.axes = axes[:, lengths > 1e-5 * max(1e-5, float(lengths[0]))].T  # (c, 3): a grey picture has one axis only
        if (count := int(whole.sum()) * len(self.axes) * window**2) > MOST:
            raise InputError(f"{count:,} numbers in all windows, at most {MOST:,}; reduce the exemplar or the window")
        self.P = F.unfold(self._along_axes(exemplar[None]), window)[0][:, whole].unflatten(0, (-1, window**2))
        self.squares = self.P.square().sum(0)  # (d, p)
        r = self.radius
        self.pixels = exemplar[:, r : exemplar.shape[1] - r, r : exemplar.shape[2] - r].flatten(1)[:, whole]  # (3, p)
        away = torch.arange(-self.radius, self.radius + 1) / (window / 6.4)  # the paper's deviation
        bell = torch.exp(-away.square() / 2)
        self.bell = (bell[:, None] * bell).flatten().to(exemplar)  # (d,)

    def errors(self, windows: Float[Tensor, "n 3 window window"], known: Bool[Tensor, "n d"]) -> Float[Tensor, "n p"]:
        """Weighted mean of the squared differences over the known pixels, from each of the exemplar's windows."""
        w = known * self.bell
        x = self._along_axes(windows).flatten(2)
        cross = (x * w[:, None]).flatten(1) @ self.P.flatten(0, 1)
        own = (x.square().sum(1) * w).sum(1, keepdim=True)
        return (own - 2 * cross + w @ self.squares).clamp_min(0) / w.sum(1, keepdim=True)

    def _along_axes(self, colors: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Colours along the exemplar's axes, their distances kept."""
        return torch.einsum("ac,nchw->nahw", self.axes, colors - self.mean[:, None, None])


def _grown(
    windows: _Windows,
    canvas: Float[Tensor, "3 h w"],
    known: Bool[Tensor, "h w"],
    *,
    tolerance: float,
    seamless: bool,
    generator: torch.Generator | None,
    tell: Tell,
) -> Float[Tensor, "3 h w"]:
    """The canvas with its unknown pixels drawn, those with the most known neighbours first."""
    r = windows.radius
    margin = 0 if seamless else r  # of pixels that stay unknown
    canvas, known, wanted = (F.pad(x, (margin,) * 4) for x in (canvas, known, ~known))
    total = int(wanted.sum())
    while left := int((wanted & ~known).sum()):
        edge = _Sight(known, torch.nonzero(_beside(known) & wanted & ~known), r)
        around = edge.some(_apart(edge, generator))
        errors = windows.errors(canvas[:, *around.places].transpose(0, 1), around.known)
        ys, xs = around.ys, around.xs
        canvas[:, ys, xs] = windows.pixels[:, _drawn(errors, tolerance, generator)]
        known[ys, xs] = True
        tell(Step(total - left + len(ys), total, "pixels", image=canvas[:, margin:, margin:]))
    return canvas[:, margin : canvas.shape[1] - margin, margin : canvas.shape[2] - margin]


class _Sight:
    """Pixels and the windows around them."""

    def __init__(self, known: Bool[Tensor, "h w"], at: Int[Tensor, "n 2"], r: int) -> None:
        self.grid, self.r, (self.ys, self.xs) = known, r, at.T
        ahead = torch.arange(-r, r + 1, device=known.device)
        rows, columns = ((x[:, None] + ahead) % side for x, side in zip(at.T, known.shape, strict=True))
        self.places = rows[:, :, None], columns[:, None]  # (n, window, window), broadcast
        self.known = known[self.places].flatten(1)  # (n, d)

    def some(self, places: Int[Tensor, " k"]) -> "_Sight":
        return _Sight(self.grid, torch.stack([self.ys, self.xs], 1)[places], self.r)

    def near(self, index: int) -> Bool[Tensor, " n"]:
        """Which of the pixels see this one."""
        away = [(x - x[index]).abs() for x in (self.ys, self.xs)]
        across, down = self.grid.shape[1] - away[1], self.grid.shape[0] - away[0]  # around the borders
        return (torch.minimum(away[0], down) <= self.r) & (torch.minimum(away[1], across) <= self.r)


def _apart(sight: _Sight, generator: torch.Generator | None) -> Int[Tensor, " k"]:
    """Of the better surrounded half of these pixels some out of each other's sight, the best surrounded first."""
    known = sight.known.sum(1)
    rank = known + _random(known.shape, generator, known.device)  # ties by chance
    taken = []
    while rank.max() >= known.median():
        taken.append(best := int(rank.argmax()))
        rank[sight.near(best)] = -1
    return torch.tensor(taken, device=rank.device)


def _beside(known: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The known pixels and their neighbours."""
    for side in (0, 1):
        known = known | known.roll(1, side) | known.roll(-1, side)
    return known


def _drawn(errors: Float[Tensor, "n p"], tolerance: float, generator: torch.Generator | None) -> Int[Tensor, " n"]:
    """For each pixel a place drawn from those whose error is almost the smallest."""
    good = (errors <= (1 + tolerance) * errors.amin(1, keepdim=True)).cumsum(1)  # how many up to each place
    wanted = (_random(errors.shape[:1], generator, errors.device) * good[:, -1]).long() + 1
    return torch.searchsorted(good, wanted[:, None])[:, 0]


def _random(shape: torch.Size, generator: torch.Generator | None, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device if generator else device).to(device)


def _below(bound: int, generator: torch.Generator | None) -> int:
    device = generator.device if generator else None
    return int(torch.randint(bound, (), generator=generator, device=device))
