"""Experiment: shallow against deep layers: resolution, field, invariance, what a probe reads, and what can be seen."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, GREY, ORANGE, PALETTE, RED, VIOLET, drawing
from vivace.base.hooks import activations
from vivace.base.images import middle_square, read_image, resize
from vivace.base.parameters import FolderPath, ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import Field, create_model, efficientnet_lite0, linear_probe, receptive_fields, unet
from vivace.experiments.labelled_pictures import PHOTOGRAPHS, own_pictures, patches
from vivace.explain import invariance

QUICK = {"each": 5, "crops": 6, "photographs": 2}

LAYERS = ("stem", "blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14", "head")
KERNELS = (
    "stem.conv",
    "blocks.1.depthwise.conv",
    "blocks.4.depthwise.conv",
    "blocks.7.depthwise.conv",
    "blocks.10.depthwise.conv",
    "blocks.14.depthwise.conv",
)
DEEP = KERNELS[3:]
FAMILIES = {
    "alexnet": 224,
    "vgg16": 224,
    "resnet18": 224,
    "densenet121": 224,
    "mobilenet_v2": 224,
    "efficientnet_lite0": 224,
    "resnet20": 32,
}
VGG16 = {"conv1_2": 5, "conv2_2": 14, "conv3_3": 40, "conv4_3": 92, "conv5_3": 196, "the last pool": 212}
SIDE = 128  # of the pictures whose features are compared
TOP = 9  # patches that excite a unit most
UNITS = 24  # of each layer
LARGEST = 128  # pixels of a crop

Maps = dict[str, Float[Tensor, "n d"]]


class Unit(NamedTuple):
    """One filter's kernel as it is, and the patches that excite it most."""

    kernel: Float[Tensor, "c h w"]
    best: Float[Tensor, "n 3 h w"]
    place: int


@checked
def run(
    *,
    image: ImagePath = "chelsea",
    pictures: FolderPath = None,
    each: Annotated[int, Ge(4), Le(200)] = 15,
    crops: Annotated[int, Ge(4), Le(200)] = 25,
    photographs: Annotated[int, Ge(2), Le(5)] = 4,
    seed: Seed = 0,
    tell: Tell = ignore,
) -> Report:
    """Shallow layers are sharp, local and can be viewed; deep ones are coarse, wide, easier to read, and can't.

    vivace run shallow_and_deep        a minute on one core; probes name changed pictures better from deep layers, by 24
                                       points, and yet deep features are less steady under a shift, turn or zoom

    image: the photograph on which fields are drawn
    pictures: a folder of yours with a sub-folder for each class, in place of crops of shipped photographs
    each: crops of each of ten photographs for probes and invariance
    crops: of each of ten photographs, in which units look for what excites them
    photographs: on how many it is measured how much of a picture a unit needs
    seed: of crops and units
    """
    report = Report(
        "Shallow against deep features",
        "The same network (EfficientNet-Lite0, trained on ImageNet) and the same pictures, by layer: how large a map "
        "is, how much of a picture a unit can see and how much it needs, how steady features are when a picture is "
        "moved, turned, enlarged or loses its colour, what a linear probe (线性探针) reads from them, and if a raw "
        "kernel tells what its unit looks for.",
    )
    model = efficientnet_lite0(weights="imagenet").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tell(Step(0, 4, "resolution and receptive fields"))
    _resolution(report)
    _fields(report)
    tell(Step(1, 4, "how much of a picture a unit needs"))
    _windows(report, model, photographs)
    tell(Step(2, 4, "invariance and probes"))
    _abstraction(report, model, pictures, each, seed, tell)
    tell(Step(3, 4, "kernels and patches"))
    _seen(report, model, middle_square(read_image(image), 224), crops, seed)
    tell(Step(4, 4, "done"))
    return report


