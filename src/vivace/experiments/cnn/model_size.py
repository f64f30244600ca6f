"""Experiment: small and large networks, few and many pictures, one network and ten."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import CifarResNet, Ensemble
from vivace.experiments.classifier import logits_of
from vivace.experiments.labelled_pictures import DataSet, in_colour, to_learn
from vivace.experiments.small_cnns import convnet, error, learn

QUICK = {"dataset": "digits", "steps": 150, "runs": 2}

RATE = 1e-2
WIDTHS = {"small": 4, "medium": 10, "large": 24}
COLORS = {"small": ORANGE, "medium": GREEN, "large": BLUE}
COUNTS = (100, 300, 1000)  # pictures to learn from
MEMBERS = 10
DEPTH = 32  # layers of the networks whose training is repeated
STARTS = 4


@checked
def run(*, dataset: DataSet = "auto", steps: Annotated[int, Ge(20), Le(100_000)] = 200,
        runs: Annotated[int, Ge(2), Le(20)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Large networks against small ones on few pictures and on many, ensembles, and how sure a training's outcome is.

    vivace run model_size        4 min on two cores (digits: 1 min); with 100 pictures too the large network is better

    dataset: what is learnt: cifar10, scikit-learn's digits, or auto: CIFAR-10 if it is there
    steps: of 64 pictures each, for every network
    runs: networks of each size for each number of pictures, with pictures and weights of their own
    seed: of the first run
    """
    name, every, test = to_learn(dataset, tell=tell)
    test = test.first(2000)
    report = Report(
        "How large a network for how many pictures?",
        f"Networks of four convolutions, {', '.join(map(str, WIDTHS.values()))} maps in the first, learn {name}, each "
        f"for {steps} steps. Then ten of one size vote, and trainings that differ in their start alone are compared.",
    )
    _sizes(report, name, every, test, steps, runs, seed, tell)
    _ensembles(report, every, test, steps, seed, tell)
    _starts(report, every, test, steps, seed, tell)
    return report


def _some(every: Labelled, count: int, seed: int) -> Labelled:
    order = torch.randperm(len(every.labels), generator=torch.Generator().manual_seed(seed))
    return every.taken(order[:count])


def _sizes(report: Report, name: str, every: Labelled, test: Labelled, steps: int, runs: int, seed: int,
           tell: Tell) -> None:  # fmt: skip
    """Errors by size of the network and number of pictures (c1, c3, x10)."""
    shape = len(COUNTS), runs
    wrong = {part: {size: torch.zeros(shape) for size in WIDTHS} for part in ("test", "training")}
    for place, count in enumerate(COUNTS):
        for turn in range(runs):
            train = _some(every, count, seed + turn)
            for size, width in WIDTHS.items():
                tell(Step(place, len(COUNTS) + 2, f"{count} pictures, {size} network"))
                net = convnet(train, width, seed=seed + turn)
                learn(net, train, steps=steps, rate=RATE, seed=seed + turn)
                wrong["test"][size][place, turn] = error(net, test)
                wrong["training"][size][place, turn] = error(net, train)
    figure, axes = drawing(width=6.4, height=3.4)
    for size, values in wrong["test"].items():
        axes.errorbar(COUNTS, values.mean(1), yerr=values.std(1), color=COLORS[size], marker="o", capsize=3,
                      label=f"{size}: {WIDTHS[size]} maps")  # fmt: skip
        axes.plot(COUNTS, wrong["training"][size].mean(1), ":", color=COLORS[size])
    axes.set(xlabel="pictures to learn from", ylabel="wrong, %", xscale="log", yscale="symlog", ylim=(-0.2, 60))
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.minorticks_off()
    axes.legend(frameon=False)
    report.figure("sizes", figure, f"{name}. Lines: test pictures, with the standard deviation of the runs; dotted: "
                  "the pictures learnt from.")  # fmt: skip
    small, large = wrong["test"]["small"], wrong["test"]["large"]
    more = large - small
    gap = {size: (wrong["test"][size] - wrong["training"][size])[0] for size in WIDTHS}
    wider = gap["large"] - gap["small"]
    report.claim("4.7.c1", more[0].mean(), low=1, spread=float(more[0].std()) / runs**0.5, unit="points",
                 detail=f"test error of the large network less the small one's, {COUNTS[0]} pictures")  # fmt: skip
    report.claim("4.7.x10", more.mean(1).max(), high=0, unit="points",
                 detail=f"the same, the largest of {', '.join(map(str, COUNTS))} pictures")  # fmt: skip
    report.claim("4.7.c3", wider.mean(), low=1, spread=float(wider.std()) / runs**0.5, unit="points",
                 detail=f"test error less training error, {COUNTS[0]} pictures: the large network's less the small "
                 f"one's; {float(gap['large'].mean()):.1f} and {float(gap['small'].mean()):.1f} points")  # fmt: skip


