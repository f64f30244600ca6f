"""Experiment: backpropagation worked through on a net with two inputs, two hidden units and one output."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vivace.base.drawing import BLUE, GREY, ORANGE
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.optimization import Net, Trace, backpropagation_step
from vivace.optimization.backpropagation import Activation

QUICK = {"updates": 6000}

EXAMPLE = Net(np.array([[0.15, 0.2], [0.25, 0.3]]), np.array([0.1, 0.1]), np.array([[0.4, 0.45]]), np.array([0.1]))
X, TARGET, RATE = np.array([0.1, 0.2]), np.array([0.8]), 0.1
NAMES: tuple[Activation, ...] = get_args(Activation)
NEAR = 0.01  # |y - target|, the error at which training has arrived

Vector = Float[np.ndarray, " _"]
Bounded = Annotated[float, Ge(-100), Le(100)]


@dataclass(frozen=True)
class Taught:
    """Numbers as taught, by their name in the trace, and the claim that compares them."""

    claim: str
    numbers: Mapping[str, str]


TAUGHT = (
    Taught("2.12.c1", {"z_h1": "0.155", "h1": "0.539"}),
    Taught("2.12.c2", {"z_h2": "0.185", "h2": "0.546"}),
    Taught("2.12.c3", {"z_y": "0.463"}),
    Taught("2.12.c4", {"y": "0.614"}),
    Taught("2.12.c5", {"loss": "0.0344"}),
    Taught("2.12.c6", {"delta_y": "-0.0456"}),
    Taught("2.12.c7", {"delta_h1": "-0.0042", "delta_h2": "-0.0045"}),
    Taught("2.12.c8", {"change_v1": "0.00246", "change_v2": "0.00249"}),
    Taught("2.12.c9", {"h1": "0.57", "h2": "0.61", "y": "0.73"}),
)


@checked
def run(*, x1: Bounded = 0.1, x2: Bounded = 0.2, target: Bounded = 0.8,
        rate: Annotated[float, Gt(0), Le(100)] = 0.1, updates: Annotated[int, Ge(500), Le(1_000_000)] = 10_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The course's 2-2-1 example, number by number: what is taught, and what comes out.

    vivace run backpropagation        3 s on two cores; the output is 0.6367, not 0.614; 487 updates bring it to 0.79

    x1: first input of the step that is shown for four activations
    x2: its second input
    target: what its output should be
    rate: its learning rate
    updates: how often the course's sample is learnt
    seed: the random nets on which the formulas are compared with torch
    """
    trace = backpropagation_step(EXAMPLE, X, TARGET, rate=RATE)
    report = Report(
        "Backpropagation on a 2-2-1 net, every number recomputed",
        "Inputs $x = (0.1, 0.2)$, target 0.8, sigmoids, $E = \\frac12 (y - t)^2$, learning rate 0.1. Deltas are "
        "$\\delta_y = (y - t)\\, y (1 - y)$ and $\\delta_{h_i} = v_i\\, \\delta_y\\, h_i (1 - h_i)$; the changes are "
        "$\\Delta v_i = -\\eta\\, \\delta_y h_i$, $\\Delta w_{ij} = -\\eta\\, \\delta_{h_i} x_j$, and for a bias just "
        "$-\\eta\\, \\delta$.",
    )
    report.figure("forward", draw_net(trace), "Forward: the weights on the lines, and in each unit its weighted sum "
                  "with the bias ($z$) and what the sigmoid makes of it.")  # fmt: skip
    report.figure("backward", draw_net(trace, backward=True), "Backward: in each unit its delta, on the lines what is "
                  "added to the weights (times 10,000), for the biases below the units.")  # fmt: skip
    _taught(report, trace)
    _slips(report, trace)
    _against_torch(report, seed)
    _activations(report, np.array([x1, x2]), np.array([target]), rate)
    tell(Step(1, 2, "learning the one sample"))
    _training(report, trace, updates)
    tell(Step(2, 2, "done"))
    return report


