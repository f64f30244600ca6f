"""Experiment: what each layer has kept of a picture, shown by inverting it."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise, product
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from vivace.base.drawing import BLUE, ORANGE, drawing
from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import crop_center, middle_square, read_image, reduce_to, resize, total_variation
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import class_names, efficientnet_lite0, fold_batch_norms
from vivace.explain import ImageParameters, feature_distance, feature_inversion
from vivace.style import LITE0, gatys, seeing

QUICK = {"size": 64, "steps": 10, "photographs": 2, "study": 64, "study_steps": 52}

LAYERS = ("stem", "blocks.0", "blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.15")  # the strip's
DEPTHS = ("blocks.0", "blocks.4", "blocks.10")  # the claims'
WEIGHTS = (0.0, 3.0, 30.0)  # of the total variation
PHOTOS = ("chelsea", "coffee", "motorcycle", "flower")
CELL = 32  # pixels from one position of the deepest layers to the next

Basis = Literal["pixel", "fourier"]
Invert = Callable[..., Float[Tensor, "b 3 h w"]]


@checked
def run(*, image: ImagePath = "chelsea", size: Annotated[int, Ge(64), Le(512)] = 192,
        steps: Annotated[int, Ge(10), Le(5000)] = 200, smoothness: Annotated[float, Ge(0), Le(1e4)] = 10.0,
        basis: Basis = "pixel", measure: bool = True, photographs: Annotated[int, Ge(2), Le(4)] = 4,
        study: Annotated[int, Ge(64), Le(256)] = 96, study_steps: Annotated[int, Ge(20), Le(1000)] = 100,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A picture made again from what each layer of a network has kept of it.

    vivace run feature_inversion        2 min on one processor (1 with --no-measure); PSNR falls from 36 dB behind the
                                        first block to 14 dB behind the last

    image: the picture whose features are inverted
    size: pixels of its longer side
    steps: gradient steps for each layer
    smoothness: weight of the total variation
    basis: what the picture is written in: its pixels, or its frequencies with decorrelated colours
    measure: also measure the claims, on shipped photographs
    photographs: how many of them
    study: pixels of their sides
    study_steps: gradient steps in each of those measurements
    seed: the noise to start from
    """
    picture = reduce_to(read_image(image), size)[None]
    if min(picture.shape[-2:]) < CELL:
        found = f"{picture.shape[-2]} x {picture.shape[-1]}"
        raise InputError(f"the deepest layers need pictures of at least {CELL} x {CELL} pixels; this one has {found}")
    model: nn.Module = fold_batch_norms(efficientnet_lite0(weights="imagenet"))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    report = Report(
        "What each layer has kept of a picture",
        "A layer $\\phi_l$ saw a picture $x_0$. From noise, another picture is changed until the layer can't tell them "
        "apart, $\\min_x \\|\\phi_l(x) - \\phi_l(x_0)\\|^2 / \\|\\phi_l(x_0)\\|^2 + \\lambda\\,\\mathrm{TV}(x)$. What "
        "comes back was kept; what does not was thrown away.",
    )
    invert = partial(_inverted, model, seed=seed)
    photos = torch.stack([middle_square(read_image(name), study) for name in PHOTOS[:photographs]])
    again = cache(partial(invert, photos, steps=study_steps, rate=0.2))  # several claims look at the same
    claims = {
        "depth": partial(_depth, report, photos, again),
        "total variation": partial(_smoothness, report, photos, again),
        "distances": partial(_distances, report, photos, again),
        "classes": partial(_named, report, model, PHOTOS[:photographs], partial(invert, steps=study_steps)),
        "positions": partial(_positions, report, model, PHOTOS),
        "style transfer": partial(_without_style, report, model, photos[0], study_steps // 2, seed),
    } if measure else {}  # fmt: skip
    parts = len(LAYERS) + len(claims)
    _strip(report, model, picture, partial(invert, picture, steps=steps, smoothness=smoothness, basis=basis),
           tell, steps, parts)  # fmt: skip
    for index, (what, claim) in enumerate(claims.items()):
        tell(Step(len(LAYERS) + index, parts, what))
        claim()
    tell(Step(parts, parts, "done"))
    return report


def _inverted(model: nn.Module, images: Float[Tensor, "b 3 h w"], layer: str, *, seed: int, basis: Basis = "pixel",
              tell: Tell = ignore, **settings: object) -> Float[Tensor, "b 3 h w"]:  # fmt: skip
    """The pictures that `layer` takes for these; `settings` are feature_inversion's."""
    generator = torch.Generator().manual_seed(seed)
    size = (images.shape[-2], images.shape[-1])
    if basis == "fourier":
        settings |= {"parameters": ImageParameters(size, count=len(images), generator=generator), "rate": 0.03}
    with torch.no_grad():
        (features,) = activations(model, images, [layer])
    return feature_inversion(model, features, layer, size=size, generator=generator, tell=tell, **settings)  # type: ignore[arg-type]


def _strip(report: Report, model: nn.Module, picture: Tensor, invert: Invert, tell: Tell, steps: int,
           parts: int) -> None:  # fmt: skip
    """The picture as each layer kept it, and how near it is in pixels and in features."""
    strip, rows = {"the picture": picture[0]}, []
    for index, layer in enumerate(LAYERS):
        again = invert(layer, tell=part_of(tell, index * steps, parts * steps))
        with torch.no_grad():
            (now,), (then,) = activations(model, again, [layer]), activations(model, picture, [layer])
        decibels = _psnr(again, picture)
        strip[f"{layer}: {decibels:.1f} dB"] = again[0]
        rows.append([layer, " x ".join(str(n) for n in then.shape[1:]), f"{then.numel():,}", f"{decibels:.1f}",
                     f"{_ssim(again, picture):.2f}", f"{float(feature_distance(now, then)):.3f}"])  # fmt: skip
    report.images("strip", strip, "Made again from one layer's features alone, first to last. Early layers kept nearly "
                  "all; deep ones what is there and roughly where, not colours and lines.")  # fmt: skip
    report.table("layers", ["layer", "features", "numbers", "PSNR in dB", "SSIM", "feature distance"], rows,
                 f"The picture has {picture.numel():,} numbers. Feature distance: squared, relative to the features' "
                 "own square.")  # fmt: skip


def _depth(report: Report, photos: Tensor, again: Invert) -> None:
    """Claims c1 and c2: how like the photographs their reconstructions are."""
    made = {weight: [again(layer, smoothness=weight) for layer in DEPTHS] for weight in WEIGHTS[:2]}
    decibels = {weight: [_psnr(x, photos) for x in of] for weight, of in made.items()}
    likeness = {weight: [_ssim(x, photos) for x in of] for weight, of in made.items()}
    report.claim("5.2.c1", decibels[WEIGHTS[1]][0], low=25, unit="dB",
                 detail=f"PSNR behind the first block, mean of {len(photos)} photographs")  # fmt: skip
    falls = [deeper < shallower for of in likeness.values() for shallower, deeper in pairwise(of)]
    report.claim("5.2.c2", sum(falls), low=len(falls), unit=f"of {len(falls)} steps",
                 detail=f"from layer to layer ({', '.join(DEPTHS)}), without and with total variation, "
                 "at which the mean SSIM falls")  # fmt: skip
    figure, (left, right) = drawing(1, 2, width=8)
    for weight, color in zip(WEIGHTS, (ORANGE, BLUE), strict=False):
        label = f"total variation x {weight:g}" if weight else "without total variation"
        left.plot(DEPTHS, decibels[weight], "o-", color=color, label=label)
        right.plot(DEPTHS, likeness[weight], "o-", color=color)
    left.set(ylabel="PSNR in dB")
    right.set(ylabel="SSIM", ylim=(0, 1))
    left.legend(frameon=False)
    report.figure("depth", figure, f"The deeper the layer, the less like the picture; {len(photos)} photographs.")


def _smoothness(report: Report, photos: Tensor, again: Invert) -> None:
    """Claims c3 and x2: what total variation does to a picture written in pixels and to one in frequencies."""
    layer, gains, rows = DEPTHS[1], {}, []
    shown: dict[str, list[Tensor]] = {f"weight {weight:g}": [] for weight in WEIGHTS}
    for basis in ("pixel", "fourier"):
        decibels = []
        for weight in WEIGHTS:
            x = again(layer, smoothness=weight, **({} if basis == "pixel" else {"basis": basis}))
            decibels.append(_psnr(x, photos))
            rough = float(total_variation(x) / total_variation(photos))
            rows.append([basis, f"{weight:g}", f"{decibels[-1]:.1f}", f"{rough:.2f}"])
            shown[f"weight {weight:g}"].append(x[0])
        gains[basis] = max(decibels[1:]) - decibels[0]
    detail = f"PSNR gained by the best weight, {layer}"
    report.claim("5.2.c3", gains["pixel"], low=3, unit="dB", detail=detail)
    report.claim("5.2.x2", gains["fourier"], low=1, unit="dB", detail=detail)
    report.table("total_variation", ["written in", "weight", "PSNR in dB", "variation / the photographs'"], rows,
                 f"Made again from {layer}. In pixels, nothing but this term holds the noise down.")  # fmt: skip
    report.images("smoothness", {weight: torch.cat(found, 1) for weight, found in shown.items()},
                  "No, some and much total variation. Above: written in pixels; below: in frequencies with "
                  "decorrelated colours.")  # fmt: skip


def _distances(report: Report, photos: Tensor, again: Invert) -> None:
    """Claim c5: squared, absolute and angular distance between features."""
    layers = DEPTHS[:2]
    asked: dict[str, dict[str, str]] = {"L2": {}, "L1": {"distance": "l1"}, "cosine": {"distance": "cosine"}}
    found = {name: torch.stack([_decibels(again(layer, smoothness=WEIGHTS[1], **of), photos) for layer in layers])
             for name, of in asked.items()}  # fmt: skip
    ahead = max((found[other] - found["L2"] for other in ("L1", "cosine")), key=torch.mean)
    report.claim("5.2.c5", ahead.mean(), high=0.5, spread=2 * float(ahead.std()) / ahead.numel() ** 0.5, unit="dB",
                 detail=f"PSNR that the better of L1 and cosine is ahead of L2; {' and '.join(layers)}; two "
                 "standard errors over layers and photographs")  # fmt: skip
    rows = [[name, *(f"{float(d):.1f}" for d in of.mean(1))] for name, of in found.items()]
    report.table("distances", ["distance", *layers], rows,
                 "PSNR in dB of pictures made again with each distance between features.")  # fmt: skip


def _named(report: Report, model: nn.Module, names: Sequence[str], invert: Invert) -> None:
    """Claim x1: what the network calls reconstructions from its last block, in views that they were not made for."""
    photos = torch.stack([middle_square(read_image(name), 128) for name in names])
    made = invert(photos, "blocks.15", basis="fourier")
    with torch.inference_mode():
        truth = model(resize(photos, 224)).softmax(1)
        views = [resize(view, 224).flip(-1) for view in (made, crop_center(made, 112))]
        called = torch.stack([model(view).softmax(1) for view in views]).mean(0)
    first, each = truth.argmax(1), range(len(photos))
    kept = called[each, first] / truth[each, first]
    report.claim("5.2.x1", kept.mean(), low=0.5, unit="of the photographs'",
                 detail="probability of the photograph's class for what the last block gives back, mirrored and "
                 f"zoomed; {len(photos)} photographs")  # fmt: skip
    classes, shown = class_names(), {}
    for i in each:
        shown[f"{classes[first[i]]} {truth[i, first[i]]:.2f}"] = photos[i]
        shown[f"made again: {classes[called[i].argmax()]} {called[i].max():.2f}"] = made[i]
    report.images("named", shown, "Photographs, what comes back from the last block, and the network's first answers; "
                  "to the latter in other views, mirrored and zoomed.")  # fmt: skip


def _positions(report: Report, model: nn.Module, names: Sequence[str]) -> None:
    """Claims c4 and x3: whether the last maps know that the camera moved by one of their cells, and their mean."""
    side, moves = 5 * CELL, list(product((-1, 0, 1), repeat=2))
    wide = torch.stack([middle_square(read_image(name), side + 2 * CELL) for name in names])
    corners = [((dy + 1) * CELL, (dx + 1) * CELL) for dy, dx in moves]
    with torch.inference_mode():
        maps = [activations(model, wide[..., y : y + side, x : x + side], ["blocks.15"])[0] for y, x in corners]
    still = maps[moves.index((0, 0))]
    others = [(move, moved) for move, moved in zip(moves, maps, strict=True) if move != (0, 0)]
    told = [max(moves, key=partial(_overlap, a, b)) == move for move, moved in others
            for a, b in zip(still, moved, strict=True)]  # fmt: skip
    report.claim("5.2.c4", sum(told) / len(told), high=0.5, unit="of the shifts",
                 detail=f"by a cell, {CELL} pixels, in eight directions, that can be read off the last block's maps; "
                 f"{len(names)} photographs")  # fmt: skip
    change = torch.stack([(moved - still).mean((2, 3)).norm(dim=1).mean() for _, moved in others]).mean()
    apart = torch.pdist(still.mean((2, 3))).mean()
    report.claim("5.2.x3", change / apart, high=0.5,
                 detail="the maps' means change so much under them, relative to other photographs")  # fmt: skip


def _overlap(a: Float[Tensor, "c h w"], b: Float[Tensor, "c h w"], move: tuple[int, int]) -> float:
    """How alike two maps are where they overlap, if b saw the scene from so many cells further down and right."""
    (dy, dx), (h, w) = move, a.shape[-2:]
    here = a[:, max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)]
    there = b[:, max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)]
    return float(torch.cosine_similarity(here, there, dim=0).mean())


