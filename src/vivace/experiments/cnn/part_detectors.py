"""Experiment: units of deep layers as detectors of parts, on photographs other than the one they are chosen on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vivace.base.drawing import BLUE, GREEN, GREY, ORANGE, drawing
from vivace.base.hooks import activations
from vivace.base.images import overlay, read_image, resize
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import efficientnet_lite0

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"crops": 2, "nets": 2}

LAYERS = ("stem", "blocks.2.expand", "blocks.4.expand", "blocks.7.expand", "blocks.10.expand", "blocks.14.expand",
          "head")  # fmt: skip
LATE = LAYERS[4:]
SIDE = 224
CELLS = 28  # maps and masks are compared on so many places a side: 8 pixels each
MARGIN = 0.1  # of the area under the ROC curve

# boxes_xyxy by hand: eyes, nose and mouth (a cat's is hardly seen)
PARTS = {
    "chelsea": {"eyes": ((133, 82, 208, 148), (292, 107, 342, 165)), "nose": ((238, 225, 292, 262),)},
    "astronaut": {"eyes": ((193, 95, 213, 106), (235, 96, 256, 109)), "nose": ((210, 112, 237, 133),),
                  "mouth": ((202, 138, 244, 155),)},
    "hopper": {"eyes": ((200, 178, 242, 205), (285, 175, 325, 203)), "nose": ((240, 205, 295, 250),),
               "mouth": ((225, 268, 312, 292),)},
}  # fmt: skip


class Views(NamedTuple):
    """Crops of one photograph, and where its parts are in them."""

    images: Float[Tensor, "n 3 h w"]
    masks: dict[str, Bool[Tensor, "n p"]]


Areas = dict[str, dict[str, Float[Tensor, " k"]]]  # of one network in one photograph: layer, part, unit


@checked
def run(*, crops: Annotated[int, Ge(2), Le(20)] = 5, nets: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Does a deep unit detect a part: chosen on one face, tested on another, against untrained networks.

    vivace run part_detectors        1 min on two cores; units for eyes carry over from face to face, for noses seldom

    crops: random crops of each of three photographs
    nets: untrained networks that the trained one is compared with
    seed: of crops and untrained networks
    """
    generator = torch.Generator().manual_seed(seed)
    views = {name: _views(name, crops, generator) for name in PARTS}
    models = [efficientnet_lite0(weights="imagenet")]
    for turn in range(nets):
        with seeded(seed + turn):
            models.append(efficientnet_lite0().eval())
    areas = []
    for place, model in enumerate(models):
        tell(Step(place, len(models), "an untrained network" if place else "the trained network"))
        areas.append({name: _areas_of(model, view) for name, view in views.items()})
    tests = [(part, one, other) for one in PARTS for other in PARTS if one != other
             for part in PARTS[one] if part in PARTS[other]]  # fmt: skip
    report = Report(
        "Does a deep unit detect a part of a face?",
        f"Eyes, noses and mouths of a cat and two women, marked by hand in {crops} random crops of each photograph. "
        "The unit of EfficientNet-Lite0 whose map marks a part best on one photograph is tested on another. The score "
        "is the area under the ROC curve: 0.5 by chance, 1 if it answers more all over the part than anywhere else.",
    )
    report.figure("views", _drawn(models[0], areas[0], views), "The first crop of each photograph with its marks "
                  "(white), and below it the map of the late unit that marks the astronaut's eyes best.")  # fmt: skip
    _claims(report, tests, views, areas)
    return report


