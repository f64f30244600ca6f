"""Experiment: how large a learning rate a deep net bears with each normalisation, and what happens when it predicts."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD

from vivace.base.data import Labelled, digits
from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy
from vivace.networks import BatchNorm, LayerNorm, he_

QUICK = {"steps": 150, "runs": 2}

WIDTH, BATCH = 64, 64
RATES = tuple(2.0**k for k in range(-6, 5))
NORMS: Mapping[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "batch norm": lambda: BatchNorm(WIDTH),
    "layer norm": lambda: LayerNorm(WIDTH),
}


@checked
def run(*, layers: Annotated[int, Ge(2), Le(50)] = 10, steps: Annotated[int, Ge(10), Le(5000)] = 300,
        runs: Annotated[int, Ge(1), Le(20)] = 5, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Normalisation lets a deep net learn at rates at which it would diverge; prediction needs the running averages.

    vivace run stable_rates        60 s on two cores; batch norm lets ten layers bear a 20 times larger rate

    layers: weight layers of the net, all but the last followed by a normalisation and a ReLU
    steps: batches of 64 digits that each net learns from
    runs: nets for each rate and normalisation, from different initial weights
    seed: the first of the seeds
    """
    train, test = digits("train"), digits("test")
    report = Report(
        "Normalisation and the largest stable learning rate",
        f"Nets of {layers} weight layers of {WIDTH} units learn scikit-learn's digits by plain gradient descent, "
        f"{steps} steps at each rate. A rate is stable if the loss at the end is below half of that of guessing, "
        "$\\ln 10$.",
    )
    found: dict[str, Float[Tensor, "rates runs"]] = {}
    for i, (name, norm) in enumerate(NORMS.items()):
        tell(Step(i, len(NORMS) + 1, name))
        found[name] = torch.tensor([[ended(train, norm, layers, rate, steps, seed + k) for k in range(runs)]
                                    for rate in RATES])  # fmt: skip
    _largest(report, found, layers)
    tell(Step(len(NORMS), len(NORMS) + 1, "batch norm, predicting"))
    _prediction(report, train, test, layers, steps, seed)
    tell(Step(len(NORMS) + 1, len(NORMS) + 1, "done"))
    return report


def net(norm: Callable[[], nn.Module], layers: int, generator: torch.Generator) -> nn.Sequential:
    """Linear, normalisation, ReLU, again and again, and a linear layer last; He's initial weights."""
    sizes = [64, *[WIDTH] * (layers - 1), 10]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        he_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        parts += [linear, norm(), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *parts[:-2])


def learn(model: nn.Module, train: Labelled, rate: float, steps: int, generator: torch.Generator) -> list[float]:
    """The loss at each step; it stops where the loss is no number any more."""
    optimizer, found = SGD(model.parameters(), lr=rate), []
    for _ in range(steps):
        places = torch.randint(len(train.labels), (BATCH,), generator=generator)
        loss = F.cross_entropy(model(train.images[places]), train.labels[places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
        if not found[-1] < 1e4:
            break
    return found


def ended(train: Labelled, norm: Callable[[], nn.Module], layers: int, rate: float, steps: int, seed: int) -> float:
    """The mean loss of the last ten steps; 10 where it was no number or more."""
    generator = torch.Generator().manual_seed(seed)
    losses = learn(net(norm, layers, generator), train, rate, steps, generator)
    return min(10.0, sum(losses[-10:]) / 10) if len(losses) == steps and losses[-1] < 1e4 else 10.0


def largest(losses: Float[Tensor, "rates runs"]) -> float:
    """The largest stable rate: the geometric mean over the runs; the least of all, halved, where none is."""
    found = []
    for each in (losses < math.log(10) / 2).T.tolist():
        stable = [rate for rate, right in zip(RATES, each, strict=True) if right]
        found.append(math.log(max(stable, default=RATES[0] / 2)))
    return math.exp(sum(found) / len(found))


def _largest(report: Report, found: Mapping[str, Float[Tensor, "rates runs"]], layers: int) -> None:
    figure, axes = drawing(width=7)
    for (name, losses), color in zip(found.items(), PALETTE, strict=False):
        axes.plot(RATES, losses.median(1).values, ".-", color=color, label=name)
        axes.fill_between(RATES, losses.min(1).values, losses.max(1).values, color=color, alpha=0.15, linewidth=0)
    axes.axhline(math.log(10) / 2, color="#888888", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="training loss at the end")
    axes.set_xscale("log", base=2)
    axes.legend(frameon=False)
    report.figure("rates", figure, f"A net of {layers} layers at each rate: the median over the runs and their range; "
                  "below the dashed line a rate counts as stable.")  # fmt: skip
    rates = {name: largest(losses) for name, losses in found.items()}
    rows = [(name, f"{rate:.3g}", f"{found[name].median(1).values.min():.3f}") for name, rate in rates.items()]
    report.table("largest", ("normalisation", "largest stable rate", "least loss at any rate"), rows)
    report.claim("2.9.c6", rates["batch norm"] / rates["none"], low=2, detail="largest stable rate of a net of "
                 f"{layers} layers with batch norm, {rates['batch norm']:.3g}, over that without, "
                 f"{rates['none']:.3g}")  # fmt: skip
    report.claim("2.9.x11", rates["layer norm"] / rates["batch norm"], low=0.5, detail="largest stable rate with layer "
                 f"norm, {rates['layer norm']:.3g}, over that with batch norm, {rates['batch norm']:.3g}")  # fmt: skip


@torch.no_grad()
def _prediction(report: Report, train: Labelled, test: Labelled, layers: int, steps: int, seed: int) -> None:
    """Test digits named by batches of one class, with the batch's statistics and with the running ones (2.9.x12)."""
    generator = torch.Generator().manual_seed(seed)
    model = net(NORMS["batch norm"], layers, generator)
    with torch.enable_grad():
        learn(model, train, 0.1, max(steps, 200), generator)
    by_class = test.taken(test.labels.argsort())
    rows, found = [], {}
    for mode, size in (("evaluation", 1), ("evaluation", 36), ("training", 36), ("training", 4), ("training", 2)):
        model.train(mode == "training")
        state = {name: value.clone() for name, value in model.state_dict().items()}
        found[mode, size] = 100 * _in_batches(model, by_class, size)
        model.load_state_dict(state)  # a forward pass in training moves the averages
        rows.append((mode, size, f"{found[mode, size]:.1f}"))
    report.table("prediction", ("mode", "pictures asked at once", "right, %"), rows, "Test digits sorted by class, "
                 "asked in batches: in training mode a batch of one class is normalised by itself, and what sets it "
                 "apart from the other classes is normalised away. The running averages have no such "
                 "trouble.")  # fmt: skip
    lost = found["evaluation", 36] - found["training", 36]
    report.claim("2.9.x12", lost, high=5, unit="points", detail="test accuracy lost where a net with batch norm is "
                 "left in training mode, asked for 36 digits of a class at a time: "
                 f"{found['training', 36]:.1f} % right instead of {found['evaluation', 36]:.1f} %")  # fmt: skip


def _in_batches(model: nn.Module, given: Labelled, size: int) -> float:
    parts: Sequence[Tensor] = torch.arange(len(given.labels)).split(size)
    shares = [accuracy(model, given.taken(part)) * len(part) for part in parts if len(part) == size]
    return sum(shares) / sum(len(part) for part in parts if len(part) == size)
