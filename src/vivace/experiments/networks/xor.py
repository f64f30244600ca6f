"""Experiment: XOR: what one unit can't do, weights that do it and weights that don't, and how often it is learnt."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch import Tensor
from torch.optim import Adam

from vivace.base.drawing import BLUE, GREY, ORANGE, PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.separability import separating_plane
from vivace.networks import MLP

QUICK = {"starts": 100, "steps": 800}

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
XOR = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
WIDTHS = (2, 3, 4, 8, 16, 32)
WIDE_ENOUGH = 16

Layers = tuple[Sequence[Sequence[float]], Sequence[float], Sequence[Sequence[float]], Sequence[float]]

# hidden weights, hidden biases, output weights, output bias; sigmoids in both layers
SHOWN: Layers = ([[1, 1], [-1, -1]], [0, -1], [[1, -1]], [0])  # as commonly shown
RIGHT: Layers = ([[20, 20], [-20, -20]], [-10, 30], [[20, 20]], [-30])  # OR and NAND, then AND


@checked
def run(*, starts: Annotated[int, Ge(20), Le(10_000)] = 400, steps: Annotated[int, Ge(100), Le(20_000)] = 2000,
        learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """XOR: no line separates it, two hidden units can, and whether they learn to is a matter of luck.

    vivace run xor        25 s on two cores; 2-2-1 with sigmoids learns it in half of its starts, with 16 units in all

    starts: random starts for each number of hidden units
    steps: of Adam, each on all four inputs
    learning_rate: Adam's
    seed: of the first random start
    """
    report = Report(
        "XOR: one line can't, two can, and learning them takes luck or width",
        "Exclusive or is 1 where exactly one input is 1. For a unit that fires where $w x + b > 0$, the two ones ask "
        "for $w_1 + b > 0$ and $w_2 + b > 0$, so $w_1 + w_2 + 2b > 0$; the two zeros for $b \\le 0$ and "
        "$w_1 + w_2 + b \\le 0$, so $w_1 + w_2 + 2b \\le 0$. Two hidden units draw two lines, and XOR is the "
        "strip between.",
    )
    both = zip(X.int().tolist(), XOR.int().tolist(), outputs(net(SHOWN)), outputs(net(RIGHT)), strict=True)
    report.table("truth-table", ("a", "b", "a XOR b", "shown weights", "right weights"),
                 [(*x, y, f"{shown:.4f}", f"{right:.5f}") for x, y, shown, right in both],
                 "Outputs of two nets 2-2-1: with the weights commonly shown, and with some that work.")  # fmt: skip
    _one_unit(report)
    _shown_weights(report)
    _right_weights(report)
    report.figure("geometry", draw_geometry(), "Above: the weights commonly shown; below: those that work. Left, the "
                  "plane of inputs with each hidden unit's line, and the output as colour; right, the same four points "
                  "as the hidden units see them, with the output unit's line. Filled dots should be 1.")  # fmt: skip
    _learnt(report, starts, steps, learning_rate, seed, tell)
    return report


def net(layers: Layers, scale: float = 1.0) -> MLP:
    """A 2-2-1 net with these weights, all of them times `scale`; its logit goes through a sigmoid."""
    model = MLP([2, len(layers[1]), 1], activation="sigmoid").double()
    with torch.no_grad():
        for tensor, numbers in zip(model.parameters(), layers, strict=True):
            tensor.copy_(scale * torch.tensor(numbers, dtype=torch.float64))
    return model


@torch.no_grad()
def outputs(model: MLP, x: Float[Tensor, "n 2"] = X) -> Float[Tensor, " n"]:
    return torch.sigmoid(model(x))[:, 0]


def right_at(y: Float[Tensor, " 4"], threshold: float = 0.5) -> float:
    """The share of the four inputs that are right, if y above the threshold means 1."""
    return ((y > threshold) == (XOR > 0.5)).double().mean().item()


def _one_unit(report: Report) -> None:
    """No line does it (c1); a unit that isn't monotone needs no hidden layer (c2)."""
    side = torch.linspace(-5, 5, 41, dtype=torch.float64)
    w = torch.cartesian_prod(side, side, side)  # w1, w2, b
    z = w[:, :2] @ X.T + w[:, 2:]
    best = ((z > 0) == (XOR > 0.5)).double().mean(1).max().item()
    plane = separating_plane(X.numpy(), XOR.numpy() > 0.5)
    report.claim("3.3.c1", best, high=0.75, detail=f"share of the four inputs that the best of {len(w):,} linear "
                 f"units is right on, weights and bias from -5 to 5; a linear programme "
                 f"{'finds no line at all' if plane is None else 'finds a line'}")  # fmt: skip
    total = X.sum(1)
    units = {"sin(pi/2 (a + b))": torch.sin(math.pi / 2 * total), "1 - (a + b - 1)^2": 1 - (total - 1) ** 2}
    unhidden = [name for name, y in units.items() if right_at(y) == 1]
    report.claim("3.3.c2", 0 if unhidden else 1, low=1, unit="hidden layers", detail="the fewest that do; with none, "
                 f"a unit with {' or '.join(unhidden)} gives 0, 1, 1, 0 to within "
                 f"{max((y - XOR).abs().max().item() for y in units.values()):.0e}")  # fmt: skip


