"""Experiment: the three descents as pseudocode often has them, run as they stand, then repaired slip by slip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from random import Random
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import diabetes, read_table
from vivace.experiments.linear_losses import LeastSquares, cross_entropy, digit_rows, squared
from vivace.optimization import gradient_descent, stochastic_gradient_descent
from vivace.optimization.stochastic_gradient_descent import Order

QUICK = {"epochs": 200}

THRESHOLD = 1e-3  # below which a loss is taken for converged, as pseudocode has it

BATCH = """
def batch_gradient_descent(X, y, rate, max_epochs):
    theta = initial_weights(X)
    for epoch in range(max_epochs):
        gradient = X.T @ (X @ theta - y) / m
        theta = theta - rate * gradient
        if compute_loss() < threshold:
            break
    return theta
"""
STOCHASTIC = """
def stochastic_gradient_descent(X, y, rate, max_epochs):
    theta = initial_weights(X)
    for epoch in range(max_epochs):
        order = range(len(X))
        shuffle(order)
        for i in order:
            gradient = X[i] * (X[i] @ theta - y[i])
            theta = theta - rate * gradient
        if compute_loss() < threshold:
            break
    return theta
"""
MINI_BATCH = """
def mini_batch_gradient_descent(X, y, rate, batch_size):
    theta = initial_weights(X)
    for epoch in range(max_epochs):
        for batch_X, batch_y in make_batches(X, y, batch_size):
            gradient = batch_X.T @ (batch_X @ theta - batch_y) / batch_size
            theta = theta - rate * gradient
        if compute_loss() < threshold:
            break
    return theta
"""

Repair = tuple[str, dict[str, str]]  # in words, and as text to be replaced by text
LOSS: Repair = ("compute_loss(X, y, theta)", {"compute_loss()": "compute_loss(X, y, theta)"})
STOP: Repair = (
    "stop at a small change of the loss",
    {
        "    for epoch in": "    loss = compute_loss(X, y, theta)\n    for epoch in",
        "        if compute_loss(X, y, theta) < threshold:": "        before, loss = loss, compute_loss(X, y, theta)\n"
        "        if abs(before - loss) < 1e-15:",
    },
)


@dataclass(frozen=True)
class Routine:
    """A routine as printed, what it is called with, and its repairs in the order in which they are found needed."""

    name: str
    source: str
    arguments: tuple[float | int, ...]
    repairs: Sequence[Repair]


@checked
def run(*, data: FilePath = None, target: str | None = None, epochs: Annotated[int, Ge(20), Le(100_000)] = 1000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The pseudocode of batch, stochastic and mini-batch descent: what it raises, and what it takes to run.

    vivace run descent_pseudocode        5 s on two cores; none of three printed routines runs, all repaired ones
    go 99.5 % of the way down to the least-squares loss, and the loss never falls below the printed threshold

    data: a CSV file whose rows are fitted by least squares (default: scikit-learn's diabetes patients)
    target: its column to predict (default: the last)
    epochs: passes that a routine may take; the batch version gets ten times as many
    seed: the order of the rows
    """
    rows = LeastSquares.of(read_table(data, target) if data else diabetes())
    report = Report(
        "Pseudocode of gradient descent, executed: nothing printed runs",
        "Each routine is run as it is commonly printed, and again after each repair, on least squares with "
        f"{len(rows.b):,} rows. What is not spelled out in it (first weights, the making of batches, the loss) is "
        f"given.\n\n```{BATCH}{STOCHASTIC}{MINI_BATCH}```",
    )
    parts: list[tuple[str, Callable[[], None]]] = [
        ("routines as printed", lambda: _printed(report, rows, epochs, seed)),
        ("one half or not", lambda: _half(report, rows)),
        ("the last batch", lambda: _last_batch(report, rows)),
        ("when to stop", lambda: _threshold(report, rows, seed)),
        ("order of the rows", lambda: _shuffling(report, rows, seed)),
    ]
    for i, (what, part) in enumerate(parts):
        tell(Step(i, len(parts), what))
        part()
    tell(Step(len(parts), len(parts), "done"))
    return report


def _routines(rows: LeastSquares, epochs: int) -> tuple[Routine, ...]:
    """With rates far enough below 2/L; half the squared error has half its curvature."""
    L = rows.curvature / 2
    each = rows.A.square().sum(1).max().item()  # a single row's
    order: Repair = ("a permutation", {"range(len(X))\n        shuffle(order)": "permutation(len(X))"})
    epochs_given: Repair = ("max_epochs as an argument", {"rate, batch_size": "rate, batch_size, max_epochs"})
    own: Repair = ("divided by len(batch_X)", {"/ batch_size": "/ len(batch_X)"})
    return (
        Routine("batch", BATCH, (1 / L, 10 * epochs), (("m = X.shape[0]", {"/ m": "/ X.shape[0]"}), LOSS, STOP)),
        Routine("stochastic", STOCHASTIC, (0.02 / each, epochs), (order, LOSS, STOP)),
        Routine("mini-batch", MINI_BATCH, (0.05 / L, 32, epochs), (epochs_given, LOSS, STOP, own)),
    )


