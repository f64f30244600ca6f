"""Experiment: momentum: the length of its steps, when it is faster, when it escapes, and how it is written."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from vivace.base.data import digits
from vivace.base.drawing import BLUE, GREEN, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.descents import Make, batches, steps_down, train_on, walk, weights_of
from vivace.experiments.surfaces import draw_paths, film_paths, quadratic
from vivace.experiments.timing import exponent_of
from vivace.networks import MLP
from vivace.optimization import SGD

QUICK = {"largest": 1000, "steps": 150}

STARTS = torch.linspace(-8, 8, 401, dtype=torch.float64)
HEIGHT = 0.02  # of the bumps over which a ball may or may not roll
VALLEY = 50.0  # condition number of the valley that is drawn


@checked
def run(*, momentum: Annotated[float, Gt(0), Lt(1)] = 0.9, largest: Annotated[int, Ge(1000), Le(100_000)] = 10_000,
        steps: Annotated[int, Ge(50), Le(5000)] = 400, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Momentum in a narrow valley, over shallow bumps, in both orders and both forms.

    vivace run momentum        10 s on two cores; at condition 100, 264 steps instead of 709; at 10, 249 instead of 71

    momentum: the share of the velocity that is kept; the claims are about 0.9
    largest: the largest condition number
    steps: of the digit classifier by which torch's form is compared with the printed one
    seed: the net's weights and the order of the digits
    """
    report = Report(
        f"Momentum {momentum:g}: steps {1 / (1 - momentum):.3g} times as long, for better or worse",
        r"The velocity $v \leftarrow \beta v + \nabla L$ adds up gradients that agree, and $\theta \leftarrow \theta - "
        r"\alpha v$. Under a constant gradient the step grows to $\frac{\alpha}{1-\beta}$.",
    )
    parts: dict[str, Callable[[Report, float], None]] = {
        "a straight slope": _effective_step,
        "valleys": partial(_valleys, largest=largest),
        "a valley, drawn": _drawn_valley,
        "bumps": _bumps,
        "order": _order,
        "torch's form and the printed one": partial(_two_forms, steps=steps, seed=seed),
    }
    for i, (name, part) in enumerate(parts.items()):
        tell(Step(i, len(parts), name))
        part(report, momentum)
    tell(Step(len(parts), len(parts), "done"))
    return report


def _effective_step(report: Report, beta: float) -> None:
    rate, count = 0.01, 200
    path = walk(partial(SGD, lr=rate, momentum=beta), lambda x: -x, 0.0, steps=count)
    lengths = path.diff() / rate
    report.curve("effective-step", {f"momentum {beta:g}": (range(1, count + 1), lengths),
                                    "1 / (1 - momentum)": ((1, count), [1 / (1 - beta)] * 2)}, x="step",
                 y="length of the step, in rates", caption="Down a straight slope, from rest.")  # fmt: skip
    report.claim(
        "2.5.c1",
        lengths[-1] * (1 - beta),
        low=0.99,
        high=1.01,
        detail=f"step {count} down a straight slope over alpha/(1 - beta); it is {lengths[-1]:.4g} alpha",
    )


def _valleys(report: Report, beta: float, *, largest: int) -> None:
    """Steps until the distance is below 1e-6, from (1, 1), over the condition number (2.5.c2, c3, x1, x4)."""
    conditions = [10**k for k in range(1, round(math.log10(largest)) + 1)]
    found: dict[str, list[float]] = {name: [] for name in ("plain", "heavy ball", "tuned", "Nesterov")}
    for condition in conditions:
        root = math.sqrt(condition)
        kept = (root - 1) / (root + 1)
        makes: dict[str, Make] = {
            "plain": partial(SGD, lr=2 / (condition + 1)),  # the best there is
            "heavy ball": partial(SGD, lr=1 / condition, momentum=beta),
            "tuned": partial(SGD, lr=(2 / (root + 1)) ** 2, momentum=kept**2),
            "Nesterov": partial(SGD, lr=1 / condition, momentum=kept, nesterov=True),
        }
        for name, make in makes.items():
            found[name].append(steps_down(make, torch.tensor([1.0, condition], dtype=torch.float64)))
    labels = {"plain": "plain, best rate", "heavy ball": f"heavy ball {beta:g}, rate 1/L", "tuned": "heavy ball, tuned",
              "Nesterov": "Nesterov, tuned"}  # fmt: skip
    report.curve("steps", {labels[name]: (conditions, steps) for name, steps in found.items()}, log_x=True, log_y=True,
                 x="condition number", y="steps until 1e-6",
                 caption="Half of x^2 + condition y^2 from (1, 1).")  # fmt: skip
    report.table("steps-table", ("condition number", *labels.values()),
                 [(condition, *row) for condition, *row in zip(conditions, *found.values(), strict=True)])  # fmt: skip
    ratios = [ball / plain for ball, plain in zip(found["heavy ball"], found["plain"], strict=True)]
    detail = f"steps of heavy ball {beta:g} at rate 1/L over those of plain descent at its best rate, at "
    report.claim("2.5.c2", max(ratios[1:]), high=1, detail=f"the largest ratio of {detail}condition 100 or more")
    report.claim("2.5.x1", ratios[0], high=1, detail=f"{detail}condition 10: {found['heavy ball'][0]:g} and "
                 f"{found['plain'][0]:g}")  # fmt: skip
    tuned, nesterov, plain = (exponent_of(conditions, found[name]) for name in ("tuned", "Nesterov", "plain"))
    report.claim("2.5.c3", tuned, low=0.4, high=0.6, detail=f"exponent of the condition number in the steps: "
                 f"{', '.join(f'{n:g}' for n in found['tuned'])}; plain descent's exponent is {plain:.2f}")  # fmt: skip
    report.claim("2.5.x4", nesterov, low=0.4, high=0.6, detail="the same exponent for Nesterov's momentum, tuned")