def _shown_weights(report: Report) -> None:
    """The weights commonly shown: their outputs, lines, thresholds, and what could still be made of them."""
    model = net(SHOWN)
    y = outputs(model)
    report.claim("3.3.c3", right_at(y), low=1, detail="share of the four inputs that are right; the outputs are "
                 + ", ".join(f"{value:.4f}" for value in y))  # fmt: skip
    with torch.no_grad():
        z = model.layers[0](X)
    alone = [separates(z[:, 0], 3), separates(z[:, 1], 0)]
    report.claim("3.3.c4", sum(alone), low=2, unit="units", detail="of the two hidden units that separate the point "
                 f"they are said to: unit 1's sums are {_numbers(z[:, 0])}, unit 2's {_numbers(z[:, 1])}")  # fmt: skip
    thresholds = torch.linspace(0, 1, 10_001).tolist()
    best = max(max(right_at(y, at), 1 - right_at(y, at)) for at in thresholds)
    along = torch.linspace(-5, 7, 1201, dtype=torch.float64)
    rising = bool((outputs(model, torch.stack([along / 2, along / 2], 1)).diff() > 0).all())
    report.claim("3.3.x1", best, low=1, detail="share that is right with the best of 10,001 thresholds, firing above "
                 f"or below it; the output {'rises steadily' if rising else 'does not rise steadily'} with a + b from "
                 "-5 to 7")  # fmt: skip
    hidden = torch.sigmoid(z)
    plane = separating_plane(hidden.numpy(), XOR.numpy() > 0.5)
    rescued = outputs(net((SHOWN[0], SHOWN[1], [plane[:2].tolist()], [plane[2]]))) if plane is not None else y
    report.claim("3.3.x2", right_at(rescued), low=1, detail="share that is right with the same hidden layer and output "
                 f"weights by a linear programme, {_numbers(plane if plane is not None else [])}: outputs "
                 f"{_numbers(rescued)}")  # fmt: skip


