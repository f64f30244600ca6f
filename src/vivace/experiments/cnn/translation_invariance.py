"""Experiment: how invariant to translation pooling makes a network, as curves."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from vivace.base.drawing import PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import (
    EfficientNetLite,
    average_pool2d,
    blur_pool2d,
    efficientnet_lite0,
    global_average_pool,
    max_pool2d,
)

QUICK = {"photographs": 3}

PHOTOGRAPHS = ("chelsea", "astronaut", "coffee", "motorcycle", "flower", "rocket", "china", "brick", "camera")
SHIFTS = range(9)  # pixels
SIDE = 224
INVARIANT = 0.05  # what changes by less than this is called invariant here

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "no pooling": lambda maps: maps,
    "every second value": lambda maps: maps[..., ::2, ::2],
    "max 2 x 2": lambda maps: max_pool2d(maps, 2),
    "average 2 x 2": lambda maps: average_pool2d(maps, 2),
    "max, then blur": lambda maps: blur_pool2d(max_pool2d(maps, 2, 1), 5),
    "max 2 x 2, three times": lambda maps: max_pool2d(max_pool2d(max_pool2d(maps, 2), 2), 2),
    "global average": lambda maps: global_average_pool(maps)[..., None, None],
}
SHRINKING = ("every second value", "max 2 x 2", "average 2 x 2", "max, then blur")


@checked
def run(*, image: ImagePath = "motorcycle", photographs: Annotated[int, Ge(2), Le(9)] = 9, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A pooled map changes less than the map itself when the picture moves, but it is not invariant.

    vivace run translation_invariance        5 s on two cores; one pixel changes max-pooled features by 18 %, not 0

    image: the picture that is made four times smaller in four ways, to see what aliasing looks like
    photographs: how many shipped photographs are moved
    seed: the noise that is moved for comparison
    """
    report = Report(
        "Pooling tolerates small shifts; it is not invariant",
        "Photographs move by 0 to 8 pixels. What a pooling $P$ makes of their feature maps $F$ (the 32 trained filters "
        "of EfficientNet-Lite0's first layer, at every pixel) changes by $\\|P(F_s) - P(F_0)\\| / \\|P(F_0)\\|$: 0 "
        "would be invariance. Below 5 % counts as invariant here.",
    )
    with torch.inference_mode():
        model = efficientnet_lite0(weights="imagenet")
        chosen = [resize(read_image(name).expand(3, -1, -1), 300) for name in PHOTOGRAPHS[:photographs]]
        tell(Step(0, 4, "moving photographs under one pooling"))
        _one_pooling(report, model, chosen, seed)
        tell(Step(1, 4, "moving photographs under a whole network"))
        _network(report, model, chosen)
        tell(Step(2, 4, "gratings"))
        _gratings(report)
        tell(Step(3, 4, "a picture, smaller and smaller"))
        _shrunk(report, read_image(image).expand(3, -1, -1))
    tell(Step(4, 4, "done"))
    return report


