"""Experiment: the curves of the activation functions, their slopes, what they do to a signal, and what they cost."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from matplotlib.figure import Figure
from torch import Tensor

from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.plain_training import standardized_digits
from vivace.experiments.timing import quickest
from vivace.networks import ACTIVATIONS, MLP, leaky_relu
from vivace.networks.saturation import sparsity

QUICK = {"samples": 200_000}

NAMES = {"identity": "identity", "step": "step", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU",
         "leaky_relu": "leaky ReLU", "elu": "ELU", "softplus": "softplus", "silu": "SiLU", "gelu": "GELU"}  # fmt: skip
LARGEST_SLOPES = {"sigmoid": 0.25, "tanh": 1.0}  # as taught
GRID = torch.arange(-8000, 8001, dtype=torch.float64) / 1000
TIMED = 100_000  # numbers: they stay in the processor's cache, so that arithmetic is timed, not memory
REPEATS = 50


@checked
def run(*, samples: Annotated[int, Ge(10_000), Le(10_000_000)] = 1_000_000, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Ten activation functions: curves, slopes, zeros, means and cost.

    vivace run activations        3 s; the sigmoid's slope is at most 0.25, ReLU zeroes half and costs the least

    samples: how many normal numbers each function is shown
    seed: of those numbers and of an untrained net
    """
    report = Report(
        "Activation functions: what each does to a signal, and what it lets through of a gradient",
        "Each function $f$ is drawn with its slope $f'$, then shown normal numbers $z \\sim N(0, 1)$, as a freshly "
        "initialised layer would.",
    )
    tell(Step(0, 3, "drawing the curves"))
    slopes = {name: _by_autograd(name) for name in ACTIVATIONS}
    report.figure("curves", _curves(), "Each function (blue) and its slope (orange). A gradient is multiplied by the "
                  "slope at every layer.")  # fmt: skip
    _slope_claims(report, slopes)
    _identities(report)
    tell(Step(1, 3, "normal numbers through each"))
    _signals(report, slopes, samples, seed)
    tell(Step(2, 3, "timing"))
    _cost(report)
    tell(Step(3, 3, "done"))
    return report


def _by_autograd(name: str) -> Tensor:
    """The slope on the grid, by automatic differentiation of torch's own function."""
    z = GRID.clone().requires_grad_()
    out = ACTIVATIONS[name].fused(z)
    return torch.autograd.grad(out.sum(), z)[0] if out.requires_grad else torch.zeros_like(z)


def _curves() -> Figure:
    figure, axes = drawing(2, 5, width=13, height=5.4, sharex=True)
    z = torch.linspace(-4, 4, 801, dtype=torch.float64)
    for place, (name, label) in zip(axes.ravel(), NAMES.items(), strict=True):
        activation = ACTIVATIONS[name]
        f = activation.f(z).numpy()
        if name == "step":
            f = np.where(np.abs(z.numpy()) < 0.005, np.nan, f)  # a jump, not a steep line
        place.axhline(0, color=GREY, linewidth=0.8)
        place.axvline(0, color=GREY, linewidth=0.8)
        slope = activation.slope(z)
        jump = torch.zeros_like(z).bool()
        jump[1:] = slope.diff().abs() > 0.2
        place.plot(z, slope.masked_fill(jump, torch.nan).numpy(), color=ORANGE, linewidth=1.6, label="slope $f'(z)$")
        place.plot(z, f, color=BLUE, linewidth=2, label="$f(z)$")
        place.set(title=label, ylim=(-1.4, 2.6), xlim=(-4, 4), xticks=(-4, -2, 0, 2, 4), yticks=(-1, 0, 1, 2))
    for place in axes[1]:
        place.set_xlabel("z")
    axes[0, 0].legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _slope_claims(report: Report, slopes: dict[str, Tensor]) -> None:
    largest = {name: slopes[name].max().item() for name in LARGEST_SLOPES}
    over = max(largest[name] / bound for name, bound in LARGEST_SLOPES.items())
    report.claim("3.2.c1", over, high=1 + 1e-9, detail="largest slope over what is taught, the larger of the two; "
                 + ", ".join(f"{name} {slope:.6f}" for name, slope in largest.items()))  # fmt: skip
    relu = slopes["relu"]
    others = ((relu != 0) & (relu != 1)).sum()
    report.claim("2.12.Q1.c1", others, high=0, unit="slopes", detail=f"of {len(GRID):,} by autograd, neither 0 nor 1; "
                 f"at z = 0, where there is no slope, torch says {relu[GRID == 0].item():g}")  # fmt: skip


