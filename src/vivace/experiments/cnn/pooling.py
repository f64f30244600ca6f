"""Experiment: max and average pooling by numbers, what they save, and whether they keep a net from overfitting."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.optim import AdamW

from vivace.base.cost import Cost, cost
from vivace.base.data import Labelled, stratified
from vivace.base.drawing import PALETTE, drawing
from vivace.base.images import read_image, reduce_to
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import average_pool2d, max_pool2d, vgg16
from vivace.experiments.classifier import accuracy
from vivace.experiments.labelled_pictures import DataSet, to_learn
from vivace.experiments.plain_training import train

QUICK = {"dataset": "digits", "few": 200, "epochs": 20, "runs": 4}

EXAMPLE = torch.tensor([[2.0, 8, 1, 3], [6, 5, 4, 2], [3, 1, 4, 2], [7, 4, 3, 5]])[None, None]
TAUGHT = {"max": torch.tensor([[8.0, 4], [7, 5]]), "average": torch.tensor([[5.25, 2.5], [3.75, 3.5]])}
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": partial(max_pool2d, kernel=2),
    "average": partial(average_pool2d, kernel=2),
}
SHRINKING = ("max pooling", "average pooling", "strided convolution", "nothing")
CHANNELS = {"digits": 32, "cifar10": 16}


@checked
def run(*, image: ImagePath = "chelsea", dataset: DataSet = "auto", few: Annotated[int, Ge(100), Le(5000)] = 500,
        epochs: Annotated[int, Ge(1), Le(200)] = 30, runs: Annotated[int, Ge(2), Le(20)] = 4, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Pooling keeps a quarter of the values, costs no parameter, and is no cure for overfitting by itself.

    vivace run pooling        1 min on two cores; 48 times fewer multiplications; a gap no smaller than without pooling

    image: the picture that is pooled four times
    dataset: what small networks learn: CIFAR-10's photographs, scikit-learn's digits, or auto: CIFAR-10 if it is there
    few: how many pictures they learn from
    epochs: how often each is seen
    runs: networks of each kind, each with weights and pictures of its own
    seed: the first run's seed
    """
    report = Report(
        "Pooling: the maximum or the mean of each window",
        "A $2 \\times 2$ pooling with stride 2 makes one number of four. Multiplications are counted in VGG-16 with "
        "its poolings, without them, and with strided convolutions in their place; then small networks of the same "
        "number of parameters, shrinking in four ways, learn few pictures by heart.",
    )
    _example(report)
    _sizes(report)
    _picture(report, reduce_to(read_image(image).expand(3, -1, -1), 480))
    _multiply_adds(report)
    _overfitting(report, dataset, few, epochs, runs, seed, tell)
    return report


def _example(report: Report) -> None:
    """The taught example, of which only the results are given: a matrix that has both (c1, c2)."""
    for claim, (name, pool) in zip(("4.4.c1", "4.4.c2"), POOLINGS.items(), strict=True):
        found = pool(EXAMPLE)[0, 0]
        report.claim(claim, (found - TAUGHT[name]).abs().max(), high=0,
                     detail=f"largest difference between {found.tolist()} and what is taught")  # fmt: skip
    report.figure("example", _drawn_example(), "Four windows of four numbers each, their maxima and their means. The "
                  "course gives the results only; this matrix has both.")  # fmt: skip


