"""Experiment: universal approximation: what one hidden layer can come near to, and what a common MLP class can't."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Adam

from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import diabetes
from vivace.experiments.classifier import warm_then_cosine
from vivace.networks import MLP

QUICK = {"widest": 32, "steps": 500, "starts": 3}

REACH = math.pi  # the nets learn on [-REACH, REACH]
POINTS = 128
TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin x": torch.sin,
    "|x|": torch.abs,
    "a step": lambda x: (x > 0).to(x),
    "a staircase": lambda x: torch.floor(x),
}
CONTINUOUS = ("sin x", "|x|")
BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "square": torch.square,
}
Bend = Literal["tanh", "sigmoid", "relu", "square"]


@checked
def run(*, widest: Annotated[int, Ge(4), Le(512)] = 64, activation: Bend = "tanh",
        steps: Annotated[int, Ge(50), Le(20_000)] = 1500, starts: Annotated[int, Ge(1), Le(50)] = 5,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """One hidden layer, wider and wider: continuous functions come within reach, jumps and the outside don't.

    vivace run universal_approximation        30 s on two cores; sin to 0.01 %, |x| to 1.2 % with 64 units

    widest: hidden units of the largest net; the others have a half, a quarter, ...
    activation: of the hidden units; with the square, a polynomial, the theorem doesn't hold
    steps: of Adam for the whole net; then the output weights are solved for by least squares
    starts: random starts of each net, of which the best counts
    seed: of the random starts
    """
    widths = [widest >> k for k in reversed(range(widest.bit_length()))]
    report = Report(
        "One hidden layer comes near any continuous function, on a bounded interval",
        f"Nets 1-n-1 with {activation} learn four functions on $[-\\pi, \\pi]$ from {POINTS} points. The error is the "
        "largest on a fine grid (and on both sides of a jump), as a share of the function's range.",
    )
    errors: dict[str, list[float]] = {name: [] for name in TARGETS}
    for i, width in enumerate(widths):
        tell(Step(i, len(widths) + 1, f"{width} hidden units"))
        nets = {name: fit_best(f, width, activation, steps, starts, seed) for name, f in TARGETS.items()}
        for name, net in nets.items():
            errors[name].append(100 * largest_error(net, TARGETS[name]))
    tell(Step(len(widths), len(widths) + 1, "the printed class"))
    report.curve("width", {name: (widths, values) for name, values in errors.items()}, x="hidden units",
                 y="largest error, % of the range", log_x=True, log_y=True,
                 caption=f"The best of {starts} starts: continuous functions come nearer and nearer, jumps "
                     "never.")  # fmt: skip
    report.figure("fits", draw_fits(nets), f"{widths[-1]} hidden units, learnt between the grey lines only.")
    _theorem(report, nets, errors, steps, starts, seed)
    _batches(report, seed)
    _range(report, seed)
    tell(Step(len(widths) + 1, len(widths) + 1, "done"))
    return report


class OneHiddenLayer(nn.Module):
    """1-n-1, and `starts` of them side by side."""

    def __init__(self, starts: int, width: int, bend: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        super().__init__()
        self.bend = bend
        self.w = nn.Parameter(2 * torch.randn(starts, 1, width, generator=generator, dtype=torch.float64))
        knees = REACH * (2 * torch.rand(starts, 1, width, generator=generator, dtype=torch.float64) - 1)
        self.b = nn.Parameter(-(self.w * knees).detach())  # each unit bends somewhere on the interval
        self.v = nn.Parameter(torch.randn(starts, width + 1, 1, generator=generator, dtype=torch.float64) / width)

    def hidden(self, x: Float[Tensor, " n"]) -> Float[Tensor, "s n units"]:
        h = self.bend(x[:, None] * self.w + self.b)
        return F.pad(h, (0, 1), value=1.0)  # the last for the output's bias

    def forward(self, x: Float[Tensor, " n"]) -> Float[Tensor, "s n"]:
        return (self.hidden(x) @ self.v)[..., 0]


def fit_best(f: Callable[[Tensor], Tensor], width: int, activation: str, steps: int, starts: int, seed: int
             ) -> OneHiddenLayer:  # fmt: skip
    """The best of several nets by their mean squared error; one in the end."""
    net = OneHiddenLayer(starts, width, BENDS[activation], torch.Generator().manual_seed(seed))
    x = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    target = f(x)
    optimizer = Adam(net.parameters(), lr=0.03)
    schedule = warm_then_cosine(optimizer, steps)
    for _ in range(steps):
        loss = (net(x) - target).square().mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        h = net.hidden(x)
        net.v.copy_(torch.linalg.lstsq(h, target[:, None].expand(starts, -1, 1), rcond=1e-4, driver="gelsd").solution)
        best = (net(x) - target).square().mean(1).argmin()
        for parameter in net.parameters():
            parameter.data = parameter.data[best : best + 1].clone()
    return net


@torch.no_grad()
def largest_error(
    net: OneHiddenLayer, f: Callable[[Tensor], Tensor], low: float = -REACH, high: float = REACH
) -> float:
    """As a share of the function's range; close to both sides of every whole number too, where the jumps are."""
    whole = torch.arange(math.ceil(low), math.floor(high) + 1, dtype=torch.float64)
    x = torch.cat([torch.linspace(low, high, 2001, dtype=torch.float64), whole - 1e-9, whole + 1e-9])
    x = x[(x >= low) & (x <= high)]
    return ((net(x)[0] - f(x)).abs().max() / (f(x).max() - f(x).min())).item()


