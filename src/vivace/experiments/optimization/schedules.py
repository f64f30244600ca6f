"""Experiment: learning-rate schedules drawn, and what each of them buys with the same number of steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from vivace.base.data import Labelled
from vivace.base.drawing import PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.networks.mlp import pictures
from vivace.experiments.side_by_side import SideBySide
from vivace.optimization import cosine, one_cycle, step_decay, warm_up

QUICK = {"dataset": "digits", "count": 1437}

HIDDEN = 128
RATES = tuple(0.0125 * 2**k for k in range(6))
FEWEST = 20  # steps

Schedule = Callable[[Optimizer, int], LRScheduler]


def constant(optimizer: Optimizer, steps: int) -> LRScheduler:  # noqa: ARG001
    """The rate stays as it is."""
    return LambdaLR(optimizer, lambda _: 1.0)


SCHEDULES: Mapping[str, Schedule] = {
    "constant": constant,
    "warm-up": warm_up,
    "step decay": step_decay,
    "cosine": cosine,
    "warm-up, cosine": partial(cosine, warmup=0.1),
    "one cycle": partial(one_cycle, momentum=(0.9, 0.9)),
}


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "mnist", "digits"] = "auto",
        count: Annotated[int, Ge(64), Le(60_000)] = 4800, epochs: Annotated[int, Ge(1), Le(100)] = 3,
        batch: Annotated[int, Ge(1), Le(1024)] = 16, runs: Annotated[int, Ge(1), Le(20)] = 4,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What a schedule is, and what it buys.

    vivace run schedules        60 s on two cores; a cosine ends at two thirds of the best constant rate's loss

    data: a folder of your own pictures to learn, one sub-folder for each class; reduced to 28 x 28, grey
    dataset: mnist (11 MB to download where it is missing), scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    count: pictures that are learnt from, at most
    epochs: how often each picture is seen: the budget, the same for all schedules
    batch: pictures in one step
    runs: nets for each schedule and rate, from different initial weights
    seed: the first of the initial weights' seeds
    """
    name, train, test = pictures(data, dataset, seed, tell)
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    train = train.taken(order[:count])
    batch = min(batch, len(train.labels))
    steps = epochs * (len(train.labels) // batch)
    if steps < FEWEST:
        raise InputError(f"{steps} steps are too few to see a schedule, {FEWEST} at least are needed: more "
                         "--epochs, more pictures or a smaller --batch")  # fmt: skip
    report = Report(
        "Learning-rate schedules, at the same budget",
        f"MLPs with {HIDDEN} hidden units learn {len(train.labels):,} of {name}, {epochs} times, in batches of "
        f"{batch}: {steps:,} steps of gradient descent with momentum 0.9, at {len(RATES)} highest rates each.",
    )
    shares = {label: walked(schedule, steps) for label, schedule in SCHEDULES.items()}
    _drawn(report, shares)
    found, curves = {}, {}
    for i, (label, share) in enumerate(shares.items()):
        tell(Step(i, len(shares), label))
        found[label], curves[label] = _trained(train, test, batch, share, range(seed, seed + runs))
    _bought(report, found, curves)
    tell(Step(len(shares), len(shares), "done"))
    return report


def walked(schedule: Schedule, steps: int) -> list[float]:
    """The schedule's rate at each step, as a share of the highest."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler, shares = schedule(optimizer, steps), []
    for _ in range(steps):
        shares.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return shares


def _drawn(report: Report, shares: Mapping[str, Sequence[float]]) -> None:
    figure, axes = drawing(2, 3, width=9, height=4.2, sharex=True, sharey=True)
    for ax, (label, share), color in zip(axes.flat, shares.items(), PALETTE, strict=False):
        ax.plot(range(len(share)), share, color=color)
        ax.set(title=label, ylim=(-0.05, 1.1))
    for ax in axes[-1]:
        ax.set_xlabel("step")
    for ax in axes[:, 0]:
        ax.set_ylabel("share of the rate")
    report.figure("schedules", figure, "Each schedule, as a share of the highest rate.")


def _trained(train: Labelled, test: Labelled, batch: int, share: Sequence[float], seeds: Sequence[int]
             ) -> tuple[Float[Tensor, "3 rates"], tuple[list[int], Float[Tensor, "t rates"]]]:  # fmt: skip
    """Training loss, test loss and test error at the end for each rate, and the training loss on the way."""
    sizes = (train.images[0].numel(), HIDDEN, len(train.classes))
    nets = SideBySide(sizes, [rate for rate in RATES for _ in seeds], [*seeds] * len(RATES), "momentum")
    some = train.first(1500)
    at, losses = [], []
    while nets.steps < len(share):
        nets.train(train, batch, min(math.ceil(len(share) / 30), len(share) - nets.steps), share=lambda t: share[t])
        at.append(nets.steps)
        losses.append(_mean(nets.measured(some)[0]))
    (training, _), (other, right) = nets.measured(train), nets.measured(test)
    return torch.stack([_mean(training), _mean(other), _mean(1 - right)]), (at, torch.stack(losses))


def _mean(values: Float[Tensor, " n"]) -> Float[Tensor, " rates"]:
    return values.nan_to_num(nan=1e3).clamp(max=1e3).view(len(RATES), -1).mean(1)


def _bought(report: Report, found: Mapping[str, Float[Tensor, "3 rates"]],
            curves: Mapping[str, tuple[list[int], Float[Tensor, "t rates"]]]) -> None:  # fmt: skip
    """What each schedule reaches at its own best rate (2.7.x9)."""
    best = {label: int(values[0].argmin()) for label, values in found.items()}
    rows = [(label, f"{RATES[best[label]]:g}", *(f"{value:.3f}" for value in values[:2, best[label]]),
             f"{100 * values[2, best[label]]:.2f}") for label, values in found.items()]  # fmt: skip
    report.table("bought", ("schedule", "its best rate", "training loss", "test loss", "test error, %"), rows,
                 "The same number of steps, each schedule with the highest rate that suits it best.")  # fmt: skip
    lines = {label: (at, losses[:, best[label]]) for label, (at, losses) in curves.items()}
    report.curve("training", lines, x="step", y="training loss", log_y=True, caption="A constant rate is soon near its "
                 "best and then trembles; a falling one looks slower until the end.")  # fmt: skip
    sweep = {label: (RATES, values[0]) for label, values in found.items()}
    report.curve("rates", sweep, x="highest rate", y="training loss at the end", log_x=True, log_y=True,
                 caption="The loss at the end over the highest rate.")  # fmt: skip
    fixed, falling = (found[label][0, best[label]].item() for label in ("constant", "cosine"))
    report.claim("2.7.x9", fixed / falling, low=1.1, detail="training loss at the best constant rate, "
                 f"{fixed:.3f}, over that with a cosine, {falling:.3f}, after as many steps")  # fmt: skip