def _drawn_example() -> Figure:
    figure, axes = drawing(1, 3, width=8, height=3, width_ratios=(2, 1.2, 1.2))
    tables = {"input": EXAMPLE[0, 0]} | {f"{name} pooling": pool(EXAMPLE)[0, 0] for name, pool in POOLINGS.items()}
    for ax, (title, numbers) in zip(axes, tables.items(), strict=True):
        side, each = len(numbers), len(numbers) // 2
        for row in range(side):
            for column in range(side):
                color = PALETTE[2 * (row // each) + column // each]
                ax.add_patch(Rectangle((column, row), 1, 1, facecolor=color, alpha=0.3, edgecolor="white", linewidth=2))
                ax.text(column + 0.5, row + 0.5, f"{numbers[row, column]:g}", ha="center", va="center", size=13)
        ax.set(xlim=(0, side), ylim=(side, 0), aspect="equal", title=title)
        ax.axis("off")
    return figure


def _sizes(report: Report) -> None:
    """The share of values that a 2 x 2 pooling keeps, at even and at odd sizes (c3, x1)."""
    for claim, sizes, words in (("4.4.c3", (224, 112, 56, 28, 14), "VGG's maps at 224 pixels"),
                                ("4.4.x1", (55, 27, 13, 7, 3), "odd maps")):  # fmt: skip
        kept = {n: max_pool2d(torch.zeros(1, 1, n, n), 2).numel() / n**2 for n in sizes}
        report.claim(claim, max(abs(share - 0.25) for share in kept.values()), high=0.001,
                     detail=f"largest distance from 1/4 of the share kept, {words}: "
                     + ", ".join(f"{n} x {n} {share:.3f}" for n, share in kept.items()))  # fmt: skip


def _picture(report: Report, picture: Tensor) -> None:
    """The picture pooled again and again, each shown as large as it was."""
    shown = {"picture": picture}
    for name, pool in POOLINGS.items():
        maps, times = picture[None], 0
        while min(maps.shape[-2:]) >= 2 and times < 4:
            maps, times = pool(maps), times + 1
            if times in (2, 4):
                size = 2**times
                shown[f"{name}, {size} x {size} in all"] = maps[0].repeat_interleave(size, 1).repeat_interleave(size, 2)
    report.images("pooled", shown, "2 x 2 pooling, two and four times in a row. Maxima brighten: they keep that "
                  "something was there, means keep how much.")  # fmt: skip


def _multiply_adds(report: Report) -> None:
    """VGG-16's convolutions at 224 pixels, shrunk by pooling, not at all, and by stride (c6, x8)."""
    costs = {"max pooling": cost(_vgg()), "nothing": cost(_vgg(pooling=False)),
             "strided convolution": cost(_vgg(pooling=False, strided=True))}  # fmt: skip
    work = {name: each.multiply_adds for name, each in costs.items()}
    inside = costs["max pooling"].of("MaxPool2d").parameters
    rows = [(name, f"{each.parameters:,}", f"{work[name] / 1e9:.1f} G", f"{each.activations / 1e6:.0f} M")
            for name, each in costs.items()]  # fmt: skip
    report.table("costs", ("shrunk by", "parameters", "multiply-adds", "activations"), rows,
                 "The 13 convolutions of VGG-16 for one picture of 224 x 224. Strided: each stage's last convolution "
                 "takes steps of 2, and so computes a quarter itself.")  # fmt: skip
    saved = work["nothing"] / work["max pooling"]
    report.claim("4.4.c6", saved if inside == 0 else 0.0, low=2, unit="times",
                 detail=f"multiply-adds without pooling over with: {work['nothing'] / 1e9:.1f} G against "
                 f"{work['max pooling'] / 1e9:.1f} G; {inside} parameters in the five poolings")  # fmt: skip
    report.claim("4.4.x8", work["max pooling"] / work["strided convolution"], high=1, unit="times",
                 detail="multiply-adds with pooling over those with strided convolutions")  # fmt: skip
    report.figure("stages", _drawn_stages(costs), "Where they are spent, stage by stage.")


def _vgg(*, pooling: bool = True, strided: bool = False) -> nn.Sequential:
    """VGG-16's convolutions; the pooling after each stage may be left out, or the last convolution do its work."""
    with torch.device("meta"):
        layers = list(vgg16().features)
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d) and not pooling:
            layers[place] = nn.Identity()
            convolution = layers[place - 2]  # then a ReLU, then the pooling
            if strided and isinstance(convolution, nn.Conv2d):
                convolution.stride = (2, 2)
    return nn.Sequential(*layers)


def _drawn_stages(costs: dict[str, Cost]) -> Figure:
    figure, axes = drawing(width=7, height=3.4)
    for i, (name, each) in enumerate(costs.items()):
        stages, stage = [0.0] * 5, 0
        for layer in each.layers:
            stage += layer.kind in ("MaxPool2d", "Identity")
            stages[min(stage, 4)] += layer.multiply_adds / 1e9
        axes.bar([s + 1 + 0.27 * (i - 1) for s in range(5)], stages, 0.25, color=PALETTE[i], label=name)
    axes.set(xlabel="stage of VGG-16", ylabel="multiply-adds, G", yscale="log")
    axes.legend(frameon=False, title="shrunk by")
    return figure


def _overfitting(report: Report, dataset: DataSet, few: int, epochs: int, runs: int, seed: int, tell: Tell) -> None:
    """Accuracy on the pictures learnt from, less that on others, for equal numbers of parameters (c5, x9)."""
    name, every, test = to_learn(dataset, tell=tell)
    channels = CHANNELS["cifar10" if "CIFAR" in name else "digits"]
    right = {kind: torch.zeros(runs, 2) for kind in SHRINKING}
    parameters = set()
    for turn in range(runs):
        parts = stratified(every, test_share=1 - few / len(every.labels), seed=seed + turn)
        unseen = _many(parts["test"], test)
        for index, kind in enumerate(SHRINKING):
            tell(Step(turn * len(SHRINKING) + index, runs * len(SHRINKING), f"{name}, run {turn + 1}: {kind}"))
            net = _network(kind, every.images.shape[1], channels, seed + turn)
            parameters.add(sum(weight.numel() for weight in net.parameters()))
            optimizer = partial(AdamW, lr=3e-3, weight_decay=0, fused=True)
            train(net, parts["train"], epochs=epochs, batch_size=25, seed=seed + turn, optimizer=optimizer)
            right[kind][turn] = torch.tensor([100 * accuracy(net, part) for part in (parts["train"], unseen)])
    assert len(parameters) == 1, "equal parameters"
    gaps = {kind: each[:, 0] - each[:, 1] for kind, each in right.items()}
    rows = [(kind, *(f"{value:.1f}" for value in each.mean(0)), f"{gaps[kind].mean():.1f} ± {gaps[kind].std():.1f}")
            for kind, each in right.items()]  # fmt: skip
    columns = ("shrunk by", "right on training pictures, %", "right on others, %", "gap, points")
    report.table("overfitting", columns, rows,
                 f"{name}: {few} pictures, {epochs} epochs, {runs} runs (± deviation between them); three "
                 f"convolutions, global average, {parameters.pop():,} parameters each.")  # fmt: skip
    for claim, kind, low in (("4.4.c5", "nothing", 2), ("4.4.x9", "strided convolution", 0)):
        less = gaps[kind] - gaps["max pooling"]
        report.claim(claim, less.mean(), low=low, unit="points", spread=float(less.std()) / runs**0.5,
                     detail=f"gap with {kind} minus gap with max pooling, {name}, {runs} runs")  # fmt: skip


def _many(rest: Labelled, test: Labelled) -> Labelled:
    """Pictures not learnt from: what is left of a small set, or the test part of a large one."""
    return rest if len(rest.labels) < 2000 else test.first(2000)


def _network(kind: str, inputs: int, channels: int, seed: int) -> nn.Sequential:
    """Three convolutions with batch normalisation; after the first two the map is halved, or not."""
    layers: list[nn.Module] = []
    with seeded(seed):
        for number in range(3):
            stride = 2 if kind == "strided convolution" and number < 2 else 1
            layers += [nn.Conv2d(inputs, channels, 3, stride=stride, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
            if number < 2 and kind.endswith("pooling"):
                layers.append(nn.MaxPool2d(2) if kind.startswith("max") else nn.AvgPool2d(2))
            inputs = channels
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
