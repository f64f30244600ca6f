"""Pictures that one-pass style transfer learns from: photographs, and paintings of endless kinds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivace.base import paintings
from vivace.base.canvas import Canvas, Grid, Palette, blend, cells, reduced, waviness
from vivace.base.images import SHIPPED, read_image, resize
from vivace.base.report import Step, Tell, ignore
from vivace.experiments.picture_folders import bsds500, pictures_in

HELD_OUT = ("mosaic", "poppies")  # painters that no decoder of ours learned from
TAUGHT = ("swirls", "stained_glass", "waves")
TEXTURES = ("brick", "grass", "gravel", "hubble", "ihc", "moon", "retina", "coins")
SHOWN = ("astronaut", "chelsea", "coffee", "china")  # photographs that no decoder of ours learned from


def painted(side: int) -> dict[str, Float[Tensor, "3 _ _"]]:
    """A painting of each painter, those of the training first, with a longer side of so many pixels."""
    return {name: read_image(name, max_side=side) for name in (*TAUGHT, *HELD_OUT)}


class Pairs:
    """Training examples by place: a crop of a photograph and one of a style, the same at every visit."""

    def __init__(self, contents: Sequence[UInt8[Tensor, "3 _ _"]], styles: Sequence[UInt8[Tensor, "3 _ _"]], count: int,
                 *, side: int, seed: int) -> None:  # fmt: skip
        self.contents, self.styles, self.count, self.side, self.seed = contents, styles, count, side, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "3 s s"]]:
        rng = np.random.default_rng((self.seed, place))
        content = self.crop(self.contents[int(rng.integers(len(self.contents)))], rng)
        style = self.crop(self.styles[int(rng.integers(len(self.styles)))], rng)
        if rng.random() < 0.5:
            style = style[torch.from_numpy(rng.permutation(3))]  # other colours
        if rng.random() < 0.15:
            style = 1 - style
        return content, (0.5 + (style - 0.5) * rng.uniform(0.7, 1.2) + rng.uniform(-0.1, 0.1)).clamp(0, 1)

    def crop(self, picture: UInt8[Tensor, "3 h w"], rng: np.random.Generator) -> Float[Tensor, "3 s s"]:
        height, width = picture.shape[-2:]
        side = min(round(self.side * rng.uniform(0.7, 1.6)), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        cut = resize(picture[:, top : top + side, left : left + side].float() / 255, (self.side, self.side))
        return cut.flip(-1) if rng.random() < 0.5 else cut


def photographs(folder: str | Path | None) -> list[UInt8[Tensor, "3 _ _"]]:
    """A folder's pictures; else BSDS500's training pictures where they are at hand, else the shipped photographs."""
    place = folder or bsds500()
    if place is None:
        return [_bytes(read_image(name, max_side=480)) for name in SHIPPED if name not in (*SHOWN, *TEXTURES, "page")]
    return [_bytes(read_image(path, max_side=480)) for path in pictures_in(place)]


def style_pictures(folder: str | Path | None, each: int, *, tell: Tell = ignore) -> list[UInt8[Tensor, "3 _ _"]]:
    """A folder's pictures; else paintings, `each` of every kind, and textures."""
    if folder is not None:
        return photographs(folder)
    painters: list[Callable[..., Tensor]] = [getattr(paintings, name) for name in TAUGHT]
    painters += [random_oil, random_glass, random_print]
    pictures = []
    for number in range(each):
        for painter in painters:
            pictures.append(_bytes(painter(320, 400, seed=1000 + number)))
            tell(Step(len(pictures), each * len(painters), "painting styles to learn from"))
    return pictures + [_bytes(read_image(name, max_side=400)) for name in TEXTURES]


def random_oil(height: int, width: int, *, seed: int) -> Float[Tensor, "3 h w"]:
    """Strokes of any breadth in any colours, along a flow of any kind."""
    rng = np.random.default_rng(seed)
    palette = _palette(rng)
    tint, turn = waviness(rng, rng.uniform(1, 6)), waviness(rng, rng.uniform(0.5, 4))
    bend, lean, thick = rng.uniform(0.2, 2), rng.uniform(0, np.pi), rng.uniform(0.008, 0.04)

    def flow(x: Grid, y: Grid) -> Float[np.ndarray, "2 *n"]:
        angle = lean + bend * turn(x, y)
        return np.stack([np.cos(angle), np.sin(angle)])

    def color(x: Grid, y: Grid) -> Float[np.ndarray, "*n 3"]:
        return blend(palette, 0.5 + 0.35 * tint(x, y))

    canvas = Canvas(height, width)
    length = rng.uniform(1.5, 7) * thick
    canvas.cover(color, flow, ((900, 1.5 * thick, length), (round(50 / thick), thick, length)), rng)
    return canvas.lit()


def random_glass(height: int, width: int, *, seed: int) -> Float[Tensor, "3 h w"]:
    """Panes of any size, with or without lead."""
    rng = np.random.default_rng(seed)
    count = round(np.exp(rng.uniform(3, 6.5)))
    points = rng.uniform(-0.1, 1.1, (count, 2)) * (max(height, width) / min(height, width))
    _, _, pane, edge = cells(points, height, width)
    colors = blend(_palette(rng), rng.uniform(0, 1, count))[pane]
    lead = np.array(rng.uniform(0, 1, 3) if rng.random() < 0.5 else (0.05, 0.05, 0.08))
    opacity = (edge < rng.uniform(0, 0.12) / np.sqrt(count))[..., None]
    return reduced(np.where(opacity, lead, colors), (width, height))


def random_print(height: int, width: int, *, seed: int) -> Float[Tensor, "3 h w"]:
    """Lines, hatched or wavy, in a few inks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * height, : 2 * width] / (2 * min(height, width))
    bend, tone, lean = waviness(rng, rng.uniform(1, 5)), waviness(rng, rng.uniform(1, 4)), rng.uniform(0, np.pi)
    phase = (x * np.cos(lean) + y * np.sin(lean)) * rng.uniform(15, 70) + rng.uniform(0, 2) * bend(x, y)
    if rng.random() < 0.4:  # crossed: dots
        phase2 = (y * np.cos(lean) - x * np.sin(lean)) * rng.uniform(15, 70)
        line = np.cos(2 * np.pi * phase) + np.cos(2 * np.pi * phase2) > 1.2 * tone(x, y)
    else:
        line = np.cos(2 * np.pi * phase) > 0.9 * tone(x, y)
    inks = np.array(_palette(rng))
    ground = blend(tuple(map(tuple, inks[1:])), np.floor(3 * (0.5 + 0.3 * tone(y, x))) / 2)
    return reduced(np.where(line[..., None], inks[0], ground), (width, height))


def _palette(rng: np.random.Generator) -> Palette:
    """Four colours, from dark to light or not."""
    colors = rng.uniform(0, 1, (4, 3)) ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.6:
        colors = colors[np.argsort(colors.sum(1))]
    return tuple(map(tuple, colors))


def _bytes(image: Float[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    return (image * 255).round().to(torch.uint8)