def _theorem(report: Report, nets: Mapping[str, OneHiddenLayer], errors: Mapping[str, Sequence[float]], steps: int,
             starts: int, seed: int) -> None:  # fmt: skip
    width = nets["sin x"].w.shape[-1]
    worst = max(errors[name][-1] for name in CONTINUOUS)
    report.claim("3.1.c3", worst, high=5, unit="% of the range", detail=f"largest error anywhere on the interval with "
                 f"{width} units, the larger of " + ", ".join(f"{name} {errors[name][-1]:.3g}" for name in CONTINUOUS)
                 + f"; with one unit {max(errors[name][0] for name in CONTINUOUS):.3g}")  # fmt: skip
    jumps = {name: values[-1] for name, values in errors.items() if name not in CONTINUOUS}
    report.claim("3.1.x3", max(jumps.values()), high=5, unit="% of the range", detail="the same for the functions that "
                 "jump, " + ", ".join(f"{name} {error:.3g}" for name, error in jumps.items()))  # fmt: skip
    outside = {name: 100 * largest_error(nets[name], TARGETS[name], REACH, 2 * REACH) for name in CONTINUOUS}
    report.claim("3.1.x4", max(outside.values()), high=5, unit="% of the range", detail="largest error of the same "
                 "nets on [pi, 2 pi], beside the interval they learnt on, "
                 + ", ".join(f"{name} {error:.3g}" for name, error in outside.items()))  # fmt: skip
    polynomial = fit_best(torch.sin, width, "square", steps, starts, seed)
    report.claim("3.1.x5", 100 * largest_error(polynomial, torch.sin), high=5, unit="% of the range",
                 detail=f"largest error for sin x with {width} units that square their sums")  # fmt: skip


@torch.no_grad()
def draw_fits(nets: Mapping[str, OneHiddenLayer]) -> Figure:
    figure, axes = drawing(1, 4, width=11, height=2.8)
    x = torch.linspace(-2 * REACH, 2 * REACH, 1201, dtype=torch.float64)
    for ax, (name, net) in zip(axes, nets.items(), strict=True):
        y = TARGETS[name](x)
        ax.plot(x, y, color=GREY, linewidth=3, alpha=0.6, label="function")
        ax.plot(x, net(x)[0], color=BLUE, label="net")
        for side in (-REACH, REACH):
            ax.axvline(side, color=GREY, linewidth=0.8)
        room = 0.3 * (y.max() - y.min()).item()
        ax.set(title=name, xlabel="x", ylim=(y.min().item() - room, y.max().item() + room))
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def as_printed(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], a: np.ndarray) -> np.ndarray:
    """The forward pass as many introductions have it: sigmoid(w a + b), which is meant for one column vector."""
    for w, b in zip(weights, biases, strict=True):
        a = 1 / (1 + np.exp(-(np.dot(w, a) + b)))
    return a