def _identities(report: Report) -> None:
    apart = (torch.tanh(GRID) - (2 * torch.sigmoid(2 * GRID) - 1)).abs().max()
    report.claim("2.12.Q1.c2", apart, high=1e-12, detail="largest |tanh z - (2 sigmoid(2z) - 1)| on a grid, float64")
    for id_, leak in (("3.2.c8", 0.01), ("3.2.x2", 2.0)):
        apart = (torch.maximum(leak * GRID, GRID) - torch.nn.functional.leaky_relu(GRID, leak)).abs().max()
        report.claim(id_, apart, high=1e-12, detail=f"largest |max({leak:g} z, z) - leaky ReLU| for |z| <= 8")
    z = torch.arange(1, 100, dtype=torch.float32)
    first = {f.__name__: int(z[f(z) == 1][0]) for f in (torch.sigmoid, torch.tanh)}
    report.claim("3.2.x1", (torch.sigmoid(z) == 1).sum(), high=0, unit="numbers", detail="z of 1, 2, ... 99 whose "
                 f"sigmoid is exactly 1 in float32: from {first['sigmoid']} on; tanh from {first['tanh']}")  # fmt: skip


def _signals(report: Report, slopes: dict[str, Tensor], samples: int, seed: int) -> None:
    z = torch.randn(samples, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows, zeros, means = [], {}, {}
    for name, label in NAMES.items():
        h = ACTIVATIONS[name].f(z)
        zeros[name], means[name] = sparsity(h).item(), h.mean().item()
        passed = ACTIVATIONS[name].slope(z).square().mean().sqrt().item()
        rows.append((label, round(slopes[name].max().item(), 4), f"{zeros[name]:.2%}", round(means[name], 4),
                     round(h.std().item(), 4), round(passed, 4)))  # fmt: skip
    report.table("signals", ("function", "largest slope", "exact zeros", "mean output", "spread of outputs",
                             "root mean square slope"), rows,
                 f"{samples:,} normal numbers through each function. The last column is what a gradient is multiplied "
                 "by, on average over a layer.")  # fmt: skip
    train, _ = standardized_digits()
    net = MLP([64, 512, 512, 10], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        silent = [sparsity(h).item() for h in net.forward_stored(train.images)[1:-1]]
    report.claim("3.2.c2", zeros["relu"], low=0.45, high=0.55, detail="share of exact zeros; in an untrained net "
                 "64-512-512-10 on digits " + " and ".join(f"{s:.1%}" for s in silent))  # fmt: skip
    report.claim("3.2.c3", means["relu"], low=0.1, detail=f"mean output; theory 1/sqrt(2 pi) = 0.3989; tanh's is "
                 f"{means['tanh']:.4f}")  # fmt: skip
    kept = sparsity(leaky_relu(z))
    report.claim("3.2.c5", kept, low=zeros["relu"] / 2, detail="share of exact zeros with leaky ReLU, one of ReLU's "
                 f"benefits; ReLU has {zeros['relu']:.1%}")  # fmt: skip


def _cost(report: Report) -> None:
    z = torch.randn(TIMED, generator=torch.Generator().manual_seed(0))
    in_place = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, "tanh": torch.tanh_}

    def repeated(name: str) -> None:
        x = z.clone()
        for _ in range(REPEATS):
            in_place[name](x)

    seconds = dict(zip(in_place, quickest([lambda n=n: repeated(n) for n in in_place]), strict=True))  # type: ignore[misc]
    each = {name: 1e9 * s / REPEATS / TIMED for name, s in seconds.items()}
    report.claim("3.2.c4", min(each["sigmoid"], each["tanh"]) / each["relu"], low=1, unit="times as long",
                 detail="the faster of sigmoid and tanh against ReLU; nanoseconds a number, one thread: "
                 + ", ".join(f"{NAMES[name]} {ns:.2g}" for name, ns in each.items()))  # fmt: skip
    report.table("cost", ("function", "nanoseconds a number"), [(NAMES[n], round(ns, 3)) for n, ns in each.items()],
                 "Processor time on one thread. In a fully connected layer of 128 inputs each output costs 128 "
                 "multiply-adds besides, so this seldom decides anything.")  # fmt: skip
