"""Experiment: what the learning rate has to do when the batch grows, and what the batch does to the machine."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.data import Labelled
from vivace.base.drawing import PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.networks.mlp import pictures
from vivace.experiments.side_by_side import Optimizer, SideBySide
from vivace.experiments.timing import quickest
from vivace.networks import MLP
from vivace.optimization import scaled_rate

QUICK = {"dataset": "digits", "count": 1024, "epochs": 12, "runs": 4, "timed": 1024}

BASE = 32  # the batch that the rates are given for
BATCHES = (16, 32, 64, 128, 256, 512)
RULES = ("fixed", "root", "linear")
HIDDEN = 128
ALIGNED = math.log(1.1)  # curves are called aligned when they differ by less than 10 % on average

Rate = Annotated[float, Gt(0), Le(10)]
Curves = Mapping[int, Float[Tensor, "rules epochs"]]  # of each batch size: the loss after each epoch


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "mnist", "digits"] = "auto",
        count: Annotated[int, Ge(512), Le(60_000)] = 6400, epochs: Annotated[int, Ge(2), Le(200)] = 6,
        sgd_rate: Rate = 0.1, adam_rate: Rate = 0.001, runs: Annotated[int, Ge(1), Le(20)] = 2,
        timed: Annotated[int, Ge(64), Le(8192)] = 2048, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Larger batch, larger rate: by how much, for SGD and for Adam, and up to which batch.

    vivace run batch_size        75 s on two cores; linear scaling keeps SGD's curve to 5 % from 16 to 128, not to 512

    data: a folder of your own pictures to learn, one sub-folder for each class; reduced to 28 x 28, grey
    dataset: mnist (11 MB to download where it is missing), scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    count: pictures that are learnt from, at most
    epochs: how often each picture is seen
    sgd_rate: the rate of plain gradient descent for batches of 32; the taught example's is 0.1
    adam_rate: Adam's for batches of 32; 0.001 is its usual one
    runs: nets for each batch size and rule, from different initial weights
    timed: the largest batch whose speed is measured
    seed: the first of the initial weights' seeds
    """
    name, train = learnt(data, dataset, count, seed, tell)
    report = Report(
        "Batch size and learning rate belong together",
        f"MLPs with {HIDDEN} hidden units learn {len(train.labels):,} of {name}, with batches of {BATCHES[0]} to "
        f"{BATCHES[-1]}. The rate for a batch $B$ is that of batch {BASE} (fixed), times $\\sqrt{{B/{BASE}}}$ "
        "(root), or times "
        f"$B/{BASE}$ (linear). A rule keeps training the same if the loss after each epoch is the same.",
    )
    _rules(report)
    found: dict[Optimizer, Curves] = {}
    rates: dict[Optimizer, float] = {"sgd": sgd_rate, "adam": adam_rate}
    for optimizer, rate in rates.items():
        found[optimizer] = swept(train, optimizer, rate, epochs, range(seed, seed + runs), tell)
        _draw(report, optimizer, found[optimizer])
    _sgd_claims(report, found["sgd"])
    _adam_claims(report, found["adam"])
    _throughput(report, train, timed)
    tell(Step(2 * len(BATCHES), 2 * len(BATCHES), "done"))
    return report


def learnt(data: FolderPath, dataset: str, count: int, seed: int, tell: Tell) -> tuple[str, Labelled]:
    """Pictures to learn from, as many as a whole number of the largest batches allows; InputError if too few."""
    name, train, _ = pictures(data, dataset, seed, tell)
    kept = min(count, len(train.labels)) // BATCHES[-1] * BATCHES[-1]
    if not kept:
        raise InputError(f"{name} has {len(train.labels)} pictures to learn from; {BATCHES[-1]} at least are needed")
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    return name, train.taken(order[:kept])