def _right_weights(report: Report) -> None:
    model = net(RIGHT)
    report.claim("3.3.c5", (outputs(model) - XOR).abs().max(), high=0.01, detail="largest error of the four outputs: "
                 "hidden weights (20, 20), (-20, -20), biases -10, 30; output weights 20, 20, bias -30")  # fmt: skip
    with torch.no_grad():
        z = model.layers[0](X)
    report.claim("3.3.x3", separates(z[:, 0], 0) + separates(z[:, 1], 3), low=2, unit="units", detail="of the two "
                 "hidden units of these weights, one separating (0, 0) from the rest, the other (1, 1)")  # fmt: skip
    ones = [outputs(net(RIGHT, scale / 20))[1].item() for scale in (2, 4)]
    least = brentq(lambda scale: outputs(net(RIGHT, scale / 20))[1].item() - 0.5, 1, 10)
    report.claim("3.3.x4", least, low=2.1970, high=2.1974, detail="the factor above which lines at a + b = 0.5 and "
                 f"1.5 give XOR: (0, 1) must get more than 0.5, and gets {ones[0]:.3f} at 2, {ones[1]:.3f} "
                 "at 4")  # fmt: skip
    scales = np.linspace(0.5, 12, 116)
    found = torch.stack([outputs(net(RIGHT, scale / 20)) for scale in scales])
    report.curve("scale", {"for (0, 1) and (1, 0)": (scales, found[:, 1]),
                           "for (0, 0) and (1, 1)": (scales, found[:, 0]), "0.5": (scales, np.full(len(scales), 0.5))},
                 x="factor k on weights (1, 1), (-1, -1), (1, 1) and biases -0.5, 1.5, -1.5", y="output",
                 caption=f"Right lines are not enough: the weights must be large, k above {least:.4f}.")  # fmt: skip


def separates(z: Float[Tensor, " 4"], point: int) -> bool:
    """Whether a unit with these sums has that point on one side, and the other three on the other."""
    side = torch.sign(z)
    return bool((side != 0).all() and (side[torch.arange(4) != point] == -side[point]).all())


def draw_geometry() -> Figure:
    """The plane of inputs and the plane of hidden outputs, for the weights shown and for the right ones."""
    figure, axes = drawing(2, 2, width=9.2, height=7.6)
    for row, (name, layers) in zip(axes, (("commonly shown", SHOWN), ("right", RIGHT)), strict=True):
        model = net(layers)
        side = torch.linspace(-1.6, 2.1, 301, dtype=torch.float64)
        plane = torch.cartesian_prod(side, side)
        shade = row[0].contourf(side, side, outputs(model, plane).view(301, 301).T, levels=np.linspace(0, 1, 21),
                                cmap="RdBu_r", alpha=0.75)  # fmt: skip
        figure.colorbar(shade, ax=row[0], label="output", ticks=(0, 0.5, 1))
        for j, color in enumerate(PALETTE[2:5:2]):
            w, b = torch.tensor(layers[0][j], dtype=torch.float64), layers[1][j]
            row[0].axline((0, -b / w[1].item()), slope=(-w[0] / w[1]).item(), color=color, linewidth=2,
                          label=f"unit {j + 1}: a + b = {-b / w[1].item() + 0:g}")  # fmt: skip
        _dots(row[0], X)
        row[0].set(xlim=(-1.6, 2.1), ylim=(-1.6, 2.1), aspect="equal", xlabel="a", ylabel="b", title=name)
        row[0].legend(loc="upper right", fontsize=8)
        with torch.no_grad():
            hidden = torch.sigmoid(model.layers[0](X))
        (v,), (c,) = layers[2], layers[3]
        line = torch.linspace(-0.1, 1.1, 2)
        row[1].plot(line, (-c - v[0] * line) / v[1], color=GREY, linewidth=2, label="output unit's line")
        _dots(row[1], hidden, nudge=0.02)
        row[1].set(xlim=(-0.1, 1.25), ylim=(-0.1, 1.25), aspect="equal", xlabel="hidden unit 1", ylabel="hidden unit 2",
                   title=f"{name}, seen by the hidden units")  # fmt: skip
        row[1].legend(loc="lower left", fontsize=8)
    return figure


def _dots(ax: Any, points: Float[Tensor, "4 2"], nudge: float = 0.08) -> None:
    names: dict[tuple[float, ...], list[str]] = {}
    for point, (a, b), value in zip(points.tolist(), X.int().tolist(), XOR.tolist(), strict=True):
        ax.plot(*point, "o", color="black", markersize=9, markerfacecolor="black" if value else "white")
        names.setdefault(tuple(round(number, 6) for number in point), []).append(f"{a}{b}")
    for (x, y), here in names.items():
        ax.annotate(", ".join(here), (x + nudge, y + nudge), fontsize=10)


