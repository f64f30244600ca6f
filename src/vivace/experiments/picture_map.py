"""Maps of pictures: as a page to move about in, and as one picture with thumbnails that don't cover each other."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from torch import Tensor

from vivace.base.images import grid, resize, to_uint8

Map = Float[np.ndarray, "n 2"]
Groups = tuple[Sequence[str], Int[np.ndarray, " n"]]  # what the groups are called, and the group of each picture


def interactive_map(
    images: Float[Tensor, "n 3 h w"],
    maps: Mapping[str, Map],
    *,
    names: Sequence[str],
    groups: Mapping[str, Groups],
    scores: Mapping[str, Float[np.ndarray, " n"]],
    near: Int[np.ndarray, "n k"],
    cell: int = 48,
) -> str:
    """One HTML page without anything outside it: choose a map and colours, zoom, point at a picture for its neighbours.

    scores: numbers to colour by, small the usual and large the unusual; the colours go by their rank.
    """
    columns = int(np.ceil(np.sqrt(len(images))))
    thumbnails = resize(images, (cell, cell)).expand(-1, 3, -1, -1)
    data = io.BytesIO()
    Image.fromarray(to_uint8(grid(thumbnails, columns=columns, gap=0))).save(data, "WEBP", quality=78)
    colors = {name: {"labels": list(labels), "of": of.tolist()} for name, (labels, of) in groups.items()}
    ranked = {name: {"of": (np.argsort(np.argsort(score)) / max(1, len(score) - 1)).round(3).tolist(),
                     "said": [f"{value:.3g}" for value in score]} for name, score in scores.items()}  # fmt: skip
    told = {
        "sheet": f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}",
        "cell": cell,
        "columns": columns,
        "names": list(names),
        "maps": {name: in_unit_square(where).round(4).tolist() for name, where in maps.items()},
        "colors": colors | ranked,
        "near": near.tolist(),
    }
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return page.replace("{{data}}", json.dumps(told, separators=(",", ":")).replace("<", "\\u003c"))


def map_of_thumbnails(images: Float[Tensor, "n 3 h w"], where: Map, of: Int[np.ndarray, " n"], *, side: int = 800,
                      thumbnail: int = 36) -> Float[Tensor, "3 side side"]:  # fmt: skip
    """The map as a picture: a thumbnail, framed in its group's colour, wherever there is room; a dot elsewhere."""
    frame, k = 3, int(of.max()) + 1
    full = thumbnail + 2 * frame
    corner = (in_unit_square(where) * (side - full)).round().astype(int)
    palette = torch.from_numpy(hsv_to_rgb([(j / k, 0.75, 0.85 if j % 2 else 0.7) for j in range(k)])).float()
    small = resize(images, (thumbnail, thumbnail)).expand(-1, 3, -1, -1)
    sheet = torch.ones(3, side, side)
    placed: list[int] = []
    for i in range(len(images)):
        if placed and (np.abs(corner[placed] - corner[i]).max(1) < full).any():
            continue
        placed.append(i)
    for i in sorted(set(range(len(images))) - set(placed)):
        x, y = corner[i] + full // 2
        sheet[:, y - 3 : y + 3, x - 3 : x + 3] = palette[of[i]][:, None, None]
    for i in placed:
        x, y = corner[i]
        sheet[:, y : y + full, x : x + full] = palette[of[i]][:, None, None]
        sheet[:, y + frame : y + full - frame, x + frame : x + full - frame] = small[i]
    return sheet


def in_unit_square(where: Map) -> Map:
    """Moved and scaled into [0, 1] x [0, 1], the same both ways, its middle in the middle."""
    low, high = where.min(0), where.max(0)
    return (where - (low + high) / 2) / max((high - low).max(), 1e-12) + 0.5
