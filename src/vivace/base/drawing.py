"""Plots drawn by hand, where `report.curve` can't say it: one look for all of them, on light and dark ground."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

PALETTE = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ef4444",
    "#8b5cf6",
    "#06b6d4",
    "#ec4899",
    "#84cc16",
)  # good on both grounds
BLUE, ORANGE, GREEN, RED, VIOLET = PALETTE[:5]
GREY = "#888888"


def drawing(rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 3.8, **more: Any
            ) -> tuple[Figure, Any]:  # fmt: skip
    """A figure (inches in all) and its axes, bare: one `Axes`, or an array of them. `more` goes to `subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **more)
    for each in np.ravel(axes):
        bare(each)
    return figure, axes


def bare(axes: Any) -> None:
    """No box around the plot, and a grid that stays in the background."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2, color=GREY)


def draw_surface(
    axes: Any,
    f: Callable[[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]], Float[np.ndarray, "h w"]],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    levels: int = 24,
    cells: int = 200,
) -> None:
    """Contour lines of f(x, y) over the ranges: the ground on which descent's paths are drawn."""
    X, Y = np.meshgrid(np.linspace(*x, cells), np.linspace(*y, cells))
    axes.contour(X, Y, f(X, Y), levels=levels, cmap="Greys", linewidths=0.8, alpha=0.8)
    axes.grid(False)
    axes.set(xlim=x, ylim=y)