def learn(width: int, activation: Literal["sigmoid", "relu"], *, starts: int, steps: int, learning_rate: float,
          seed: int) -> Float[Tensor, "starts 4"]:  # fmt: skip
    """The logits for the four inputs after training that many nets 2-width-1 side by side, each from its own start."""
    models = [MLP([2, width, 1], generator=torch.Generator().manual_seed(seed + i)) for i in range(starts)]
    W, a, V, b = (torch.stack(tensors).detach().requires_grad_()
                  for tensors in zip(*(model.parameters() for model in models), strict=True))  # fmt: skip
    f: Callable[[Tensor], Tensor] = {"sigmoid": torch.sigmoid, "relu": torch.relu}[activation]
    x, target = X.float().expand(starts, 4, 2), XOR.float().expand(starts, 4)
    optimizer = Adam([W, a, V, b], lr=learning_rate, fused=True)
    for _ in range(steps + 1):
        z = (f(x @ W.mT + a[:, None]) @ V.mT + b[:, None])[..., 0]
        loss = F.binary_cross_entropy_with_logits(z, target, reduction="sum")  # each net's own gradient
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return z.detach()


def _learnt(report: Report, starts: int, steps: int, learning_rate: float, seed: int, tell: Tell) -> None:
    share: dict[str, list[float]] = {"sigmoid": [], "relu": []}
    first_twenty = {}
    for i, width in enumerate(WIDTHS):
        for activation in ("sigmoid", "relu"):
            tell(Step(2 * i + (activation == "relu"), 2 * len(WIDTHS), f"{width} hidden units, {activation}"))
            z = learn(width, activation, starts=starts, steps=steps, learning_rate=learning_rate, seed=seed)
            solved = ((z > 0) == (XOR > 0.5)).all(1)
            share[activation].append(100 * solved.double().mean().item())
            first_twenty[activation, width] = int(solved[:20].sum())
    tell(Step(2 * len(WIDTHS), 2 * len(WIDTHS), "done"))
    sigmoid, relu = share.values()
    report.table("success", ("hidden units", "sigmoid, % of starts", "of the first 20", "ReLU, % of starts",
                             "of the first 20"),
                 [(width, f"{s:.1f}", first_twenty["sigmoid", width], f"{r:.1f}", first_twenty["relu", width])
                  for width, s, r in zip(WIDTHS, sigmoid, relu, strict=True)],
                 f"How often XOR is learnt: {starts} random starts each, {steps} steps of Adam, He's initial "
                 "weights.")  # fmt: skip
    figure, ax = drawing()
    for (name, rates), color, mark in zip(share.items(), (BLUE, ORANGE), "os", strict=True):
        ax.plot(range(len(WIDTHS)), rates, color=color, marker=mark, label={"relu": "ReLU"}.get(name, name))
    ax.axhline(100, color=GREY, linewidth=0.8)
    ax.set(ylim=(0, 105), xticks=range(len(WIDTHS)), xlabel="hidden units", ylabel="starts that learn XOR, %")
    ax.set_xticklabels(WIDTHS)
    ax.legend(frameon=False)
    report.figure("success-rates", figure, "Two units can do it, but start in the wrong place half of the time; spare "
                  "units make a good start likely.")  # fmt: skip
    report.claim("3.3.c6", sigmoid[0], low=95, unit="%", detail=f"of {starts} starts of a net 2-2-1 with sigmoids "
                 f"that learn XOR; with ReLU {relu[0]:.0f} %")  # fmt: skip
    report.claim("3.3.x5", first_twenty["sigmoid", WIDE_ENOUGH], low=20, unit="of 20 starts",
                 detail=f"that learn XOR with {WIDE_ENOUGH} hidden sigmoids; of all {starts}: "
                 f"{sigmoid[WIDTHS.index(WIDE_ENOUGH)]:.1f} %")  # fmt: skip


def _numbers(values: Tensor | np.ndarray | Sequence[float]) -> str:
    return ", ".join(f"{float(value):.4g}" for value in values)