def _printed(report: Report, rows: LeastSquares, epochs: int, seed: int) -> None:
    """What happens, repair by repair (2.10.c1, c2, x1)."""
    table: list[tuple[object, ...]] = []
    ran, left = 0, {}
    for routine in _routines(rows, epochs):
        source = routine.source
        for words, changes in (("as printed", {}), *routine.repairs):
            for old, new in changes.items():
                assert old in source, old
                source = source.replace(old, new)
            theta, what = _execute(source, rows, routine.arguments, seed)
            ran += theta is not None and not changes
            table.append((routine.name, words, what))
        assert theta is not None, what
        left[routine.name] = rows.missing(theta)
    report.table("repairs", ("routine", "repair", "what happens"), table, "Each row has the repairs above it too.")
    report.claim("2.10.c1", ran, low=3, unit="routines", detail="of 3 that run as printed, without an exception")
    report.claim("2.10.c2", max(left.values()), high=0.02, detail="largest share of the way down to lstsq's loss that "
                 "is still to go: " + ", ".join(f"{name} {share:.2g}" for name, share in left.items()))  # fmt: skip
    report.claim("2.10.x1", left["stochastic"] / max(left["batch"], 1e-15), low=10, detail="that share of the "
                 "stochastic routine at its constant rate, over that of the batch routine")  # fmt: skip


