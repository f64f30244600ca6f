"""Experiment: every way of style transfer on the same pairs of pictures, side by side, with the distances and times."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.images import read_image, reduce_to
from vivace.base.parameters import FolderPath, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import loss_network
from vivace.experiments.one_pass import adain_decoder, encoder, style_attention_net
from vivace.experiments.picture_folders import pictures_in
from vivace.experiments.standard_error import two_standard_errors
from vivace.experiments.stylizers import SHIPPED_STYLES, stylizer
from vivace.style import (
    See,
    adain_maps,
    backbone_distance,
    color_transfer,
    gatys,
    one_pass,
    seeing,
    ssim,
    style_distance,
    stylize,
)

QUICK = {"size": 96, "steps": 10, "pairs": 2}

CONTENTS = ("astronaut", "chelsea", "coffee", "china")
STYLES = ("swirls", "poppies", "waves", "stained_glass")  # AdaIN and attention never learned from poppies

MEASURES = {"content_error": "content", "style_error": "style", "likeness": "SSIM to the photograph",
            "perceptual": "perceptual"}  # fmt: skip

Way = Callable[[Tensor, Tensor, str], Tensor | None]  # content, style and the style's name; None: can't do this one


@dataclass(frozen=True)
class Made:
    """A picture, and what was measured on it."""

    way: str
    picture: Tensor
    seconds: float
    content_error: float
    style_error: float
    likeness: float
    perceptual: float
    style: str


@checked
def run(*, contents: FolderPath = None, styles: FolderPath = None, size: Annotated[int, Ge(64), Le(2048)] = 256,
        steps: Annotated[int, Ge(1), Le(5000)] = 60, pairs: Annotated[int, Ge(2), Le(16)] = 4,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Gatys, a feed-forward network, AdaIN and style attention on the same contents and styles.

    vivace run style_comparison        10 min on one core, nearly all of it Gatys'; one pass takes a third of a second

    contents: a folder of photographs; shipped ones without it
    styles: a folder of style pictures; painted ones without it
    size: the longer side of the pictures
    steps: evaluations of Gatys' loss at full size
    pairs: how many photographs and how many styles; each photograph is shown in each style
    """
    photos, paintings = (_pictures(folder, names, pairs, size)
                         for folder, names in ((contents, CONTENTS), (styles, STYLES)))  # fmt: skip
    model, gaze = loss_network()
    see = seeing(model, gaze)
    encode, decoder = encoder(model), adain_decoder(tell=tell).requires_grad_(False)
    attention = style_attention_net(tell=tell).requires_grad_(False)
    ways: dict[str, Way] = {
        "Gatys": lambda photo, style, _: gatys(see, color_transfer(photo, style), style, steps=steps),
        "feed-forward": lambda photo, _, name: one_pass(stylizer(name), photo) if name in SHIPPED_STYLES else None,
        "AdaIN": lambda photo, style, _: stylize(encode, decoder, photo, style, restyle=adain_maps),
        "style attention": lambda photo, style, _: stylize(encode, attention.decoder, photo, style,
                                                           restyle=attention.restyled),
    }  # fmt: skip
    report = Report(
        "Ways to a style, side by side",
        "The same photographs in the same styles. Gatys changes the pixels of each picture for itself; the others have "
        "learned once and take one pass: the feed-forward network for its own style only, AdaIN and attention for any.",
    )
    made: list[Made] = []
    for row, (content, photo) in enumerate(photos.items()):
        shown: dict[str, Tensor] = {}
        for column, (style, painting) in enumerate(paintings.items()):
            shown[style] = painting
            for way, make in ways.items():
                if (one := _made(way, make, see, photo, painting, style)) is not None:
                    made.append(one)
                shown[f"{way}, {style}"] = torch.full_like(photo, 0.9) if one is None else one.picture
            tell(Step(row * len(paintings) + column + 1, len(photos) * len(paintings), f"{content} in {style}"))
        caption = f"{content}: each style and what comes of it; grey where no network has learned the style."
        report.images(f"content_{row + 1}", shown, caption, columns=1 + len(ways))
    _distances(report, made, list(ways))
    return report


def _pictures(folder: str | Path | None, names: tuple[str, ...], count: int, size: int) -> dict[str, Tensor]:
    """Shipped pictures by name, or the first ones of a folder."""
    if folder is None:
        return {name: reduce_to(read_image(name, max_side=size), size) for name in names[:count]}
    root = Path(folder).expanduser()
    return {str(path.relative_to(root)): read_image(path, max_side=size) for path in pictures_in(root)[:count]}


def _made(way: str, make: Way, see: See, photo: Tensor, painting: Tensor, style: str) -> Made | None:
    began = time.perf_counter()
    picture = make(photo, painting, style)
    seconds = time.perf_counter() - began
    if picture is None:
        return None
    with torch.no_grad():
        (P,), _ = see(photo[None])
        _, targets = see(painting[None])
        (F,), maps = see(picture[None])
        _, own = see(photo[None])
    light, photo_light = (image.mean(0)[None, None] for image in (picture, photo))
    return Made(way, picture, seconds, float((F - P).square().sum() / P.square().sum()),
                float(style_distance(maps, targets, relative=True)), float(ssim(light, photo_light)),
                float(backbone_distance(maps[:-1], own[:-1])), style)  # fmt: skip


def _distances(report: Report, made: list[Made], ways: list[str]) -> None:
    rows = []
    for way in ways:
        own = [one for one in made if one.way == way]
        if own:
            means = [float(np.mean([getattr(one, name) for one in own])) for name in MEASURES]
            rows.append((way, len(own), *means, float(np.median([one.seconds for one in own]))))
    report.table("distances", ("way", "pictures", *MEASURES.values(), "seconds, median"), rows,
                 "Content and style: squared distance of features and of Grams, over the target's square. Perceptual: "
                 "our backbone's distance to the photograph, not LPIPS.")  # fmt: skip
    styles = sorted({one.style for one in made})
    for claim, one, other, high in (("6.7.x5", "AdaIN", "Gatys", 1.5), ("6.7.x6", "feed-forward", "AdaIN", 1.0)):
        both = [(mine, _style(made, other, style)) for style in styles if (mine := _style(made, one, style))]
        ratios = [mine / theirs for mine, theirs in both]
        if len(ratios) > 1:
            report.claim(claim, measured=float(np.mean(ratios)), spread=two_standard_errors(ratios), high=high,
                         detail=f"style's error of {one} over {other}'s, mean of {len(ratios)} styles")  # fmt: skip


def _style(made: list[Made], way: str, style: str) -> float:
    """The style's error, mean over the photographs; 0 where there is no picture."""
    errors = [one.style_error for one in made if (one.way, one.style) == (way, style)]
    return float(np.mean(errors)) if errors else 0.0