def _without_style(report: Report, model: nn.Module, photo: Tensor, steps: int, seed: int) -> None:
    """Claim x4: style transfer whose style counts nothing is this inversion."""
    see, small = seeing(model, LITE0), resize(photo, 64)
    made = gatys(see, small, small, steps=steps, content_weight=1, style_weight=0, smoothness=1,
                 coarsest=None, init="noise", generator=torch.Generator().manual_seed(seed))  # fmt: skip
    with torch.no_grad():
        (now,), (then,) = see(made[None])[0], see(small[None])[0]
    report.claim("5.2.x4", feature_distance(now, then), high=0.2,
                 detail=f"feature distance after {steps} evaluations from noise, style weight 0")  # fmt: skip
    report.images("without_style", {"the picture": small, "made by style transfer": made},
                  "Style transfer from noise, style weight 0: the content term alone inverts features.")  # fmt: skip


def _psnr(images: Float[Tensor, "b 3 h w"], photos: Float[Tensor, "b 3 h w"]) -> float:
    """Mean over the pictures, in decibels."""
    return float(_decibels(images, photos).mean())


def _decibels(images: Float[Tensor, "b 3 h w"], photos: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    return -10 * (images - photos).square().mean((1, 2, 3)).log10()


def _ssim(images: Float[Tensor, "b 3 h w"], photos: Float[Tensor, "b 3 h w"]) -> float:
    """Mean over the pictures."""
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(images, photos, strict=True)]
    return float(sum(structural_similarity(a, b, channel_axis=0, data_range=1) for a, b in pairs) / len(pairs))
