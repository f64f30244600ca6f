"""Paintings by formula: style pictures that need no file, the same on every machine and at every size.

A painter gets a height, a width and a seed, thinks in units of the shorter side, and so paints the same picture, larger
or smaller. `read_image("swirls")` knows them by name.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vivace.base.canvas import Canvas, Grid, blend, cells, reduced, waviness

NIGHT = ((0.03, 0.06, 0.20), (0.06, 0.16, 0.42), (0.12, 0.32, 0.62), (0.36, 0.60, 0.78), (0.78, 0.88, 0.84))
LAMP = ((0.62, 0.74, 0.50), (0.97, 0.78, 0.18), (1.0, 0.88, 0.32), (1.0, 0.97, 0.75))
HILLS = ((0.02, 0.07, 0.12), (0.05, 0.18, 0.22), (0.16, 0.34, 0.30), (0.42, 0.50, 0.28))
EVENING = ((0.28, 0.50, 0.74), (0.55, 0.70, 0.80), (0.93, 0.80, 0.66), (0.98, 0.72, 0.45))
MEADOW = ((0.20, 0.34, 0.16), (0.42, 0.54, 0.20), (0.72, 0.70, 0.28), (0.92, 0.82, 0.46))
POPPY = ((0.70, 0.06, 0.06), (0.90, 0.14, 0.08), (0.98, 0.34, 0.16))
WOODS = (0.14, 0.24, 0.30)
BLUE, RED, AMBER = (0.10, 0.20, 0.72), (0.82, 0.06, 0.10), (0.98, 0.72, 0.10)
ICE, VIOLET, GREEN = (0.05, 0.45, 0.85), (0.48, 0.08, 0.55), (0.05, 0.58, 0.34)
ROSE = (  # from the middle out: where the next ring begins, how many panes, and their glass in turn
    (0.085, 1, (AMBER, AMBER)),
    (0.050, 12, (RED, AMBER)),
    (0.075, 12, (BLUE, ICE)),
    (0.065, 12, (AMBER, RED)),
    (0.100, 12, (BLUE, VIOLET)),
    (0.070, 12, (GREEN, BLUE)),
    (0.085, 24, (RED, BLUE)),
    (0.050, 24, (AMBER, AMBER)),
    (0.075, 24, (RED, AMBER)),
    (0.065, 24, (BLUE, ICE)),
)
PAPER, INK, SUN = (0.95, 0.89, 0.76), (0.07, 0.13, 0.27), (0.80, 0.22, 0.14)
SEA = ((0.52, 0.70, 0.74), (0.16, 0.36, 0.56), (0.36, 0.58, 0.68), (0.10, 0.24, 0.46))
SCALES = (
    ((0.93, 0.75, 0.30), (0.80, 0.55, 0.16), (0.55, 0.20, 0.12), (0.96, 0.90, 0.76)),
    ((0.10, 0.45, 0.52), (0.22, 0.64, 0.66), (0.08, 0.26, 0.40), (0.94, 0.88, 0.72)),
    ((0.78, 0.32, 0.18), (0.90, 0.56, 0.30), (0.45, 0.12, 0.12), (0.20, 0.22, 0.32)),
)


def swirls(height: int, width: int, *, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """A night sky in oil: some thousand brush strokes that follow the wind around the stars, laid on thickly."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(height, width)
    right, bottom = canvas.right, canvas.bottom
    stars = [(0.82 * right, 0.19 * bottom, 0.13), (0.40 * right, 0.40 * bottom, 0.19)]  # the moon, the great swirl
    while len(stars) < 10:
        x0, y0, r = rng.uniform((0, 0, 0.035), (right, 0.66 * bottom, 0.075))
        if all(np.hypot(x0 - x1, y0 - y1) > 1.6 * (r + r1) for x1, y1, r1 in stars) or rng.random() < 0.02:
            stars.append((x0, y0, r))
    drift, tint, rolling = waviness(rng, 2.0), waviness(rng, 4.0), waviness(rng, 3.0)

    def ridge(x: Grid) -> Grid:
        return bottom * (0.80 - 0.10 * x / right) + 0.05 * np.sin(5 * x + 1) + 0.02 * np.sin(13 * x)

    def wind(x: Grid, y: Grid) -> Float[np.ndarray, "2 *n"]:
        angle = 0.5 * drift(x, y) + np.where(y > ridge(x), 0.9 * rolling(x, y) - 0.2, 0)
        flow = np.stack([np.cos(angle), np.sin(angle)])
        for index, (x0, y0, r) in enumerate(stars):
            dx, dy = x - x0, y - y0
            distance = np.hypot(dx, dy) + 1e-6
            pull = 6 * np.exp(-((distance / (1.9 * r)) ** 2)) * (y < ridge(x)) * (-1) ** index
            inward = 0.35 if index == 1 else 0.0
            flow = flow + pull * np.stack([-dy - inward * dx, dx - inward * dy]) / distance
        return flow / (np.linalg.norm(flow, axis=0) + 1e-6)

    def color(x: Grid, y: Grid) -> Float[np.ndarray, "*n 3"]:
        sky = blend(NIGHT, 0.40 + 0.13 * tint(x, y) + 0.20 * (y / bottom - 0.4))
        for index, (x0, y0, r) in enumerate(stars):
            distance = np.hypot(x - x0, y - y0) / r
            if index == 1:
                arms = np.cos(2 * np.arctan2(y - y0, x - x0) + 7 * np.log(distance + 0.15))
                light, lamp = 0.85 * np.exp(-((distance / 1.3) ** 4)) * (0.5 + 0.5 * arms), np.array(NIGHT[-1])
            else:
                light = 1.25 * np.exp(-((distance / 1.25) ** 2)) * (0.55 + 0.45 * np.cos(5.5 * distance))
                lamp = blend(LAMP, 1 - distance / 1.6)
            opacity = light.clip(0, 1)[..., None]
            sky = sky * (1 - opacity) + lamp * opacity
        land = blend(HILLS, 0.50 + 0.24 * rolling(x, y) - 0.7 * (y - ridge(x)))
        return np.where((y > ridge(x))[..., None], land, sky)

    canvas.cover(color, wind, ((1500, 0.030, 0.16), (3500, 0.017, 0.11), (5000, 0.010, 0.075)), rng)
    return canvas.lit()


