"""Experiment: small and large networks, few and many pictures, one network and ten."""

from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.data import Labelled, digits
from vivace.base.drawing import BLUE, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import CifarResNet, Ensemble
from vivace.experiments.classifier import logits_of
from vivace.experiments.labelled_pictures import DataSet, in_colour, to_learn
from vivace.experiments.small_cnns import convnet, error, learn

QUICK = {"dataset": "digits", "steps": 80, "runs": 2}

RATE = 1e-2
WIDTHS = {"small": 4, "large": 16}  # maps of the first convolution
COLORS = {"small": ORANGE, "large": BLUE}
COUNTS = (100, 300, 1000)  # pictures to learn from
NOISE = 0.3  # of the labels, which say anything
MEMBERS, MEDIUM = 10, 10  # of an ensemble, and the maps of each in the first convolution
DEPTH = 20  # layers of the networks whose training is repeated
SHORT = 80  # steps for the gaps: after 200 the small network knows wrong labels by heart too
STARTS = 4
STAGES = 4  # parts of this experiment that say how far it is


@checked
def run(*, dataset: DataSet = "auto", steps: Annotated[int, Ge(20), Le(100_000)] = 200,
        runs: Annotated[int, Ge(2), Le(20)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Large networks against small ones on few pictures and on many, ensembles, and how sure a training's outcome is.

    vivace run model_size        3 min on two cores (digits: 30 s); with 100 pictures too the large network is better

    dataset: what sizes and ensembles learn: cifar10, scikit-learn's digits, or auto: CIFAR-10 if it is there
    steps: of 64 pictures each, for every network
    runs: networks of each size for each number of pictures, with pictures and weights of their own
    seed: of the first run
    """
    name, every, test = to_learn(dataset, tell=tell)
    test = test.first(2000)
    report = Report(
        "How large a network for how many pictures?",
        f"Networks of four convolutions, {' or '.join(map(str, WIDTHS.values()))} maps in the first, learn {name}, "
        f"each for {steps} steps. Then ten of one size vote. On scikit-learn's digits small and large networks learn "
        "right labels and wrong ones, and trainings that differ in their start alone are compared.",
    )
    _sizes(report, name, every, test, steps, runs, seed, tell)
    _ensembles(report, every, test, steps, seed, tell)
    _gaps(report, SHORT, runs, seed, tell)
    _starts(report, steps, seed, tell)
    return report


def _some(every: Labelled, count: int, seed: int) -> Labelled:
    order = torch.randperm(len(every.labels), generator=torch.Generator().manual_seed(seed))
    return every.taken(order[:count])


def _sizes(report: Report, name: str, every: Labelled, test: Labelled, steps: int, runs: int, seed: int,
           tell: Tell) -> None:  # fmt: skip
    """Test errors by size of the network and number of pictures (c1, x10)."""
    wrong = {size: torch.zeros(len(COUNTS), runs) for size in WIDTHS}
    for place, count in enumerate(COUNTS):
        tell(Step(0, STAGES, f"{count} pictures"))
        for turn in range(runs):
            train = _some(every, count, seed + turn)
            for size, width in WIDTHS.items():
                wrong[size][place, turn] = error(_learnt(width, train, steps, seed + turn), test)
    figure, axes = drawing(width=6.4, height=3.4)
    for size, values in wrong.items():
        axes.errorbar(COUNTS, values.mean(1), yerr=values.std(1), color=COLORS[size], marker="o", capsize=3,
                      label=f"{size}: {WIDTHS[size]} maps")  # fmt: skip
    axes.set(xlabel="pictures to learn from", ylabel="wrong, %", xscale="log", ylim=(0, None))
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.minorticks_off()
    axes.legend(frameon=False)
    report.figure("sizes", figure, f"{name}: errors on test pictures, with the standard deviation of {runs} runs.")
    small, large = wrong["small"], wrong["large"]
    needed = [_enough(large[:, turn], small[-1, turn]) for turn in range(runs)]
    report.claim("4.7.c1", sum(needed) / (runs * COUNTS[-1]), low=1, unit="times",
                 detail=f"pictures after which the large network has the test error that the small one has after "
                 f"{COUNTS[-1]:,}, to those; read off between the numbers tried, mean of {runs} runs")  # fmt: skip
    more = (large - small).mean(1)
    report.claim("4.7.x10", more.max(), high=0, unit="points",
                 detail=f"test error of the large network less the small one's after {', '.join(map(str, COUNTS))} "
                 f"pictures: {', '.join(f'{float(value):.1f}' for value in more)}; the largest")  # fmt: skip


def _learnt(width: int, train: Labelled, steps: int, seed: int) -> torch.nn.Sequential:
    net = convnet(train, width, seed=seed)
    learn(net, train, steps=steps, rate=RATE, seed=seed)
    return net


def _enough(errors: Float[Tensor, " n"], wanted: Float[Tensor, ""]) -> float:
    """How many pictures bring the errors down to what is wanted, between those tried (logarithms); all, if none do."""
    falling = errors.cummin(0).values
    return float(np.exp(np.interp(-float(wanted), -falling.numpy(), np.log(COUNTS))))


def _ensembles(report: Report, every: Labelled, test: Labelled, steps: int, seed: int, tell: Tell) -> None:
    """1 to 10 members of one size, that differ in their start and in their batches (c6, x11)."""
    train = _some(every, COUNTS[1], seed)
    members = []
    for turn in range(MEMBERS):
        tell(Step(1, STAGES, f"member {turn + 1} of {MEMBERS}"))
        members.append(_learnt(MEDIUM, train, steps, seed + 100 + turn))
    wrong, surprise = torch.zeros(MEMBERS), torch.zeros(MEMBERS)
    for count in range(1, MEMBERS + 1):
        votes = [logits_of(Ensemble(members[i] for i in range(start, start + count)), test.images).log_softmax(1)
                 for start in range(0, MEMBERS - count + 1, count)]  # fmt: skip
        wrong[count - 1] = _mean([100 * (vote.argmax(1) != test.labels).float().mean() for vote in votes])
        surprise[count - 1] = _mean([F.nll_loss(vote, test.labels) for vote in votes])
    figure, (left, right) = drawing(1, 2, width=8, height=3)
    for axes, values, label in ((left, wrong, "wrong, %"), (right, surprise, "negative log-likelihood")):
        axes.plot(range(1, MEMBERS + 1), values, "o-", color=BLUE)
        axes.set(xlabel="members", ylabel=label, ylim=(0, 1.1 * float(values.max())))
    report.figure("ensembles", figure, f"Networks of {MEDIUM} maps that learnt the same {COUNTS[1]} pictures from "
                  "other starts; each point is the mean of as many ensembles as ten members make.")  # fmt: skip
    report.claim("4.7.c6", wrong[0] - wrong[-1], low=0.3, unit="points",
                 detail=f"mean error of one member ({float(wrong[0]):.1f} %) less that of ten")  # fmt: skip
    report.claim("4.7.x11", surprise[0] / surprise[-1], low=1.1, unit="times",
                 detail="mean negative log-likelihood of one member to that of ten")  # fmt: skip


def _mean(values: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(values).mean()


def _gaps(report: Report, steps: int, runs: int, seed: int, tell: Tell) -> None:
    """Test error less training error of small and large, with right labels and with wrong ones among them (c3, x19)."""
    every, test = digits("train"), digits("test")
    rows = []
    for claim, noise in (("4.7.c3", 0.0), ("4.7.x19", NOISE)):
        tell(Step(2, STAGES, f"{noise:.0%} of the labels wrong"))
        wrong = {size: torch.zeros(2, runs) for size in WIDTHS}  # on the pictures learnt from, and on others
        for turn in range(runs):
            train = _mislabelled(_some(every, COUNTS[1], seed + turn), noise, seed + turn)
            for size, width in WIDTHS.items():
                net = _learnt(width, train, steps, seed + turn)
                wrong[size][:, turn] = torch.tensor([error(net, train), error(net, test)])
        gap = {size: values[1] - values[0] for size, values in wrong.items()}
        rows += [(f"{noise:.0%}", size, *(f"{float(value):.1f}" for value in (*values.mean(1), gap[size].mean())))
                 for size, values in wrong.items()]  # fmt: skip
        wider = gap["large"] - gap["small"]
        report.claim(claim, wider.mean(), low=1, spread=2 * float(wider.std()) / runs**0.5, unit="points",
                     detail=f"test error less training error, the large network's less the small one's; {COUNTS[1]} "
                     f"digits, {noise:.0%} of the labels drawn at random, {runs} runs")  # fmt: skip
    columns = ("labels at random", "network", "wrong of those learnt from, %", "wrong of test pictures, %", "gap")
    report.table("gaps", columns, rows, f"{COUNTS[1]} digits, {steps} steps; test pictures have their right labels. "
                 "The small network's gap is smaller where there is something to learn by heart, and it is the worse "
                 "one all the same.")  # fmt: skip


def _mislabelled(given: Labelled, share: float, seed: int) -> Labelled:
    """With labels drawn anew for that share of the pictures."""
    labels = given.labels.clone()
    count = round(share * len(labels))
    labels[:count] = torch.randint(len(given.classes), (count,), generator=torch.Generator().manual_seed(seed))
    return given._replace(labels=labels)


def _starts(report: Report, steps: int, seed: int, tell: Tell) -> None:
    """The same training from several starts, with shortcuts and without (c7)."""
    train, test = (in_colour(part) for part in (_some(digits("train"), COUNTS[-1], seed), digits("test")))
    figure, axes = drawing(width=6.4, height=3.2)
    wrong = {"plain": torch.zeros(STARTS), "ResNet": torch.zeros(STARTS)}
    for (kind, values), color in zip(wrong.items(), (ORANGE, BLUE), strict=True):
        for turn in range(STARTS):
            tell(Step(3, STAGES, f"{kind}, start {turn + 1}"))
            with seeded(seed + turn):
                net = CifarResNet(depth=DEPTH, width=4, residual=kind == "ResNet")
            losses = torch.tensor(learn(net, train, steps=steps, seed=seed))
            smooth = losses.unfold(0, 10, 1).mean(1)
            axes.plot(range(10, len(losses) + 1), smooth, color=color, alpha=0.7, label=kind if turn == 0 else None)
            values[turn] = error(net, test)
    axes.set(xlabel="step", ylabel="training loss, mean of ten", yscale="log")
    axes.legend(frameon=False)
    report.figure("starts", figure, f"{DEPTH} layers, the same {COUNTS[-1]:,} digits in the same order from {STARTS} "
                  "starts.")  # fmt: skip
    said = {kind: f"{float(values.std()):.2f} points about {float(values.mean()):.1f} %"
            for kind, values in wrong.items()}  # fmt: skip
    report.claim("4.7.c7", wrong["plain"].std() / wrong["ResNet"].std().clamp(min=0.05), low=1.5, unit="times",
                 detail=f"standard deviation of the test error over {STARTS} starts, plain network ({said['plain']}) "
                 f"to ResNet ({said['ResNet']}), {DEPTH} layers, digits")  # fmt: skip