def half_unit(taught: str) -> float:
    """Half a unit in the last digit that was printed: 0.0005 for 0.539."""
    return 0.5 * 10.0 ** -len(taught.partition(".")[2])


def furthest(taught: Taught, named: Mapping[str, float]) -> str:
    """Of the numbers of a claim, the one that is furthest from what is taught, counted in its half units."""
    return max(taught.numbers, key=lambda name: abs(named[name] - float(taught.numbers[name]))
               / half_unit(taught.numbers[name]))  # fmt: skip


def _taught(report: Report, trace: Trace) -> None:
    """Every taught number against the one that comes out (2.12.c1 to c9)."""
    named, rows = trace.named(), []
    for taught in TAUGHT:
        for name, printed in taught.numbers.items():
            right = abs(named[name] - float(printed)) <= half_unit(printed) + 1e-12
            rows.append((name, printed, _digits(named[name]), "yes" if right else "no", taught.claim))
        name = furthest(taught, named)
        value, half = float(taught.numbers[name]), half_unit(taught.numbers[name]) + 1e-12
        all_of = ", ".join(f"{n} = {_digits(named[n])} (taught {text})" for n, text in taught.numbers.items())
        report.claim(taught.claim, named[name], low=value - half, high=value + half, detail=f"{all_of}"
                     + (f"; the value is {name}'s, the furthest off" if len(taught.numbers) > 1 else ""))  # fmt: skip
    report.table("taught", ("number", "as taught", "as it is", "right as printed", "claim"), rows,
                 "The last three are those of the course's first illustration of the same net.")  # fmt: skip


def _slips(report: Report, trace: Trace) -> None:
    """Where the wrong numbers come from (2.12.x1), and that the taught ones don't follow from one another (2.12.x2)."""
    h = np.array([0.539, 0.546])
    bare = float(EXAMPLE.W2[0] @ trace.forward.h)
    y = _sigmoid(0.463)
    illustrated = _sigmoid(0.4 * 0.57 + 0.45 * 0.61 + 0.1)
    chain = [
        ("z_y", "0.463", f"{bare:.4f}", "the sum without the bias 0.1, nearly"),
        ("y", "0.614", f"{y:.4f}", "sigmoid(0.463): follows"),
        ("loss", "0.0344", f"{0.5 * (0.614 - 0.8) ** 2:.4f}", "(0.614 - 0.8)² / 2; 0.0346 without the half"),
        ("delta_y", "-0.0456", f"{(0.614 - 0.8) * 0.614 * 0.386:.5f}", "(0.614 - 0.8) · 0.614 · 0.386"),
        ("delta_h1", "-0.0042", f"{-0.0456 * 0.4 * h[0] * (1 - h[0]):.5f}", "-0.0456 · 0.4 · 0.539 · 0.461"),
        ("delta_h2", "-0.0045", f"{-0.0456 * 0.45 * h[1] * (1 - h[1]):.5f}", "-0.0456 · 0.45 · 0.546 · 0.454"),
        ("change_v1", "0.00246", f"{0.1 * 0.0456 * h[0]:.5f}", "0.1 · 0.0456 · 0.539: follows"),
        ("change_v2", "0.00249", f"{0.1 * 0.0456 * h[1]:.5f}", "0.1 · 0.0456 · 0.546: follows"),
        ("y, illustration", "0.73", f"{illustrated:.3f}", "from its own 0.57 and 0.61"),
    ]
    report.table("slips", ("number", "as taught", "from the taught numbers before it", "how"), chain,
                 "Even taken as they stand, the taught numbers only partly follow from one another.")  # fmt: skip
    report.claim("2.12.x1", abs(bare - 0.463), high=0.002, detail=f"the sum without the output bias, {bare:.4f}, less "
                 f"the taught 0.463; with the bias it is {trace.forward.z2[0]:.5f}")  # fmt: skip
    report.claim("2.12.x2", abs(illustrated - 0.73), high=0.005, detail="the taught output of the first illustration "
                 f"less {illustrated:.4f}, which its own hidden values 0.57 and 0.61 give")  # fmt: skip