def _execute(source: str, rows: LeastSquares, arguments: Sequence[float | int], seed: int) -> tuple[Tensor | None, str]:
    """What the routine returns, or None; and in words what happened. It sees the names that it may expect, no more."""
    generator = np.random.default_rng(seed)

    def make_batches(X: np.ndarray, y: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        order = generator.permutation(len(X))
        return [(X[some], y[some]) for some in np.split(order, range(size, len(X), size))]

    def compute_loss(X: np.ndarray, y: np.ndarray, theta: np.ndarray) -> float:
        return float(np.mean((X @ theta - y) ** 2))

    names: dict[str, Any] = {
        "shuffle": Random(seed).shuffle, "permutation": generator.permutation, "make_batches": make_batches,
        "compute_loss": compute_loss, "initial_weights": lambda X: np.zeros(X.shape[1]),
    }  # fmt: skip
    exec(compile(source, "printed", "exec"), names)  # noqa: S102  the text is this module's own
    routine = next(value for name, value in names.items() if name.endswith("_descent"))
    try:
        given = len(signature(routine).parameters) - 2  # as printed, one has no max_epochs
        theta = torch.from_numpy(routine(rows.A.numpy(), rows.b.numpy(), *arguments[:given]))
    except (NameError, TypeError) as error:
        return None, f"{type(error).__name__}: {str(error).replace('_execute.<locals>.', '').replace('<locals>.', '')}"
    return theta, f"runs; {rows.missing(theta):.2g} of the way down is missing"


def _half(report: Report, rows: LeastSquares) -> None:
    """1/m or 2/m (2.10.c3, x2)."""
    w = torch.ones_like(rows.best).requires_grad_()
    printed = rows.A.T @ (rows.A @ w.detach() - rows.b) / len(rows.b)
    ratios = []
    for factor in (1.0, 0.5):
        (g,) = torch.autograd.grad(factor * rows.loss(w), w)
        ratios.append((g.norm() / printed.norm()).item())
    report.claim("2.10.c3", ratios[0], low=0.99, high=1.01, detail="autograd's gradient of the mean squared "
                 "error over (1/m) X^T (X theta - y)")  # fmt: skip
    report.claim("2.10.x2", ratios[1], low=0.99, high=1.01, detail="the same for half the mean squared error")


def _last_batch(report: Report, rows: LeastSquares) -> None:
    """A hundred rows in batches of 32: the last has four (2.10.c4, x3)."""
    A, b = rows.A[:100], rows.b[:100]
    w = rows.start.requires_grad_()
    printed, own = [], []
    for X, y in zip(A.split(32), b.split(32), strict=True):
        (truth,) = torch.autograd.grad(squared(w, X, y).mean() / 2, w)
        total = X.T @ (X @ w.detach() - y)
        printed.append((total / 32).norm() / truth.norm())
        own.append(((total / len(X)).norm() / truth.norm()).item())
    report.claim("2.10.c4", min(printed), low=0.99, high=1.01, detail=f"length of the last batch's gradient, "
                 f"{len(A.split(32)[-1])} rows divided by 32, over autograd's; {len(A)} rows")  # fmt: skip
    report.claim("2.10.x3", min(own), low=0.99, high=1.01, detail="the same, divided by the batch's own length")


def _threshold(report: Report, rows: LeastSquares, seed: int) -> None:
    """A loss below 1e-3, against a gradient that has shrunk to a millionth (2.10.c5, x4)."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(1000, 5, generator=generator, dtype=torch.float64)
    noisy = X.sum(1) + torch.randn(1000, generator=generator, dtype=torch.float64)
    problems = {
        "the data": rows,
        "noise of variance 1": LeastSquares.fitted(X, noisy),
        "no noise at all": LeastSquares.fitted(X, X.sum(1)),
        "the data, targets in a unit 100 times larger": LeastSquares.fitted(rows.A, rows.b / 100),
    }
    table, right = [], {"loss": 0, "gradient": 0}
    for name, problem in problems.items():
        descend = partial(gradient_descent, problem.loss, problem.start, 1 / problem.curvature, steps=20_000)
        first = torch.linalg.vector_norm(2 / len(problem.b) * problem.A.T @ problem.b).item()
        by_loss = descend(gradient_below=None, change_below=1e-16, loss_below=THRESHOLD)
        by_gradient = descend(gradient_below=1e-5 * first)
        for rule, descent in (("loss", by_loss), ("gradient", by_gradient)):
            right[rule] += descent.stopped == rule and problem.missing(descent.end) < 0.01
        stopped = f"step {by_loss.steps}" if by_loss.stopped == "loss" else "never"
        table.append((name, problem.loss(problem.best).item(), stopped, problem.missing(by_loss.end),
                      f"step {by_gradient.steps}", problem.missing(by_gradient.end)))  # fmt: skip
    columns = ("problem", "smallest loss there is", f"loss < {THRESHOLD:g} stops at", "way down missing",
               "gradient < 1e-5 of the first stops at", "way down missing")  # fmt: skip
    report.table("threshold", columns, table, "Whether a loss is small depends on noise and units.")
    report.claim("2.10.c5", right["loss"] / len(problems), low=1, unit="of the problems", detail="in which loss < "
                 f"{THRESHOLD:g} stops descent with less than 1 % of the way missing; {len(problems)} problems; with "
                 f"noise of variance 1 the smallest loss is {table[1][1]:.3f}")  # fmt: skip
    report.claim("2.10.x4", right["gradient"] / len(problems), low=1, unit="of the problems", detail="the same for "
                 "gradient < 1e-5 of the first")  # fmt: skip


def _shuffling(report: Report, rows: LeastSquares, seed: int) -> None:
    """Rows sorted by their target: as they are, shuffled once, shuffled each epoch (2.10.c6, x5)."""
    by_target = rows.b.argsort()
    X, labels = digit_rows()
    by_label = labels.argsort(stable=True)
    problems = {
        "squared error of the data": (squared, rows.start, (rows.A[by_target], rows.b[by_target]), 4, 0.008),
        "cross-entropy of digits": (cross_entropy, torch.zeros(65, 10), (X[by_label], labels[by_label]), 32, 0.5),
    }
    ways = ("sorted", "shuffled once", "shuffled each epoch")
    found: dict[tuple[str, str], Tensor] = {}
    for name, (loss, start, columns, m, rate) in problems.items():
        lowest = rows.loss(rows.best).item() if loss is squared else 0.0
        for way in ways:
            above = []
            for offset in range(3):
                generator = torch.Generator().manual_seed(seed + offset)
                once = torch.randperm(len(columns[0]), generator=generator)
                used = tuple(column[once] for column in columns) if way == "shuffled once" else columns
                order: Order = "reshuffled" if way == "shuffled each epoch" else "as given"
                path = stochastic_gradient_descent(loss, start, used, batch_size=m, learning_rate=rate, epochs=10,
                                                   order=order, keep="epochs", generator=generator).path  # fmt: skip
                above.append(torch.stack([loss(theta, *columns).mean() - lowest for theta in path]))
            found[name, way] = torch.stack(above).median(0).values
        lines = {way: (range(11), found[name, way]) for way in ways}
        report.curve(f"order-{name.split()[-1]}", lines, x="epoch", y=f"{name}, above its minimum", log_y=True,
                     caption=f"Rows sorted by their target, batches of {m}; median of 3 runs.")  # fmt: skip
    for id_, way in (("2.10.c6", "sorted"), ("2.10.x5", "shuffled once")):
        gain = min((found[name, way] / found[name, "shuffled each epoch"])[-1].item() for name in problems)
        report.claim(id_, gain, low=1.5, detail=f"loss above the minimum after 10 epochs, {way}, over that shuffled "
                     "each epoch; the smaller of two problems")  # fmt: skip
