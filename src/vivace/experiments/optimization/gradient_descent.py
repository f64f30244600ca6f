"""Experiment: gradient descent: how long a step may be, where it ends, and when to stop."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import diabetes, read_table
from vivace.experiments.linear_losses import LeastSquares
from vivace.experiments.surfaces import (
    DOUBLE_WELL,
    HIMMELBLAU,
    ROSENBROCK,
    SADDLE,
    Surface,
    draw_paths,
    film_paths,
    quadratic,
)
from vivace.experiments.timing import exponent_of
from vivace.optimization import gradient_descent

QUICK = {"functions": 100, "starts": 100}

SURFACES = {"valley": quadratic(10), "saddle": SADDLE, "double well": DOUBLE_WELL, "rosenbrock": ROSENBROCK,
            "himmelblau": HIMMELBLAU}  # fmt: skip
PATIENCE = 50_000  # steps

Coordinate = Annotated[float, Ge(-100), Le(100)]


@checked
def run(*, surface: Literal["valley", "saddle", "double well", "rosenbrock", "himmelblau"] = "himmelblau",
        x: Coordinate = -0.5, y: Coordinate = -1.0, learning_rate: Annotated[float, Gt(0), Le(100)] = 0.01,
        steps: Annotated[int, Ge(1), Le(100_000)] = 200, data: FilePath = None, target: str | None = None,
        functions: Annotated[int, Ge(10), Le(100_000)] = 1000, starts: Annotated[int, Ge(10), Le(100_000)] = 1000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """How gradient descent works: its step size, where it ends, and its stopping rules.

    vivace run gradient_descent        8 s on two cores; the largest step size is 2.00/L, half of the starts end in the
    wrong well, and a start on a saddle's ridge ends at the saddle

    surface: the one on which a descent of your own is drawn and filmed
    x: where it starts
    y: where it starts
    learning_rate: its rate
    steps: how many it may take
    data: a CSV file whose least-squares loss is descended (default: scikit-learn's diabetes patients)
    target: its column to predict (default: the last)
    functions: random smooth functions on which single steps are tried
    starts: random starting points on the double well
    seed: the random functions and starting points
    """
    generator = torch.Generator().manual_seed(seed)
    table = read_table(data, target) if data else diabetes()
    rows = LeastSquares.of(table)
    report = Report(
        "Gradient descent needs a step below 2/L, and ends where the gradient is zero",
        r"$\theta \leftarrow \theta - \alpha \nabla f(\theta)$ on surfaces that can be drawn, and on the mean squared "
        f"error of {table.name}. $L$ is the largest curvature; for $f = \\theta^2$ it is 2.",
    )
    own = torch.tensor([x, y], dtype=torch.float64)
    parts: list[Callable[[Report], None]] = [
        partial(_own_descent, SURFACES[surface], own, learning_rate, steps),
        partial(_one_step, functions, generator),
        _rates_on_a_parabola,
        _rates_in_a_valley,
        partial(_largest_rate, rows, generator),
        partial(_wells, starts, generator),
        _ridge,
        partial(_convex, rows, generator),
        partial(_stopping, rows),
        _backtracking,
    ]
    for i, part in enumerate(parts):
        name = getattr(part, "func", part).__name__
        tell(Step(i, len(parts), name[1:].replace("_", " ")))
        part(report)
    tell(Step(len(parts), len(parts), "done"))
    return report


def _own_descent(surface: Surface, start: Tensor, rate: float, steps: int, report: Report) -> None:
    found = {
        f"rate {rate:g}": gradient_descent(surface.f, start, rate, steps=steps),
        "rate halved from 1 (Armijo)": gradient_descent(surface.f, start, 1.0, steps=steps, backtrack=True),
    }
    paths = {name: descent.path for name, descent in found.items()}
    report.figure("descent", draw_paths(surface, paths), f"{surface.name}: from the circle to the dots.")
    report.video("descending", film_paths(surface, paths), caption="The same, step by step, slower at first.")
    rows = [(name, d.stopped, d.steps, d.evaluations, d.values[-1].item(), d.gradient_norms[-1].item())
            for name, d in found.items()]  # fmt: skip
    columns = ("rate", "stopped by", "steps", "evaluations of f", "f at the end", "norm of the gradient there")
    report.table("descent-in-numbers", columns, rows, f"From ({start[0]:g}, {start[1]:g}), at most {steps} steps.")


def _one_step(functions: int, generator: torch.Generator, report: Report) -> None:
    """Random tanh networks of five inputs: does one step lower them? (2.1.c1)"""
    W, b, v, theta = (torch.randn(functions, *shape, generator=generator, dtype=torch.float64)
                      for shape in ((16, 5), (16,), (16,), (5,)))  # fmt: skip

    def f(at: Float[Tensor, "k 5"]) -> Float[Tensor, " k"]:
        return (v * torch.tanh((W @ at[:, :, None])[:, :, 0] + b)).sum(1)

    at = theta.requires_grad_()
    (g,) = torch.autograd.grad(f(at).sum(), at)
    theta = theta.detach()
    rates = np.geomspace(1e-5, 10, 25)
    lowered = [(f(theta - a * g) < f(theta)).double().mean().item() for a in rates]
    report.curve("one-step", {"lowered by a step": (rates, [100 * share for share in lowered])}, x="learning rate",
                 y="functions, %", log_x=True, caption=f"{functions:,} random smooth functions of five variables: "
                 "every one is lowered by a short step down its gradient; a long one may go up again.")  # fmt: skip
    slopes = (f(theta) - f(theta - rates[0] * g)) / (rates[0] * g.square().sum(1))
    report.claim("2.1.c1", lowered[0], low=1, unit="of the functions",
                 detail=f"one step of rate 1e-5, {functions:,} random tanh networks; f falls by between "
                 f"{slopes.min():.4f} and {slopes.max():.4f} of rate * |gradient|^2")  # fmt: skip


def _rates_on_a_parabola(report: Report) -> None:
    """theta^2, from 1 (2.1.c2, x2)."""
    found = {rate: gradient_descent(torch.square, torch.tensor(1.0, dtype=torch.float64), rate, steps=50,
                                    gradient_below=None) for rate in (0.1, 0.9, 1.0, 1.1)}  # fmt: skip
    lines = {f"rate {rate}": (range(0, 51, every), found[rate].path.abs()[::every])
             for rate, every in ((1.1, 1), (1.0, 1), (0.9, 1), (0.1, 5))}  # fmt: skip
    report.curve("rates", lines, x="step", y="distance from the minimum", log_y=True, points=True,
                 caption=r"f = theta squared, L = 2. Rates 0.1 and 0.9 shrink the distance by 0.8 a step (their points "
                 "lie on one line), though 0.9 jumps over the minimum each time; 1.0 = 2/L never arrives.")  # fmt: skip
    at = {rate: descent.end.item() for rate, descent in found.items()}
    report.claim("2.1.c2", abs(at[1.1]), low=100, detail="|theta| after 50 steps of rate 1.1 on theta^2, from 1; "
                 f"at rate 1.0 it is {abs(at[1.0]):g}")  # fmt: skip
    jumps = int((found[0.9].path[:-1] * found[0.9].path[1:] < 0).sum())
    report.claim("2.1.x2", abs(at[0.9]), low=1, detail=f"|theta| after 50 steps of rate 0.9, {jumps} of which jump "
                 f"over the minimum; at rate 0.1, with none, it is {at[0.1]:.4g} too")  # fmt: skip


def _rates_in_a_valley(report: Report) -> None:
    """Condition 10: the lecture's picture, and how many steps it takes (2.1.c3)."""
    valley, top, start = quadratic(10), 10.0, torch.tensor([1.0, 0.9], dtype=torch.float64)
    paths = {f"{factor:g}/L": gradient_descent(valley.f, start, factor / top, steps=15).path
             for factor in (0.1, 1, 1.9, 2.1)}  # fmt: skip
    report.figure("valley", draw_paths(valley, paths), "15 steps: too short, right, overshooting, diverging.")
    report.video("valley-film", film_paths(valley, paths), caption="The same four descents.")
    factors = [2.0**-k for k in range(6)]
    counts = [gradient_descent(valley.f, start, factor / top, steps=PATIENCE).steps for factor in factors]
    more = [1.5, 1.8, 1.95]
    counts_of_more = [gradient_descent(valley.f, start, factor / top, steps=PATIENCE).steps for factor in more]
    report.curve("steps", {"gradient below 1e-6": (factors[::-1] + more, counts[::-1] + counts_of_more)}, log_x=True,
                 log_y=True, x="learning rate, in 1/L", y="steps", caption="Condition number 10. "
                 "Half the rate takes twice the steps; near 2/L it gets slow again.")  # fmt: skip
    report.claim(
        "2.1.c3",
        exponent_of(factors, counts),
        low=-1.1,
        high=-0.9,
        detail=f"slope of log(steps) over log(rate): {counts[0]} steps at 1/L, {counts[-1]} at 1/(32 L)",
    )


def _largest_rate(rows: LeastSquares, generator: torch.Generator, report: Report) -> None:
    """Bisection between a rate that converges and one that diverges (2.1.x1)."""
    start = torch.randn(len(rows.best), generator=generator, dtype=torch.float64)
    low, high = 0.5, 8.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        values = gradient_descent(rows.loss, start, middle / rows.curvature, steps=500, gradient_below=None).values
        low, high = (middle, high) if values[-1] < values[-2] else (low, middle)
    report.claim("2.1.x1", low, low=1.98, high=2.02, unit="/L", detail="the rate between growth and decay of the last "
                 f"of 500 steps on the data's squared error, by bisection; L = {rows.curvature:.4g}")  # fmt: skip


def _wells(starts: int, generator: torch.Generator, report: Report) -> None:
    """Which of two minima (2.1.c4)."""
    well = DOUBLE_WELL
    low, high = torch.tensor([well.x, well.y], dtype=torch.float64).T
    begin = low + (high - low) * torch.rand(starts, 2, generator=generator, dtype=torch.float64)
    # f's sum has each point's own gradient: all descend at once
    descent = gradient_descent(lambda p: well.f(p).sum(), begin, 0.02, steps=2000, gradient_below=1e-9)
    ends = well.f(descent.end)
    share = (ends < ends.min() + 1e-6).double().mean().item()
    paths = {f"start {i + 1}: f = {ends[i]:.3f}": descent.path[:, i] for i in range(5)}
    report.figure("wells", draw_paths(well, paths), "Five of the starts: each ends at the bottom of its own valley.")
    report.claim("2.1.c4", share, low=1, unit="of the starts", detail=f"that end at a double well's minimum, "
                 f"{ends.min():.3f}, of {starts:,} random ones; the others end at {ends.max():.3f}")  # fmt: skip


def _ridge(report: Report) -> None:
    """x^2 - y^2 + y^4/4: a saddle at (0, 0), minima at y = +-sqrt 2 (2.1.x3)."""
    begin = {"on the ridge": (1.4, 0.0), "off it by 1e-6": (1.4, 1e-6), "off it by 0.1": (1.4, 0.1)}
    found = {name: gradient_descent(SADDLE.f, torch.tensor(at, dtype=torch.float64), 0.1, steps=2000)
             for name, at in begin.items()}  # fmt: skip
    paths = {name: descent.path for name, descent in found.items()}
    report.figure("saddle", draw_paths(SADDLE, paths), "The smallest push off the ridge is enough, but takes time.")
    rows = [(name, descent.steps, *descent.end.tolist(), descent.values[-1].item()) for name, descent in found.items()]
    report.table("saddle-in-numbers", ("start", "steps", "x", "y", "f"), rows, "Where it ends; the minimum is f = -1.")
    report.claim("2.1.x3", found["on the ridge"].end.norm(), high=1e-6, detail="distance from the saddle (0, 0), where "
                 f"f = 0, after {found['on the ridge'].steps} steps; 1e-6 beside the ridge it ends at f = "
                 f"{found['off it by 1e-6'].values[-1]:.4f}")  # fmt: skip


def _convex(rows: LeastSquares, generator: torch.Generator, report: Report) -> None:
    """Many starts on the squared error, and the length of steps (2.1.x4, x5)."""
    begin = 3 * torch.randn(50, len(rows.best), generator=generator, dtype=torch.float64)
    descent = gradient_descent(
        lambda w: rows.loss(w).sum(), begin, 1 / rows.curvature, steps=PATIENCE, gradient_below=1e-7
    )
    ends = rows.loss(descent.end)
    unsettled = 0.0 if descent.stopped == "gradient" else math.inf
    report.claim("2.1.x4", ends.max() - ends.min(), high=1e-6, spread=unsettled, detail="largest less smallest final "
                 "loss of 50 random starts on the data's squared error; the targets' variance is 1")  # fmt: skip
    lengths = descent.path[:, 0].diff(dim=0).norm(dim=1)
    report.claim("2.1.x5", lengths[0] / lengths[min(100, len(lengths) - 1)], low=0.99, high=1.01,
                 detail="length of the first step over that of the 101st, both at the same learning rate")  # fmt: skip


def _stopping(rows: LeastSquares, report: Report) -> None:
    """The rules on one problem, and how far from the minimum they stop (2.1.c5, x6)."""
    top = rows.curvature
    descend = partial(gradient_descent, rows.loss, rows.start, steps=PATIENCE, gradient_below=None)
    found = {
        ("gradient's norm < 1e-6", 1.0): descend(1 / top, gradient_below=1e-6),
        ("parameters move < 1e-6", 1.0): descend(1 / top, move_below=1e-6),
        ("1000 steps", 1.0): descend(1 / top, steps=1000),
        ("loss changes < 1e-6", 1.0): descend(1 / top, change_below=1e-6),
        ("parameters move < 1e-6", 1e-7): descend(1e-7 / top, move_below=1e-6),
        ("loss changes < 1e-6", 1e-7): descend(1e-7 / top, change_below=1e-6),
    }
    table = [(rule, f"{factor:g}/L", d.steps, rows.excess(d.end).item(), d.gradient_norms[-1].item())
            for (rule, factor), d in found.items()]  # fmt: skip
    report.table("stopping", ("stop when", "rate", "steps", "loss above the minimum", "norm of the gradient"), table,
                 "One problem, one start. With a tiny rate everything but the gradient changes little.")  # fmt: skip
    ended = [found[rule, 1.0] for rule in ("gradient's norm < 1e-6", "parameters move < 1e-6", "1000 steps")]
    as_meant = sum(d.stopped == why for d, why in zip(ended, ("gradient", "parameters", "steps"), strict=True))
    report.claim("2.1.c5", as_meant, low=3, unit="rules", detail="of 3 that end the descent of the data's squared "
                 f"error: after {', '.join(str(d.steps) for d in ended)} steps")  # fmt: skip
    early = found["parameters move < 1e-6", 1e-7]
    report.claim("2.1.x6", rows.missing(early.end), high=0.01, detail="share of the way down still to go when, at rate "
                 f"1e-7/L, the parameters move by less than 1e-6: after {early.steps} step")  # fmt: skip


def _backtracking(report: Report) -> None:
    """Any first rate, on three surfaces (2.1.x7)."""
    rates = [10.0**k for k in range(-1, 5)]
    start = torch.tensor([-1.0, 0.9], dtype=torch.float64)
    arrived = {}
    for search in (False, True):
        ends = [gradient_descent(surface.f, start, rate, steps=1000, backtrack=search).stopped
                for rate in rates for surface in (quadratic(10), DOUBLE_WELL, HIMMELBLAU)]  # fmt: skip
        arrived[search] = ends.count("gradient")
    count = 3 * len(rates)
    report.claim("2.1.x7", arrived[True] / count, low=1, unit="of the descents", detail="that reach a zero gradient: 3 "
                 f"surfaces, first rates 0.1 to 10,000; at a constant rate, {arrived[False]} of {count}")  # fmt: skip
