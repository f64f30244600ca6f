"""Quilting and pixel-by-pixel sampling against plain NumPy loops over the exemplar's windows: no package has them."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch

from harness import Row, compare
from vivace.base.images import read_image, resize
from vivace.style import fill_hole, image_quilting

BLOCK, OVERLAP, WINDOW = 18, 4, 7


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exemplar = resize(read_image("gravel"), 64)
    yield compare("quilting 64 to 74 pixels, blocks of 18", lambda: quilted(exemplar), lambda: naive_quilting(exemplar),
                  peer_name="loops in NumPy", repeats=3)  # fmt: skip
    hole = torch.zeros(64, 64, dtype=torch.bool)
    hole[28:38, 28:38] = True
    yield compare("Efros-Leung, a hole of 10 x 10 in 64 x 64, windows of 7", lambda: filled(exemplar, hole),
                  lambda: naive_filling(exemplar, hole), peer_name="loops in NumPy", repeats=3)  # fmt: skip
    torch.set_num_threads(threads)


def quilted(exemplar: torch.Tensor) -> torch.Tensor:
    return image_quilting(exemplar, (74, 74), BLOCK, overlap=OVERLAP, generator=torch.Generator().manual_seed(0))


def filled(exemplar: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    return fill_hole(exemplar, hole, WINDOW, generator=torch.Generator().manual_seed(0))


def naive_quilting(exemplar: torch.Tensor) -> np.ndarray:
    """The same blocks in the same order, each compared with every block of the exemplar."""
    source, step = exemplar.permute(1, 2, 0).numpy(), BLOCK - OVERLAP
    random = np.random.default_rng(0)
    canvas = np.zeros((74, 74, 3), np.float32)
    places = range(len(source) - BLOCK + 1)
    for top, left in product(range(0, 74 - BLOCK + 1, step), repeat=2):
        old = canvas[top : top + BLOCK, left : left + BLOCK]
        there = np.zeros((BLOCK, BLOCK), bool)
        there[: OVERLAP * (top > 0)], there[:, : OVERLAP * (left > 0)] = True, True
        blocks = (source[y : y + BLOCK, x : x + BLOCK] for y, x in product(places, places))
        errors = np.array([(((block - old) ** 2).sum(2) * there).sum() for block in blocks])
        pick = random.choice(np.flatnonzero(errors <= 1.1 * errors.min()))
        y, x = divmod(int(pick), len(places))
        new = source[y : y + BLOCK, x : x + BLOCK]
        error = ((new - old) ** 2).sum(2)
        keep = np.zeros((BLOCK, BLOCK), bool)
        if left:
            keep[:, :OVERLAP] |= _before(error[:, :OVERLAP])
        if top:
            keep[:OVERLAP] |= _before(error.T[:, :OVERLAP]).T
        canvas[top : top + BLOCK, left : left + BLOCK] = np.where(keep[..., None], old, new)
    return canvas


def _before(error: np.ndarray) -> np.ndarray:
    rows = [error[0]]
    for row in error[1:]:
        padded = np.pad(rows[-1], 1, constant_values=np.inf)
        rows.append(row + np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:]))
    at = int(rows[-1].argmin())
    path = [at]
    for row in rows[-2::-1]:
        low = max(0, at - 1)
        at = low + int(row[low : at + 2].argmin())
        path.append(at)
    return np.arange(error.shape[1]) < np.array(path[::-1])[:, None]


def naive_filling(exemplar: torch.Tensor, hole: torch.Tensor) -> np.ndarray:
    """One pixel at a time, the best surrounded first, compared with window after window."""
    image, known, r = exemplar.permute(1, 2, 0).numpy().copy(), ~hole.numpy(), WINDOW // 2
    random = np.random.default_rng(0)
    away = np.arange(-r, r + 1) / (WINDOW / 6.4)
    bell = np.exp(-(away[:, None] ** 2 + away**2) / 2)
    inside = range(r, len(image) - r)
    free = known.copy()
    middles = [(y, x) for y, x in product(inside, inside) if free[y - r : y + r + 1, x - r : x + r + 1].all()]
    while not known.all():
        unknown = np.argwhere(~known)
        counts = [known[y - r : y + r + 1, x - r : x + r + 1].sum() for y, x in unknown]
        y, x = unknown[int(np.argmax(counts))]
        weights = known[y - r : y + r + 1, x - r : x + r + 1] * bell
        window = image[y - r : y + r + 1, x - r : x + r + 1]
        errors = np.array([
            (((image[v - r : v + r + 1, u - r : u + r + 1] - window) ** 2).sum(2) * weights).sum() for v, u in middles
        ])  # fmt: skip
        image[y, x] = image[middles[random.choice(np.flatnonzero(errors <= 1.1 * errors.min()))]]
        known[y, x] = True
    return image