def _against_torch(report: Report, seed: int) -> None:
    """All nine changes of the example, and of random nets, against torch (2.12.x3)."""
    generator, worst = np.random.default_rng(seed), 0.0
    for i in range(50):
        net, x, target = (EXAMPLE, X, TARGET) if i == 0 else _random(generator)
        step = backpropagation_step(net, x, target, rate=RATE).changes
        W1, b1, W2, b2 = (torch.tensor(a, requires_grad=True) for a in (net.W1, net.b1, net.W2, net.b2))
        y = torch.sigmoid(W2 @ torch.sigmoid(W1 @ torch.tensor(x) + b1) + b2)
        slopes = torch.autograd.grad((y - torch.tensor(target)).square().sum() / 2, (W1, b1, W2, b2))
        for ours, slope in zip((step.W1, step.b1, step.W2, step.b2), slopes, strict=True):
            worst = max(worst, float(np.abs(ours + RATE * slope.numpy()).max() / (RATE * slope.abs().max())))
    report.claim("2.12.x3", worst, high=1e-10, detail="largest relative difference from torch.autograd of the "
                 "changes of all 9 parameters, in the example and 49 random 2-2-1 nets")  # fmt: skip


def _random(generator: np.random.Generator) -> tuple[Net, Vector, Vector]:
    net = Net(generator.normal(size=(2, 2)), generator.normal(size=2), generator.normal(size=(1, 2)),
              generator.normal(size=1))  # fmt: skip
    return net, generator.normal(size=2), generator.uniform(size=1)


def _activations(report: Report, x: Vector, target: Vector, rate: float) -> None:
    """The whole step for each activation, side by side."""
    traces = [backpropagation_step(EXAMPLE, x, target, activation=name, rate=rate).named() for name in NAMES]
    rows = [(key, *(_digits(trace[key]) for trace in traces)) for key in traces[0]]
    parts = {"forward": rows[:7], "backward": rows[7:19], "after": rows[19:]}
    said = {
        "forward": f"Forward, x = {tuple(x.tolist())}, target {target[0]:g}: the same net with four activations (the "
        "two ReLUs differ only where a weighted sum is negative).",
        "backward": f"Backward: the deltas, then what is added to each parameter at rate {rate:g}. w21 leads to hidden "
        "unit 2 from input 1; v to the output; b and c are the biases.",
        "after": "The new parameters, and a second pass forward with them.",
    }
    for part, some in parts.items():
        report.table(f"trace-{part}", ("number", *NAMES), some, said[part])


def _training(report: Report, trace: Trace, updates: int) -> None:
    """One update (2.12.c10), and many on the one sample (2.12.c11, 2.12.x5)."""
    report.claim("2.12.c10", trace.after.loss - trace.forward.loss, high=-1e-6, detail=f"change of the loss: y "
                 f"{trace.forward.y[0]:.6f} to {trace.after.y[0]:.6f}, E {trace.forward.loss:.7f} to "
                 f"{trace.after.loss:.7f}")  # fmt: skip
    each = [backpropagation_step(EXAMPLE, X, TARGET, activation=name, rate=RATE) for name in NAMES[1:]]
    report.claim("2.12.x4", max(step.after.loss - step.forward.loss for step in each), high=-1e-6,
                 detail="largest change of the loss by the first update: tanh, ReLU, leaky ReLU")  # fmt: skip
    net, outputs = EXAMPLE, []
    for _ in range(updates):
        step = backpropagation_step(net, X, TARGET, rate=RATE)
        outputs.append(float(step.forward.y[0]))
        net = step.updated
    outputs.append(float(step.after.y[0]))
    errors = [abs(y - TARGET[0]) for y in outputs]
    arrived = next(i for i, error in enumerate(errors) if error < NEAR)
    first = range(min(len(outputs), 1000))
    report.curve("output", {"y": (first, outputs[: len(first)]), "target": (first, [TARGET[0]] * len(first))},
                 x="updates", y="output", caption="The one sample, learnt again and again: |y - t| is below "
                 f"{NEAR} after {arrived} updates.")  # fmt: skip
    report.curve("training", {"loss": (range(len(errors)), [max(0.5 * e * e, 1e-32) for e in errors])},
                 x="updates", y="E", log_y=True, caption="The loss falls to the limit of float64.")  # fmt: skip
    report.claim("2.12.c11", errors[-1], high=1e-6, detail=f"|y - t| after {updates:,} updates at rate {RATE}")
    report.claim("2.12.x5", arrived, low=487, high=487, unit="updates", detail=f"until |y - t| < {NEAR}")


