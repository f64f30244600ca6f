"""Experiment: dropout: its scale, its switch, and what it does for a net with too few pictures."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.small_data import DataSet, Learned, Recipe, learn, mean_and_spread, small_data
from vivace.networks import Dropout, dropout

QUICK = {"dataset": "digits", "few": 300, "epochs": 40, "runs": 3}

RATES = (0.0, 0.2, 0.5)
ONES = 1_000_000


@checked
def run(*, dataset: DataSet = "auto", few: Annotated[int, Ge(50), Le(1000)] = 500,
        wrong: Annotated[float, Ge(0.1), Le(0.6)] = 0.2, epochs: Annotated[int, Ge(30), Le(500)] = 60,
        runs: Annotated[int, Ge(3), Le(50)] = 4, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Dropout: drop or keep, training or test, and the gap between them.

    vivace run dropout        1 min on two cores with MNIST: 24.6 % of test digits wrong without, 20.5 % with p = 0.5

    dataset: mnist, scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    few: pictures to learn from
    wrong: the share of them whose label is that of another class
    epochs: how often each is seen
    runs: trainings of each kind
    seed: the first of the seeds
    """
    report = Report(
        "Dropout: what is dropped, what is scaled, and what it is good for",
        "In training each unit is dropped with probability $p$ and the others are scaled by $\\frac{1}{1-p}$, so that "
        "every unit's expected value stays; when predicting nothing is dropped and nothing scaled.",
    )
    _scale(report, seed)
    _switch(report, seed)
    trained: dict[float, dict[float, list[Learned]]] = {}
    for part, share in enumerate((wrong, 0.0)):
        data = [small_data(dataset, few, share, s) for s in range(seed, seed + runs)]
        for i, rate in enumerate(RATES):
            tell(Step(part * len(RATES) + i, 2 * len(RATES), f"training with p = {rate}, {share:.0%} of labels wrong"))
            recipe = Recipe(epochs=epochs, drop=rate)
            trained.setdefault(share, {})[rate] = [learn(one, recipe, s) for s, one in enumerate(data, start=seed)]
    _gap(report, trained, wrong)
    return report


def printed_dropout(x: Float[Tensor, " n"], p: float, generator: torch.Generator) -> Float[Tensor, " n"]:
    """The formula as it is often printed: mask = binomial(1, p), x * mask / p, with p called the dropout rate."""
    mask = torch.empty_like(x).bernoulli_(p, generator=generator)
    return x * mask / p


def _scale(report: Report, seed: int) -> None:
    """A million ones through the printed formula and through ours (3.5.c2, 3.5.x1, 3.5.x4)."""
    generator = torch.Generator().manual_seed(seed)
    ones = torch.ones(ONES)
    rows, off, dropped = [], [], {}
    for p in (0.2, 0.5, 0.8):
        printed, ours = printed_dropout(ones, p, generator), dropout(ones, p, generator=generator)
        off.append(abs(printed.mean().item() - 1))
        dropped[p] = (printed == 0).double().mean().item(), (ours == 0).double().mean().item()
        words = [
            f"{(x == 0).double().mean():.1%} dropped, rest x {x.max():.3g}, mean {x.mean():.3f}"
            for x in (printed, ours)
        ]
        rows.append((p, *words))
    columns = ("p", "binomial(1, p), divided by p", "dropped with probability p, divided by 1 - p (as in torch)")
    report.table("scale", columns, rows, f"{ONES:,} ones: both keep the mean, but for p = 0.2 the first drops 80 %.")
    report.claim(
        "3.5.c2",
        max(off),
        high=0.01,
        detail=f"mean of {ONES:,} ones after it for p = 0.2, 0.5 and 0.8: largest distance from 1",
    )
    report.claim(
        "3.5.x1", dropped[0.2][0], low=0.19, high=0.21, detail="share that the printed formula drops at p = 0.2"
    )
    report.claim(
        "3.5.x4", dropped[0.2][1], low=0.19, high=0.21, detail="share that torch's meaning of p drops at p = 0.2"
    )


@torch.no_grad()
def _switch(report: Report, seed: int) -> None:
    """Two passes of one batch while training, and two while predicting (3.5.c6)."""
    x = torch.rand(32, 64, generator=torch.Generator().manual_seed(seed))

    def differing() -> float:
        return (net(x) != net(x)).double().mean().item()

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), Dropout(0.5), nn.Linear(128, 10))
        training = differing()
        net.eval()
        predicting = differing()
    report.claim(
        "3.5.c6",
        training - predicting,
        low=0.99,
        detail=f"share of outputs that differ between two passes: {training:.0%} in training, less "
        f"{predicting:.0%} when predicting",
    )


def _gap(report: Report, trained: dict[float, dict[float, list[Learned]]], wrong: float) -> None:
    """Gap and test error with and without dropout, with wrong labels and without (3.4.Q3.c1, x2, x3)."""
    rows = []
    for share, by_rate in trained.items():
        for rate, learned in by_rate.items():
            cells = (
                mean_and_spread([value(one) for one in learned]) for value in (_training_error, _test_error, _its_gap)
            )
            rows.append((f"{share:.0%}", rate, *(f"{mean:.1f} ± {spread:.1f}" for mean, spread in cells)))
    columns = ("wrong labels", "p", "training error, %", "test error, %", "gap, points")
    report.table("rates", columns, rows, "After the last epoch. Training error is of the labels as given.")
    noisy, clean = trained[wrong], trained[0.0]
    for id_, low, at, value, detail in (
        ("3.4.Q3.c1", 2, noisy, _its_gap, f"test less training error; {wrong:.0%} of the labels wrong"),
        ("3.4.Q3.x2", 1, noisy, _test_error, f"test error; {wrong:.0%} of the labels wrong"),
        ("3.4.Q3.x3", 1, clean, _test_error, "test error; all labels right"),
    ):
        change, spread = mean_and_spread([value(a) - value(b) for a, b in zip(at[0.0], at[0.5], strict=True)])
        detail = f"without dropout, less with p = 0.5: {detail}"
        report.claim(id_, change, low=low, spread=spread, unit="points", detail=detail)
    lines = {
        f"p = {rate}": np.mean([one.curves["test error"] for one in learned], axis=0) for rate, learned in noisy.items()
    }
    report.curve(
        "test-error",
        {name: (range(1, len(line) + 1), line) for name, line in lines.items()},
        x="epoch",
        y="test error, %",
        caption=f"{wrong:.0%} of the labels are wrong: with dropout the net learns them later or not at all.",
    )


def _training_error(learned: Learned) -> float:
    return learned.curves["training error"][-1]


def _test_error(learned: Learned) -> float:
    return learned.curves["test error"][-1]


def _its_gap(learned: Learned) -> float:
    return learned.gap