def _ensembles(report: Report, every: Labelled, test: Labelled, steps: int, seed: int, tell: Tell) -> None:
    """1 to 10 members of one size, that differ in their start and in their batches (c6, x11)."""
    train, members = _some(every, COUNTS[1], seed), []
    for turn in range(MEMBERS):
        tell(Step(len(COUNTS), len(COUNTS) + 2, f"member {turn + 1} of {MEMBERS}"))
        net = convnet(train, WIDTHS["medium"], seed=seed + 100 + turn)
        learn(net, train, steps=steps, rate=RATE, seed=seed + 100 + turn)
        members.append(net)
    wrong, surprise = torch.zeros(MEMBERS), torch.zeros(MEMBERS)
    for count in range(1, MEMBERS + 1):
        votes = [logits_of(Ensemble(members[i] for i in range(start, start + count)), test.images).log_softmax(1)
                 for start in range(0, MEMBERS - count + 1, count)]  # fmt: skip
        wrong[count - 1] = _mean([100 * (vote.argmax(1) != test.labels).float().mean() for vote in votes])
        surprise[count - 1] = _mean([F.nll_loss(vote, test.labels) for vote in votes])
    figure, (left, right) = drawing(1, 2, width=8, height=3)
    for axes, values, label in ((left, wrong, "wrong, %"), (right, surprise, "negative log-likelihood")):
        axes.plot(range(1, MEMBERS + 1), values, "o-", color=BLUE)
        axes.set(xlabel="members", ylabel=label, ylim=(0, None))
    report.figure("ensembles", figure, f"Networks that learnt the same {COUNTS[1]} pictures from other starts; each "
                  "point is the mean of as many ensembles as ten members make.")  # fmt: skip
    report.claim("4.7.c6", wrong[0] - wrong[-1], low=0.3, unit="points",
                 detail=f"mean error of one member ({float(wrong[0]):.1f} %) less that of ten")  # fmt: skip
    report.claim("4.7.x11", surprise[0] / surprise[-1], low=1.1, unit="times",
                 detail="mean negative log-likelihood of one member to that of ten")  # fmt: skip


def _mean(values: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(values).mean()


def _starts(report: Report, every: Labelled, test: Labelled, steps: int, seed: int, tell: Tell) -> None:
    """The same training from several starts, with shortcuts and without (c7)."""
    train = _some(every, COUNTS[-1], seed)
    train, test = (in_colour(part) for part in (train, test))
    figure, axes = drawing(width=6.4, height=3.2)
    wrong = {"plain": torch.zeros(STARTS), "ResNet": torch.zeros(STARTS)}
    for (kind, values), color in zip(wrong.items(), (ORANGE, BLUE), strict=True):
        for turn in range(STARTS):
            tell(Step(len(COUNTS) + 1, len(COUNTS) + 2, f"{kind}, start {turn + 1}"))
            with seeded(seed + turn):
                net = CifarResNet(depth=DEPTH, width=4, residual=kind == "ResNet")
            losses = torch.tensor(learn(net, train, steps=steps, seed=seed))
            smooth = losses.unfold(0, 10, 1).mean(1)
            axes.plot(range(10, len(losses) + 1), smooth, color=color, alpha=0.7, label=kind if turn == 0 else None)
            values[turn] = error(net, test)
    axes.set(xlabel="step", ylabel="training loss, mean of ten", yscale="log")
    axes.legend(frameon=False)
    report.figure("starts", figure, f"{DEPTH} layers, the same pictures in the same order from {STARTS} starts.")
    plain, residual = wrong["plain"].std(), wrong["ResNet"].std()
    report.claim("4.7.c7", plain / residual.clamp(min=0.05), low=1.5, unit="times",
                 detail=f"standard deviation of the test error over {STARTS} starts, plain network ({float(plain):.2f} "
                 f"points) to ResNet ({float(residual):.2f}), {DEPTH} layers")  # fmt: skip
