"""Experiment: batch, stochastic and mini-batch gradient descent: their noise, their cost, and where they end."""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import diabetes, read_table
from vivace.experiments.linear_losses import LeastSquares, cross_entropy, digit_rows, squared
from vivace.experiments.surfaces import Surface, draw_paths, film_paths
from vivace.experiments.timing import exponent_of, quickest
from vivace.optimization import Walk, minibatches, stochastic_gradient_descent

QUICK = {"epochs": 60, "draws": 2000}

RATES = tuple(2.0**-k for k in range(1, 13))


@checked
def run(*, data: FilePath = None, target: str | None = None, epochs: Annotated[int, Ge(20), Le(10_000)] = 200,
        draws: Annotated[int, Ge(500), Le(100_000)] = 4000, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """One example a step, a few, or all: what is noisy, what is cheap, and what arrives.

    vivace run stochastic_gradient_descent        25 s on two cores; the noise's variance falls as 1/m, and a constant
    rate stays 1,000 times further from the minimum than the mean of the same points

    data: a CSV file whose rows are fitted by least squares (default: scikit-learn's diabetes patients)
    target: its column to predict (default: the last)
    epochs: passes over the data where the variants are watched for long
    draws: mini-batches of each size whose gradients' variance is measured
    seed: the order of the rows
    """
    table = read_table(data, target) if data else diabetes()
    rows = LeastSquares.of(table)
    if rows.loss(rows.best) < 1e-9:  # of targets with variance 1
        raise InputError(f"least squares fits {table.name} exactly; without noise nothing stays away from the minimum")
    generator = torch.Generator().manual_seed(seed)
    n = len(rows.b)
    report = Report(
        "Small batches: cheap steps, noisy steps, and an end that is not quite the minimum",
        f"Least squares on {n:,} rows of {len(rows.best)} features, and a softmax classifier of digits. Batch gradient "
        r"descent takes the mean gradient of all rows, $\frac1n \sum_i \nabla \ell_i$; stochastic, of one; mini-batch, "
        "of $m$: on average the same direction.",
    )
    parts: list[tuple[str, Callable[[], None]]] = [
        ("three paths", lambda: _three_paths(report, rows, table.names, generator)),
        ("gradients of mini-batches", lambda: _noise(report, rows, draws, generator)),
        ("what an update costs", lambda: _cost(report, generator)),
        ("progress by passes", lambda: _passes(report, rows, epochs, generator)),
        ("progress by seconds", lambda: _seconds(report, generator)),
        ("where a constant rate ends", lambda: _ball(report, _decorrelated(rows), epochs, generator)),
    ]
    for i, (what, part) in enumerate(parts):
        tell(Step(i, len(parts), what))
        part()
    tell(Step(len(parts), len(parts), "done"))
    return report


def _walk(rows: LeastSquares, **more: Any) -> Walk:
    """From zero."""
    return stochastic_gradient_descent(squared, rows.start, (rows.A, rows.b), **more)


def _decorrelated(rows: LeastSquares) -> LeastSquares:
    """The features' principal components at unit variance: every direction is as steep as any other."""
    U, s, _ = torch.linalg.svd(rows.A, full_matrices=False)
    return LeastSquares.fitted(U[:, s > 1e-6 * s[0]] * len(rows.b) ** 0.5, rows.b)


def _three_paths(report: Report, rows: LeastSquares, names: list[str], generator: torch.Generator) -> None:
    """The two features that say most, the loss over their weights, and three walks."""
    if len(names) < 2:
        return  # no plane to walk on
    two = (rows.A.T @ rows.b).abs().topk(2).indices
    few = LeastSquares.fitted(rows.A[:, two], rows.b)
    x, y = few.best.tolist()
    surface = Surface("squared error", few.excess, (x - 0.75, x + 0.35), (y - 0.75, y + 0.35),
                      labels=(f"weight of {names[two[0]]}", f"weight of {names[two[1]]}"))  # fmt: skip
    n = len(rows.b)
    start = few.best - 0.6
    variants = {"noisy: single rows, 1 pass": (1, 0.02, 1), "between: batches of 32, 5 passes": (32, 0.1, 5),
                "smooth: all rows, 40 passes": (n, 0.1, 40)}  # fmt: skip
    paths = {name: stochastic_gradient_descent(squared, start, (few.A, few.b), batch_size=m, learning_rate=rate,
                                               epochs=epochs, generator=generator).path
             for name, (m, rate, epochs) in variants.items()}  # fmt: skip
    report.figure("three-paths", draw_paths(surface, paths), "From the circle to the dots: the mean squared error over "
                  "the weights of two features. Every corner of a line is an update.")  # fmt: skip
    report.video("three-paths-film", film_paths(surface, paths), caption="The same, update by update.")


def _noise(report: Report, rows: LeastSquares, draws: int, generator: torch.Generator) -> None:
    """Mean and variance of mini-batch gradients at w = 0 (2.2.c1, c2, x1)."""
    n = len(rows.b)
    each = -2 * rows.b[:, None] * rows.A  # the gradient of (x w - y)^2 at zero, row by row (n, d)
    full = each.mean(0)
    batches: list[Int[Tensor, " b"]] = []
    while len(batches) < 10_000:
        batches += minibatches(n, 32, order="with replacement", generator=generator)
    found = torch.stack([each[some].mean(0) for some in batches])
    short = torch.tensor([len(some) / 32 for some in batches], dtype=found.dtype)[:, None]
    off, off_short = (_standard_errors(sample, full) for sample in (found, found * short))
    report.claim("2.2.c1", off, high=2, unit="standard errors", detail=f"root mean square over the parameters: how far "
                 f"the mean of {len(found):,} mini-batch gradients is from the full one; {off_short:.1f} if the last "
                 "batch of an epoch is divided by 32 too")  # fmt: skip

    sizes = [m for m in (1, 2, 4, 8, 16, 32, 64, 128, 256) if m <= n]
    table, deviations = [], []
    one = each.var(0, correction=0).sum().item()
    for m in sizes:
        independent = each[torch.randint(n, (draws, m), generator=generator)].mean(1).var(0).sum().item()
        distinct = each[torch.rand(draws, n, generator=generator).topk(m).indices].mean(1).var(0).sum().item()
        law = one / m * (n - m) / (n - 1)
        deviations.append(abs(distinct / law - 1))
        table.append((m, independent, m * independent, distinct, law))
    columns = ("m", "variance, with replacement", "m * variance", "variance, without", "(n - m)/(n - 1) * var/m")
    report.table("noise", columns, table, f"Of the mean gradient of m rows out of {n:,}, summed over the parameters.")
    variances = [row[1] for row in table]
    report.claim("2.2.c2", exponent_of(sizes, variances), low=-1.05, high=-0.95, detail="slope of log(variance) over "
                 f"log(m), m = 1 to {sizes[-1]}: from {variances[0]:.3g} to {variances[-1]:.3g}")  # fmt: skip
    report.claim("2.2.x1", max(deviations), high=0.2, detail="largest relative deviation from (n - m)/(n - 1) * var/m "
                 f"of distinct rows; n = {n:,}")  # fmt: skip


def _standard_errors(sample: Float[Tensor, "k d"], truth: Float[Tensor, " d"]) -> float:
    return ((sample.mean(0) - truth) / (sample.std(0) / len(sample) ** 0.5)).square().mean().sqrt().item()


def _cost(report: Report, generator: torch.Generator) -> None:
    """An update of the digit classifier, for one picture, 32, or all (2.2.c3, x2)."""
    X, labels = digit_rows()
    n, start = len(labels), torch.zeros(65, 10)
    sizes = {1: (300, 1), 32: (32 * 40, 1), n: (n, 20)}  # batch size: rows of an epoch, epochs
    descend = partial(stochastic_gradient_descent, cross_entropy, start, keep="epochs", generator=generator)
    tasks = [partial(descend, (X[:count], labels[:count]), batch_size=m, epochs=epochs)
             for m, (count, epochs) in sizes.items()]  # fmt: skip
    seconds = [taken / (epochs * count // m) for taken, (m, (count, epochs)) in
               zip(quickest(tasks), sizes.items(), strict=True)]  # fmt: skip
    rows = [(m, 4 * 650 * m, 1e6 * s, round(m / s)) for m, s in zip(sizes, seconds, strict=True)]
    report.table("cost", ("batch size", "operations", "microseconds an update", "pictures a second"), rows,
                 "A softmax classifier of 8 x 8 digits, forward and backward: 650 parameters.")  # fmt: skip
    report.claim("2.2.c3", seconds[-1] / seconds[0], low=2, detail=f"processor time of an update with all {n:,} "
                 f"pictures over one with a single picture, which has {n:,} times fewer operations")  # fmt: skip
    report.claim("2.2.x2", n * seconds[0] / seconds[-1], low=10, detail="pictures a second, all at once over one at a "
                 "time")  # fmt: skip


def _passes(report: Report, rows: LeastSquares, epochs: int, generator: torch.Generator) -> None:
    """Each variant at the constant rate that is best for its first pass (2.2.c4, c5, x3)."""
    n = len(rows.b)
    found: dict[str, Walk] = {}
    named = {}
    for name, m in (("stochastic", 1), ("mini-batch, 32", 32), ("batch", n)):
        ends = {rate: rows.excess(_walk(rows, batch_size=m, learning_rate=rate, epochs=1, generator=generator).end)
                for rate in RATES}  # fmt: skip
        for rate in sorted(RATES, key=lambda rate: ends[rate].item()):
            found[name] = _walk(rows, batch_size=m, learning_rate=rate, epochs=epochs, generator=generator)
            if found[name].stopped != "diverged":  # as outliers among the rows may make it, later on
                break
        else:
            raise InputError(f"{name} descent diverges at a rate of {RATES[-1]:g} still: some rows are far outliers")
        named[name] = f"{name}, rate {rate:.2g}"
    updates = {"batch": 1, "mini-batch, 32": -(-n // 32), "stochastic": n}
    excess = {name: rows.excess(walk.path) for name, walk in found.items()}
    lines = {}
    for name, above in excess.items():
        at = np.unique(np.geomspace(1, len(above) - 1, 400).astype(int))
        lines[named[name]] = (at / updates[name], above[at])
    report.curve("passes", lines, x="passes over the data", y="loss above the minimum", log_x=True, log_y=True,
                 caption="Each at the constant rate that is best for the first pass.")  # fmt: skip
    first = {name: above[updates[name]].item() for name, above in excess.items()}
    late = {name: above[-updates[name] * epochs // 5 :].mean().item() for name, above in excess.items()}
    report.claim("2.2.c4", first["batch"] / first["stochastic"], low=2, detail="loss above the minimum after one pass, "
                 "batch over stochastic")  # fmt: skip
    report.claim("2.2.x3", late["batch"] / late["stochastic"], low=1, detail=f"the same, mean of the last fifth of "
                 f"{epochs} passes: {late['batch']:.2g} over {late['stochastic']:.2g}; constant rates")  # fmt: skip
    early = {name: above[: 20 * updates[name] + 1] for name, above in excess.items()}
    rough = {name: (above.diff().abs().sum() / (above[0] - above[-1])).item() for name, above in early.items()}
    report.claim("2.2.c5", rough["stochastic"] / rough["batch"], low=1.5, detail="total variation of the loss over its "
                 f"fall in 20 passes: batch {rough['batch']:.3g}, mini-batch {rough['mini-batch, 32']:.3g}, stochastic "
                 f"{rough['stochastic']:.3g} (1 is monotone); stochastic over batch")  # fmt: skip


def _seconds(report: Report, generator: torch.Generator) -> None:
    """The digit classifier by processor time (2.2.x4)."""
    X, labels = digit_rows()
    goal, n = 0.25, len(labels)
    lines, needed = {}, {}
    for name, m, rate in (("batch", n, 2.0), ("mini-batch, 32", 32, 0.5), ("stochastic", 1, 0.03)):
        W, seconds, losses = torch.zeros(65, 10), [0.0], [float(np.log(10))]
        while losses[-1] > goal and len(losses) < 1000:
            began = time.process_time()
            W = stochastic_gradient_descent(cross_entropy, W, (X, labels), batch_size=m, learning_rate=rate, epochs=1,
                                            keep="epochs", generator=generator).end  # fmt: skip
            seconds.append(seconds[-1] + time.process_time() - began)
            losses.append(cross_entropy(W, X, labels).mean().item())
        lines[f"{name}: {len(losses) - 1} passes"] = (seconds[1:], losses[1:])
        needed[name] = seconds[-1]
    report.curve("seconds", lines, x="processor time, s", y="cross-entropy of all training digits", log_x=True,
                 caption=f"Until the loss is below {goal}: many pictures at once use the processor better, but "
                 "too many take too few steps.", points=True)  # fmt: skip
    report.claim("2.2.x4", needed["stochastic"] / needed["mini-batch, 32"], low=2, detail="processor time to a "
                 f"training loss of {goal} on digits, single pictures over batches of 32")  # fmt: skip


def _ball(report: Report, rows: LeastSquares, epochs: int, generator: torch.Generator) -> None:
    """From zero with a constant rate, a decaying one, and averaged; and without noise (2.2.c6, x5 to x8)."""
    m = 4
    rate = min(0.02, 2 / rows.A.square().sum(1).max().item())  # lower where a single row is very steep
    updates = -(-len(rows.b) // m)
    walk = partial(_walk, rows, batch_size=m, learning_rate=rate, epochs=epochs, generator=generator)
    found = {
        f"constant rate {rate:.2g}": rows.excess(walk().path),
        "rate decaying as 1/t": rows.excess(walk(learning_rate=0.1, decay=0.1).path),
        "constant rate, averaged from the fifth pass": rows.excess(walk(average_from=4).path),
    }
    at = np.unique(np.geomspace(1, updates * epochs, 400).astype(int))
    report.curve("noise-ball", {name: (at / updates, above[at]) for name, above in found.items()}, log_x=True,
                 log_y=True, x="passes over the data", y="loss above the minimum", caption=f"Batches of {m}, features "
                 "decorrelated: the constant rate stalls; decay or averaging goes on.")  # fmt: skip
    constant, decaying, averaged = (above[-updates * epochs // 4 :].mean().item() for above in found.values())
    report.claim("2.2.c6", constant, high=1e-6, detail=f"loss above the minimum at constant rate {rate:.2g}, mean over "
                 f"the last quarter of {epochs} passes; it began at {rows.excess(rows.start):.3g}")  # fmt: skip
    report.claim("2.2.x5", constant / decaying, low=10, detail="that loss at the constant rate over that at a rate "
                 "decaying as 1/t")  # fmt: skip
    report.claim("2.2.x6", constant / averaged, low=10, detail="that loss at the constant rate over that of the mean "
                 "of the points since the fifth pass")  # fmt: skip

    rates = rate * torch.tensor([0.125, 0.25, 0.5, 1], dtype=torch.float64)
    together = stochastic_gradient_descent(
        squared, rows.best.repeat(len(rates), 1), (rows.A, rows.b), batch_size=m, learning_rate=rates[:, None],
        epochs=epochs, order="with replacement", generator=generator
    )  # fmt: skip
    balls = rows.excess(together.path[updates * epochs // 4 :]).mean(0)
    report.claim("2.2.x7", exponent_of(rates.tolist(), balls.tolist()), low=0.75, high=1.25, detail="slope of log(mean "
                 "loss above the minimum) over log(rate), independent draws from the minimum on: "
                 + ", ".join(f"{ball:.2g} at {r:.2g}" for r, ball in zip(rates, balls, strict=True)))  # fmt: skip
    noiseless = LeastSquares(rows.A, rows.A @ rows.best, rows.best)
    end = _walk(noiseless, batch_size=m, learning_rate=rate, epochs=epochs, generator=generator).end
    report.claim("2.2.x8", noiseless.excess(end), high=1e-6, detail=f"the same as for the constant rate {rate:.2g}, on "
                 "targets that the model fits exactly")  # fmt: skip
