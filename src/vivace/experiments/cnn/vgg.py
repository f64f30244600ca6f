"""Experiment: what VGG's fully connected layers cost, and what replaces them."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.data import Labelled, digits
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import VGG, create_model, vgg16
from vivace.experiments.classifier import Recipe, train_classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"epochs": 3, "runs": 2}
BATCH = 64
HEADS = ("FC", "GAP")
NORMS = ("batch normalisation", "no normalisation")
NAMES = {"alexnet": "AlexNet", "vgg11": "VGG-11", "vgg13": "VGG-13", "vgg16": "VGG-16", "vgg19": "VGG-19",
         "efficientnet_lite0": "EfficientNet-Lite0"}  # fmt: skip
RESNET50 = 25_557_032  # parameters of a whole ResNet-50, the measure of "large" here


@checked
def run(*, epochs: Annotated[int, Ge(1), Le(100)] = 6, runs: Annotated[int, Ge(2), Le(20)] = 5, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Most of VGG's parameters sit in its fully connected layers, and an average can take their place.

    vivace run vgg        30 s on two cores; GAP's head is 241 times smaller, and no worse on digits

    epochs: passes over 1200 digits for each small network
    runs: networks of each kind, each with weights and a split of its own
    seed: the first run's seed
    """
    report = Report(
        "VGG: where the parameters are, and whether they are needed",
        "VGG ends in fully connected (FC) layers of 4096, 4096, 1000 units on $7 \\times 7 \\times 512$ features: "
        "$25088 \\cdot 4096 + 4096 = 102{,}764{,}544$ parameters in the first alone. Parameters and multiplications "
        "are counted in networks built layer by layer. Then small networks with the same convolutions, some with an FC "
        "head and some with global average pooling (GAP), learn scikit-learn's digits.",
    )
    with torch.device("meta"):  # shapes without numbers: nothing is computed or stored
        _parameters(report)
        _head(report)
    _digits(report, epochs, runs, seed, tell)
    return report


def _parameters(report: Report) -> None:
    """Parameters and multiplications of classical networks, by kind of layer (c1)."""
    classical = ("alexnet", "vgg11", "vgg13", "vgg16", "vgg19")
    costs = {NAMES[name]: cost(create_model(name)) for name in (*classical, "efficientnet_lite0")}
    full = {name: each.of("Linear") for name, each in costs.items()}
    shares = {name: full[name].parameters / each.parameters for name, each in costs.items()}
    work = {name: full[name].multiply_adds / each.multiply_adds for name, each in costs.items()}
    rows = [(name, each.parameters, full[name].parameters, f"{shares[name]:.1%}", f"{each.multiply_adds / 1e9:.2f} G",
             f"{work[name]:.1%}") for name, each in costs.items()]  # fmt: skip
    columns = ("network", "parameters", "in FC layers", "share", "multiplications at 224 px", "share in FC layers")
    report.table("networks", columns, rows, "Batch normalisation counts with the convolutions.")
    parts = {name: (each.parameters - full[name].parameters, full[name].parameters) for name, each in costs.items()}
    report.figure("shares", _bars(parts), "Millions of parameters in convolutions and in fully connected layers.")
    shares, work = ({NAMES[name]: found[NAMES[name]] for name in classical} for found in (shares, work))
    report.claim("4.8.c1", min(shares.values()), low=0.5,
                 detail="smallest share of the parameters in FC layers: " + _list(shares))  # fmt: skip
    report.claim("4.8.x1", max(work.values()), low=0.5,
                 detail="largest share of the multiplications in FC layers: " + _list(work))  # fmt: skip