def for_batches(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], a: np.ndarray) -> np.ndarray:
    """The same for rows: sigmoid(a w^T + b)."""
    for w, b in zip(weights, biases, strict=True):
        a = 1 / (1 + np.exp(-(a @ w.T + b[:, 0])))
    return a


def _batches(report: Report, seed: int) -> None:
    """Batches of five and of three rows with three features each, against the rows one by one."""
    random = np.random.default_rng(seed)
    sizes = (3, 4, 2)
    weights = [random.normal(size=(n, m)) for m, n in pairwise(sizes)]
    biases = [random.normal(size=(n, 1)) for n in sizes[1:]]
    rows = []
    for count in (5, 3):
        batch = random.normal(size=(count, 3))
        truth = np.stack([as_printed(weights, biases, x[:, None])[:, 0] for x in batch])
        for name, forward in (("w a + b, as printed", as_printed), ("a w^T + b", for_batches)):
            try:
                y = forward(weights, biases, batch)
                right = y.shape == truth.shape and np.allclose(y, truth)
                said = f"{y.shape[0]} x {y.shape[1]}" + ("" if right else ", but not each row's outputs")
            except ValueError as error:
                right, said = False, str(error).split(":")[0]
            rows.append((name, f"{count} x 3", said, right))
    report.table("batches", ("forward pass", "batch", "what comes out", "right"),
                 [(*row[:3], "yes" if row[3] else "no") for row in rows], "A net 3-4-2 on rows.")  # fmt: skip
    printed, fixed = (sum(right for name, *_, right in rows if name.startswith(start)) for start in ("w", "a"))
    report.claim("3.1.c4", printed, low=2, unit="batches", detail=f"of two, 5 x 3 and 3 x 3, on which it gives what "
                 f"each row alone gives; 5 x 3: {rows[0][2]}; 3 x 3: {rows[2][2]}")  # fmt: skip
    report.claim("3.1.x6", fixed, low=2, unit="batches", detail="of the same two with activation @ w.T + b")


def _range(report: Report, seed: int) -> None:
    """Diabetes patients' progression, in hundreds: with a sigmoid at the output, as printed, and without."""
    table = diabetes()
    X = torch.from_numpy((table.X - table.X.mean(0)) / table.X.std(0)).float()
    target = torch.from_numpy(table.y / 100).float()
    found = {}
    for name, last in (("sigmoid", torch.sigmoid), ("linear", lambda z: z)):
        model = MLP([X.shape[1], 16, 1], activation="sigmoid", generator=torch.Generator().manual_seed(seed))
        optimizer = Adam(model.parameters(), lr=0.02)
        for _ in range(400):
            loss = F.mse_loss(last(model(X))[:, 0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[name] = last(model(X))[:, 0].detach()
    figure, ax = drawing(width=5.2, height=4.2)
    for (name, y), color in zip(found.items(), (ORANGE, BLUE), strict=True):
        ax.plot(100 * target, 100 * y, ".", color=color, label=f"{name} output", markersize=4)
    ax.plot([25, 346], [25, 346], color=GREY, linewidth=1)
    ax.set(xlabel="progression of the disease, measured", ylabel="said by the net")
    ax.legend(frameon=False)
    report.figure("range", figure, "442 patients: a sigmoid at the output can't say more than 1 (here: 100).")
    report.claim("3.1.c5", found["sigmoid"].mean(), low=target.mean().item(), detail="mean output after training on "
                 f"targets from {target.min():.2f} to {target.max():.2f}, which must reach their mean; largest output "
                 f"{found['sigmoid'].max():.4f}")  # fmt: skip
    explained = 1 - (found["linear"] - target).square().mean() / target.var(correction=0)
    report.claim("3.1.x7", explained, low=0.5, detail="share of the targets' variance that the same net explains with "
                 f"a linear output; largest output {found['linear'].max():.2f}")  # fmt: skip
