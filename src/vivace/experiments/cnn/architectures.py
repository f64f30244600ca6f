"""Experiment: what each architecture costs, in parameters, work, memory and time, and what it gives for that."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import nn

from vivace.base.cost import bytes_kept, cost
from vivace.base.drawing import BLUE, GREEN, ORANGE, VIOLET, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.base.weights import TORCHVISION
from vivace.cnn import CifarResNet, DenseNet, MobileNetV2, create_model
from vivace.cnn.folding import fold_batch_norms, for_inference
from vivace.cnn.mobilenet import DepthwiseSeparable
from vivace.experiments.classifier import Recipe, accuracy, train_classifier
from vivace.experiments.labelled_pictures import DataSet, in_colour, to_learn
from vivace.experiments.timing import quickest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"models": "few", "dataset": "digits", "budget": 12.0}

MODELS = {
    "few": ("mobilenet_v2", "resnet50", "densenet121"),
    "all": ("alexnet", "vgg16", "resnet18", "resnet50", "resnet152", "densenet121", "densenet201", "mobilenet_v2",
            "efficientnet_lite0"),
}  # fmt: skip
PUBLISHED = {name: top1 for name, _, _, top1 in TORCHVISION} | {"efficientnet_lite0": 75.1}
FAMILIES = {"v": ORANGE, "a": ORANGE, "r": BLUE, "d": GREEN, "m": VIOLET, "e": VIOLET}  # by the first letter
SMALL: dict[str, Callable[[], nn.Module]] = {
    "ResNet-8": partial(CifarResNet, depth=8),
    "DenseNet, 3 x 2 layers": partial(DenseNet, growth=12, blocks=(2, 2, 2), bottleneck=0, compression=1.0,
                                      stem="cifar", stem_maps=16, classes=10),
    "MobileNetV2, a fifth as wide": partial(MobileNetV2, width=0.2, reduction=4, classes=10),
}  # fmt: skip
BATCH = 64


class Measured(NamedTuple):
    """One architecture, for one picture; times in seconds of one processor."""

    parameters: int
    multiply_adds: int
    activations: int
    kept: int  # bytes that training keeps for the way back
    plain: float
    prepared: float  # batch norms folded, maps channels-last
    apart: float  # how far the prepared network's logits are off, relative to the largest


@checked
def run(*, models: Literal["few", "all"] = "all", size: Annotated[int, Ge(64), Le(512)] = 224,
        dataset: DataSet = "auto", each: Annotated[int, Ge(10), Le(5000)] = 200,
        budget: Annotated[float, Ge(1), Le(10_000)] = 400, rounds: Annotated[int, Ge(1), Le(50)] = 3,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What each architecture costs, and three of them trained for the same work.

    vivace run architectures        2 min on two cores; MobileNetV2 needs 14 times fewer multiply-adds than ResNet-50,
                                    and is some 3 to 6 times as fast

    models: a few architectures, or all
    size: the picture's side in pixels
    dataset: what three small networks learn: cifar10, scikit-learn's digits, or auto: CIFAR-10 if it is there
    each: pictures of each class that they learn from
    budget: for each of them, in thousand millions of multiply-adds, forward and back
    rounds: how often each time is measured; the least counts
    seed: of the weights, and of the pictures' order
    """
    report = Report(
        "Architectures: what each costs",
        f"One picture of {size} x {size}. Parameters, multiply-adds and activations are counted in networks without "
        "numbers; bytes and processor seconds are measured here, with random weights, which cost the same.",
    )
    names = MODELS[models]
    found = {}
    for place, name in enumerate(names):
        tell(Step(place, len(names) + len(SMALL), f"measuring {name}"))
        found[name] = _measured(name, size, rounds, seed)
    _table(report, found)
    report.figure("trade-offs", _trade_offs(found), "Accuracies as published with torchvision's first weights (and "
                  "Google's for EfficientNet-Lite0), not measured here. A bubble's area: parameters.")  # fmt: skip
    _claims(report, found)
    _same_budget(report, dataset, each, budget, seed, part_of(tell, len(names), len(names) + len(SMALL)))
    return report


def _measured(name: str, size: int, rounds: int, seed: int) -> Measured:
    with seeded(seed):
        model = create_model(name)
    pictures = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    counted = cost(model, (3, size, size))
    kept = bytes_kept(model, pictures)
    prepared = for_inference(model.eval(), (3, size, size))
    with torch.inference_mode():
        plain, sooner = quickest([lambda: model(pictures), lambda: prepared(pictures)], rounds=rounds)
        logits = model(pictures)
        apart = (fold_batch_norms(model, (3, size, size))(pictures) - logits).abs().max() / logits.abs().max()
    return Measured(counted.parameters, counted.multiply_adds, counted.activations, kept, plain, sooner, float(apart))