def _one_pooling(report: Report, model: EfficientNetLite, pictures: list[Tensor], seed: int) -> None:
    """The curves for single poolings (c4), what they are worth (x2, x4, x5), and what shifts exactly (x3)."""
    maps = [_first_layer(model, picture) for picture in pictures]
    changes = {name: torch.stack([_changes(pool, each) for each in maps]).mean(0) for name, pool in POOLINGS.items()}
    noise = torch.randn(1, 8, 280, 280, generator=torch.Generator().manual_seed(seed))
    of_noise = {name: _changes(pool, noise)[1] for name, pool in POOLINGS.items()}
    count = f"{len(pictures)} photographs"
    report.figure("invariance", _drawn(changes), f"Change of the pooled features, mean over {count}: low is invariant. "
                  "Keeping every second value changes as much as no pooling.")  # fmt: skip
    rows = [(name, *(f"{100 * changes[name][s]:.1f} %" for s in (1, 2, 4, 8)), f"{100 * of_noise[name]:.0f} %")
            for name in POOLINGS]  # fmt: skip
    report.table("changes", ("pooling", "1 px", "2 px", "4 px", "8 px", "1 px, white noise"), rows,
                 "White noise is the worst case: neighbouring pixels have nothing in common.")  # fmt: skip
    plain, pooled, blurred = (changes[name][1] for name in ("no pooling", "max 2 x 2", "max, then blur"))
    report.claim("4.4.c4", pooled, high=INVARIANT, detail=f"relative change of max-pooled features (2 x 2, stride 2) "
                 f"after 1 pixel, {count}; unpooled {plain:.3f}; white noise: pooled {of_noise['max 2 x 2']:.2f}, "
                 f"unpooled {of_noise['no pooling']:.2f}")  # fmt: skip
    report.claim("4.4.x2", pooled / plain, high=0.95,
                 detail="change after 1 pixel, max-pooled over unpooled")  # fmt: skip
    slipped = max(float((max_pool2d(each[..., 2:], 2) - max_pool2d(each, 2)[..., 1:]).abs().max()) for each in maps)
    report.claim("4.4.x3", slipped, high=0, detail="largest difference between the pooled map of a picture moved by 2 "
                 f"pixels and the pooled map moved by 1, {count}")  # fmt: skip
    report.claim("4.4.x4", changes["global average"].max(), high=INVARIANT,
                 detail=f"largest mean change of the globally averaged features, 1 to 8 pixels, {count}")  # fmt: skip
    report.claim("4.4.x5", blurred / pooled, high=0.9,
                 detail="change after 1 pixel: max pooling then blur (5 x 5), over max pooling alone")  # fmt: skip


