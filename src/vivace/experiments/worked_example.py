"""The 6 x 6 picture of questions 4.1 and 4.10, and drawings of small tables of numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vivace.base.drawing import ORANGE, drawing

# The only picture that has the three printed outputs (edge, blur, sharpen): 48 equations for 36 pixels.
PICTURE = torch.tensor(
    [
        [1, 2, 1, 0, 2, 1],
        [3, 1, 0, 2, 1, 0],
        [1, 2, 1, 1, 0, 2],
        [0, 1, 2, 1, 1, 0],
        [2, 0, 1, 0, 2, 1],
        [1, 1, 0, 2, 1, 0],
    ],
    dtype=torch.float64,
)
EDGES = torch.tensor([[-3, -10, 10, 0], [7, -2, 0, -8], [-1, 9, 0, 1], [-8, 1, -10, 10]], dtype=torch.float64)


def number_tables(
    tables: Mapping[str, Float[np.ndarray, "_ _"]],
    outlined: Mapping[str, tuple[int, int, int, int]],
    signs: Sequence[str],
) -> Figure:
    """Tables of whole numbers side by side, coloured by value; `outlined`: top, left, height and width of a frame."""
    figure, axes = drawing(1, len(tables), width=10, height=3.2, width_ratios=[len(t) + 0.5 for t in tables.values()])
    for i, (ax, (title, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        limit = np.abs(table).max()
        ax.imshow(table, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit)
        for (y, x), value in np.ndenumerate(table):
            ax.text(x, y, f"{value + 0:g}", ha="center", va="center", size=12, color="black")
        if title in outlined:
            top, left, height, width = outlined[title]
            ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=ORANGE, linewidth=3))
        ax.set_title(title, fontsize=11)
        ax.set_axis_off()
        if i:
            ax.text(-0.06, 0.5, signs[i - 1], transform=ax.transAxes, ha="right", va="center", size=18, color="#888888")
    return figure
