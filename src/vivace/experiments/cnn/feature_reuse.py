"""Experiment: what DenseNet's layers make of the maps of earlier layers, and whether that saves parameters."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import CifarResNet, DenseNet
from vivace.cnn.densenet import DenseBlock, DenseLayer
from vivace.experiments.classifier import Recipe, accuracy, train_classifier
from vivace.experiments.labelled_pictures import DIGITS, DataSet, in_colour, to_learn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"scale": 1}

WIDTHS = {"DenseNet": (1, 2, 4), "ResNet": (2, 3, 4)}  # new maps of each layer; maps of the first stage
BLOCKS = (3, 3)
BATCH = 64
TESTED = 2000  # pictures at most


def _densenet(growth: int) -> DenseNet:
    """As the paper's for CIFAR-10, but with two blocks of three layers."""
    return DenseNet(growth=growth, blocks=BLOCKS, bottleneck=0, compression=1.0, stem="cifar", stem_maps=12, classes=10)


def _resnet(width: int) -> CifarResNet:
    return CifarResNet(depth=8, width=width)


BUILD: dict[str, Callable[[int], nn.Module]] = {"DenseNet": _densenet, "ResNet": _resnet}


@checked
def run(*, dataset: DataSet = "digits", each: Annotated[int, Ge(10), Le(5000)] = 100,
        scale: Annotated[int, Ge(1), Le(16)] = 2, epochs: Annotated[int, Ge(1), Le(200)] = 8,
        runs: Annotated[int, Ge(2), Le(20)] = 2, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A DenseNet cannot do without its older maps; what they save in parameters.

    vivace run feature_reuse        30 s on two cores; cut to the newest maps, a trained net names 26 % of digits

    dataset: what is learnt: digits (scikit-learn's, of which the claims speak), cifar10 (3 min), or auto: it if there
    each: pictures of each class to learn from
    scale: how many times as many maps as for the smallest nets, which are enough for the digits
    epochs: passes over them
    runs: nets of each kind and width, each with weights of its own
    seed: of the first run
    """
    name, train, test = to_learn(dataset, each=each)
    train, test = in_colour(train), in_colour(test.first(TESTED))
    report = Report(
        "DenseNet: the use of older maps, and parameters at the same accuracy",
        f"Small DenseNets (two blocks of three layers) and ResNets (8 layers) of several widths learn {name}, "
        f"{len(train.labels):,} pictures, {epochs} epochs, {runs} times each. Then a trained DenseNet's layers are cut "
        "off from a part of what they are given.",
    )
    sizes: dict[str, list[int]] = {}
    errors: dict[str, Tensor] = {}
    trained: list[nn.Module] = []
    steps = epochs * -(-len(train.labels) // BATCH)
    done, total = 0, steps * runs * sum(map(len, WIDTHS.values()))
    for kind, widths in WIDTHS.items():
        errors[kind], sizes[kind] = torch.zeros(len(widths), runs), []
        for i, width in enumerate(widths):
            for turn in range(runs):
                with seeded(seed + turn):
                    model = BUILD[kind](scale * width)
                recipe = Recipe(epochs, BATCH, 0.01, 0.01, seed=seed + turn)
                train_classifier(model, train, test, recipe, tell=part_of(tell, done, total))
                errors[kind][i, turn] = 100 - 100 * accuracy(model, test)
                done += steps
                trained += [model] if kind == "DenseNet" and width == widths[-1] else []
            sizes[kind].append(sum(weight.numel() for weight in model.parameters()))
    _parameters(report, name, sizes, errors)
    _cut(report, name, trained, test)
    return report


def _parameters(report: Report, name: str, sizes: dict[str, list[int]], errors: dict[str, Tensor]) -> None:
    """How many times more parameters a ResNet needs for the same accuracy (x31)."""
    figure, axes = drawing(height=3.4)
    for (kind, error), color in zip(errors.items(), (GREEN, BLUE), strict=True):
        thousands = [size / 1000 for size in sizes[kind]]
        axes.plot(thousands, error.mean(1), "o-", color=color, label=kind)
        axes.plot(thousands, error, ".", color=color, alpha=0.4)
    axes.set(xlabel="thousand parameters", ylabel=f"errors on {name}, %", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.legend(frameon=False)
    x = [torch.tensor(sizes[kind], dtype=torch.float64).log() for kind in WIDTHS]
    y = [errors[kind].double().clamp(min=0.1).log() for kind in WIDTHS]
    dx, dy = (torch.cat([part - part.mean() for part in parts]) for parts in (x, [each.mean(1) for each in y]))
    slope = dx @ dy / dx.square().sum()  # of both kinds' lines
    ratios = ((y[0].mean(0) - y[1].mean(0)) / slope + x[1].mean() - x[0].mean()).exp()
    report.figure("parameters", figure, "Small dots: each training; large ones: their mean. At the same accuracy a "
                  f"ResNet has {float(ratios.mean()):.1f} times the parameters of a DenseNet.")  # fmt: skip
    if name != DIGITS:
        return  # the claims name their data
    report.claim("4.3.x31", ratios.mean(), spread=float(ratios.std()) / len(ratios) ** 0.5, low=3, unit="times",
                 detail="a ResNet's parameters to those of a DenseNet of the same accuracy: the distance between two "
                 "parallel lines through log error over log parameters; mean of the runs")  # fmt: skip


def _cut(report: Report, name: str, trained: list[nn.Module], test: Labelled) -> None:
    """Weights by the layer that they come from, and what is lost without them (x32)."""
    ways: dict[str, Callable[[int], slice]] = {
        "all": lambda _: slice(0, 0),
        "without the newest": lambda count: slice(count - 1, count),
        "without what entered the block": lambda _: slice(0, 1),
        "with the newest only": lambda count: slice(0, count - 1),
    }
    right = {way: torch.tensor([100 * accuracy(_without(model, cut), test) for model in trained])
             for way, cut in ways.items()}  # fmt: skip
    rows = [(way, round(values.mean().item(), 1)) for way, values in right.items()]
    report.table("cut", ("each layer is given", "test accuracy, %"), rows,
                 "The widest DenseNets, trained whole; then weights are set to zero.")  # fmt: skip
    report.figure("weights", _weights(trained[0]), "As figure 5 of the paper: mean size of the weights with which a "
                  "layer (column) takes in the maps of an earlier one (row), over the column's largest.")  # fmt: skip
    lost = right["all"] - right["with the newest only"]
    if name == DIGITS:
        report.claim("4.3.x32", lost.mean(), low=10, spread=float(lost.std()) / len(lost) ** 0.5, unit="points",
                     detail="accuracy lost when each layer of a trained DenseNet gets the newest maps "
                     "only")  # fmt: skip


def _by_source(model: nn.Module) -> list[list[tuple[Tensor, ...]]]:
    """By block and layer its weights (k, maps, 3, 3) in parts: for what entered the block, then for each layer's."""
    found = []
    for block in (module for module in model.modules() if isinstance(module, DenseBlock)):
        layers = [layer for layer in block.values() if isinstance(layer, DenseLayer)]
        growth, entered = layers[0].conv2.weight.shape[:2]
        found.append([layer.conv2.weight.split([entered, *[growth] * i], 1) for i, layer in enumerate(layers)])
    return found


@torch.no_grad()
def _without(model: nn.Module, cut: Callable[[int], slice]) -> nn.Module:
    """A copy whose layers take nothing from these of their sources; a block's first has one, and keeps it."""
    model = copy.deepcopy(model)
    for sources in (sources for block in _by_source(model) for sources in block[1:]):
        for weight in sources[cut(len(sources))]:
            weight.zero_()
    return model


@torch.no_grad()
def _weights(model: nn.Module) -> "Figure":
    blocks = _by_source(model)
    figure, axes = drawing(1, len(blocks), width=3.4 * len(blocks), height=3.2)
    for number, (each, block) in enumerate(zip(axes, blocks, strict=True), start=1):
        sizes = torch.full((len(block), len(block)), torch.nan)
        for i, sources in enumerate(block):
            means = torch.stack([weight.abs().mean() for weight in sources])
            sizes[: i + 1, i] = means / means.max()
        picture = each.imshow(sizes.numpy(), cmap="viridis", vmin=0, vmax=1)
        each.grid(False)
        each.set_xticks(range(len(block)), [f"layer {i + 1}" for i in range(len(block))])
        each.set_yticks(range(len(block)), ["block's input", *(f"layer {i}" for i in range(1, len(block)))])
        each.set_title(f"block {number}", fontsize=10)
    figure.colorbar(picture, ax=axes, label="mean size of weights, relative", shrink=0.8)
    return figure
