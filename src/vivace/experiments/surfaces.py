"""Surfaces over the plane on which descent is watched, and its paths over them, drawn and filmed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vivace.base.drawing import PALETTE, draw_surface, drawing

Path = Float[Tensor, "_ 2"]  # each of its own length


@dataclass(frozen=True)
class Surface:
    """f of points (..., 2), the part of the plane that is shown, and what its contours are of (log where steep)."""

    name: str
    f: Callable[[Float[Tensor, "*n 2"]], Float[Tensor, "*n"]]
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    labels: tuple[str, str] = ("x", "y")


def quadratic(condition: float, *, angle: float = 0.0) -> Surface:
    """Half of (u^2 + condition v^2) along axes turned by `angle` (radians): a valley with that condition number."""
    cos, sin = float(np.cos(angle)), float(np.sin(angle))

    def f(p: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n"]:
        u, v = cos * p[..., 0] + sin * p[..., 1], cos * p[..., 1] - sin * p[..., 0]
        return (u**2 + condition * v**2) / 2

    return Surface(f"quadratic, condition {condition:g}", f, (-1.2, 1.2), (-1.2, 1.2), log=condition > 5)


SADDLE = Surface("saddle", lambda p: p[..., 0] ** 2 - p[..., 1] ** 2 + p[..., 1] ** 4 / 4, (-1.5, 1.5), (-2, 2))
DOUBLE_WELL = Surface("double well", lambda p: (p[..., 0] ** 2 - 1) ** 2 + p[..., 0] / 4 + p[..., 1] ** 2, (-2, 2),
                      (-1.5, 1.5))  # fmt: skip
ROSENBROCK = Surface("Rosenbrock's valley", lambda p: (1 - p[..., 0]) ** 2 + 100 * (p[..., 1] - p[..., 0] ** 2) ** 2,
                     (-2, 2), (-1, 3), log=True)  # fmt: skip
HIMMELBLAU = Surface(
    "Himmelblau's four minima",
    lambda p: (p[..., 0] ** 2 + p[..., 1] - 11) ** 2 + (p[..., 0] + p[..., 1] ** 2 - 7) ** 2, (-6, 6), (-6, 6), log=True
)  # fmt: skip


def draw_paths(surface: Surface, paths: Mapping[str, Path], *, width: float = 6.4, height: float = 4.8) -> Figure:
    """The paths over the surface's contour lines, each from its circle to its dot."""
    figure, axes = drawing(width=width, height=height)
    _ground(axes, surface)
    for (label, path), color in zip(paths.items(), PALETTE, strict=False):
        x, y = path.detach().cpu().numpy().T
        axes.plot(x, y, color=color, linewidth=1.4, marker=".", markersize=2, label=label)
        axes.plot(x[0], y[0], "o", color=color, markerfacecolor="none")
        axes.plot(x[-1], y[-1], "o", color=color)
    figure.legend(frameon=False, loc="outside upper left", ncols=3)
    return figure


def film_paths(surface: Surface, paths: Mapping[str, Path], *, frames: int = 40) -> Float[Tensor, "t 3 h w"]:
    """The same as a film: all paths walk together, and those that are short wait at their end."""
    figure, axes = drawing(width=4.8, height=3.8)
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    _ground(axes, surface)
    walks = [path.detach().cpu().numpy() for path in paths.values()]
    lines = [axes.plot([], [], color=color, linewidth=1.4, label=label)[0]
             for label, color in zip(paths, PALETTE, strict=False)]  # fmt: skip
    heads = [axes.plot([], [], "o", color=line.get_color())[0] for line in lines]
    figure.legend(frameon=False, loc="outside upper left", ncols=2, fontsize=8)
    shots = []
    for end in np.unique(np.geomspace(1, max(map(len, walks)), frames).round().astype(int)):
        for line, head, walk in zip(lines, heads, walks, strict=True):
            line.set_data(*walk[:end].T)
            head.set_data(*walk[:end][-1:].T)
        canvas.draw()
        shots.append(torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).movedim(-1, 0) / 255)
    return torch.stack(shots)


def _ground(axes: Any, surface: Surface) -> None:
    def height(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        z = surface.f(torch.from_numpy(np.stack([X, Y], -1))).numpy()
        return np.log1p(z - z.min()) if surface.log else z

    draw_surface(axes, height, x=surface.x, y=surface.y)
    axes.set(xlabel=surface.labels[0], ylabel=surface.labels[1])