def poppies(height: int, width: int, *, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """A summer field in dabs of oil: poppies, cornflowers and tall grass under an evening sky."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(height, width)
    right, bottom = canvas.right, canvas.bottom
    gusts, tint, bloom = waviness(rng, 3.0), waviness(rng, 2.5), waviness(rng, 4.0)

    def horizon(x: Grid) -> Grid:
        return bottom * 0.36 + 0.03 * np.sin(3 * x + 0.5) + 0.012 * np.sin(11 * x)

    def wind(x: Grid, y: Grid) -> Float[np.ndarray, "2 *n"]:
        angle = np.where(y > horizon(x), np.pi / 2 + 0.45 * gusts(x, y), 0.35 * gusts(x, 1.5 * y))
        return np.stack([np.cos(angle), np.sin(angle)])

    def color(x: Grid, y: Grid) -> Float[np.ndarray, "*n 3"]:
        below = y - horizon(x)
        sky = blend(EVENING, y / horizon(x) + 0.16 * tint(x, 2 * y))
        field = blend(MEADOW, 0.45 + 0.28 * tint(x, y) - 0.5 * below / bottom)
        woods = (below > -0.035 - 0.02 * np.abs(bloom(x, 0 * y))) & (below < 0.012)
        return np.where(woods[..., None], np.array(WOODS), np.where((below > 0)[..., None], field, sky))

    canvas.cover(color, wind, ((1500, 0.028, 0.11), (4000, 0.016, 0.075), (4500, 0.009, 0.06)), rng)
    x, nearness = rng.uniform(0, right, 2600), np.sort(rng.uniform(0, 1, 2600) ** 1.5)
    y = horizon(x) + 0.02 + nearness * (bottom - horizon(x))
    grows = bloom(x, y) + rng.normal(0, 0.35, len(x)) > 0.25
    for place, near in zip(np.stack([x, y], 1)[grows], nearness[grows], strict=True):
        size = 0.004 + 0.013 * near
        ends = place + size * rng.normal(0, (0.6, 0.4), (4, 1, 2))
        turn = rng.uniform(0, np.pi)
        petals = ends + size * np.linspace(-0.5, 0.5, 9)[:, None] * np.array((np.cos(turn), np.sin(turn)))
        shades = blend(POPPY, rng.uniform(0, 1, 4)) if rng.random() < 0.85 else blend(NIGHT, rng.uniform(0.5, 1, 4))
        canvas.strokes(petals, shades, 0.9 * size, 4, rng)
    return canvas.lit()


def stained_glass(height: int, width: int, *, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """A rose window: panes of coloured glass in rings, held by lead, with the sun behind."""
    rng = np.random.default_rng(seed)
    unit = min(height, width)
    x0, y0 = width / unit / 2, height / unit / 2
    panes, colors = [], []
    radius, ring = 0.0, 0
    while radius < np.hypot(x0, y0) + 0.2:
        width_of, count, glass = ROSE[ring] if ring < len(ROSE) else ROSE[4 + ring % 6]
        for index in range(count):
            angle = 2 * np.pi * (index + 0.5 * (ring % 2)) / count + rng.normal(0, 0.015)
            panes.append((x0 + radius * np.cos(angle), y0 + radius * np.sin(angle)))
            colors.append(glass[index % 2])
        radius, ring = radius + width_of, ring + 1
    x, y, pane, edge = cells(np.array(panes), height, width)
    streaks, clouds = waviness(rng, 18.0), waviness(rng, 5.0)
    turn = rng.uniform(0, np.pi, len(panes))[pane]
    across = x * np.cos(turn) + y * np.sin(turn)
    light = 1 + 0.10 * streaks(0.25 * across + pane, 1.3 * across) + 0.12 * clouds(x + pane, y)
    light = light * (1.25 - 0.55 * np.hypot(x - x0, y - y0)) * (1 - 0.45 * np.exp(-edge / 0.008))
    pixels = np.array(colors)[pane] ** 1.1 * (light * rng.normal(1, 0.16, len(panes))[pane])[..., None]
    lead = 0.0055 * (1 + 0.15 * clouds(3 * x, 3 * y))
    metal = (0.10 + 0.16 * (1 - edge / lead).clip(0, 1) ** 2)[..., None] * np.array((0.9, 0.95, 1.0))
    opacity = ((lead - edge) * unit + 0.5).clip(0, 1)[..., None]
    return reduced(pixels * (1 - opacity) + metal * opacity, (width, height))


def waves(height: int, width: int, *, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """A woodblock print of the sea in five inks: rows of waves with carved lines and foam, a sun, the block's grain."""
    rng = np.random.default_rng(seed)
    unit = 2 * min(height, width)
    y, x = np.mgrid[: 2 * height, : 2 * width] / unit
    right, bottom = 2 * width / unit, 2 * height / unit
    paper, ink = np.array(PAPER), np.array(INK)
    fade = 0.45 * (1 - y / (0.55 * bottom)).clip(0, 1)[..., None]
    pixels = paper * (1 - fade) + np.array((0.60, 0.73, 0.74)) * fade
    sun = np.hypot(x - 0.74 * right, y - 0.26 * bottom) < 0.13 * bottom
    pixels = np.where(sun[..., None], np.array(SUN), pixels)
    for row in range(7):
        near = row / 6
        length, tall = 0.16 + 0.34 * near, 0.03 + 0.105 * near
        base = bottom * (0.44 + 0.56 * near**1.25)
        lift = ((base - y) / tall).clip(0, 2.4)
        phase = (x + 0.085 * length * lift**2) / length + rng.uniform() + 0.12 * np.sin(3 * x + row)  # tips bend over
        phase = phase + 0.10 * np.sin(2 * np.pi * phase)  # steeper in front of the crest than behind
        swell = np.abs(np.sin(np.pi * phase)) ** 0.9  # pointed above, round below
        scallop = 0.12 * tall * np.abs(np.sin(9 * np.pi * phase)) * (1 - swell)
        depth = y - base + 1.9 * tall * (1 - swell) ** 0.8 + scallop  # below the crest
        lines = np.cos(2 * np.pi * depth / (0.018 + 0.020 * near) + 1.2 * np.sin(4 * np.pi * phase))
        reach = (0.14 + 0.2 * near) * (1.1 - 0.8 * swell)
        carved = (lines > 0.45) & (depth > 0.03 * (0.6 + near)) & (depth < reach)
        foam = (0.012 + 0.022 * near) * (1.25 - swell) * (1 + 0.4 * np.sin(22 * np.pi * phase + 40 * depth))
        outline = np.minimum(np.abs(depth), np.abs(depth - foam)) < 0.0022 + 0.0016 * near
        wave = np.where((carved | (depth < foam))[..., None], paper, np.array(SEA[row % len(SEA)]))
        wave = np.where(outline[..., None], ink, wave)
        opacity = (depth * unit / 1.5 + 0.5).clip(0, 1)[..., None]
        pixels = pixels * (1 - opacity) + wave * opacity
    grain, blot = waviness(rng, 60.0), waviness(rng, 6.0)
    wood = 0.025 * grain(0.04 * x, y + 0.006 * blot(x, 2 * y)) + 0.02 * blot(x, y)
    return reduced(pixels * (1 + wood)[..., None], (width, height))


def mosaic(height: int, width: int, *, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """Small stones in rings that overlap like scales: gold, turquoise and terracotta in pale mortar."""
    rng = np.random.default_rng(seed)
    right, bottom = width / min(height, width), height / min(height, width)
    pitch, size, rings = 0.16, 0.0215, 8
    centers = [
        (2 * pitch * (column + 0.5 * (row % 2)), pitch * row)
        for row in range(int(bottom / pitch) + 4)
        for column in range(-1, int(right / pitch / 2) + 2)
    ]
    stones, colors = [], []
    for x0, y0 in centers:
        theme = SCALES[rng.integers(len(SCALES))]
        lower = np.array([center for center in centers if y0 < center[1] < y0 + 2 * pitch]).reshape(-1, 2)
        for ring in range(rings):
            count = round(2 * np.pi * (ring + 1))
            angle = 2 * np.pi * (np.arange(count) + rng.uniform()) / count
            places = np.array((x0, y0)) + (ring + 1) * size * np.stack([np.cos(angle), np.sin(angle)], 1)
            hidden = (np.linalg.norm(places[:, None] - lower, axis=-1) < (rings + 0.6) * size).any(1)
            places = places[~hidden]
            stones.append(places + rng.normal(0, 0.07 * size, places.shape))
            shade = np.array(theme[ring * len(theme) // rings]) * rng.normal(1, 0.14, (len(places), 1))
            colors.append(shade + rng.normal(0, 0.025, (len(places), 3)))
    x, y, stone, edge = cells(np.concatenate(stones), height, width)
    mortar = np.array((0.80, 0.76, 0.68)) * (0.85 + 0.06 * waviness(rng, 40.0)(x, y))[..., None]
    light = (0.80 + 0.30 * (edge / 0.008).clip(0, 1)) * (1 + 0.05 * waviness(rng, 30.0)(x + stone, y))
    opacity = ((0.0022 - edge) * min(height, width) + 0.5).clip(0, 1)[..., None]
    return reduced(np.concatenate(colors)[stone] * light[..., None] * (1 - opacity) + mortar * opacity, (width, height))