def _list(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _bars(counts: dict[str, tuple[int, int]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3), layout="constrained")
    axes = figure.subplots()
    names = list(reversed(counts))
    conv, full = ([counts[name][part] / 1e6 for name in names] for part in (0, 1))
    axes.barh(names, conv, color="#3b82f6", label="convolutions")
    bars = axes.barh(names, full, left=conv, color="#f59e0b", label="fully connected")
    labels = [f"{100 * f / (c + f):.0f} % fully connected" for c, f in zip(conv, full, strict=True)]
    axes.bar_label(bars, labels, padding=4)
    axes.set(xlim=(0, 195), xlabel="million parameters")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _head(report: Report) -> None:
    """The head: its size, what an average would leave of it, its widths, other places for it (c2, c3, c5)."""
    model: VGG = vgg16().to("meta")
    head = sum(p.numel() for p in model.classifier.parameters())
    averaged = sum(p.numel() for p in nn.Linear(512, 1000).parameters())
    report.claim("4.8.c2", head, low=RESNET50, unit="parameters",
                 detail="102,764,544 + 16,781,312 + 4,097,000; large: above ResNet-50's 25,557,032")  # fmt: skip
    report.claim("4.8.c3", head / averaged, low=10, unit="times",
                 detail=f"{head:,} against {averaged:,} for an average and one layer 512 to 1000")  # fmt: skip
    widths = [layer.out_features for layer in model.classifier if isinstance(layer, nn.Linear)]
    steps = list(pairwise(widths))
    words = ", ".join(str(width) for width in widths)
    report.claim("4.8.c5", sum(a > b for a, b in steps) / len(steps), low=1,
                 detail=f"share of the steps between the widths {words} that go down")  # fmt: skip
    picture, rows = torch.empty(1, 3, 224, 224), []
    for stage in range(1, 6):
        last = int(model.layer(f"pool{stage}").removeprefix("features."))
        maps = model.features[: last + 1](picture)
        rows.append((f"pool{stage}", " x ".join(str(n) for n in maps.shape[1:]), (maps.numel() + 1) * 4096))
    report.table("places", ("after", "features", "parameters of a layer of 4096 units"), rows,
                 "A fully connected layer is cheapest at the end, where the map is smallest.")  # fmt: skip


def _digits(report: Report, epochs: int, runs: int, seed: int, tell: Tell) -> None:
    """The same convolutions under an FC head and under GAP, with and without batch normalisation (c4, c6)."""
    parts = digits("train"), digits("test")
    every = Labelled(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]),
                     parts[0].classes)  # fmt: skip
    learned = {f"{head}, {norm}": torch.zeros(runs, epochs) for norm in NORMS for head in HEADS}
    lost = {head: torch.zeros(runs) for head in HEADS}  # accuracy, when the places of the last maps are shuffled
    mismatch = torch.zeros(runs)
    for turn in range(runs):
        order = torch.randperm(len(every.labels), generator=torch.Generator().manual_seed(seed + turn))
        train, test = every.taken(order[:1200]), every.taken(order[1200:])
        places = order[order < 16]  # a random order of 4 x 4 places
        for index, kind in enumerate(learned):
            tell(Step(turn * len(learned) + index, runs * len(learned), f"digits, run {turn + 1}: {kind}"))
            head, norm = kind.split(", ")
            body, classifier = _network(head, norm, seed + turn)
            recipe = Recipe(epochs, BATCH, 5e-3, 0.0, seed=seed + turn)
            fitted = train_classifier(nn.Sequential(body, classifier), train, test, recipe)
            learned[kind][turn] = torch.tensor([100 * row["test_accuracy"] for row in fitted.history])
            if norm == NORMS[0]:
                lost[head][turn], change = _shuffled(body, classifier, test, places)
                if head == "FC":
                    mismatch[turn] = change
    lines = {kind: (range(1, epochs + 1), accuracy.mean(0)) for kind, accuracy in learned.items()}
    report.curve("digits", lines, x="epochs", y="test accuracy in %",
                 caption=f"Mean of {runs} runs; 1200 digits to learn from, 597 to test.")  # fmt: skip
    for claim, norm in zip(("4.8.c4", "4.8.x2"), NORMS, strict=True):
        cost = learned[f"FC, {norm}"][:, -1] - learned[f"GAP, {norm}"][:, -1]
        report.claim(claim, cost.mean(), high=1, spread=float(cost.std()) / runs**0.5, unit="points",
                     detail=f"accuracy with FC minus with GAP after {epochs} epochs, {norm}, {runs} runs")  # fmt: skip
    report.claim("4.8.c6", lost["FC"].mean(), high=1, spread=float(lost["FC"].std()) / runs**0.5, unit="points",
                 detail="accuracy that the FC head loses when the 4 x 4 places of its input are shuffled")  # fmt: skip
    report.claim("4.8.x3", lost["GAP"].abs().max(), high=0.2, unit="points",
                 detail="accuracy that GAP loses in the same shuffle, the largest of all runs")  # fmt: skip
    report.claim("4.8.x4", mismatch.max(), high=1e-5,
                 detail="change of the FC head's logits when its weights are shuffled in the same way, relative to the "
                 "largest logit")  # fmt: skip


def _network(head: str, norm: str, seed: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Four 3 x 3 convolutions in VGG's manner (8 x 8 to 4 x 4 x 64), and the head on top of them."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norm == NORMS[0] else [nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if outputs == 32 else []
        if head == "FC":
            return nn.Sequential(*layers), nn.Sequential(
                nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)
            )
        return nn.Sequential(*layers), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return 100 * (logits.argmax(1) == labels).float().mean().item()


@torch.inference_mode()
def _shuffled(body: nn.Module, head: nn.Sequential, test: Labelled, places: Tensor) -> tuple[float, float]:
    """Shuffle the places of the last maps: the accuracy lost, and the change if an FC head's weights move along."""
    maps = body(test.images)
    logits = head(maps)
    moved = maps.flatten(2)[..., places].view_as(maps)
    lost = _accuracy(logits, test.labels) - _accuracy(head(moved), test.labels)
    for layer in head:
        if isinstance(layer, nn.Linear) and layer.in_features == maps[0].numel():
            layer.weight.copy_(layer.weight.view(-1, 64, 16)[..., places].flatten(1))
    return lost, ((head(moved) - logits).abs().max() / logits.abs().max()).item()