def _views(name: str, crops: int, generator: torch.Generator) -> Views:
    """Random squares of the photograph that hold all marked parts."""
    picture = read_image(name)
    height, width = picture.shape[1:]
    marks = torch.zeros(len(PARTS[name]), height, width)
    for mark, boxes in zip(marks, PARTS[name].values(), strict=True):
        for x1, y1, x2, y2 in boxes:
            mark[y1:y2, x1:x2] = 1
    rows, columns = (torch.nonzero(marks.amax((0, axis)))[:, 0] for axis in (2, 1))
    (top, bottom), (left, right) = ((int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    images, masks = [], []
    for grow, down, along in torch.rand(crops, 3, generator=generator).tolist():
        edge = int(min(max(bottom - top, right - left) * (1.1 + 1.1 * grow), height, width))
        y = _between(max(0, bottom - edge), min(top, height - edge), down)
        x = _between(max(0, right - edge), min(left, width - edge), along)
        images.append(resize(picture[:, y : y + edge, x : x + edge], (SIDE, SIDE)))
        cut = marks[None, :, y : y + edge, x : x + edge]
        masks.append(F.interpolate(cut, (CELLS, CELLS), mode="area")[0].flatten(1) > 0.5)
    return Views(torch.stack(images), dict(zip(PARTS[name], torch.stack(masks, dim=1), strict=True)))


def _between(low: int, high: int, share: float) -> int:
    return round(low + share * (high - low))


@torch.no_grad()
def _areas_of(model: nn.Module, views: Views) -> Areas:
    """How well each unit of each layer marks each part, averaged over the crops."""
    found: Areas = {}
    for layer, maps in zip(LAYERS, activations(model, views.images, LAYERS), strict=True):
        each = [areas(_on_cells(one), [mask[i] for mask in views.masks.values()]) for i, one in enumerate(maps)]
        found[layer] = dict(zip(views.masks, torch.stack(each).mean(0), strict=True))
    return found


def _on_cells(maps: Float[Tensor, "k h w"]) -> Float[Tensor, "k p"]:
    return F.interpolate(maps[None], (CELLS, CELLS), mode="bilinear")[0].flatten(1)


def areas(maps: Float[Tensor, "k p"], masks: Sequence[Bool[Tensor, " p"]]) -> Float[Tensor, "m k"]:
    """The area under the ROC curve of each map as a detector of each mask's places; equal values count half."""
    ordered = maps.contiguous().sort(1).values
    found = []
    for mask in masks:
        below, upto = (torch.searchsorted(ordered, maps[:, mask], right=right) for right in (False, True))
        ranks = (below + upto + 1).sum(1).double() / 2  # equal values share the mean of their ranks
        positive, negative = int(mask.sum()), int((~mask).sum())
        found.append((ranks - positive * (positive + 1) / 2) / (positive * negative))
    return torch.stack(found).float()


def _best(found: Areas, part: str, layers: Sequence[str]) -> tuple[str, int]:
    """The layer and unit that mark the part best."""
    layer = max(layers, key=lambda name: float(found[name][part].max()))
    return layer, int(found[layer][part].argmax())


def _carried(found: dict[str, Areas], test: tuple[str, str, str], layers: Sequence[str]) -> float:
    """The score on the second photograph of the unit chosen on the first."""
    part, one, other = test
    layer, unit = _best(found[one], part, layers)
    return float(found[other][layer][part][unit])


def _claims(report: Report, tests: list[tuple[str, str, str]], views: dict[str, Views],
            areas_by_net: list[dict[str, Areas]]) -> None:  # fmt: skip
    trained, *untrained = areas_by_net
    at = torch.arange(CELLS) - (CELLS - 1) / 2
    nearness = -(at[:, None] ** 2 + at**2).flatten()[None]
    rows, margin, first = [], [], []
    for test in tests:
        part, one, other = test
        late, stem = _carried(trained, test, LATE), _carried(trained, test, LAYERS[:1])
        blank = sum(_carried(net, test, LATE) for net in untrained) / len(untrained)
        masks = views[other].masks[part]
        centre = float(areas(nearness, list(masks)).mean())
        rows.append((part, one, other, *(f"{score:.2f}" for score in (late, stem, blank, centre))))
        margin.append(late - max(blank, centre))
        first.append(late - stem)
    names = ("part", "chosen on", "tested on", "late unit", "first layer", "untrained", "centre")
    report.table("tests", names, rows, "Area under the ROC curve on the photograph tested on: of the trained network's "
                 "best late unit, its best first-layer unit, the best late unit of untrained networks (mean), and "
                 "nearness to the picture's centre.")  # fmt: skip
    _layers(report, tests, areas_by_net)
    eyes = torch.tensor([part == "eyes" for part, _, _ in tests])
    gains = torch.tensor(margin), torch.tensor(first)
    words = "area under the ROC curve on another photograph: the late unit's less the better of untrained nets' and the"
    for claim, gain, detail in (
        ("4.6.c5", gains[0], f"{words} centre's; mean and two standard errors over {len(tests)} tests"),
        ("4.6.x7", gains[0][eyes], f"the same for eyes alone, {int(eyes.sum())} tests"),
        ("4.6.x6", gains[1][eyes], "eyes: the late unit's less the first layer's best"),
    ):
        report.claim(claim, gain.mean(), low=MARGIN, spread=2 * float(gain.std()) / len(gain) ** 0.5, detail=detail)


def _layers(report: Report, tests: list[tuple[str, str, str]], areas_by_net: list[dict[str, Areas]]) -> None:
    figure, axes = drawing(width=6.4, height=3)
    names = [layer.removesuffix(".expand") for layer in LAYERS]
    for part, color in (("eyes", BLUE), ("nose", ORANGE), ("mouth", GREEN)):
        some = [test for test in tests if test[0] == part]
        for net, style in ((areas_by_net[0], "o-"), (areas_by_net[1], "o:")):
            score = [sum(_carried(net, test, [layer]) for test in some) / len(some) for layer in LAYERS]
            label = part if style == "o-" else f"{part}, untrained"
            axes.plot(names, score, style, color=color, markersize=3, label=label)
    axes.axhline(0.5, color=GREY, linewidth=0.8)
    axes.set(ylabel="area under the ROC curve\non another photograph", ylim=(0.2, 1.02))
    axes.tick_params(axis="x", rotation=40, labelsize=7)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="lower center")
    report.figure("layers", figure, "How well the unit chosen on one photograph marks the part on another, by the "
                  "layer that it is chosen from. Dotted: an untrained network. Grey line: chance.")  # fmt: skip


@torch.no_grad()
def _drawn(model: nn.Module, found: dict[str, Areas], views: dict[str, Views]) -> "Figure":
    layer, unit = _best(found["astronaut"], "eyes", LATE)
    figure, axes = drawing(2, len(views), width=7.5, height=5.2)
    for (name, view), (upper, lower) in zip(views.items(), axes.T, strict=True):
        picture = view.images[0]
        heat = activations(model, view.images[:1], [layer])[0][0, unit]
        for each, shown in ((upper, picture), (lower, overlay(picture, heat / heat.max().clamp(min=1e-6)))):
            each.imshow(shown.movedim(0, -1).numpy())
            each.set_axis_off()
        for mask in view.masks.values():
            places = mask[0].view(CELLS, CELLS).repeat_interleave(8, 0).repeat_interleave(8, 1)
            upper.contour(places.float().numpy(), (0.5,), colors="white", linewidths=1)
        upper.set_title(name, fontsize=9)
        lower.set_title(f"{layer.removesuffix('.expand')}, unit {unit}", fontsize=8)
    return figure
