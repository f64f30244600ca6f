"""Experiment: the activation swapped: dead units, what a net can learn by heart, and whether to trust a sigmoid."""

from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from vivace.base.data import Labelled, digits, stratified
from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy
from vivace.experiments.plain_training import standardized_digits, train
from vivace.networks import MLP, deltas
from vivace.networks.saturation import dead_units

QUICK = {"nets": 3, "epochs": 5, "by_heart": 250}

FOUR = ("relu", "leaky_relu", "tanh", "sigmoid")
LABELS = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "identity": "none"}
WIDE = (64, 128, 128, 10)
NARROW = (64, 64, 64, 10)
RANDOM = 256  # pictures with random labels
LEARNT = 0.99  # of them
FEW = 0.05  # share of the digits that the calibrated classifier learns from: few, so that it errs
BINS = 10


@checked
def run(*, learning_rate: Annotated[float, Gt(0), Le(1)] = 0.03, epochs: Annotated[int, Ge(1), Le(200)] = 10,
        by_heart: Annotated[int, Ge(50), Le(5000)] = 500, nets: Annotated[int, Ge(2), Le(20)] = 5, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Dead units at a high rate, random labels learnt by heart, and a sigmoid's probabilities against the truth.

    vivace run activation_swap        10 s; a third of the ReLUs die at rate 0.03, no leaky one; all four learn by heart

    learning_rate: of Adam, high enough to kill units
    epochs: of that training
    by_heart: the most epochs of learning random labels
    nets: how many of each kind
    seed: the first of the seeds
    """
    report = Report(
        "The activation swapped, all else equal",
        "scikit-learn's digits. A unit is dead when no gradient reaches its weights, whatever the picture.",
    )
    seeds = range(seed, seed + nets)
    total = nets + 2
    tell(Step(0, total, "a high rate"))
    _dead(report, learning_rate, epochs, seeds)
    _by_heart(report, by_heart, seeds, tell, total)
    tell(Step(total - 1, total, "calibration"))
    _calibration(report, seeds)
    tell(Step(total, total, "done"))
    return report


def _dead(report: Report, rate: float, epochs: int, seeds: range) -> None:
    """Hidden units after training at a high rate: without gradient (dead), and on one side of the kink for all."""
    data, test = standardized_digits()
    rows, dead = [], {}
    for name in ("relu", "leaky_relu", "tanh"):
        found = []
        for seed in seeds:
            net = MLP(WIDE, activation=name, generator=torch.Generator().manual_seed(seed))
            train(net, data, epochs=epochs, seed=seed, optimizer=partial(torch.optim.Adam, lr=rate, fused=True))
            found.append((*_units(net, data), 100 * accuracy(net, test)))
        share, negative, right = np.mean(found, 0)
        dead[name] = share
        rows.append((LABELS[name], f"{share:.1%}", f"{negative:.1%}", round(float(right), 1)))
    report.table("dead", ("activation", "dead units", "below zero for every picture", "test accuracy, %"), rows,
                 f"Net {'-'.join(map(str, WIDE))} after {epochs} epochs of Adam at rate {rate:g}; means of "
                 f"{len(seeds)} nets. A leaky unit below zero for every picture learns, but is linear.")  # fmt: skip
    report.claim("2.12.Q1.c4", dead["leaky_relu"], high=0, detail=f"share of the hidden units without a gradient at "
                 f"rate {rate:g}; with ReLU {dead['relu']:.1%}")  # fmt: skip
    report.claim("2.12.Q1.x1", dead["relu"], low=0.1, detail=f"share of dead ReLUs at rate {rate:g}, mean of "
                 f"{len(seeds)} nets")  # fmt: skip


@torch.no_grad()
def _units(net: MLP, data: Labelled) -> tuple[float, float]:
    """The share of hidden units to which no picture sends a gradient, and of those below zero for every picture."""
    stored = net.forward_stored(data.images)
    error = stored[-1].softmax(1) - F.one_hot(data.labels, 10)
    dead = torch.cat([dead_units(delta) for delta in deltas(net, stored, error)[:-1]])
    negative = torch.cat([(h <= 0).all(0) for h in stored[1:-1]])
    return dead.double().mean().item(), negative.double().mean().item()


def _by_heart(report: Report, limit: int, seeds: range, tell: Tell, total: int) -> None:
    data, _ = standardized_digits()
    given = data.taken(torch.arange(RANDOM))
    curves: dict[str, list[list[float]]] = {}
    for done, seed in enumerate(seeds):
        tell(Step(1 + done, total, "learning random labels"))
        labels = torch.randint(10, (RANDOM,), generator=torch.Generator().manual_seed(seed))
        mixed = Labelled(given.images, labels, given.classes)
        for name in (*FOUR, "identity"):
            net = MLP(NARROW, activation=name, generator=torch.Generator().manual_seed(seed),  # type: ignore[arg-type]
                      initialization="xavier" if name in ("tanh", "sigmoid") else "he")  # fmt: skip
            curves.setdefault(name, []).append(_learnt(net, mixed, limit))
    means = {name: np.mean(found, 0) for name, found in curves.items()}
    epochs = range(1, limit + 1)
    report.curve("by-heart", {LABELS[name]: (epochs, 100 * mean) for name, mean in means.items()}, x="epoch",
                 y="random labels known, %", log_x=True,
                 caption=f"Nets {'-'.join(map(str, NARROW))}, all of as many parameters, learn random labels for "
                 f"{RANDOM} digits. With any bend all is learnt in the end; how soon differs.")  # fmt: skip
    last = {name: 100 * float(means[name][-1]) for name in means}
    report.claim("2.12.Q1.c5", max(last[n] for n in FOUR) - min(last[n] for n in FOUR), low=5, unit="points",
                 detail=f"spread of the random labels known after {limit} epochs; "
                 + ", ".join(f"{LABELS[n]} {r:.1f} %" for n, r in last.items()))  # fmt: skip
    reached = {n: int(np.argmax(means[n] >= LEARNT)) + 1 if last[n] >= 100 * LEARNT else limit for n in FOUR}
    report.claim("2.12.Q1.x2", max(reached.values()) / min(reached.values()), low=1.5, unit="times as long",
                 detail="the slowest of four over the quickest, epochs to 99 % of the labels: "
                 + ", ".join(f"{LABELS[n]} {e}" for n, e in reached.items()))  # fmt: skip


def _learnt(net: MLP, data: Labelled, limit: int) -> list[float]:
    """The share of labels known after each epoch (full batches)."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    found = []
    for _ in range(limit):
        logits = net(data.images)
        found.append((logits.argmax(1) == data.labels).double().mean().item())
        optimizer.zero_grad()
        F.cross_entropy(logits, data.labels).backward()
        optimizer.step()
    return found


def calibration_error(p: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    """Expected calibration error: |share of ones - mean probability| over ten bins of p, weighted by their counts."""
    which = (p * BINS).long().clamp(max=BINS - 1)
    return sum(((y - p)[which == k].sum().abs().item() for k in range(BINS)), 0.0) / len(p)


def _calibration(report: Report, seeds: range) -> None:
    """Is the digit odd? One sigmoid output, trained on few digits until it errs on none of them."""
    every = digits("train")
    p_all, y_all, tempered, temperatures = [], [], [], []
    for seed in seeds:
        parts = stratified(every, test_share=1 - FEW, seed=seed)
        few, rest = parts["train"], parts["test"]
        net = MLP([64, 64, 1], generator=torch.Generator().manual_seed(seed))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
        for _ in range(200):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(net(few.images)[:, 0], (few.labels % 2).float()).backward()
            optimizer.step()
        with torch.no_grad():
            logits = net(rest.images)[:, 0].double()
        y = (rest.labels % 2).double()
        half = len(y) // 2
        T = _temperature(logits[:half], y[:half])
        temperatures.append(T)
        p_all.append(torch.sigmoid(logits[half:]))
        tempered.append(torch.sigmoid(logits[half:] / T))
        y_all.append(y[half:])
    plain, cooled, y = torch.cat(p_all), torch.cat(tempered), torch.cat(y_all)
    errors = [calibration_error(p, y) for p in (plain, cooled)]
    report.figure("reliability", _reliability({"as trained": plain, "divided by a temperature": cooled}, y),
                  "Is the digit odd? How often it is, against how probable the sigmoid says it is; on the dotted line "
                  "the probability is right. Areas: how many pictures.")  # fmt: skip
    sure = (plain - 0.5).abs() > 0.49
    wrong = (y[sure] != (plain[sure] > 0.5)).double().mean().item()
    report.claim("3.2.c7", errors[0], high=0.02, detail=f"expected calibration error, {len(seeds)} nets trained on "
                 f"{len(few.labels)} digits; of answers that are 99 % sure {wrong:.1%} are wrong")  # fmt: skip
    report.claim("3.2.x4", errors[1] / errors[0], high=0.8, detail=f"calibration error after dividing the logits by "
                 f"a temperature (mean {np.mean(temperatures):.2f}, fitted on other pictures), {errors[1]:.3f}, over "
                 f"that before, {errors[0]:.3f}")  # fmt: skip


def _temperature(logits: Tensor, y: Tensor) -> float:
    """The divisor of the logits with the least cross-entropy, among 200."""
    choices = torch.logspace(-1, 1.5, 200, dtype=torch.float64)
    loss = F.binary_cross_entropy_with_logits(logits / choices[:, None], y.expand(200, -1), reduction="none").mean(1)
    return choices[loss.argmin()].item()


def _reliability(given: dict[str, Tensor], y: Tensor) -> Figure:
    figure, axes = drawing(width=5.2, height=4.6)
    axes.plot((0, 1), (0, 1), color=GREY, linestyle=":")
    for color, (label, p) in zip((BLUE, ORANGE), given.items(), strict=True):
        which = (p * BINS).long().clamp(max=BINS - 1)
        full = [k for k in range(BINS) if (which == k).any()]
        x = [p[which == k].mean().item() for k in full]
        axes.plot(x, [y[which == k].mean().item() for k in full], color=color, label=label, linewidth=1.5)
        axes.scatter(x, [y[which == k].mean().item() for k in full], color=color,
                     s=[10 + 400 * (which == k).double().mean().item() for k in full])  # fmt: skip
    axes.set(
        xlabel="probability of odd, by the sigmoid", ylabel="share that is odd", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03)
    )
    axes.legend(frameon=False)
    return figure