def swept(train: Labelled, optimizer: Optimizer, rate: float, epochs: int, seeds: Sequence[int], tell: Tell) -> Curves:
    """The training loss after each epoch (geometric mean over the seeds), for every batch size and rule."""
    sizes = (train.images[0].numel(), HIDDEN, len(train.classes))
    curves = {}
    for i, batch in enumerate(BATCHES):
        tell(Step(i + len(BATCHES) * (optimizer == "adam"), 2 * len(BATCHES), f"{optimizer}, batches of {batch}"))
        rates = (rate, scaled_rate(rate, batch, BASE, rule="sqrt"), scaled_rate(rate, batch, BASE))
        nets = SideBySide(sizes, [each for each in rates for _ in seeds], [*seeds] * len(RULES), optimizer)
        rows = []
        for _ in range(epochs):
            nets.train(train, batch, len(train.labels) // batch)
            loss = nets.measured(train)[0].nan_to_num(nan=1e3).clamp(1e-6, 1e3)
            rows.append(loss.log().view(len(RULES), -1).mean(1).exp())
        curves[batch] = torch.stack(rows, 1)
    return curves


def misalignment(curves: Curves, rule: str, batch: int) -> float:
    """The mean over the epochs of |ln(loss / loss with the base batch)|."""
    loss, base = curves[batch][RULES.index(rule)], curves[BASE][RULES.index(rule)]
    return (loss / base).log().abs().mean().item()


def _rules(report: Report) -> None:
    """The taught example by both rules (2.7.c1)."""
    rows = [(f"{batch}", *(f"{scaled_rate(0.1, batch, BASE, rule=rule):.3g}" for rule in ("sqrt", "linear")),
             f"{math.sqrt(batch / BASE):.3g}", f"{batch / BASE:.3g}")
            for batch in (16, 32, 64, 128, 512, 1024)]  # fmt: skip
    report.table("rules", ("batch", "root: rate", "linear: rate", "root: factor", "linear: factor"), rows,
                 f"The rate for another batch, from 0.1 for batches of {BASE}: two rules, not one.")  # fmt: skip
    root, linear = (scaled_rate(0.1, 128, BASE, rule=rule) for rule in ("sqrt", "linear"))
    report.claim("2.7.c1", linear / root, low=0.99, high=1.01, detail=f"rate by the linear rule, {linear:.3g}, over "
                 f"that by the root, {root:.3g}: 0.1 for batches of {BASE}, taken to 128")  # fmt: skip


def _draw(report: Report, optimizer: Optimizer, curves: Curves) -> None:
    figure, axes = drawing(1, len(RULES), width=10, height=3.4, sharey=True)
    for ax, (place, rule) in zip(axes, enumerate(RULES), strict=True):
        for (batch, losses), color in zip(curves.items(), PALETTE, strict=False):
            ax.plot(range(1, losses.shape[1] + 1), losses[place], color=color, label=f"{batch}")
        ax.set(title={"fixed": "fixed rate", "root": "rate ∝ √batch", "linear": "rate ∝ batch"}[rule], xlabel="epoch",
               yscale="log")  # fmt: skip
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("training loss")
    axes[-1].legend(title="batch", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    name = {"sgd": "Gradient descent", "adam": "Adam"}.get(optimizer, optimizer)
    report.figure(f"curves-{optimizer}", figure, f"{name}: where the rule is right, the curves lie on each other.")
    rows = [(batch, *(f"{100 * math.expm1(misalignment(curves, rule, batch)):.3g}" for rule in RULES))
            for batch in BATCHES]  # fmt: skip
    report.table(f"apart-{optimizer}", ("batch", *(f"{rule}, %" for rule in RULES)), rows,
                 f"{name}: by how much the loss after an epoch differs from that with batches of {BASE}, on "
                 "average.")  # fmt: skip


def _sgd_claims(report: Report, curves: Curves) -> None:
    def worst(rule: str, batches: Sequence[int]) -> float:
        return max(misalignment(curves, rule, batch) for batch in batches)

    how = f"largest mean |ln(loss / loss with batch {BASE})| over the epochs, batches {{}}; aligned below ln 1.1"
    few = [batch for batch in BATCHES if batch <= 128]
    report.claim("2.7.c2", worst("linear", BATCHES), high=ALIGNED, detail=how.format("16 to 512"))
    report.claim("2.7.x1", worst("linear", few), high=ALIGNED, detail=how.format("16 to 128"))
    report.claim("2.7.x2", worst("root", few), high=ALIGNED, detail=how.format("16 to 128"))


def _adam_claims(report: Report, curves: Curves) -> None:
    for id_, batch in (("2.7.c3", 16), ("2.7.x3", 512)):
        apart = {rule: misalignment(curves, rule, batch) for rule in RULES}
        others = min(apart["fixed"], apart["linear"])
        report.claim(id_, apart["root"] / others, high=0.9, detail="misalignment by the root rule over the better of "
                     f"the others, batch {batch} against {BASE}: "
                     + ", ".join(f"{k} {v:.2f}" for k, v in apart.items()))  # fmt: skip


def _throughput(report: Report, train: Labelled, timed: int) -> None:
    """Pictures a second of forward and backward, by batch (2.7.c6, 2.7.x4)."""
    batches = [2**k for k in range(int(math.log2(timed)) + 1)]
    x = train.images.flatten(1).repeat(-(-timed // len(train.labels)), 1)
    labels = train.labels.repeat(-(-timed // len(train.labels)))
    model = MLP((x.shape[1], HIDDEN, len(train.classes)), generator=torch.Generator().manual_seed(0))

    def work(batch: int) -> None:
        for _ in range(max(1, 64 // batch)):  # enough for the clock
            F.cross_entropy(model(x[:batch]), labels[:batch]).backward()

    took = quickest([partial(work, batch) for batch in batches], rounds=8)
    speeds = [batch * max(1, 64 // batch) / seconds for batch, seconds in zip(batches, took, strict=True)]
    report.curve("throughput", {"one thread": (batches, speeds)}, x="batch", y="pictures a second", log_x=True,
                 log_y=True, caption="Forward and backward: each step has a price of its own, which a "
                 "larger batch shares among more pictures, until the arithmetic is all that is left.")  # fmt: skip
    speed = dict(zip(batches, speeds, strict=True))
    report.claim("2.7.c6", speed[64] / speed[1], low=3, detail="pictures a second with batches of 64, "
                 f"{speed[64]:,.0f}, over those with single pictures, {speed[1]:,.0f}")  # fmt: skip
    gain = speeds[-1] / speeds[-2]
    report.claim("2.7.x4", gain, high=1.6, detail=f"gain of the last doubling, {batches[-2]} to {batches[-1]}; the "
                 f"first doubling gains {speed[2] / speed[1]:.2f}")  # fmt: skip
