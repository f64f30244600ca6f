"""What painters by formula work with: a canvas that takes strokes of paint, smooth noise, panes of glass, palettes.

Lengths are in units of a picture's shorter side; everything is drawn at twice the size and reduced in the end.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from torch import Tensor

Grid = Float[np.ndarray, "*n"]
Field = Callable[[Grid, Grid], Float[np.ndarray, "..."]]  # a value at places (x, y): a number, a direction or a colour
Palette = tuple[tuple[float, float, float], ...]


class Canvas:
    """Pixels at twice the size, with the thickness of the paint in the fourth channel."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (width, height)
        self.right, self.bottom = width / min(self.size), height / min(self.size)
        self.unit = 2 * min(self.size)
        self.image = Image.new("RGBA", (2 * width, 2 * height))
        self.draw = ImageDraw.Draw(self.image)

    def cover(
        self, color: Field, flow: Field, coats: tuple[tuple[int, float, float], ...], rng: np.random.Generator
    ) -> None:
        """Paint it all over: a thin wash, then coats of (strokes, thickness, length) along the flow."""
        width, height = (-(-side // 8) for side in self.image.size)
        y, x = np.mgrid[:height, :width] * 8 / self.unit
        wash = Image.fromarray((color(x, y).clip(0, 1) * 255).astype(np.uint8)).resize(self.image.size)
        wash.putalpha(100)
        self.image.paste(wash)
        for count, thick, length in coats:
            x, y = rng.uniform(-0.05, self.right + 0.05, count), rng.uniform(-0.05, self.bottom + 0.05, count)
            shade = color(x, y) * rng.normal(1, 0.125, (count, 1)) + rng.normal(0, 0.025, (count, 3))
            self.strokes(traced(x, y, flow, length * rng.uniform(0.6, 1.2, count)), shade, thick, 5, rng)

    def strokes(
        self,
        paths: Float[np.ndarray, "n p 2"],
        colors: Float[np.ndarray, "n 3"],
        thick: float,
        bristles: int,
        rng: np.random.Generator,
    ) -> None:
        """Draw each path as parallel bristles, every one with its own shade and thickness, ragged at the start."""
        along = np.gradient(paths, axis=1)
        across = np.stack([-along[..., 1], along[..., 0]], -1) / (np.linalg.norm(along, axis=-1, keepdims=True) + 1e-9)
        offsets = np.linspace(-0.5, 0.5, bristles) * thick
        hairs = (paths[:, None] + across[:, None] * offsets[:, None, None]) * self.unit  # (n, bristles, p, 2)
        shades = colors[:, None] * (1 + rng.normal(0, 0.07, (len(paths), bristles, 1)))
        heights = rng.uniform(0.35, 0.8, (len(paths), bristles, 1))
        inks = (np.concatenate([shades, heights], -1).clip(0, 1) * 255).astype(int)
        starts = rng.integers(0, 3, (len(paths), bristles))
        wide = max(1, round(1.3 * thick * self.unit / bristles))
        for stroke in zip(hairs.tolist(), inks.tolist(), starts.tolist(), strict=True):
            for hair, ink, start in zip(*stroke, strict=True):
                self.draw.line([tuple(point) for point in hair[start:]], tuple(ink), wide)

    def lit(self) -> Float[Tensor, "3 h w"]:
        """The picture at its final size, with light from the upper left on the ridges of paint."""
        pixels = np.asarray(self.image).astype(np.float32) / 255
        relief = gaussian_filter(pixels[..., 3], 0.0016 * self.unit)
        light = -(np.gradient(relief, axis=0) + np.gradient(relief, axis=1)) * self.unit / 500
        return reduced(pixels[..., :3] * (1 + 1.2 * light[..., None].clip(-0.35, 0.35)), self.size)


def traced(x: Grid, y: Grid, flow: Field, length: Grid, *, points: int = 9) -> Float[np.ndarray, "n p 2"]:
    """Paths of the given lengths that follow the flow through (x, y), which is their middle."""
    step = length / (points - 1)
    ends = []
    for direction in (-1, 1):
        at, path = np.stack([x, y]), []
        for _ in range(points // 2):
            at = at + direction * step * flow(at[0], at[1])
            path.append(at)
        ends.append(path)
    return np.stack([*ends[0][::-1], np.stack([x, y]), *ends[1]]).transpose(2, 0, 1)


def waviness(rng: np.random.Generator, frequency: float, *, count: int = 12) -> Field:
    """Smooth noise of unit variance: plane waves in random directions, of that many periods a unit or fewer."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, count))
    speed = 2 * np.pi * frequency * rng.uniform(0.3, 1, count)
    waves_ = list(zip(speed * np.cos(angle), speed * np.sin(angle), phase, strict=True))

    def value(x: Grid, y: Grid) -> Grid:
        return np.sum([np.sin(kx * x + ky * y + p) for kx, ky, p in waves_], axis=0) / np.sqrt(count / 2)

    return value


def cells(
    points: Float[np.ndarray, "n 2"], height: int, width: int
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"], Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """For the pixels of a canvas at twice the size: x, y, the nearest point, and how far away its cell's edge is."""
    y, x = np.mgrid[: 2 * height, : 2 * width] / (2 * min(height, width))
    distance, nearest = cKDTree(points).query(np.stack([x, y], -1), k=2)
    between = np.linalg.norm(points[nearest[..., 0]] - points[nearest[..., 1]], axis=-1)
    return x, y, nearest[..., 0], (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * between)


def blend(palette: Palette, at: Grid) -> Float[np.ndarray, "*n 3"]:
    """Colours at places in [0, 1] along the palette."""
    places = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(at, places, channel) for channel in np.array(palette).T], -1)


def reduced(pixels: Float[np.ndarray, "hh ww 3"], size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """Pixels of twice the size as a picture of (width, height)."""
    image = Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
