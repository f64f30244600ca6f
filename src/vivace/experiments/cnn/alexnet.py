"""Experiment: what AlexNet is made of, and the two ideas of it that were given up."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.cost import Cost, cost
from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, GREY, ORANGE, drawing
from vivace.base.hooks import activations
from vivace.base.images import heat_colors, read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import AlexNet, LocalResponseNormalization, alexnet, efficientnet_lite0, local_response_normalization
from vivace.experiments.classifier import Recipe, train_classifier
from vivace.experiments.labelled_pictures import DataSet, to_learn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"dataset": "digits", "epochs": 8, "runs": 2}

BATCH = 64
TESTED = 1000  # pictures at most
CONSTANT = 2**0.75  # what local response normalisation divides by where nothing responds
AFTER: dict[str, Callable[[int], nn.Module]] = {
    "nothing": nn.Identity,
    "LRN": lambda _: LocalResponseNormalization(),
    "division by 1.68": lambda _: LocalResponseNormalization(alpha=0.0),
    "batch normalisation": nn.BatchNorm2d,
}


@checked
def run(*, image: ImagePath = "chelsea", dataset: DataSet = "auto", each: Annotated[int, Ge(10), Le(5000)] = 200,
        epochs: Annotated[int, Ge(1), Le(100)] = 6, batch_size: Annotated[int, Ge(1), Le(4096)] = 128,
        runs: Annotated[int, Ge(2), Le(20)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """AlexNet: five convolutions, three fully connected layers; its LRN and its two columns did not last.

    vivace run alexnet        1 min on two cores (CIFAR-10: 4); three layers hold 96.0 % of the parameters

    image: the photograph on whose first responses local response normalisation is shown
    dataset: what the small nets learn: cifar10, scikit-learn's digits, or auto: CIFAR-10 if it is there
    each: pictures of each class that they learn from
    epochs: passes over them
    batch_size: pictures in a step of AlexNet's training, for counting what two GPUs exchange
    runs: nets of each kind, each with weights of its own
    seed: of the first run
    """
    report = Report(
        "AlexNet: where the parameters are, and what became of LRN and the two columns",
        "AlexNet (2012) is counted layer by layer: the net of one column that torchvision has, and the paper's net of "
        "two columns, one for each GPU. Then local response normalisation (LRN), "
        "$b_i = a_i / (2 + 10^{-4} \\sum_{|j-i| \\le 2} a_j^2)^{0.75}$, is applied to what first filters say about a "
        "photograph, and small nets learn with it and without.",
    )
    _layers(report)
    _columns(report, batch_size)
    _inhibition(report, image)
    _accuracy(report, dataset, each, epochs, runs, seed, tell)
    return report


def _counted(columns: int) -> tuple[AlexNet, Cost]:
    with torch.device("meta"):
        model = alexnet(columns=columns, local_response=columns == 2)
    return model, cost(model)


def _layers(report: Report) -> None:
    """The layers with weights, their parameters and work (c1)."""
    _, one = _counted(1)
    _, two = _counted(2)
    rows = []
    for mine, papers in zip(one.of("Conv2d", "Linear").layers, two.of("Conv2d", "Linear").layers, strict=True):
        shapes = (" x ".join(map(str, layer.shape)) for layer in (mine, papers))
        rows.append((mine.name, *shapes, mine.parameters, papers.parameters, f"{mine.multiply_adds / 1e6:.0f} M"))
    total = ("in all", "", "", one.parameters, two.parameters, f"{one.multiply_adds / 1e6:.0f} M")
    columns = ("layer", "output", "output, two columns", "parameters", "parameters, two columns", "multiply-adds")
    report.table("layers", columns, [*rows, total], "For one picture of 224 x 224.")
    report.figure("shares", _shares(one), "The convolutions do the work, the fully connected layers hold the weights.")
    kinds = [layer.kind for layer in one.layers]
    found = kinds.count("Conv2d"), kinds.count("Linear")
    weights = one.of("Linear").parameters / one.parameters
    work = one.of("Linear").multiply_adds / one.multiply_adds
    report.claim("4.3.c1", found == (5, 3), low=1,
                 detail=f"{found[0]} convolutions and {found[1]} fully connected layers (1: five and three); they hold "
                 f"{weights:.1%} of {one.parameters:,} parameters and do {work:.1%} of the work")  # fmt: skip


def _shares(one: Cost) -> "Figure":
    figure, axes = drawing(height=2.4)
    convolutions = one.of("Conv2d")
    parts = {"activations": (convolutions.activations, one.of("Linear").activations),
             "multiply-adds": (convolutions.multiply_adds, one.multiply_adds - convolutions.multiply_adds),
             "parameters": (convolutions.parameters, one.parameters - convolutions.parameters)}  # fmt: skip
    left = [100 * first / (first + second) for first, second in parts.values()]
    axes.barh(list(parts), left, color=BLUE, label="five convolutions")
    axes.barh(list(parts), [100 - share for share in left], left=left, color=ORANGE, label="three fully connected")
    axes.set(xlabel="share in %", xlim=(0, 100))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return figure


def _columns(report: Report, batch: int) -> None:
    """Where the two columns meet (x11), and what two GPUs exchange in a step of training (x12)."""
    with seeded(0):
        model = alexnet(columns=2).eval()
        picture = torch.rand(1, 3, 95, 95)
    places = [i for i, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    first, *later = activations(model, picture, [f"features.{i}" for i in places])
    reached = [bool(torch.autograd.grad(maps.chunk(2, 1)[0].sum(), first, retain_graph=True)[0].chunk(2, 1)[1].any())
               for maps in later]  # fmt: skip
    report.claim("4.3.x11", 2 + reached.index(True), low=3, high=3,
                 detail="the first convolution of whose first half of maps the gradient with respect to the second "
                 "half of the first convolution's is not zero, in the net of two columns")  # fmt: skip
    _, counted = _counted(2)
    crossing = ("features.5", "avgpool", "classifier.2", "classifier.5")  # what the layers where columns meet are given
    halves = [layer.activations // 2 for layer in counted.layers if layer.name in crossing]
    split = 2 * batch * sum(halves)  # maps on the way forward, their gradients on the way back
    rows = [("the paper's split: maps of four layers, and their gradients", split),
            ("each GPU a whole net and half of the pictures: all gradients", counted.parameters),
            ("the same, convolutions only", counted.of("Conv2d").parameters)]  # fmt: skip
    report.table("exchanged", ("what two GPUs exchange", f"numbers sent by each in a step of {batch} pictures"), rows,
                 "What enters the third convolution and the three fully connected layers comes from both GPUs. Today "
                 "the second way is usual (`devices=2`), for nets without large fully connected layers.")  # fmt: skip
    report.claim("4.3.x12", counted.parameters / split, low=1, unit="times",
                 detail=f"{counted.parameters:,} gradients against {split:,} maps and gradients of maps, {batch} "
                 f"pictures a step; equal at {counted.parameters // (2 * sum(halves)):,} pictures")  # fmt: skip


@torch.no_grad()
def _inhibition(report: Report, image: ImagePath) -> None:
    """Local response normalisation on the first responses to a photograph, in two units of brightness (x13, x14)."""
    weight = efficientnet_lite0(weights="imagenet").get_parameter("stem.conv.weight")
    pixels = 255 * read_image(image, max_side=320)[None]
    units = {"bytes, less their mean": pixels - pixels.mean(), "standard deviations": (pixels - 127) / 128}
    shown, factors = {}, {}
    for unit, x in units.items():
        a = F.conv2d(x, weight, stride=2, padding=1).relu()
        factor = (a / local_response_normalization(a)).where(a > 0, CONSTANT) / CONSTANT
        factors[unit] = factor[a > 0]
        shown[unit] = factor.amax(1)[0]
        if unit.startswith("bytes"):
            report.figure("place", _one_place(a), "All channels at the place that responds most, before and after: "
                          "each is held down by what its two neighbours on either side respond. Their order is that of "
                          "the filters, which is arbitrary.")  # fmt: skip
    top = max(float(factor.log().quantile(0.99)) for factor in shown.values())
    pictures = {f"pixels in {unit}": heat_colors(factor.log() / top) for unit, factor in shown.items()}
    report.images("inhibition", pictures, "The strongest inhibition at a place beyond the constant 1.68, logarithmic: "
                  f"blue none, red {torch.tensor(top).exp():.0f} times. Edges and textures inhibit.")  # fmt: skip
    for claim, unit in (("4.3.x13", "standard deviations"), ("4.3.x14", "bytes, less their mean")):
        report.claim(claim, factors[unit].quantile(0.99) - 1, low=0.05,
                     detail="99th percentile of what a response is divided by beyond the constant 2^0.75; pixels in "
                     f"{unit}, EfficientNet-Lite0's first filters")  # fmt: skip


def _one_place(a: Float[Tensor, "1 c h w"]) -> "Figure":
    at = int(a.square().sum(1).argmax())
    before, after = (maps.flatten(2)[0, :, at] for maps in (a, local_response_normalization(a)))
    figure, axes = drawing(2, 1, width=6.4, height=4, sharex=True)
    for each, values, color, name in zip(axes, (before, after), (GREY, GREEN), ("before", "after LRN"), strict=True):
        each.bar(range(len(values)), values.numpy(), color=color)
        each.set(ylabel=f"response\n{name}")
    axes[1].set(xlabel="channel")
    return figure


def _accuracy(report: Report, dataset: DataSet, each: int, epochs: int, runs: int, seed: int, tell: Tell) -> None:
    """What local response normalisation does to accuracy, and what does it better (x15, x16, x17)."""
    name, train, test = to_learn(dataset, each=each)
    mean, spread = train.images.mean(), train.images.std()
    train, test = (Labelled((part.images - mean) / spread, part.labels, part.classes) for part in (train, test))
    test = test.first(TESTED)
    steps = epochs * -(-len(train.labels) // BATCH)
    right = {after: torch.zeros(runs, epochs) for after in AFTER}
    for turn in range(runs):
        for number, (after, norm) in enumerate(AFTER.items()):
            told = part_of(tell, steps * (turn * len(AFTER) + number), steps * runs * len(AFTER))
            recipe = Recipe(epochs, BATCH, 2e-3, 0.01, seed=seed + turn)
            fitted = train_classifier(_net(norm, train, seed + turn), train, test, recipe, tell=told)
            right[after][turn] = torch.tensor([100 * row["test_accuracy"] for row in fitted.history])
    lines = {after: (range(1, epochs + 1), accuracy.mean(0)) for after, accuracy in right.items()}
    report.curve("accuracy", lines, x="epochs", y="test accuracy in %",
                 caption=f"Three convolutions on {name}, {len(train.labels):,} pictures; what follows the first two "
                 f"ReLUs. Mean of {runs} runs; the line of LRN lies on that of the division.")  # fmt: skip
    last = {after: accuracy[:, -1] for after, accuracy in right.items()}
    for claim, after, than, about in (
        ("4.3.x15", "LRN", "nothing", "with LRN less without"),
        ("4.3.x17", "batch normalisation", "LRN", "with batch normalisation less with LRN"),
    ):
        gain = last[after] - last[than]
        report.claim(claim, gain.mean(), spread=float(gain.std()) / runs**0.5, unit="points",
                     detail=f"test accuracy on {name} {about}, {epochs} epochs, {runs} runs", low=1)  # fmt: skip
    change = last["LRN"] - last["division by 1.68"]
    report.claim("4.3.x16", change.mean().abs(), high=2, unit="points",
                 detail="difference between the mean accuracies with LRN and with a division by 2^0.75")  # fmt: skip


def _net(norm: Callable[[int], nn.Module], train: Labelled, seed: int) -> nn.Sequential:
    """Three convolutions with overlapping pooling, two fully connected layers: AlexNet for a small picture."""
    channels, side = train.images.shape[1], -(-train.images.shape[-1] // 4)
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(channels, 16, 5, padding=2), nn.ReLU(), norm(16), nn.MaxPool2d(3, 2, padding=1),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), norm(32), nn.MaxPool2d(3, 2, padding=1),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * side**2, 64), nn.ReLU(), nn.Linear(64, len(train.classes)),
        )  # fmt: skip
