"""Experiment: what a unit can see of a picture, and what it listens to."""

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.drawing import BLUE, ORANGE, drawing
from vivace.base.images import heat_colors, middle_square, read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import efficientnet_lite0, vgg16
from vivace.cnn.receptive_field import Field, effective_field, pixels_holding, receptive_fields, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"size": 224, "photographs": 2}

LAYERS = ("stem", "blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14")
DEEP = LAYERS[3:]  # the last of them could see more than the picture
VGG = {"conv1_1": 3, "conv3_3": 40, "conv5_3": 196}
PHOTOGRAPHS = ("chelsea", "coffee", "motorcycle", "flower", "china", "rocket")


@checked
def run(*, image: ImagePath = "chelsea", size: Annotated[int, Ge(64), Le(512)] = 288,
        photographs: Annotated[int, Ge(1), Le(6)] = 4, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The receptive field of each layer, on paper and as gradients measure it.

    vivace run receptive_fields        20 s on two cores; 95 % of what a unit of blocks.7 or blocks.10 listens to lies
                                       in under a third of what it could see

    image: the photograph on which fields are drawn
    size: pixels of its side as the network sees it
    photographs: over how many shipped photographs, beside it, gradients are averaged
    seed: of the untrained network that the trained one is compared with
    """
    report = Report(
        "Receptive fields: what a unit can see, and what it listens to",
        "The theoretical field follows from kernels, strides and paddings. The effective field (Luo et al. 2016) is "
        "the mean size of the gradient of a layer's middle unit with respect to each pixel, over photographs.",
    )
    with torch.device("meta"):
        vgg = vgg16()
    fields = receptive_fields(vgg, (3, 288, 288))
    found = {name: fields[vgg.layer(name)].size[0] for name in VGG}
    report.claim("4.6.x1", sum(found[name] == size for name, size in VGG.items()), low=len(VGG),
                 detail="of three VGG-16 layers, how many see 3, 40 and 196 pixels: "
                 + ", ".join(f"{name} {size:g}" for name, size in found.items()))  # fmt: skip
    names = dict.fromkeys([image, *PHOTOGRAPHS[:photographs]])
    pictures = torch.stack([middle_square(read_image(name), size) for name in names])
    trained = efficientnet_lite0(weights="imagenet")
    with seeded(seed):
        untrained = efficientnet_lite0().eval()
    on_paper = receptive_fields(trained, (3, size, size))
    maps = {}
    for place, layer in enumerate(LAYERS):
        tell(Step(place, len(LAYERS), f"gradients of {layer}"))
        maps[layer] = effective_field(trained, pictures, layer)
    words = (
        "What the middle unit of each layer listens to (the root of the gradient, relative); white: what it could see, "
        "where that is less than the picture."
    )
    report.figure("fields", _drawn(pictures[0], maps, on_paper), words)
    _sizes(report, maps, on_paper, size)
    wider = {}
    for layer in DEEP:
        before, after = spread(effective_field(untrained, pictures, layer)), spread(maps[layer])
        wider[layer] = (after[0] * after[1] / (before[0] * before[1])) ** 0.5
    report.claim("4.6.x3", min(wider.values()), low=1.1, unit="times",
                 detail="standard deviation of the effective field, trained to untrained, the least of "
                 + ", ".join(f"{ratio:.2f} ({layer})" for layer, ratio in wider.items()))  # fmt: skip
    return report


def _drawn(picture: Float[Tensor, "3 h w"], maps: dict[str, Tensor], on_paper: dict[str, Field]) -> "Figure":
    figure, axes = drawing(2, 3, width=8.4, height=5.8)
    grey = 0.35 + 0.4 * picture.mean(0, keepdim=True).expand(3, -1, -1)
    for each, (layer, field) in zip(axes.flat, maps.items(), strict=True):
        heat = (field / field.max()).sqrt()
        shown = torch.lerp(grey, heat_colors(heat), heat.clamp(0, 0.85)[None])
        each.imshow(shown.movedim(0, -1).clamp(0, 1).numpy())
        x1, y1, x2, y2 = on_paper[layer].box(*_middle(on_paper[layer], picture.shape[-1]))
        each.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", linewidth=1)
        each.set(xlim=(0, picture.shape[2]), ylim=(picture.shape[1], 0))
        each.set_title(f"{layer}: {on_paper[layer].size[0]:g} px", fontsize=9)
        each.set_axis_off()
    return figure


def _middle(field: Field, side: int) -> tuple[int, int]:
    """The middle unit of a map, as `effective_field` takes it."""
    middle = int(side / field.jump[0]) // 2
    return middle, middle


def _sizes(report: Report, maps: dict[str, Tensor], on_paper: dict[str, Field], size: int) -> None:
    """Sides of the theoretical square and of as many pixels as hold 95 % of the gradient (x2)."""
    theory = [on_paper[layer].size[0] for layer in maps]
    held = [pixels_holding(field) ** 0.5 for field in maps.values()]
    figure, axes = drawing(width=6, height=3)
    axes.plot(list(maps), theory, "o-", color=ORANGE, label="theoretical: side of the square")
    axes.plot(list(maps), held, "o-", color=BLUE, label="effective: side of a square of as many pixels as hold 95 %")
    axes.axhline(size, color="#888888", linewidth=0.8, linestyle=":")
    axes.set(ylabel="pixels", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    report.figure("sizes", figure, "Dotted: the picture's side.")
    share = {layer: pixels_holding(maps[layer]) / min(on_paper[layer].size[0], size) ** 2 for layer in DEEP}
    report.claim("4.6.x2", max(share[layer] for layer in DEEP[:2]), high=0.5,
                 detail="share of the pixels seen by a unit that hold 95 % of its gradient, the larger of the first "
                 "two of "
                 + ", ".join(f"{part:.2f} ({layer})" for layer, part in share.items()))  # fmt: skip
