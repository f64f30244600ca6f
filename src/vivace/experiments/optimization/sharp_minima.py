"""Experiment: whether large batches end in sharper minima and generalise worse, at equal epochs, updates and loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from matplotlib.ticker import NullFormatter
from torch import Tensor

from vivace.base.data import Labelled, digits
from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.side_by_side import SideBySide, forward, losses

QUICK = {"runs": 3}

LEARNT = 512  # pictures; the other 1,285 digits are for testing
SMALL, LARGE = 16, 512
BATCHES = (8, 16, 64, LARGE)
RATES = tuple(0.025 * 2**k for k in range(8))
FAST = RATES[3:6]  # those that arrive soon enough to be compared at the same loss
SAME_RATE = 0.2  # at which every batch size is stable
SIZES = (64, 128, 10)
CLOSER = 1.25  # a ratio from which one number is called larger than another


@dataclass(frozen=True)
class Found:
    """Nets as they are at the end, or where they reached a loss: one number for each."""

    training: Float[Tensor, " n"]  # cross-entropy on the pictures that were learnt
    test: Float[Tensor, " n"]  # and on the others
    error: Float[Tensor, " n"]  # share of the test pictures that are named wrongly
    sharpness: Float[Tensor, " n"]  # largest eigenvalue of the training loss's Hessian

    def taken(self, which: Tensor) -> "Found":
        return Found(self.training[which], self.test[which], self.error[which], self.sharpness[which])


@checked
def run(*, runs: Annotated[int, Ge(2), Le(50)] = 12, epochs: Annotated[int, Ge(2), Le(200)] = 20,
        target: Annotated[float, Gt(0), Lt(1)] = 0.03, wrong: Annotated[float, Gt(0), Lt(0.9)] = 0.2,
        updates: Annotated[int, Ge(100), Le(20_000)] = 1000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Large batches, sharp minima? It depends on what is held equal: epochs, updates, or the loss reached.

    vivace run sharp_minima        60 s on two cores; at the same loss sharper at equal rates, but with no more errors

    runs: nets for each batch size and rate, from different initial weights
    epochs: how often each picture is seen where epochs are held equal
    target: the training loss at which nets are compared where it is held equal
    wrong: the share of labels that are made wrong, for the test of noise as a regulariser
    updates: how long the nets with wrong labels learn
    seed: the first of the initial weights' seeds
    """
    train, test = parts()
    seeds = range(seed, seed + runs)
    report = Report(
        "Large batches and sharp minima: what is held equal decides",
        f"MLPs {'-'.join(map(str, SIZES))} learn {LEARNT} digits by plain gradient descent, at {len(RATES)} rates. "
        "Sharpness is the largest eigenvalue $\\lambda_1$ of the Hessian of the training loss, by power iteration: "
        "$v \\leftarrow H v / \\lVert H v \\rVert$, with $H v$ from a second backward pass.",
    )
    at_epochs = {}
    for i, batch in enumerate(BATCHES):
        tell(Step(i, len(BATCHES) + 4, f"{epochs} epochs, batches of {batch}"))
        at_epochs[batch] = trained(train, test, batch, seeds, epochs * (LEARNT // batch))
    _sweep(report, at_epochs, epochs)
    _equal_epochs(report, at_epochs, epochs)
    tell(Step(len(BATCHES), len(BATCHES) + 4, "the same number of updates"))
    _equal_updates(report, train, test, seeds, epochs)
    tell(Step(len(BATCHES) + 1, len(BATCHES) + 4, "the same loss"))
    _equal_loss(report, train, test, seeds, target)
    tell(Step(len(BATCHES) + 2, len(BATCHES) + 4, "wrong labels"))
    _wrong_labels(report, train, test, seeds, wrong, updates)
    tell(Step(len(BATCHES) + 3, len(BATCHES) + 4, "gradient noise"))
    _noise(report, train, seed)
    tell(Step(len(BATCHES) + 4, len(BATCHES) + 4, "done"))
    return report


def parts() -> tuple[Labelled, Labelled]:
    """Few of the digits to learn, all others to test on."""
    some, rest = digits("train"), digits("test")
    every = Labelled(torch.cat([some.images, rest.images]), torch.cat([some.labels, rest.labels]), some.classes)
    order = torch.randperm(len(every.labels), generator=torch.Generator().manual_seed(0))
    return every.taken(order[:LEARNT]), every.taken(order[LEARNT:])


def side_by_side(seeds: Sequence[int], rates: Sequence[float] = RATES) -> SideBySide:
    """A net for each rate and seed; the seeds of one rate lie together."""
    return SideBySide(SIZES, [rate for rate in rates for _ in seeds], [*seeds] * len(rates))


def trained(train: Labelled, test: Labelled, batch: int, seeds: Sequence[int], updates: int) -> Found:
    nets = side_by_side(seeds)
    nets.train(train, batch, updates)
    return found(nets, train, test)


def found(nets: SideBySide, train: Labelled, test: Labelled) -> Found:
    (training, _), (other, right) = nets.measured(train), nets.measured(test)
    return Found(training, other, 1 - right, sharpness(nets.weights, train))


def sharpness(weights: Sequence[Float[Tensor, "n ..."]], given: Labelled, *, rounds: int = 20) -> Float[Tensor, " n"]:
    """The eigenvalue of each net's Hessian that is largest in size, by power iteration on Hessian-vector products."""
    x = given.images.flatten(1)[None]
    loss = losses(forward(weights, x), given.labels.expand(len(weights[0]), -1)).sum()  # of nets that share nothing
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    v = [torch.randn(weight.shape, generator=generator) for weight in weights]
    for _ in range(rounds):
        length = torch.stack([part.flatten(1).square().sum(1) for part in v]).sum(0).sqrt()
        v = [part / length.view(-1, *[1] * (part.dim() - 1)) for part in v]
        Hv = torch.autograd.grad(gradients, weights, v, retain_graph=True)
        eigenvalue = torch.stack([(a * b).flatten(1).sum(1) for a, b in zip(v, Hv, strict=True)]).sum(0)
        v = list(Hv)
    return eigenvalue


def by_rate(values: Float[Tensor, " n"], rates: Sequence[float] = RATES) -> Float[Tensor, " rates"]:
    return values.view(len(rates), -1).mean(1)


def worse(large: Found, small: Found) -> tuple[float, float]:
    """How much sharper the nets of the large batch are, and how many more mistakes they make: ratios of means."""
    sharper, more_wrong = large.sharpness.mean() / small.sharpness.mean(), large.error.mean() / small.error.mean()
    return sharper.item(), more_wrong.item()


def at_rate(result: Found, rate: float, rates: Sequence[float] = RATES) -> Found:
    """The nets of one rate."""
    return result.taken(torch.arange(len(result.error)).view(len(rates), -1)[rates.index(rate)])


def best(result: Found, rates: Sequence[float] = RATES) -> float:
    """The rate with the fewest mistakes."""
    return rates[int(by_rate(result.error, rates).argmin())]


def row(kind: str, batch: int, rate: float, at: Found) -> tuple[object, ...]:
    return (kind, batch, f"{rate:g}", f"{at.training.mean():.3f}", f"{100 * at.error.mean():.2f}",
            f"{at.test.mean() - at.training.mean():.3f}", f"{at.sharpness.mean():.2f}")  # fmt: skip


COLUMNS = ("held equal", "batch", "rate", "training loss", "test error, %", "gap of the losses", "sharpness")


def _sweep(report: Report, results: dict[int, Found], epochs: int) -> None:
    """The learning-rate sweep: loss, error and sharpness over the rate, for each batch size."""
    figure, axes = drawing(1, 3, width=11, height=3.5)
    for ax, name, label in zip(axes, ("training", "error", "sharpness"),
                               ("training loss", "test error, %", "sharpness $\\lambda_1$"), strict=True):  # fmt: skip
        for (batch, result), color in zip(results.items(), PALETTE, strict=False):
            y = by_rate(getattr(result, name)) * (100 if name == "error" else 1)
            ax.plot(RATES, y, ".-", color=color, label=f"{batch}")
        ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=label)
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[-1].legend(title="batch", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    report.figure("rate-sweep", figure, f"After {epochs} epochs, over the learning rate: too small learns nothing in "
                  "time, too large diverges, and the larger the batch, the larger the best rate.")  # fmt: skip


def _equal_epochs(report: Report, results: dict[int, Found], epochs: int) -> None:
    rows = [row(f"{epochs} epochs, rate", b, SAME_RATE, at_rate(r, SAME_RATE)) for b, r in results.items()]
    rows += [row(f"{epochs} epochs, rate tuned", b, best(r), at_rate(r, best(r))) for b, r in results.items()]
    report.table("equal-epochs", COLUMNS, rows, "As many epochs: a large batch makes fewer steps and is not there yet.")
    ratios = worse(at_rate(results[LARGE], SAME_RATE), at_rate(results[SMALL], SAME_RATE))
    report.claim("2.7.x5", min(ratios), low=CLOSER, detail=f"the smaller of two ratios, batch {LARGE} over "
                 f"{SMALL}, rate "
                 f"{SAME_RATE}, {epochs} epochs: sharpness {ratios[0]:.2f}, test errors {ratios[1]:.2f}")  # fmt: skip


def _equal_updates(report: Report, train: Labelled, test: Labelled, seeds: Sequence[int], epochs: int) -> None:
    """Whether noise closes the gap between training and test, where the number of updates is the same (2.7.c5)."""
    updates = epochs * (LEARNT // SMALL)
    nets = {batch: side_by_side(seeds, [SAME_RATE]) for batch in (SMALL, LARGE)}
    gaps, rows = {}, []
    for batch, some in nets.items():
        some.train(train, batch, updates)
        (training, _), (other, right) = some.measured(train), some.measured(test)
        gaps[batch] = (other - training).mean().item()
        rows.append((f"{updates} updates, rate", batch, f"{SAME_RATE:g}", f"{training.mean():.3f}",
                     f"{100 * (1 - right.mean()):.2f}", f"{gaps[batch]:.3f}", "-"))  # fmt: skip
    report.table("equal-updates", COLUMNS, rows, "As many updates of the same rate.")
    report.claim("2.7.c5", gaps[LARGE] / gaps[SMALL], low=CLOSER, detail="test loss less training loss after "
                 f"{updates} updates at rate "
                 f"{SAME_RATE}: {gaps[LARGE]:.3f} with batches of {LARGE} over {gaps[SMALL]:.3f} with "
                 f"{SMALL}; {len(seeds)} nets each")  # fmt: skip


def _equal_loss(report: Report, train: Labelled, test: Labelled, seeds: Sequence[int], target: float) -> None:
    """Each batch size at its best rate, all at the same training loss (2.7.c4)."""
    results = {batch: reached(train, test, batch, seeds, target) for batch in (SMALL, LARGE)}
    rates = {batch: best(result, FAST) for batch, result in results.items()}
    tuned = {batch: at_rate(result, rates[batch], FAST) for batch, result in results.items()}
    rows = [row(f"loss {target:g}, rate", b, rate, at_rate(results[b], rate, FAST)) for rate in FAST for b in results]
    rows += [row(f"loss {target:g}, rate tuned", batch, rates[batch], at) for batch, at in tuned.items()]
    report.table("equal-loss", COLUMNS, rows, "The same training loss. At the same rate the large batch's minimum is "
                 "sharper, but the test pictures don't suffer from it; and it bears a larger rate, where it is "
                 "flatter.")  # fmt: skip
    ratios = worse(tuned[LARGE], tuned[SMALL])
    report.claim("2.7.c4", min(ratios), low=CLOSER, detail=f"the smaller of two ratios, batch {LARGE} over "
                 f"{SMALL}, each at its best rate, at training loss {target:g}: sharpness {ratios[0]:.2f}, test errors "
                 f"{ratios[1]:.2f}")  # fmt: skip
    rate = FAST[1]
    sharper, wronger = worse(*(at_rate(results[batch], rate, FAST) for batch in (LARGE, SMALL)))
    how = f"batch {LARGE} over {SMALL} at training loss {target:g}, both at rate {rate:g}"
    report.claim("2.7.x10", sharper, low=CLOSER, detail=f"ratio of sharpness, {how}")
    report.claim("2.7.x11", wronger, low=CLOSER, detail=f"ratio of test errors, {how}")


def reached(train: Labelled, test: Labelled, batch: int, seeds: Sequence[int], target: float, *, every: int = 20,
            most: int = 800) -> Found:  # fmt: skip
    """Each net as it is when its training loss first is below the target; one that never is counts as all wrong."""
    nets = side_by_side(seeds, FAST)
    kept = [weight.detach().clone() for weight in nets.weights]
    there = torch.zeros(len(nets.rates), dtype=torch.bool)
    while nets.steps < most and not there.all():
        nets.train(train, batch, every)
        now = (nets.measured(train)[0] < target) & ~there
        for copy, weight in zip(kept, nets.weights, strict=True):
            copy[now] = weight.detach()[now]
        there |= now
    nets.weights = [copy.requires_grad_() for copy in kept]
    at = found(nets, train, test)
    return Found(at.training, at.test, torch.where(there, at.error, 1.0), at.sharpness)


def _wrong_labels(report: Report, train: Labelled, test: Labelled, seeds: Sequence[int], wrong: float,
                  updates: int) -> None:  # fmt: skip
    """Noise against noise: labels that are wrong are learnt by heart later with small batches (2.7.x6)."""
    generator = torch.Generator().manual_seed(1)
    noisy = []
    for given in (train, test):
        other = (given.labels + torch.randint(1, 10, given.labels.shape, generator=generator)) % 10
        chosen = torch.rand(given.labels.shape, generator=generator) < wrong
        noisy.append(Labelled(given.images, torch.where(chosen, other, given.labels), given.classes))
    rate, gaps, lines = 0.4, {}, {}
    for batch in (8, 64):
        nets = side_by_side(seeds, [rate])
        steps, ys = [], []
        while nets.steps < updates:
            nets.train(noisy[0], batch, max(1, updates // 25))
            ys.append((nets.measured(noisy[1])[0] - nets.measured(noisy[0])[0]).mean().item())
            steps.append(nets.steps)
        lines[f"batch {batch}"] = (steps, ys)
        gaps[batch] = ys[-1]
    report.curve("wrong-labels", lines, x="updates", y="test loss less training loss",
                 caption=f"With {wrong:.0%} of the labels wrong, at rate {rate:g}: the noise of small batches "
                 "keeps the net from learning the wrong ones by heart.")  # fmt: skip
    report.claim("2.7.x6", gaps[64] / gaps[8], low=CLOSER, detail=f"gap of the losses after {updates} updates at "
                 f"rate {rate:g} with "
                 f"{wrong:.0%} wrong labels: {gaps[64]:.2f} with batches of 64 over {gaps[8]:.2f} with 8")  # fmt: skip


def _noise(report: Report, train: Labelled, seed: int) -> None:
    """The variance of a batch's gradient over the batch size, and the batch at which noise and signal are equal."""
    nets = side_by_side([seed], [SAME_RATE])
    batches = (1, 4, 16, 64, 256)
    lines, slopes, scales = {}, [], []
    generator = torch.Generator().manual_seed(seed)
    for name, updates in (("before training", 0), ("after 30 updates", 30), ("after 300 updates", 270)):
        nets.train(train, 64, updates)
        each = per_example(nets, train)  # (pictures, parameters)
        mean = each.mean(0)
        overlap = (each - mean) @ (each - mean).T  # of the pictures' deviations: all that a variance needs
        variances = []
        for batch in batches:
            draws = torch.randint(len(each), (4000, batch), generator=generator)
            shares = torch.zeros(4000, len(each)).scatter_add_(1, draws, torch.full(draws.shape, 1 / batch))
            variances.append((shares @ overlap * shares).sum(1).mean().item())
        lines[name] = (batches, variances)
        slopes.append(math.log(variances[-1] / variances[0]) / math.log(batches[-1] / batches[0]))
        scales.append((each - mean).square().sum(1).mean().item() / mean.square().sum().item())
    said = ", ".join(f"{scale:.0f} {name}" for name, scale in zip(lines, scales, strict=True))
    report.curve("gradient-noise", lines, x="batch", y="variance of the gradient", log_x=True,
                 log_y=True, caption="Noise falls in proportion to the batch. The batch at which it is as "
                 f"strong as the gradient itself (noise scale, $\\mathrm{{tr}}\\,\\Sigma / \\lVert g \\rVert^2$): "
                 f"{said}.")  # fmt: skip
    off = max(slopes, key=lambda slope: abs(slope + 1))
    report.claim("2.7.x7", off, low=-1.1, high=-0.9, detail="exponent of the batch in the variance of its gradient, "
                 f"1 to 256 pictures, the one furthest from -1 of three; noise scales: {said}")  # fmt: skip


def per_example(nets: SideBySide, given: Labelled) -> Float[Tensor, "n p"]:
    """The gradient of a single net for each picture by itself."""
    copies = [weight.detach().expand(len(given.labels), *weight.shape[1:]).requires_grad_() for weight in nets.weights]
    loss = losses(forward(copies, given.images.flatten(1)[:, None]), given.labels[:, None]).sum()
    return torch.cat([gradient.flatten(1) for gradient in torch.autograd.grad(loss, copies)], 1)