def _resolution(report: Report) -> None:
    """Sides of maps from the first layer to the last, in seven families and in U-Net (c1, x1)."""
    figure, axes = drawing(width=6.4, height=3.2)
    never_grows, words = 0, ""
    for (name, side), color in zip(FAMILIES.items(), PALETTE, strict=False):
        with torch.device("meta"):
            model = create_model(name)
        sides = _sides(model, side)
        never_grows += all(b <= a for a, b in pairwise(sides))
        axes.plot(np.linspace(0, 1, len(sides)), [s / side for s in sides], color=color, label=name)
        if name == "vgg16":
            words = f"VGG-16: {sides[0]} px at the first layer, {sides[-1]} px at the last map"
    with torch.device("meta"):
        backward = _sides(unet(padded=True), 224)
    axes.plot(np.linspace(0, 1, len(backward)), [s / 224 for s in backward], "--", color=GREY, label="U-Net")
    axes.set(xlabel="depth", ylabel="side of the map / of the picture", yscale="log")
    axes.legend(frameon=False, fontsize=7, ncols=2, loc="lower left")
    report.figure(
        "resolution",
        figure,
        "The side of each layer's map. Classifiers never enlarge it; U-Net's second "
        "half enlarges it again, so it is not depth itself that costs resolution.",
    )
    report.claim(
        "5.7.c1",
        never_grows,
        low=len(FAMILIES),
        detail=f"of {len(FAMILIES)} families of classifiers, in how many no map outgrows the one before; " + words,
    )
    report.claim(
        "5.7.x1",
        backward[0] / backward[-1],
        low=2,
        unit="times",
        detail=f"U-Net's first map to its last: {backward[0]} and {backward[-1]} px, {min(backward)} px between",
    )


def _sides(model: nn.Module, side: int) -> list[int]:
    """Of every layer's map that has more than one place."""
    shapes = [layer.shape for layer in cost(model, (3, side, side)).layers]
    return [shape[-1] for shape in shapes if len(shape) == 3 and shape[-1] > 1]


def _fields(report: Report) -> None:
    """Receptive fields on paper: VGG-16's blocks (c2)."""
    with torch.device("meta"):
        vgg = create_model("vgg16")
    fields = receptive_fields(vgg, (3, 224, 224))
    names = {name: vgg.layer(name) for name in VGG16 if "pool" not in name}  # type: ignore[operator]
    names["the last pool"] = [name for name in fields if name.startswith("features.")][-1]
    found = {name: fields[layer].size[0] for name, layer in names.items()}
    report.claim(
        "5.7.c2",
        sum(found[name] == size for name, size in VGG16.items()),
        low=len(VGG16),
        detail="of six layers of VGG-16, how many see as many pixels as is taught: "
        + ", ".join(f"{name} {size:g}" for name, size in found.items()),
    )


@torch.no_grad()
def _windows(report: Report, model: nn.Module, photographs: int) -> None:
    """How large a window on a picture, all else being another one, lets a middle unit's answers stay (x2)."""
    pictures = torch.stack([middle_square(read_image(name), 224) for name in PHOTOGRAPHS[3 : 3 + photographs]])
    others = pictures.roll(1, 0)
    sizes = [0, 8, 16, 32, 48, 64, 96, 128, 160, 192, 208, 224]
    whole = _middle(model, pictures)
    alike: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for size in sizes:
        pasted = others.clone()
        a = (224 - size) // 2
        pasted[..., a : a + size, a : a + size] = pictures[..., a : a + size, a : a + size]
        for layer, answers in _middle(model, pasted).items():
            both = torch.stack([answers, whole[layer]]) - whole[layer].mean(1, keepdim=True)
            alike[layer].append(F.cosine_similarity(both[0], both[1], dim=1).mean().item())
    fields = receptive_fields(model, (3, 224, 224))
    needed = [sizes[next(i for i, value in enumerate(alike[layer]) if value >= 0.9)] for layer in LAYERS]
    figure, (left, right) = drawing(1, 2, width=9, height=3.2)
    for layer, color in zip(LAYERS, PALETTE, strict=False):
        left.plot(sizes, alike[layer], color=color, label=layer)
    left.axhline(0.9, color=GREY, linewidth=0.8, linestyle=":")
    left.set(xlabel="side of the window, pixels", ylabel="likeness to the whole photograph's", ylim=(None, 1.02))
    left.legend(frameon=False, fontsize=7)
    right.plot(LAYERS, [min(fields[layer].size[0], 500) for layer in LAYERS], "o-", color=ORANGE, label="can see")
    right.plot(LAYERS, needed, "o-", color=BLUE, label="needs")
    right.axhline(224, color=GREY, linewidth=0.8, linestyle=":")
    right.set(ylabel="pixels")
    right.tick_params(axis="x", rotation=40, labelsize=7)
    right.legend(frameon=False)
    report.figure(
        "windows",
        figure,
        "Left: a window on one photograph, with another one around it; how alike the "
        "middle unit's answers are to those in the whole photograph. Right: the side of the receptive field "
        "on paper (drawn at 500 where larger), and of the smallest window tried, of 8 pixels or more, that keeps a "
        "likeness of 0.9 (dotted: the picture).",
    )
    report.claim(
        "5.7.x2",
        needed[-1] / 224,
        low=0.75,
        detail="side of the window that a unit of the last layer needs, relative to the picture; by layer "
        + ", ".join(f"{n} px" for n in needed),
    )


