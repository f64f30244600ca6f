"""Experiment: more layers, with and without shortcuts: training errors, and gradients on their way back."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import CifarResNet
from vivace.experiments.classifier import Recipe, train_classifier
from vivace.experiments.labelled_pictures import DIGITS, DataSet, in_colour, to_learn

QUICK = {"each": 60, "width": 8, "epochs": 6, "runs": 2}

KINDS = {"plain": False, "residual": True}
COLORS = {"plain": ORANGE, "residual": BLUE}
DEPTHS = (8, 20, 44)
DEEP = 56  # layers of the networks whose gradients are looked at
DRAWS = 3
BATCH = 64


@checked
def run(*, dataset: DataSet = "digits", each: Annotated[int, Ge(10), Le(5000)] = 200,
        width: Annotated[int, Ge(2), Le(64)] = 16, epochs: Annotated[int, Ge(1), Le(200)] = 8,
        runs: Annotated[int, Ge(2), Le(10)] = 2, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Plain networks of more layers learn worse what they are shown; with shortcuts they don't.

    vivace run depth        1 min on two cores; plain 44 layers fail where 8 don't, a ResNet-44 doesn't

    dataset: what is learnt: digits (scikit-learn's, of which the claims speak), cifar10 (20 min), or auto: it if there
    each: pictures of each class to learn from
    width: maps of the first stage; the paper's networks have 16
    epochs: passes over the pictures
    runs: networks of each kind and depth, each with weights of its own
    seed: of the first run
    """
    name, *parts = to_learn(dataset, each=each, tell=tell)
    train, test = (in_colour(part) for part in parts)
    test = test.first(1000)
    report = Report(
        "Depth, with and without shortcuts",
        f"Networks of 8, 20 and 44 layers (He et al. 2015, section 4.2; {width} maps in the first stage), all with "
        f"batch normalisation, learn {name}: {len(train.labels):,} pictures, {epochs} epochs, {runs} times each. "
        "'Plain' computes $F(x)$ where 'residual' computes $F(x) + x$; the layers are the same.",
    )
    errors, losses = _trained(train, test, width, Recipe(epochs, BATCH, 0.1, 1e-4, seed=seed, optimizer="sgd"), runs,
                              tell)  # fmt: skip
    _draw(report, errors, losses)
    rows = [(kind, *(f"{float(error):.1f}" for error in values.mean(1))) for kind, values in errors.items()]
    report.table("errors", ("network", *(f"{depth} layers, %" for depth in DEPTHS)), rows,
                 f"Errors on the training pictures, mean of {runs} runs.")  # fmt: skip
    if name == DIGITS:
        _claims(report, errors, epochs, runs)
    _gradients(report, train, width, seed)
    return report


def _claims(report: Report, errors: dict[str, Float[Tensor, "d r"]], epochs: int, runs: int) -> None:
    """Training errors with and without shortcuts (c2, c4, x4), which the claims state of digits."""
    plain, residual = errors["plain"], errors["residual"]
    for claim, difference, low, high, what in (
        ("4.3.c2", plain[-1] - residual[-1], 10, None, "plain-44 less ResNet-44"),
        ("4.3.c4", plain[-1] - plain[0], 5, None, "plain-44 less plain-8"),
        ("4.3.x4", residual[-1] - residual[0], None, 3, "ResNet-44 less ResNet-8"),
    ):
        bound = {"low": low} if low is not None else {"high": high}
        report.claim(claim, difference.mean(), spread=float(difference.std()) / runs**0.5, unit="points",
                     detail=f"error on the training pictures after {epochs} epochs, {what}, digits, {runs} runs",
                     **bound)  # fmt: skip


