"""Experiment: what makes gradient descent slow or sends it astray, and what helps: valleys, saddles, scales, minima."""

import math
from functools import partial
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.drawing import GREY, PALETTE, drawing
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.descents import Make, steps_down, walk
from vivace.experiments.surfaces import DOUBLE_WELL, SADDLE, draw_paths, film_paths
from vivace.experiments.timing import exponent_of
from vivace.optimization import SGD, Adam

QUICK = {"largest": 1000}

RATE, STEPS = 0.01, 1200  # over the saddle
BESIDE = 1e-8  # how far from the ridge descent begins
AXES = 10  # of the rotated quadratics
RATES = (0.03, 0.1, 0.3, 1.0)


@checked
def run(*, data: FilePath = None, target: str | None = None, largest: Annotated[int, Ge(100), Le(100_000)] = 10_000,
        noise: Annotated[float, Ge(1e-6), Le(1)] = 1e-3, runs: Annotated[int, Ge(2), Le(100)] = 16, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Where gradient descent has a hard time, and what helps.

    vivace run descent_difficulties        8 s on two cores; 7,082 steps at condition 1,000; a saddle is left in 948
    steps, with noise in about 530, with momentum in 186

    data: a CSV file of yours whose features are scaled, instead of the diabetes patients'
    target: its column to predict; by default the last one
    largest: the largest condition number of the valleys
    noise: the standard deviation of what is added to each gradient over the saddle
    runs: noisy walks, and rotations of the quadratics, that are averaged
    seed: the noise, the rotations and the random starts
    """
    table = diabetes() if data is None else read_table(data, target)
    report = Report(
        "Gradient descent: narrow valleys, saddles, wrong minima",
        r"Descent contracts each direction of curvature $\lambda$ by $1 - \alpha\lambda$ a step. The largest curvature "
        r"limits $\alpha$ to below $2/\lambda_{max}$, and the smallest is left to wait: their ratio is the condition "
        r"number $\kappa$.",
    )
    tell(Step(0, 5, "valleys"))
    _conditions(report, largest)
    tell(Step(1, 5, "saddle"))
    _saddle(report, noise, runs, seed)
    tell(Step(2, 5, "scales of features"))
    _scaling(report, table)
    tell(Step(3, 5, "rotated quadratics"))
    _rotated(report, runs, seed)
    tell(Step(4, 5, "minima and restarts"))
    _restarts(report, seed)
    tell(Step(5, 5, "done"))
    return report


def _conditions(report: Report, largest: int) -> None:
    conditions = [10**k for k in range(1, round(math.log10(largest)) + 1)]
    steps = [steps_down(partial(SGD, lr=2 / (kappa + 1)), torch.tensor([1.0, kappa], dtype=torch.float64))
             for kappa in conditions]  # fmt: skip
    report.curve("conditioning", {"plain descent, best rate": (conditions, steps)}, x="condition number", log_x=True,
                 y="steps until 1e-6", log_y=True, caption="Half of x^2 + condition y^2 from (1, 1).")  # fmt: skip
    report.claim("2.4.c1", exponent_of(conditions, steps), low=0.95, high=1.05, detail="exponent of the condition "
                 f"number in the steps; {', '.join(f'{n:,.0f}' for n in steps)} steps for "
                 f"{', '.join(f'{kappa:,}' for kappa in conditions)}")  # fmt: skip


def _saddle(report: Report, noise: float, runs: int, seed: int) -> None:
    """From beside the ridge of a saddle until |y| > 1 (2.4.c2, x1)."""
    start = torch.tensor([[1.0, BESIDE]], dtype=torch.float64)
    plain = walk(partial(SGD, lr=RATE), SADDLE.f, start, steps=STEPS)
    noisy = walk(partial(SGD, lr=RATE), SADDLE.f, start.repeat(runs, 1), steps=STEPS, noise=noise,
                 generator=torch.Generator().manual_seed(seed))  # fmt: skip
    ball = walk(partial(SGD, lr=RATE, momentum=0.9), SADDLE.f, start, steps=STEPS)
    ridge = walk(partial(SGD, lr=RATE), SADDLE.f, [[1.0, 0.0]], steps=STEPS)
    steps, with_noise, with_ball = (left(path) for path in (plain, noisy, ball))
    middle = float(with_noise.median())
    report.claim("2.4.c2", middle / float(steps[0]), high=0.8, detail=f"steps until |y| > 1 from (1, 1e-8) at rate "
                 f"{RATE}: plain {steps[0]:g}, with noise {middle:g} (median of {runs}; {with_noise.min():g} to "
                 f"{with_noise.max():g}), with momentum 0.9 {with_ball[0]:g}")  # fmt: skip
    report.claim(
        "2.4.x1",
        ridge[-1, 0, 1].abs(),
        low=1,
        detail=f"|y| after {STEPS} steps of plain descent from (1, 0), "
        "exactly on the ridge: the gradient has no part across it",
    )
    report.curve("saddle-steps", {"plain": (range(STEPS + 1), plain[:, 0, 1].abs()),
                                  f"noise {noise:g}": (range(STEPS + 1), noisy[:, 0, 1].abs()),
                                  "momentum 0.9": (range(STEPS + 1), ball[:, 0, 1].abs())}, x="step", y="|y|",
                 log_y=True, caption="The distance from the ridge grows by a constant factor a step.")  # fmt: skip
    shaken = walk(partial(SGD, lr=RATE), SADDLE.f, start, steps=STEPS, noise=0.5,
                  generator=torch.Generator().manual_seed(seed))  # fmt: skip
    until = int(steps[0]) + 100
    paths = {name: path[:until, 0] for name, path in (("plain", plain), ("momentum 0.9", ball), ("noise 0.5", shaken),
                                                      ("on the ridge", ridge))}  # fmt: skip
    report.figure("saddle", draw_paths(SADDLE, paths), "From the right towards the saddle and off it; from the ridge "
                  "itself only to the saddle. Here the noise is strong enough to be seen.")  # fmt: skip
    report.video(
        "saddle-film",
        film_paths(SADDLE, {name: path[::4] for name, path in paths.items()}, frames=60),
        fps=10,
        caption="The same, faster and faster: plain descent waits at the saddle for long.",
    )


def left(path: Float[Tensor, "t n 2"]) -> Float[Tensor, " n"]:
    """The first step of each walk at which |y| > 1; infinite if there is none."""
    away = path[..., 1].abs() > 1
    return torch.where(away.any(0), away.int().argmax(0).double(), torch.inf)


def _scaling(report: Report, table: Table) -> None:
    """Least squares on features as they are, centred, and standardised (2.4.c3, x2)."""
    centred = table.X - table.X.mean(0)
    versions = {"as they are": table.X, "centred": centred, "standardised": centred / table.X.std(0)}
    lines, rows = {}, []
    for name, X in versions.items():
        design = torch.from_numpy(np.column_stack([X, np.ones(len(X))]))
        times, excess, steps, kappa = least_squares_descent(design, torch.from_numpy(table.y))
        lines[name] = (times, excess)
        rows.append((name, float(f"{kappa:.3g}"), steps))
    report.curve("scaling", lines, x="steps", y="excess error / variance", log_x=True, log_y=True,
                 caption=f"Gradient descent at its best rate on {table.name}.{table.remark}")  # fmt: skip
    report.table("scaling-table", ("features", "condition number", "steps to 1 % excess error"), rows)
    (_, before, slow), _, (_, after, fast) = rows
    report.claim("2.4.c3", fast / slow, high=0.5, detail=f"steps to 1 % excess error, standardised over as they are: "
                 f"{fast:,} and {slow:,}, by the Hessian's eigenvalues (exact for a quadratic)")  # fmt: skip
    report.claim("2.4.x2", after, high=10, detail=f"condition number when standardised; it was {before:.2g}. What is "
                 "left comes from correlated features")  # fmt: skip


def least_squares_descent(X: Float[Tensor, "n d"], y: Float[Tensor, " n"]
                          ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], int, float]:  # fmt: skip
    """Descent at its best rate from zero, in closed form: times, excess error / variance, steps to 1 %, kappa.

    Singular values instead of the Hessian's eigenvalues, which would be lost in rounding from a kappa of 1e16 on;
    directions that the features don't have are left out, as descent never goes there.
    """
    U, s, _ = torch.linalg.svd(X, full_matrices=False)
    there = s > 1e-13 * s[0]
    curvature, begin = 2 / len(X) * s[there] ** 2, (U.T @ y)[there] / s[there]
    top, bottom = curvature[0], curvature[-1]
    shares = torch.minimum(curvature, top - curvature + bottom) / ((top + bottom) / 2)
    rate_of_decay = torch.log1p(-shares)  # log |1 - alpha lambda| at alpha = 2 / (top + bottom), without cancellation

    def excess(step: float) -> float:
        return float((curvature / 2 * (begin * torch.exp(step * rate_of_decay)) ** 2).sum() / y.var())

    low, high = 0, 1
    while excess(float(high)) > 0.01:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(float(middle)) > 0.01 else (low, middle)
    times = np.geomspace(1, 1e10, 200)
    values = np.array([excess(step) for step in times])
    seen = values > 1e-8
    return times[seen], values[seen], high, float(top / bottom)


def _rotated(report: Report, runs: int, seed: int) -> None:
    """Adam, at its best rate, in valleys along the axes and turned (2.4.c4, x3, x5)."""
    conditions = (10, 100, 1000, 10_000)
    turns = random_rotations(runs, seed)
    axes = torch.eye(AXES, dtype=torch.float64).expand_as(turns)
    straight, turned = (
        [min(_steps_turned(partial(Adam, lr=rate), Q, kappa, seed=seed, most=1000) for rate in RATES)
         for kappa in conditions] for Q in (axes, turns)
    )  # fmt: skip
    plain = [_steps_turned(partial(SGD, lr=2 / (kappa + 1)), turns, kappa, seed=seed) for kappa in conditions]
    lines = {"plain descent, either way": plain, "Adam, turned": turned, "Adam, along the axes": straight}
    report.curve(
        "rotated",
        {name: (conditions, steps) for name, steps in lines.items()},
        x="condition number",
        y="steps to 1e-4 of the loss",
        log_x=True,
        log_y=True,
        caption=f"Quadratics in {AXES} dimensions, mean "
        f"over {runs} starts and rotations; Adam at the best of the rates {', '.join(map(str, RATES))}.",
    )
    detail = (
        f"mean of {runs}: {turned[-1]:.0f} turned, {straight[-1]:.0f} along the axes, plain descent {plain[-1]:,.0f}"
    )
    report.claim("2.4.c4", turned[-1] / straight[-1], low=2,
                 detail=f"Adam's steps at condition 10,000, turned over along the axes; {detail}")  # fmt: skip
    report.claim("2.4.x3", turned[-1] / plain[-1], low=1,
                 detail=f"steps at condition 10,000, turned: Adam's over plain descent's; {detail}")  # fmt: skip
    report.claim("2.4.x5", straight[-1] / straight[0], high=1.5, detail="Adam's steps along the axes, condition 10,000 "
                 f"over 10: {', '.join(f'{n:.0f}' for n in straight)}")  # fmt: skip


def random_rotations(count: int, seed: int) -> Float[Tensor, "n d d"]:
    """Orthogonal matrices, all directions alike."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(count, AXES, AXES, dtype=torch.float64, generator=generator)).Q


def _steps_turned(make: Make, Q: Float[Tensor, "n d d"], kappa: float, *, seed: int, most: int = 100_000) -> float:
    """The mean of the steps until the loss is 1e-4 of what it was; infinite if one of them doesn't get there."""
    curvature = torch.logspace(0, math.log10(kappa), AXES, dtype=torch.float64)
    H = Q.mT @ (curvature[:, None] * Q)
    begin = torch.randn(len(Q), AXES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    theta = (Q.mT @ begin[..., None])[..., 0]  # the same place on the ellipse, however it lies
    optimizer = make([theta])
    at_start = (curvature * begin**2).sum(-1)
    reached = torch.full((len(Q),), torch.inf, dtype=torch.float64)
    for step in range(most):
        theta.grad = (H @ theta[..., None])[..., 0]
        loss = (theta * theta.grad).sum(-1)
        reached = torch.where((loss < 1e-4 * at_start) & reached.isinf(), step, reached)
        if reached.isfinite().all():
            break
        optimizer.step()
    return reached.mean().item()


def _restarts(report: Report, seed: int) -> None:
    """Two minima, one deeper: how often it is found from random starts, the best of some counting (2.4.x4)."""
    generator = torch.Generator().manual_seed(seed)
    wide, high = DOUBLE_WELL.x[1], DOUBLE_WELL.y[1]
    starts = (2 * torch.rand(1600, 2, generator=generator, dtype=torch.float64) - 1) * torch.tensor([wide, high])
    paths = walk(partial(SGD, lr=0.02), DOUBLE_WELL.f, starts, steps=400)
    deeper = paths[-1, :, 0] < 0
    once = deeper.double().mean().item()
    counts = (1, 2, 4, 8, 16)
    found = [deeper.reshape(-1, count).any(1).double().mean().item() for count in counts]
    report.figure("minima", draw_paths(DOUBLE_WELL, {f"start {i + 1}": paths[:, i] for i in range(6)}),
                  "Six random starts: which minimum is found depends on where descent begins.")  # fmt: skip
    figure, axes = drawing()
    axes.plot(counts, [100 * share for share in found], "o", color=PALETTE[0], label="measured")
    axes.plot(range(1, 17), [100 * (1 - (1 - once) ** k) for k in range(1, 17)], color=GREY, label="1 - (1 - p)^k")
    axes.set(xlabel="restarts", ylabel="deeper minimum found, %", ylim=(0, 102))
    axes.legend(frameon=False)
    report.figure("restarts", figure, "The best of several random starts.")
    report.claim("2.4.x4", found[3], low=0.95, detail=f"share of 200 groups of 8 random starts of which one finds the "
                 f"deeper of two minima; a single start does in {once:.0%}")  # fmt: skip
