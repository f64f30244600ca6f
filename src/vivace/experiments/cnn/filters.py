"""Experiment: what the filters of a trained network answer to, from the first layer to the last."""

import math
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, ORANGE, VIOLET, drawing
from vivace.base.hooks import activations
from vivace.base.images import middle_square, read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import ConvNet, class_selectivity, efficientnet_lite0
from vivace.cnn.linear_probe import linear_probe, pooled_features
from vivace.experiments.classifier import accuracy
from vivace.experiments.labelled_pictures import faces, patches
from vivace.experiments.plain_training import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"each": 4, "side": 64, "draws": 3, "nets": 4}

LAYERS = ("stem", "blocks.2.expand", "blocks.4.expand", "blocks.7.expand", "blocks.10.expand", "blocks.14.expand",
          "head")  # fmt: skip
MIDDLE = LAYERS[2:5]
TEXTURES = ("brick", "grass", "gravel", "ihc", "moon", "page")
EXAMPLES = 10  # of each texture to learn from, and to test on; of each shape four times as many
PIECE = 32  # pixels of a texture's side
TEXTURE_NOISE, SHAPE_NOISE, FACE_NOISE = 0.25, 0.1, 0.3  # standard deviations, such that no layer is always right
ANGLES = 24
RANDOM = 4000  # kernels of the null
SHAPES = ("edge", "corner", "bar")