def _drawn_valley(report: Report, beta: float) -> None:
    valley = quadratic(VALLEY)
    start = (-1.1, -0.9)
    makes: dict[str, Make] = {
        "plain, rate 1.9/L": partial(SGD, lr=1.9 / VALLEY),
        f"heavy ball {beta:g}, rate 0.4/L": partial(SGD, lr=0.4 / VALLEY, momentum=beta),
        f"Nesterov {beta:g}, rate 0.4/L": partial(SGD, lr=0.4 / VALLEY, momentum=beta, nesterov=True),
    }
    paths = {name: walk(make, valley.f, start, steps=60) for name, make in makes.items()}
    caption = f"Sixty steps in a valley of condition {VALLEY:g}: at a rate near 2/L plain descent swings from wall to "
    report.figure("valley", draw_paths(valley, paths), caption + "wall; the velocity forgets the walls and keeps the "
                  "way down, the ball overshoots, and Nesterov's looks ahead and swings less.")  # fmt: skip
    report.video("valley-film", film_paths(valley, paths), fps=8, caption="The same, step by step.")


def bumps(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """A wide bowl with shallow waves; the lowest points are near plus and minus 0.78."""
    return 0.02 * x**2 + HEIGHT * torch.cos(4 * x)


def _bumps(report: Report, beta: float) -> None:
    """From how many starts the lowest valley is reached (2.5.c4, x2)."""
    settings = {"plain, rate 0.02": (0.02, 0.0), f"{beta:g}, rate 0.02": (0.02, beta),
                "always 0.99, rate 0.02": (0.02, 0.99), f"{beta:g}, rate 0.2": (0.2, beta)}  # fmt: skip
    paths = {name: walk(partial(SGD, lr=rate, momentum=kept), bumps, STARTS, steps=4000)
             for name, (rate, kept) in settings.items()}  # fmt: skip
    share = [((path[-1].abs() - 0.78).abs() < 0.2).double().mean().item() for path in paths.values()]
    report.figure(
        "bumps",
        _draw_bumps(paths, share),
        "Left: the ground, and where descent from -6 ends. Middle: the "
        "way there. Right: the colours, and how many of 401 starts reach one of the two lowest valleys.",
    )
    plain, ball, longer, faster = share
    report.claim("2.5.c4", ball - plain, low=0.1, detail=f"share of 401 starts that reach the lowest valley, momentum "
                 f"{beta:g} less plain, both at rate 0.02: {ball:.1%} and {plain:.1%}")  # fmt: skip
    report.claim("2.5.x2", min(longer, faster), low=0.9, detail=f"the smaller share with momentum 0.99 at rate 0.02 "
                 f"({longer:.1%}) and with {beta:g} at rate 0.2 ({faster:.1%})")  # fmt: skip


def _draw_bumps(paths: dict[str, Tensor], share: Sequence[float]) -> Figure:
    figure, (ground, way, bars) = drawing(1, 3, width=11, height=3.6)
    x = torch.linspace(-8, 8, 801, dtype=torch.float64)
    ground.plot(x, bumps(x), color=GREY, linewidth=1.2)
    start = int((STARTS + 6).abs().argmin())
    colors = (GREY, BLUE, ORANGE, GREEN)
    for path, color, size in zip(paths.values(), colors, (14, 9, 14, 9), strict=True):
        end = path[-1, start]
        ground.plot(end, bumps(end), "o", color=color, markersize=size)
        way.plot(path[:, start], color=color, linewidth=1.2)
    ground.set(xlabel="x", ylabel="0.02 x² + 0.02 cos 4x")
    way.set(xlabel="step", ylabel="x", xscale="log")
    bars.barh(list(paths), [100 * each for each in share], color=colors)
    bars.set(xlabel="reach the lowest valley, %", xlim=(0, 100))
    bars.invert_yaxis()
    return figure


def delayed_walk(rate: float, beta: float, *, steps: int) -> Float[Tensor, " t"]:
    """theta first, v afterwards, on half x^2 from 1: each gradient is used one step late."""
    x, v, path = 1.0, 0.0, [1.0]
    for _ in range(steps):
        slope = x
        x -= rate * v
        v = beta * v + slope
        path.append(x)
        if abs(x) > 1e6:
            break
    return torch.tensor(path, dtype=torch.float64)


def _order(report: Report, beta: float) -> None:
    """The largest rate at which either order comes down (2.5.c5)."""

    def in_order(rate: float) -> Tensor:
        return walk(partial(SGD, lr=rate, momentum=beta), lambda x: x * x / 2, 1.0, steps=300)

    swapped = partial(delayed_walk, beta=beta, steps=3000)
    limits = [_largest_rate(path) for path in (in_order, swapped)]
    rate = 1.2 * limits[1]
    lines = {name: (range(61), path(rate)[:61]) for name, path in (("v, then theta", in_order),
                                                                  ("theta, then v", swapped))}  # fmt: skip
    report.curve(
        "order",
        lines,
        x="step",
        y="x",
        caption=f"Down half x^2 at rate {rate:.2g}, momentum {beta:g}, in the right order and the other.",
    )
    report.claim(
        "2.5.c5",
        limits[0] / limits[1],
        low=2,
        detail=f"largest rates that don't diverge on x^2/2: "
        f"{limits[0]:.3g} = 2(1 + beta) with v first, {limits[1]:.3g} = 1 - beta with theta first",
    )


def _largest_rate(path: Callable[[float], Tensor]) -> float:
    """By bisection, in ratios, from 1e-6 to 8; a walk diverges if its last tenth is further out than its first."""
    low, high = 1e-6, 8.0
    for _ in range(16):
        middle = math.sqrt(low * high)
        x = path(middle).abs()
        tenth = max(1, len(x) // 10)
        low, high = (middle, high) if x[-tenth:].max() < x[:tenth].max() else (low, middle)
    return low


def _two_forms(report: Report, beta: float, *, steps: int, seed: int) -> None:
    """The rate outside the velocity, as in torch, and inside, as printed, on digits (2.5.c6, x3, x5)."""
    train = digits("train")

    def trained(optimizer: Make, *, scheduled: bool) -> tuple[list[Tensor], list[float]]:
        model = MLP([64, 32, 10], activation="tanh", generator=torch.Generator().manual_seed(seed)).double()
        made: Optimizer = optimizer(model.parameters())
        schedule = CosineAnnealingLR(made, steps) if scheduled else None
        given = batches(train, size=64, steps=steps, seed=seed)
        weights, losses = [weights_of(model)], []
        for loss in train_on(model, made, given, schedule=schedule):
            weights.append(weights_of(model))
            losses.append(loss)
        return weights, losses

    lines, largest = {}, {}
    for name, scheduled in (("constant rate", False), ("cosine schedule", True)):
        torchs, printed = (trained(partial(SGD, lr=0.05, momentum=beta, rate_inside=inside), scheduled=scheduled)[0]
                           for inside in (False, True))  # fmt: skip
        way = (torchs[-1] - torchs[0]).norm()
        apart = [max(1e-17, ((a - b).norm() / way).item()) for a, b in zip(torchs, printed, strict=True)]
        lines[name], largest[name] = (range(len(apart)), apart), max(apart)
    report.curve("two-forms", lines, x="step", y="distance of the weights / length of the way", log_y=True,
                 caption="Torch's form against the printed one: a classifier of digits, 64-32-10.")  # fmt: skip
    detail = "largest distance between the weights of torch's form and the printed one, over the way from the start; "
    report.claim("2.5.c6", largest["cosine schedule"], high=1e-6, detail=detail + f"cosine schedule, {steps} steps")
    report.claim("2.5.x3", largest["constant rate"], high=1e-6, detail=detail + "constant rate")
    ends = [weights[-1] for weights, _ in (trained(partial(SGD, lr=0.002, momentum=beta), scheduled=False),
                                           trained(partial(SGD, lr=0.002 / (1 - beta)), scheduled=False))]  # fmt: skip
    begin = weights_of(MLP([64, 32, 10], activation="tanh", generator=torch.Generator().manual_seed(seed)).double())
    off = (ends[0] - ends[1]).norm() / (ends[1] - begin).norm()
    report.claim(
        "2.5.x5",
        off.nan_to_num(nan=math.inf),
        high=0.2,
        detail=f"distance of the weights after {steps} steps, momentum {beta:g} at rate "
        f"0.002 against none at {0.002 / (1 - beta):.3g}, over the way from the start",
    )