def _middle(model: nn.Module, pictures: Float[Tensor, "b 3 h w"]) -> Maps:
    maps = activations(model, pictures, LAYERS)
    return {name: m[..., m.shape[-2] // 2, m.shape[-1] // 2] for name, m in zip(LAYERS, maps, strict=True)}


def changed(images: Float[Tensor, "n 3 h w"]) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """The pictures moved by an eighth, turned by 25 degrees, enlarged by 1.3, or grey; edges are mirrored."""
    turn = math.radians(25)
    side = images.shape[-1]
    ways = {
        "moved": [[1, 0, 0.25], [0, 1, 0.25]],
        "turned": [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0]],
        "enlarged": [[1 / 1.3, 0, 0], [0, 1 / 1.3, 0]],
    }
    found = {}
    for name, matrix in ways.items():
        places = F.affine_grid(
            torch.tensor([matrix]).expand(len(images), -1, -1), [len(images), 3, side, side], align_corners=False
        )
        found[name] = F.grid_sample(images, places, padding_mode="reflection", align_corners=False)
    found["grey"] = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return found


def _abstraction(report: Report, model: nn.Module, pictures: FolderPath, each: int, seed: int, tell: Tell) -> None:
    """Features of the same pictures, changed: how steady they are, and what a probe reads from them (c3, x3, x4)."""
    if pictures is None:
        train, test = (patches(each, side=SIDE, seed=seed, part=half) for half in ("left", "right"))
    else:
        _, train, test = own_pictures(pictures, side=SIDE, seed=seed, tell=tell)
    learnt, plain = _features(model, train.images), _features(model, test.images)
    views = {name: _features(model, images) for name, images in changed(test.images).items()}
    steady = {name: [invariance(plain[layer], view[layer]) for layer in LAYERS] for name, view in views.items()}
    right = {
        name: [100 * _probe(learnt[layer], train, view[layer], test) for layer in LAYERS]
        for name, view in (("as it was", plain), *views.items())
    }
    figure, (one, two) = drawing(1, 2, width=9, height=3.4)
    colors = dict(
        zip(("as it was", "moved", "turned", "enlarged", "grey"), (GREY, BLUE, GREEN, ORANGE, RED), strict=True)
    )
    for name, values in steady.items():
        one.plot(LAYERS, values, "o-", color=colors[name], label=name)
    for name, values in right.items():
        two.plot(LAYERS, values, "o-", color=colors[name], label=name)
    one.set(ylabel="invariance", ylim=(None, 1))
    two.set(ylabel="linear probe, % right", ylim=(0, 100))
    for axes in (one, two):
        axes.tick_params(axis="x", rotation=50, labelsize=7)
    two.legend(frameon=False, fontsize=7)
    report.figure(
        "abstraction",
        figure,
        "Left: 1 where a change moves nothing, 0 where it moves a picture as far as to "
        "another one. Right: probes that learned from unchanged pictures name other, changed ones.",
    )
    means = np.mean([values for name, values in right.items() if name != "as it was"], axis=0)
    words = ", ".join(f"{m:.0f}" for m in means)
    report.claim(
        "5.7.c3",
        means[-2:].max() - means[0],
        low=10,
        unit="points",
        detail=f"probes' accuracy on changed pictures, the better of the last two layers less the first; by "
        f"layer {words} %; unchanged {right['as it was'][0]:.0f} and {max(right['as it was'][-2:]):.0f}",
    )
    pose = np.mean([steady[name] for name in ("moved", "turned", "enlarged")], axis=0).tolist()
    for claim, values, what in (
        ("5.7.x3", pose, "moved, turned or enlarged"),
        ("5.7.x4", steady["grey"], "robbed of colour"),
    ):
        words = ", ".join(f"{v:.2f}" for v in values)
        report.claim(
            claim,
            values[-1] - values[0],
            low=0.1,
            detail=f"invariance of the last layer less the first's where pictures are {what}; by layer {words}",
        )


@torch.no_grad()
def _features(model: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Maps:
    """Each layer's maps, averaged to 4 x 4 places: the same precision of place for all."""
    found: dict[str, list[Tensor]] = {layer: [] for layer in LAYERS}
    for some in images.split(25):
        for layer, maps in zip(LAYERS, activations(model, some, LAYERS), strict=True):
            found[layer].append(F.adaptive_avg_pool2d(maps, 4).flatten(1))
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def _probe(learnt: Tensor, train: Labelled, view: Tensor, test: Labelled) -> float:
    """A linear probe on features averaged over places."""
    a, b = (features.unflatten(1, (-1, 16)).mean(2) for features in (learnt, view))
    return linear_probe(a, train.labels, b, test.labels, C=0.1).test


def _seen(report: Report, model: nn.Module, photograph: Float[Tensor, "3 h w"], crops: int, seed: int) -> None:
    """How well a raw kernel, and the patches that excite a unit most, say what else excites it (c4, x5)."""
    one, other = (_crops(crops, half, seed) for half in ("left", "right"))
    answers = [_answers(model, part) for part in (one, other)]
    fields = receptive_fields(model, (3, LARGEST, LARGEST))
    raw, found, units = {}, {}, {}
    for layer in KERNELS:
        patch, unseen = (_seen_of(fields[layer], part) for part in (one, other))
        first, target = (part[layer] for part in answers)
        places = ((first.std(0) > 1e-3 * first.std(0).max()) & (target.std(0) > 0)).nonzero()[:, 0]
        chosen = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))][:UNITS]
        best = first[:, chosen].topk(TOP, dim=0).indices  # (TOP, units)
        described = _described(patch)
        mean, spread = described.mean(0), described.std(0).clamp(min=1e-6)
        here, there = ((part - mean) / spread for part in (described, _described(unseen)))
        kernels = model.get_parameter(f"{layer}.weight").detach()[chosen]
        viewed = (_described(_as_pictures(kernels)) - mean) / spread
        raw[layer] = np.maximum(
            _agreement(_by_pixels(kernels, unseen), target[:, chosen]), _agreement(there @ viewed.T, target[:, chosen])
        )
        found[layer] = _agreement(there @ here[best].mean(0).T, target[:, chosen])
        units[layer] = Unit(kernels[0], patch[best[:, 0]], int(chosen[0]))
    report.figure(
        "strips",
        _strips(model, photograph, units),
        "One unit of each layer: its kernel as it is (grey is "
        "zero), what it can see (white square), its map, and the patches of shipped photographs, of "
        f"{LARGEST} pixels at most, that excite it most.",
    )
    _told(report, raw, found, len(other))