def _table(report: Report, found: dict[str, Measured]) -> None:
    columns = ("network", "parameters, M", "multiply-adds, G", "activations, M", "kept in training, MiB",
               "one picture, ms", "prepared, ms", "pictures a second", "published accuracy, %")  # fmt: skip
    rows = [(name, f"{m.parameters / 1e6:.2f}", f"{m.multiply_adds / 1e9:.2f}", f"{m.activations / 1e6:.1f}",
             f"{m.kept / 2**20:.0f}", f"{1000 * m.plain:.0f}", f"{1000 * m.prepared:.0f}",
             f"{1 / m.prepared:.0f}", PUBLISHED[name]) for name, m in found.items()]  # fmt: skip
    report.table("costs", columns, rows, "Times of one processor, the least of several; 'prepared': batch norms folded "
                 "into convolutions, maps channels-last in memory (`for_inference`).")  # fmt: skip


def _trade_offs(found: dict[str, Measured]) -> "Figure":
    figure, axes = drawing(1, 2, width=9.2, height=3.8, sharey=True)
    measures: dict[str, Callable[[Measured], float]] = {
        "multiply-adds, thousand millions": lambda m: m.multiply_adds / 1e9,
        "one picture here, ms": lambda m: 1000 * m.plain,
    }
    for each, (label, value) in zip(axes, measures.items(), strict=True):
        for name, m in found.items():
            each.scatter(value(m), PUBLISHED[name], s=4 + 6 * m.parameters / 1e6, color=FAMILIES[name[0]], alpha=0.6,
                         linewidths=0)  # fmt: skip
            each.annotate(name, (value(m), PUBLISHED[name]), xytext=(0, 9), textcoords="offset points", fontsize=7,
                          ha="center")  # fmt: skip
        each.set(xlabel=label, xscale="log")
        each.xaxis.set_major_formatter("{x:g}")
        each.minorticks_off()
        each.margins(x=0.2, y=0.15)
    axes[0].set_ylabel("published accuracy, %")
    return figure


def _claims(report: Report, found: dict[str, Measured]) -> None:
    mobile, residual, dense = (found[name] for name in ("mobilenet_v2", "resnet50", "densenet121"))
    faster, lighter = residual.plain / mobile.plain, residual.multiply_adds / mobile.multiply_adds
    report.claim("4.7.c2", faster, low=1.3, unit="times",
                 detail=f"processor time of ResNet-50 to MobileNetV2's, one picture; {1000 * residual.plain:.0f} "
                 f"and {1000 * mobile.plain:.0f} ms")  # fmt: skip
    report.claim("4.7.x40", faster / lighter, low=0.9,
                 detail=f"{faster:.1f} times as fast for {lighter:.1f} times fewer multiply-adds: the one over the "
                 "other")  # fmt: skip
    report.claim("4.7.c4", dense.activations / residual.activations, low=1, unit="times",
                 detail=f"DenseNet-121's {dense.activations / 1e6:.1f} M activations to ResNet-50's "
                 f"{residual.activations / 1e6:.1f} M; bytes kept in training {dense.kept / 2**20:.0f} and "
                 f"{residual.kept / 2**20:.0f} MiB")  # fmt: skip
    report.claim(
        "4.7.c5",
        dense.parameters / residual.parameters,
        low=1,
        unit="times",
        detail=f"DenseNet-121's {dense.parameters:,} parameters to ResNet-50's {residual.parameters:,}",
    )
    full, separable = (sum(weight.numel() for weight in layer.parameters())
                       for layer in (nn.Conv2d(64, 128, 3, bias=False), DepthwiseSeparable(64, 128)))  # fmt: skip
    report.claim("4.7.c8", full / separable, low=7, high=9, unit="times",
                 detail=f"{full:,} weights against {separable:,}")  # fmt: skip
    report.claim("4.7.x41", max(m.apart for m in found.values()), high=1e-4,
                 detail="largest change of a logit when batch norms are folded, relative to the largest")  # fmt: skip
    report.claim("4.7.x42", 1 / mobile.prepared, low=10, unit="pictures/s",
                 detail="MobileNetV2, prepared, one picture at a time, one processor")  # fmt: skip


def _same_budget(report: Report, dataset: DataSet, each: int, budget: float, seed: int, tell: Tell) -> None:
    """Three small networks, trained until each has done the same work."""
    name, *parts = to_learn(dataset, each=each)
    train, test = (in_colour(part) for part in parts)
    test = test.first(2000)
    rows = []
    for place, (kind, build) in enumerate(SMALL.items()):
        tell(Step(place, len(SMALL), f"training {kind}"))
        with seeded(seed):
            model = build()
        work = cost(model, train.images.shape[1:]).multiply_adds
        epochs = max(1, round(budget * 1e9 / (3 * work * len(train.labels))))  # back costs twice as much as forth
        fitted = train_classifier(model, train, test, Recipe(epochs, BATCH, 0.01, 0.01, seed=seed))
        count = sum(weight.numel() for weight in model.parameters())
        rows.append((kind, f"{count:,}", f"{work / 1e6:.2f}", epochs, round(fitted.seconds, 1),
                     round(100 * accuracy(model, test), 1)))  # fmt: skip
    columns = ("network", "parameters", "multiply-adds a picture, M", "epochs", "seconds", "test accuracy, %")
    report.table("same-budget", columns, rows, f"{name}, {len(train.labels):,} pictures to learn from, {budget:g} "
                 "thousand million multiply-adds for each network.")  # fmt: skip