def draw_net(trace: Trace, *, backward: bool = False) -> Figure:
    """The net with its numbers on it: weights and values, or their changes and the deltas."""
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    places = {"x": [(0.0, 1.0), (0.0, -1.0)], "h": [(2.6, 1.0), (2.6, -1.0)], "y": [(5.2, 0.0)]}
    color = ORANGE if backward else BLUE
    shown = trace.changes if backward else EXAMPLE
    said = (lambda value: f"{1e4 * value:+.4g}") if backward else (lambda value: f"{value:g}")
    for W, start, end in ((shown.W1, "x", "h"), (shown.W2, "h", "y")):
        for i, j in np.ndindex(W.shape):
            _draw_line(axes, places[start][j], places[end][i], said(W[i, j]), color, backward)
    now = trace.forward
    units = {
        "x": [[f"x{i + 1}", f"{value:g}"] for i, value in enumerate(X)],
        "h": [[f"h{i + 1}", f"z {z:.4f}", f"{h:.4f}"] for i, (z, h) in enumerate(zip(now.z1, now.h, strict=True))],
        "y": [["y", f"z {now.z2[0]:.4f}", f"{now.y[0]:.4f}"]],
    }
    if backward:
        units["h"] = [[f"h{i + 1}", f"δ {delta:.5f}"] for i, delta in enumerate(trace.delta1)]
        units["y"] = [["y", f"δ {trace.delta2[0]:.5f}"]]
    for layer, texts in units.items():
        for place, lines in zip(places[layer], texts, strict=True):
            _draw_unit(axes, place, lines, color if layer != "x" or not backward else GREY)
    for place, bias in zip([*places["h"], *places["y"]], [*shown.b1, *shown.b2], strict=True):
        axes.text(place[0], place[1] - 0.66, f"bias {said(bias)}", ha="center", va="center", fontsize=9, color=color)
    end = f"target {TARGET[0]:g}, E = {now.loss:.6f}"
    axes.text(5.2, 0.7, end, ha="center", va="center", fontsize=10, color=GREY)
    axes.set(xlim=(-0.7, 6.2), ylim=(-1.9, 1.7), aspect="equal")
    axes.set_axis_off()
    return figure


def _draw_line(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str, color: str,
               backward: bool) -> None:  # fmt: skip
    tip, tail = (start, end) if backward else (end, start)
    axes.annotate("", tip, tail, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 45, "shrinkB": 45})
    x, y = (0.68 * a + 0.32 * b for a, b in zip(start, end, strict=True))
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color=color,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip


def _draw_unit(axes: Any, place: tuple[float, float], lines: Sequence[str], color: str) -> None:
    axes.add_patch(Circle(place, 0.5, facecolor="white", edgecolor=GREY))
    for i, line in enumerate(lines):
        axes.text(place[0], place[1] + 0.2 * (len(lines) - 1) / 2 - 0.2 * i, line, ha="center", va="center", fontsize=9,
                  color=color if i else "black", weight="normal" if i else "bold")  # fmt: skip


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def _digits(value: float) -> str:
    return f"{value:.6g}"