def _told(report: Report, raw: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], count: int) -> None:
    """What kernels and patches tell of a unit's answers to `count` other patches."""
    figure, axes = drawing(width=6.4, height=3)
    names = [layer.removesuffix(".conv").removesuffix(".depthwise") for layer in KERNELS]
    axes.plot(names, [raw[layer].mean() for layer in KERNELS], "o-", color=ORANGE, label="its raw kernel")
    axes.plot(
        names,
        [found[layer].mean() for layer in KERNELS],
        "o-",
        color=VIOLET,
        label=f"the {TOP} patches that excite it most",
    )
    chance = (2 / np.pi / count) ** 0.5
    axes.axhline(chance, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(ylabel="rank correlation", ylim=(0, 1.05))
    axes.tick_params(axis="x", rotation=30, labelsize=8)
    axes.legend(frameon=False)
    report.figure(
        "told",
        figure,
        "How well other patches' likeness to a kernel, or to the patches that excite its unit "
        "most, tells how much they excite it: means of units, on halves of photographs not looked at before. "
        "Dotted: chance.",
    )
    gains = np.concatenate([found[layer] - raw[layer] for layer in DEEP])
    words = ", ".join(f"{raw[layer].mean():.2f} / {found[layer].mean():.2f}" for layer in KERNELS)
    report.claim(
        "5.7.c4",
        float(gains.mean()),
        low=0.1,
        spread=2 * float(gains.std()) / len(gains) ** 0.5,
        detail="rank correlation of a patch's likeness to the patches that excite a unit most with the unit's "
        f"answer, less that of its likeness to the raw kernel; {len(gains)} units of three deep layers; kernel "
        f"/ patches by layer {words}; spread: two standard errors",
    )
    report.claim(
        "5.7.x5",
        float(raw[KERNELS[0]].mean()),
        low=0.9,
        detail="the same correlation for the raw kernels of the first layer",
    )
    report.claim(
        "5.7.x6",
        float(np.concatenate([raw[layer] for layer in DEEP]).mean()),
        high=0.5,
        detail=f"the same for the raw kernels of three deep layers; chance {chance:.2f}",
    )


def _crops(count: int, half: str, seed: int) -> Float[Tensor, "n 3 s s"]:
    """Random squares from one half of each photograph, whose shorter side is 256."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in PHOTOGRAPHS:
        picture = resize(read_image(name), 256)
        middle = picture.shape[-1] // 2
        part = picture[..., :middle] if half == "left" else picture[..., middle:]
        for _ in range(count):
            top = int(torch.randint(256 - LARGEST + 1, (), generator=generator))
            left = int(torch.randint(part.shape[-1] - LARGEST + 1, (), generator=generator))
            found.append(part[:, top : top + LARGEST, left : left + LARGEST])
    return torch.stack(found)


@torch.no_grad()
def _answers(model: nn.Module, crops: Float[Tensor, "n 3 s s"]) -> Maps:
    """What the middle unit of each channel says, layer by layer."""
    found: dict[str, list[Tensor]] = {layer: [] for layer in KERNELS}
    for some in crops.split(25):
        for layer, maps in zip(KERNELS, activations(model, some, KERNELS), strict=True):
            found[layer].append(maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2])
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def _seen_of(field: Field, crops: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 h w"]:
    """What the middle unit can see of each crop."""
    middle = round(LARGEST / field.jump[0]) // 2
    x1, y1, x2, y2 = (int(min(max(at, 0), LARGEST)) for at in field.box(middle, middle))
    return crops[..., y1:y2, x1:x2]


def _as_pictures(kernels: Float[Tensor, "k c h w"]) -> Float[Tensor, "k 3 16 16"]:
    """Kernels as one would look at them: enlarged, zero grey."""
    shown = kernels if kernels.shape[1] == 3 else kernels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    top = shown.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return F.interpolate(shown / (2 * top) + 0.5, (16, 16), mode="bilinear")


def _by_pixels(kernels: Float[Tensor, "k c h w"], crops: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n k"]:
    """The kernel laid over the whole patch, brought to its size."""
    small = F.adaptive_avg_pool2d(crops, (kernels.shape[2], kernels.shape[3]))
    small = small if kernels.shape[1] == 3 else small.mean(1, keepdim=True)
    return torch.einsum("nchw,kchw->nk", small, kernels if kernels.shape[1] == 3 else kernels.mean(1, keepdim=True))


def _described(pictures: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
    """What an eye compares at once: colours, and the strength of edges of four directions, on 4 x 4 places."""
    shown = F.interpolate(pictures, (16, 16), mode="bilinear", antialias=True)
    grey = F.pad(shown.mean(1, keepdim=True), [1] * 4, mode="replicate")
    right, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    edges = torch.cat([right.abs(), down.abs(), (right + down).abs(), (right - down).abs()], 1)
    return F.avg_pool2d(torch.cat([shown, edges], 1), 4).flatten(1)


def _agreement(said: Float[Tensor, "n k"], answers: Float[Tensor, "n k"]) -> Float[np.ndarray, " k"]:
    """The size of each unit's rank correlation (a kernel's sign may be turned by what comes before it)."""
    a, b = (rankdata(part.numpy(), axis=0) for part in (said, answers))
    a, b = a - a.mean(0), b - b.mean(0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.abs((a * b).sum(0) / np.maximum(norms, 1e-12))


@torch.no_grad()
def _strips(model: nn.Module, photograph: Float[Tensor, "3 h w"], units: Mapping[str, Unit]) -> Figure:
    fields = receptive_fields(model, (3, 224, 224))
    maps = activations(model, photograph[None], list(units))
    figure, axes = drawing(len(units), 3 + 4, width=9.4, height=1.5 * len(units))
    for row, (layer, unit), found in zip(axes, units.items(), maps, strict=True):
        field = fields[layer]
        kernel = unit.kernel if len(unit.kernel) == 3 else unit.kernel.mean(0, keepdim=True).expand(3, -1, -1)
        row[0].imshow((kernel / (2 * kernel.abs().max()) + 0.5).movedim(0, -1).numpy(), interpolation="nearest")
        row[0].set_title(f"{layer.removesuffix('.conv').removesuffix('.depthwise')}, #{unit.place}", fontsize=8)
        row[1].imshow(photograph.movedim(0, -1).numpy())
        middle = found.shape[-1] // 2
        x1, y1, x2, y2 = field.box(middle, middle)
        row[1].plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", linewidth=1.5)
        row[1].set(xlim=(0, 224), ylim=(224, 0))
        row[1].set_title(f"sees {field.size[0]:g} px", fontsize=8)
        row[2].imshow(found[0, unit.place].numpy(), cmap="gray")
        row[2].set_title(f"{found.shape[-1]} x {found.shape[-1]}", fontsize=8)
        for each, patch in zip(row[3:], unit.best, strict=False):
            each.imshow(patch.movedim(0, -1).numpy())
    for each in axes.flat:
        each.set_axis_off()
    return figure