@checked
def run(*, image: ImagePath = "chelsea", each: Annotated[int, Ge(4), Le(200)] = 20,
        side: Annotated[int, Ge(64), Le(256)] = 96, draws: Annotated[int, Ge(2), Le(20)] = 6,
        nets: Annotated[int, Ge(2), Le(50)] = 12, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What filters learn: edges and colours first, classes last, and no clean staircase between.

    vivace run filters        1 min on two cores; two first-layer kernels in five are oriented or colour blobs; the last
                              layer is nearly four times as class-selective as the first

    image: the photograph whose feature maps are shown
    each: crops of each of ten photographs, for the probes
    side: pixels of a crop as the network sees it
    draws: of textures and shapes, each to learn from and to test on
    nets: small networks that learn to tell faces from other things
    seed: of crops, drawn shapes and networks
    """
    report = Report(
        "What filters learn at different depths",
        "EfficientNet-Lite0, trained on ImageNet: its first kernels against random ones, and, layer by layer, how well "
        "averaged maps tell classes, textures and drawn shapes apart. Then small networks that learn faces.",
    )
    model = efficientnet_lite0(weights="imagenet")
    tell(Step(0, 4, "first kernels"))
    _first(report, model, seed)
    report.figure("maps", _maps(model, read_image(image, max_side=512)), "The photograph, and the six maps of each "
                  "layer that vary most over places: fine lines of the picture first; later coarse maps that answer to "
                  "regions of it.")  # fmt: skip
    tell(Step(1, 4, "classes"))
    _classes(report, model, each, side, seed)
    tell(Step(2, 4, "textures and shapes"))
    _textures(report, model, draws, seed)
    tell(Step(3, 4, "faces"))
    _faces(report, nets, seed)
    return report


def orientation(kernels: Float[Tensor, "k 3 h w"]) -> Float[Tensor, " k"]:
    """How far a kernel prefers one direction of gratings to others: 0 for none, 1 for one alone."""
    luminance = kernels.mean(1)
    at = torch.arange(kernels.shape[-1]) - (kernels.shape[-1] - 1) / 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    angles = torch.arange(ANGLES) * math.pi / ANGLES
    answers = torch.zeros(len(kernels), ANGLES)
    for frequency in (0.15, 0.25, 0.35):  # cycles a pixel
        phase = 2 * math.pi * frequency * (x * angles.cos()[:, None, None] + y * angles.sin()[:, None, None])
        waves = torch.complex(phase.cos(), phase.sin())
        answers += torch.einsum("khw,ahw->ka", luminance.to(waves.dtype), waves).abs()
    turned = answers.to(waves.dtype) * torch.complex((2 * angles).cos(), (2 * angles).sin())
    return turned.sum(1).abs() / answers.sum(1).clamp(min=1e-12)


def colour_blob(kernels: Float[Tensor, "k 3 h w"]) -> Float[Tensor, " k"]:
    """The share of a kernel's energy in one colour against another, the same at all its places."""
    chroma = kernels - kernels.mean(1, keepdim=True)
    flat = chroma.mean((2, 3)).square().sum(1) * kernels[0, 0].numel()
    return flat / kernels.square().sum((1, 2, 3)).clamp(min=1e-12)


def _first(report: Report, model: nn.Module, seed: int) -> None:
    """Oriented edges and colour blobs among the first kernels, against random ones (c1)."""
    kernels = model.get_parameter("stem.conv.weight").detach()
    null = torch.randn(RANDOM, *kernels.shape[1:], generator=torch.Generator().manual_seed(seed))
    measures = {"oriented": orientation, "colour blob": colour_blob}
    bound = {name: measure(null).quantile(0.9) for name, measure in measures.items()}
    is_one = torch.stack([measure(kernels) > bound[name] for name, measure in measures.items()])
    share = is_one.any(0).float().mean()
    by_chance = torch.stack([measure(null) > bound[name] for name, measure in measures.items()]).any(0).float().mean()
    figure, axes = drawing(4, 8, width=8, height=4.4)
    order = (is_one[0].int() + 2 * is_one[1].int()).argsort(descending=True)
    for each, k in zip(axes.flat, order.tolist(), strict=True):
        kernel = kernels[k] / (2 * kernels[k].abs().max()) + 0.5
        each.imshow(kernel.movedim(0, -1).numpy(), interpolation="nearest")
        kinds = [name for name, row in zip(("edge", "colour"), is_one, strict=True) if row[k]]
        each.set_title(" + ".join(kinds) or "neither", fontsize=7)
        each.set_axis_off()
    report.figure("kernels", figure, "All 32 kernels of the first layer, 3 x 3, each scaled to its largest weight; "
                  "grey is zero.")  # fmt: skip
    report.claim("4.6.x4", share / by_chance, low=1.5, unit="times", detail="that share to the one of random kernels")
    report.claim("4.6.c1", share, low=0.5,
                 detail="share of the first kernels that are more oriented, or more of one flat colour, than nine in "
                 f"ten random kernels; of random ones {by_chance:.0%}; oriented {int(is_one[0].sum())}, colour "
                 f"{int(is_one[1].sum())} of {len(kernels)}")  # fmt: skip


@torch.no_grad()
def _maps(model: nn.Module, picture: Float[Tensor, "3 h w"]) -> "Figure":
    square = middle_square(picture, 224)
    layers = (LAYERS[0], LAYERS[2], LAYERS[4], LAYERS[6])
    figure, axes = drawing(len(layers), 7, width=9, height=5.4)
    for row, layer in zip(axes, layers, strict=True):
        maps = activations(model, square[None], [layer])[0][0]
        row[0].imshow(square.movedim(0, -1).numpy())
        row[0].set_title(f"{layer.removesuffix('.expand')}: {maps.shape[-1]} px", fontsize=8)
        for each, k in zip(row[1:], maps.std((1, 2)).topk(6).indices.tolist(), strict=True):
            each.imshow(maps[k].numpy(), cmap="magma")
        for each in row:
            each.set_axis_off()
    return figure


def _classes(report: Report, model: nn.Module, each: int, side: int, seed: int) -> None:
    """Class selectivity of units and accuracy of linear probes, by layer (c2)."""
    left, right = (patches(each, side=side, seed=seed, part=half) for half in ("left", "right"))
    features = [pooled_features(model, part.images, LAYERS) for part in (left, right)]
    index = [float(class_selectivity(both[0].clamp(min=0), left.labels).mean()) for both in zip(*features, strict=True)]
    right_share = [100 * linear_probe(a, left.labels, b, right.labels, C=0.1).test
                   for a, b in zip(*features, strict=True)]  # fmt: skip
    figure, (one, two) = drawing(1, 2, width=8.6, height=3)
    names = [layer.removesuffix(".expand") for layer in LAYERS]
    one.plot(names, index, "o-", color=BLUE)
    one.set(ylabel="mean class selectivity", ylim=(0, None))
    two.plot(names, right_share, "o-", color=ORANGE)
    two.set(ylabel="linear probe, % right", ylim=(0, 100))
    for axes in (one, two):
        axes.tick_params(axis="x", rotation=60, labelsize=7)
    report.figure("classes", figure, "Ten photographs as classes: crops of their left halves to learn from, of their "
                  "right halves to test on.")  # fmt: skip
    report.claim("4.6.c2", index[-1] / index[0], low=1.5, unit="times",
                 detail=f"mean class selectivity of the last layer's units ({index[-1]:.2f}) to the first's "
                 f"({index[0]:.2f})")  # fmt: skip


def _textures(report: Report, model: nn.Module, draws: int, seed: int) -> None:
    """Whether the middle is where textures and corners are told apart (c3, x5)."""
    figure, axes = drawing(width=6.4, height=3)
    names = [layer.removesuffix(".expand") for layer in LAYERS]
    for claim, what, draw, color in (
        ("4.6.c3", "textures", _texture, GREEN),
        ("4.6.x5", "drawn shapes", _shapes, VIOLET),
    ):
        share = torch.zeros(draws, len(LAYERS))
        for turn in range(draws):
            generator = torch.Generator().manual_seed(100 * seed + turn)
            learnt, unseen = (draw(EXAMPLES, half, generator) for half in ("left", "right"))
            features = [pooled_features(model, part.images, LAYERS) for part in (learnt, unseen)]
            for place, (a, b) in enumerate(zip(*features, strict=True)):
                share[turn, place] = 100 * linear_probe(a, learnt.labels, b, unseen.labels, C=0.1).test
        means = share.mean(0)
        middle = max(range(len(LAYERS)), key=lambda i: float(means[i]) if LAYERS[i] in MIDDLE else 0.0)
        outer = max(0, len(LAYERS) - 1, key=lambda i: float(means[i]))
        gains = share[:, middle] - share[:, outer]
        axes.errorbar(names, means, yerr=share.std(0), color=color, marker="o", capsize=3, label=what)
        words = ", ".join(f"{mean:.0f}" for mean in means)
        report.claim(claim, gains.mean(), low=5, spread=2 * float(gains.std()) / draws**0.5, unit="points",
                     detail=f"{what}: probe of the best middle layer ({names[middle]}) less the better "
                     f"of the first's and the last's; {draws} draws; by layer {words} %")  # fmt: skip
    axes.set(ylabel="linear probe, % right", ylim=(0, 103))
    axes.tick_params(axis="x", rotation=40, labelsize=7)
    axes.legend(frameon=False, fontsize=8)
    report.figure("textures", figure, f"Textures: {', '.join(TEXTURES)}; pieces of 32 pixels in grey, turned, of equal "
                  "mean and contrast, in noise of a quarter of that. Shapes: edges, corners, bars at "
                  f"random places, angles, contrasts, in noise. Whiskers: spread over {draws} draws.")  # fmt: skip


def _texture(count: int, half: str, generator: torch.Generator) -> Labelled:
    """Small pieces of one half of each texture, turned, without colour, of equal mean and contrast, in noise."""
    found = []
    for name in TEXTURES:
        grey = read_image(name).mean(0, keepdim=True)
        middle = grey.shape[2] // 2
        grey = grey[..., :middle] if half == "left" else grey[..., middle:]
        for _ in range(count):
            y, x = (int(torch.randint(length - PIECE + 1, (), generator=generator)) for length in grey.shape[1:])
            piece = grey[:, y : y + PIECE, x : x + PIECE].rot90(int(torch.randint(4, (), generator=generator)), (1, 2))
            piece = (piece - piece.mean()) / piece.std().clamp(min=0.01)
            piece = piece + TEXTURE_NOISE * torch.randn(piece.shape, generator=generator)
            found.append(piece / (1 + TEXTURE_NOISE**2) ** 0.5)
    large = F.interpolate(torch.stack(found), (64, 64), mode="bilinear")
    images = (0.5 + 0.15 * large).clamp(0, 1).expand(-1, 3, -1, -1)
    return Labelled(images, torch.arange(len(TEXTURES)).repeat_interleave(count), TEXTURES)


def _shapes(count: int, _half: str, generator: torch.Generator) -> Labelled:
    """Edges, corners and bars of random place, angle and contrast on grey, in noise; four times `count` of each."""
    side = 64
    labels = torch.arange(len(SHAPES)).repeat_interleave(4 * count)
    draw = torch.rand(6, len(labels), 1, 1, generator=generator)
    at = (torch.arange(side) - side / 2) / side
    y, x = at[:, None] - 0.4 * (draw[0] - 0.5), at[None, :] - 0.4 * (draw[1] - 0.5)
    angle = 2 * math.pi * draw[2]
    u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    inside = torch.stack([u > 0, (u > 0) & (v > 0), u.abs() < 0.06])[labels, torch.arange(len(labels))]
    sign = 2 * (draw[3] > 0.5) - 1
    images = 0.5 + sign * (0.15 + 0.3 * draw[4]) * (inside.float() - 0.5)
    images = images + SHAPE_NOISE * torch.randn(images.shape, generator=generator)
    return Labelled(images.clamp(0, 1)[:, None].expand(-1, 3, -1, -1), labels, SHAPES)


def _faces(report: Report, nets: int, seed: int) -> None:
    """Four layers that learn faces: does each know more of the whole face than the one before (c4)?"""
    every = faces()
    layers = [f"features.{stage}" for stage in (1, 2, 3, 4)]
    share = torch.zeros(nets, len(layers))
    for turn in range(nets):
        generator = torch.Generator().manual_seed(100 * seed + turn)
        noise = FACE_NOISE * torch.randn(every.images.shape, generator=generator)
        order = torch.randperm(200, generator=generator)
        learnt, unseen = (
            every._replace(images=every.images + noise).taken(some) for some in (order[:100], order[100:])
        )
        with seeded(seed + turn):
            net = ConvNet((1, 25, 25), 2, (8, 16, 16, 16), hidden=(), norm=True)
        train(net, learnt, epochs=15, batch_size=20, seed=seed + turn)
        features = [pooled_features(net, part.images, layers) for part in (learnt, unseen)]
        for place, (a, b) in enumerate(zip(*features, strict=True)):
            share[turn, place] = 100 * linear_probe(a, learnt.labels, b, unseen.labels, C=0.1).test
        whole = 100 * accuracy(net, unseen)
    means = share.mean(0)
    steps = share.diff(dim=1)
    least = int(steps.mean(0).argmin())
    figure, axes = drawing(width=4.6, height=2.8)
    axes.errorbar(range(1, 5), means, yerr=share.std(0), color=BLUE, marker="o", capsize=3)
    axes.set(xlabel="layer", ylabel="faces told from other things, %", xticks=range(1, 5))
    report.figure("faces", figure, f"Linear probes on the averaged maps of each layer, faces in noise; {nets} "
                  f"networks, standard deviation; the last network itself {whole:.0f} %.")  # fmt: skip
    report.claim("4.6.c4", steps[:, least].mean(), low=2, unit="points",
                 spread=2 * float(steps[:, least].std()) / nets**0.5,
                 detail="smallest gain from one layer to the next in telling faces, in noise, from other things; by "
                 "layer " + ", ".join(f"{mean:.0f} %" for mean in means))  # fmt: skip