def _trained(train: Labelled, test: Labelled, width: int, recipe: Recipe, runs: int, tell: Tell
             ) -> tuple[dict[str, Float[Tensor, "d r"]], dict[str, list[float]]]:  # fmt: skip
    """Training errors in % by kind, depth and run, and the losses of each first run over the epochs."""
    errors = {kind: torch.zeros(len(DEPTHS), runs) for kind in KINDS}
    losses = {}
    steps = recipe.epochs * -(-len(train.labels) // recipe.batch_size)
    done, total = 0, steps * runs * len(KINDS) * len(DEPTHS)
    for kind, residual in KINDS.items():
        for place, depth in enumerate(DEPTHS):
            for turn in range(runs):
                model = _network(depth, width, residual, recipe.seed + turn)
                fitted = train_classifier(model, train, test, recipe, tell=part_of(tell, done, total))
                errors[kind][place, turn] = 100 - 100 * fitted.history[-1]["training_accuracy"]
                if turn == 0:
                    losses[f"{kind}-{depth}"] = [row["train_loss"] for row in fitted.history]
                done += steps
    return errors, losses


def _network(depth: int, width: int, residual: bool, seed: int) -> CifarResNet:
    with seeded(seed):
        return CifarResNet(depth=depth, width=width, residual=residual)


def _draw(report: Report, errors: dict[str, Float[Tensor, "d r"]], losses: dict[str, list[float]]) -> None:
    figure, (left, right) = drawing(1, 2, width=8.6, height=3.3)
    for kind, values in errors.items():
        left.plot(DEPTHS, values.mean(1), "o-", color=COLORS[kind], label=kind)
        left.plot(DEPTHS, values, ".", color=COLORS[kind], alpha=0.5)
    left.set(xlabel="layers", ylabel="error on training pictures, %", xticks=DEPTHS, ylim=(-2, None))
    left.legend(frameon=False)
    for name, curve in losses.items():
        kind, depth = name.split("-")
        style = {"8": ":", "20": "--", "44": "-"}[depth]
        right.plot(range(1, len(curve) + 1), curve, style, color=COLORS[kind], label=name)
    right.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.legend(frameon=False, fontsize=8, ncols=2)
    words = (
        "Left: the error on what was learnt from, a dot for each run: the deep plain network is not overfitted, it has "
        "not learnt. Right: the losses of the first run."
    )
    report.figure("training", figure, words)


def _gradients(report: Report, train: Labelled, width: int, seed: int) -> None:
    """The length of the gradient in each layer before training, relative to its weights (c3, x2, x3)."""
    figure, axes = drawing(width=6.4, height=3.2)
    ratios = {}
    for kind, residual in KINDS.items():
        draws = torch.stack([_relative_gradients(_network(DEEP, width, residual, seed + draw), train)
                             for draw in range(DRAWS)])  # fmt: skip
        axes.plot(range(1, draws.shape[1] + 1), draws.log().mean(0).exp(), color=COLORS[kind], label=f"{kind}-{DEEP}")
        ratios[kind] = (draws[:, 1] / draws[:, -1]).log10()  # from the first convolution behind the stem to the last
    axes.set(xlabel="convolution", ylabel="gradient / weights", yscale="log")
    axes.legend(frameon=False)
    report.figure("gradients", figure, f"Before training, one batch, mean of {DRAWS} drawings of the weights. With "
                  "batch normalisation a plain network's gradients do not vanish towards the first layers: they "
                  "grow.")  # fmt: skip
    plain, residual_ = ratios["plain"], ratios["residual"]
    words = f"of {DRAWS} untrained networks of {DEEP} layers: gradient over weights in the first block to the last"
    report.claim("4.3.c3", 10 ** float(plain.mean()), high=0.1, unit="times", detail=f"plain, geometric mean {words}")
    report.claim("4.3.x2", 10 ** float(plain.min()), low=30, unit="times", detail=f"plain, least {words}")
    report.claim("4.3.x3", 10 ** float(residual_.abs().max()), high=30, unit="times",
                 detail=f"residual, farthest from one {words}")  # fmt: skip


def _relative_gradients(model: CifarResNet, train: Labelled) -> Float[Tensor, " l"]:
    model.train()
    F.cross_entropy(model(train.images[:128]), train.labels[:128]).backward()
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    return torch.stack([weight.grad.norm() / weight.detach().norm() for weight in weights if weight.grad is not None])