def _drawn(changes: dict[str, Tensor]) -> Figure:
    figure, axes = drawing(width=8, height=4)
    for color, (name, change) in zip(PALETTE, changes.items(), strict=False):
        style = "--" if name == "every second value" else "-"
        axes.plot(SHIFTS, 100 * change, style, color=color, marker="o", markersize=3, label=name)
    axes.set(xlabel="pixels by which the picture moved", ylabel="relative change, %", ylim=(0, None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def _first_layer(model: EfficientNetLite, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 32 fh fw"]:
    """The trained first layer at every pixel, not only at every second; away from the border."""
    stem = dict(model.stem.named_children())
    maps = F.conv2d(model.normalization(picture[None]), model.get_parameter("stem.conv.weight"))
    return stem["relu"](stem["norm"](maps))


def _changes(pool: Callable[[Tensor], Tensor], maps: Float[Tensor, "1 c h w"]) -> Float[Tensor, " shifts"]:
    """The relative change of the pooled middle of the maps, for each shift to the side."""
    top, left = (maps.shape[2] - SIDE) // 2, (maps.shape[3] - SIDE) // 2
    moved = [pool(maps[..., top : top + SIDE, left + s : left + s + SIDE]) for s in SHIFTS]
    return torch.stack([(each - moved[0]).norm() / moved[0].norm() for each in moved])


def _network(report: Report, model: EfficientNetLite, pictures: list[Tensor]) -> None:
    """The same for the whole network: the last maps, their global average, and the answer (x6)."""
    parts: dict[str, list[Tensor]] = {"last maps (7 x 7)": [], "their global average": []}
    steady = []
    for picture in pictures:
        top, left = (picture.shape[1] - SIDE) // 2, (picture.shape[2] - SIDE) // 2
        moved = torch.stack([picture[:, top : top + SIDE, left + s : left + s + SIDE] for s in SHIFTS])
        maps = model.features(moved)
        averaged = global_average_pool(maps)
        for part, values in zip(parts.values(), (maps.flatten(1), averaged), strict=True):
            part.append((values - values[0]).norm(dim=1) / values[0].norm())
        answers = model.classifier(averaged).argmax(1)
        steady.append((answers == answers[0]).float().mean())
    changes = {name: torch.stack(values).mean(0) for name, values in parts.items()}
    report.curve("network", {name: (SHIFTS, 100 * change) for name, change in changes.items()},
                 x="pixels by which the picture moved", y="relative change, %",
                 caption=f"The whole trained network (stride 32), mean over {len(pictures)} photographs; it names the "
                 f"same class as unmoved for {torch.stack(steady).mean():.0%} of all shifts.")  # fmt: skip
    report.claim("4.4.x6", changes["their global average"][1:].mean(), high=INVARIANT,
                 detail="mean relative change of the 1280 features that are classified, shifts of 1 to 8 pixels; the "
                 f"maps before the average {changes['last maps (7 x 7)'][1:].mean():.3f}")  # fmt: skip


def _gratings(report: Report) -> None:
    """Stripes too fine for the smaller grid: how much of their contrast comes out all the same, as coarse ones (x7)."""
    frequencies = torch.linspace(0.02, 0.48, 24)  # cycles a pixel; half of them above what every second pixel can show
    at = torch.arange(256.0)
    left: dict[str, list[float]] = {name: [] for name in SHRINKING}
    for frequency in frequencies.tolist():
        stripes = torch.sin(2 * math.pi * frequency * at + 0.3).expand(1, 1, 64, -1)
        for name in SHRINKING:
            left[name].append((POOLINGS[name](stripes)[..., 4:-4].std() / stripes.std()).item())
    report.figure("gratings", _drawn_gratings(frequencies, left), "Contrast of stripes after shrinking by 2. Right of "
                  "the line, at 0.25 cycles a pixel, the smaller grid has no place for them: what comes out there is "
                  "alias, a coarser pattern that the picture does not have.")  # fmt: skip
    fine = frequencies > 0.27
    alias = {name: torch.tensor(contrast)[fine].mean() for name, contrast in left.items()}
    report.claim("4.4.x7", alias["max, then blur"] / alias["max 2 x 2"], high=0.5, detail="mean contrast of stripes "
                 "finer than 0.27 cycles a pixel after shrinking by 2, blurred over not; "
                 + ", ".join(f"{name} {contrast:.2f}" for name, contrast in alias.items()))  # fmt: skip


def _drawn_gratings(frequencies: Tensor, left: dict[str, list[float]]) -> Figure:
    figure, axes = drawing(width=7, height=3.6)
    for color, (name, contrast) in zip(PALETTE, left.items(), strict=False):
        axes.plot(frequencies, contrast, color=color, marker="o", markersize=3, label=name)
    axes.axvline(0.25, color="#888888", linestyle="--")
    axes.set(xlabel="cycles a pixel", ylabel="contrast that is left", ylim=(0, 1.1))
    axes.legend(frameon=False)
    return figure


def _shrunk(report: Report, picture: Float[Tensor, "3 h w"]) -> None:
    """The picture, and rings that get finer outwards, at a quarter of their size, made in four ways."""
    if min(picture.shape[-2:]) < 64:
        raise InputError(f"the picture is {picture.shape[2]} x {picture.shape[1]} pixels, but 64 x 64 are needed here")
    side = min(512, *picture.shape[-2:]) // 8 * 8
    top, left = ((n - side) // 2 for n in picture.shape[-2:])
    square = picture[:, top : top + side, left : left + side]
    at = torch.linspace(-1, 1, 512)
    rings = 0.5 + 0.5 * torch.cos(0.22 * math.pi * 512 * (at[:, None].square() + at.square()))
    shown = {}
    for what, given in (("picture", square), ("rings", rings.expand(3, -1, -1))):
        for name in SHRINKING:
            small = POOLINGS[name](POOLINGS[name](given[None]))[0]
            shown[f"{what}: {name}"] = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    report.images("shrunk", shown, "Shrunk by 2, twice. The rings have one centre and get finer outwards; those "
                  "around other centres are alias. Blur leaves a plain ground there instead.")  # fmt: skip
