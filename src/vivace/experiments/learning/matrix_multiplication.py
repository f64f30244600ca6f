"""Experiment: what matrix products do in machine learning, what they mean, and what they cost."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vivace.base.data import digits
from vivace.base.drawing import drawing
from vivace.base.images import read_image
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.parts import in_turn
from vivace.experiments.timing import exponent_of, quickest
from vivace.learning import blocked, correlation, cosine_similarities, covariance, gram, linear_layer, triple_loop

QUICK = {"loop": 128, "largest": 1024}

# one row for each new coordinate: brightness, blue against yellow, red against green; orthogonal, rows of length 1
OPPONENT = np.array([[1, 1, 1], [-1, -1, 2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])


@checked
def run(*, image: ImagePath = "flower", data: FilePath = None, target: str | None = None,
        loop: Annotated[int, Ge(32), Le(512)] = 256, largest: Annotated[int, Ge(1024), Le(8192)] = 2048,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Products of matrices: predictions, gradients, coordinates, similarities; and their cost.

    vivace run matrix_multiplication        12 s on two cores; a library's product is 600 times as fast as Python's
    loops at 256 x 256, and its time grows with the side to the power of 3.0

    image: a picture whose colours are brought to other coordinates and back
    data: a CSV file whose features' products are shown (default: scikit-learn's diabetes patients)
    target: the column that is predicted (default: the last)
    loop: side of the matrices that Python's three loops multiply
    largest: the largest side that the library's product is timed with; it doubles up to there from 256
    seed: the random matrices
    """
    table = read_table(data, target) if data else diabetes()
    report = Report(
        "Matrix products: what they mean and what they cost",
        "An entry of $AB$ is the inner product of a row of $A$ and a column of $B$. With rows as samples, $Xw$ is a "
        "prediction for each of them, $\\frac2n X^\\top (Xw - y)$ the gradient of its mean squared error, $X^\\top X$ "
        "the inner products of the features (the Gram matrix), $XX^\\top$ those of the samples: their similarities.",
    )
    parts = (
        ("gradients", partial(_gradients, report, table)),
        ("Gram, covariance, correlation", partial(_moments, report, table)),
        ("similarities of digits", partial(_similarities, report)),
        ("other coordinates", partial(_coordinates, report, read_image(image, max_side=480))),
        ("loops", partial(_loops, report, loop, seed)),
        ("sizes", partial(_growth, report, largest, seed)),
    )
    in_turn(parts, tell)
    return report


def _gradients(report: Report, table: Table) -> None:
    """X^T (X w - y) against autograd, for the mean of squares and for half their sum (1.8.c1, 1.8.x1, 1.8.x2)."""
    X = torch.from_numpy((table.X - table.X.mean(0)) / table.X.std(0))
    y = torch.from_numpy((table.y - table.y.mean()) / table.y.std())
    n = len(y)
    w = torch.linspace(-1, 1, X.shape[1], dtype=torch.float64, requires_grad=True)
    residual = X @ w - y
    (of_mean,) = torch.autograd.grad(residual.square().mean(), w, retain_graph=True)
    (of_half_sum,) = torch.autograd.grad(residual.square().sum() / 2, w)
    taught = (X.T @ residual).detach()
    columns = torch.stack([of_mean, 2 / n * taught, taught, of_half_sum], 1).tolist()
    rows = [(name, *(f"{value:.4f}" for value in row)) for name, row in zip(table.names, columns, strict=True)]
    titles = ("weight of", "autograd: mean of squares", "(2/n) Xᵀ(Xw - y)", "Xᵀ(Xw - y)", "autograd: half the sum")
    report.table("gradients", titles, rows, f"The same product, for two losses; n = {n}.")
    report.claim("1.8.c1", _apart(taught, of_mean), high=1e-6, detail="relative distance of X^T(Xw - y) from "
                 f"autograd's gradient of the mean squared error of {n} rows; it is n/2 = {n / 2:g} times as "
                 "large")  # fmt: skip
    report.claim("1.8.x1", _apart(2 / n * taught, of_mean), high=1e-6, detail="the same with the factor 2/n")
    report.claim("1.8.x2", _apart(taught, of_half_sum), high=1e-6, detail="X^T(Xw - y) against autograd's gradient of "
                 "half the sum of squares")  # fmt: skip


def _moments(report: Report, table: Table) -> None:
    """Three products of the features with themselves (1.8.c2, 1.8.x3, 1.8.x4)."""
    X = table.X
    truth, spread = np.corrcoef(X, rowvar=False), np.cov(X, rowvar=False)
    shown = {"XᵀX, as it is": gram(X), "centred, over n - 1: covariance": covariance(X),
             "z-scores, over n: correlation": correlation(X)}  # fmt: skip
    report.figure("moments", _heatmaps(shown, table.names), "The Gram matrix, the covariance and the correlation of "
                  "the same features; each has a scale of its own.")  # fmt: skip
    entries = [np.abs(M).max() for M in shown.values()]
    report.claim("1.8.c2", np.abs(gram(X) - truth).max(), high=1e-8, detail="largest difference of X^T X from numpy's "
                 f"corrcoef; entries of X^T X go up to {entries[0]:,.0f}")  # fmt: skip
    report.claim("1.8.x3", np.abs(correlation(X) - truth).max(), high=1e-8, detail="the same for Z^T Z / n of z-scores")
    report.claim("1.8.x4", np.abs(covariance(X) - spread).max() / np.abs(spread).max(), high=1e-8, detail="relative "
                 "difference of the centred Gram matrix over n - 1 from numpy's cov")  # fmt: skip


def _heatmaps(matrices: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    figure, axes = drawing(1, len(matrices), width=11, height=4)
    for each, (title, M) in zip(axes, matrices.items(), strict=True):
        limit = np.abs(M).max()
        drawn = each.imshow(M, cmap="RdBu", vmin=-limit, vmax=limit)
        each.set_title(title, fontsize=10)
        each.set_xticks(range(len(names)), names, rotation=90)
        each.set_yticks(range(len(names)), names)
        each.grid(False)
        figure.colorbar(drawn, ax=each, shrink=0.75)
    return figure


def _similarities(report: Report) -> None:
    """Every digit against every other: one product."""
    given = digits("test")
    order = given.labels.argsort(stable=True)
    X, y = given.images[order].flatten(1).double().numpy(), given.labels[order].numpy()
    S = cosine_similarities(X, X)
    figure, axes = drawing(width=5.6, height=4.8)
    drawn = axes.imshow(S, cmap="viridis", vmin=0, vmax=1)
    middles = [np.flatnonzero(y == k).mean() for k in range(10)]
    axes.set_xticks(middles, range(10))
    axes.set_yticks(middles, range(10))
    axes.set(xlabel="digit", ylabel="digit")
    axes.grid(False)
    figure.colorbar(drawn, label="cosine similarity")
    report.figure("similarities", figure, f"All {len(y) ** 2:,} cosine similarities of {len(y)} digits, sorted by "
                  "class: one product of rows of length 1. Bright blocks on the diagonal: a digit is most like its "
                  "own kind.")  # fmt: skip


def _coordinates(report: Report, picture: Float[Tensor, "3 h w"]) -> None:
    """A linear layer on every pixel: a change of coordinates, there and back (1.8.x5)."""
    colors = picture.movedim(0, -1).flatten(0, 1).double().numpy()  # (pixels, 3)
    there = linear_layer(colors, OPPONENT, np.zeros(3))
    back = linear_layer(there, OPPONENT.T, np.zeros(3))  # orthogonal: the inverse is the transpose
    shape = picture.shape[1:]
    brightness, *axes = (torch.from_numpy(column).float().view(1, *shape) for column in there.T)
    shown = {"red, green, blue": picture, "brightness": brightness / brightness.max().clamp(min=1e-6)}  # black has none
    shown |= {name: 0.5 + axis / 2 for name, axis in zip(("blue (bright) or yellow", "red (bright) or green"), axes,
                                                         strict=True)}  # fmt: skip
    report.images("coordinates", shown, f"One product of {len(colors):,} pixels with a 3 x 3 matrix: the same "
                  "colours in other coordinates.")  # fmt: skip
    report.claim("1.8.x5", np.abs(back - colors).max(), high=1e-9, detail=f"largest error of {len(colors):,} pixels "
                 "after X W^T and back by the inverse")  # fmt: skip


def _loops(report: Report, side: int, seed: int) -> None:
    """Python's three loops against NumPy's and torch's product (1.8.c3)."""
    A, B = np.random.default_rng(seed).normal(size=(2, side, side))
    A_t, B_t = torch.from_numpy(A), torch.from_numpy(B)
    ways = {
        "three loops in Python": partial(triple_loop, A, B),
        "64 x 64 blocks of NumPy": partial(blocked, A, B),
        "NumPy": partial(np.matmul, A, B),
        "torch": partial(torch.matmul, A_t, B_t),
        "torch, float32": partial(torch.matmul, A_t.float(), B_t.float()),
    }
    slow, *fast = ways.values()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [*quickest([slow], rounds=1), *quickest(fast, rounds=10)]
    torch.set_num_threads(threads)
    rows = [(name, f"{1e3 * time:.3g}", f"{2 * side**3 / time / 1e9:.3g}", f"{seconds[0] / time:,.0f}")
            for name, time in zip(ways, seconds, strict=True)]  # fmt: skip
    report.table("speed", ("way", "milliseconds", "GFLOP a second", "times as fast"), rows,
                 f"{side} x {side}, float64 unless said: {side**3:,} multiplications each, one thread.")  # fmt: skip
    apart = max(float(np.abs(np.asarray(way()) - A @ B).max()) for way in (slow, *fast[:3]))
    report.claim("1.8.c3", seconds[0] / max(seconds[2], seconds[3]), low=20, unit="times", detail=f"processor time of "
                 f"{side} x {side} by three Python loops over that by NumPy or torch, the slower of them; results "
                 f"differ by {apart:.0e} at most")  # fmt: skip


def _growth(report: Report, largest: int, seed: int) -> None:
    """How the cost grows with the side: counted, and timed (1.8.c4)."""
    sides = [side for side in (256, 512, 1024, 2048, 4096, 8192) if side <= largest]
    generator = np.random.default_rng(seed)
    times = quickest([partial(np.matmul, *generator.normal(size=(2, side, side))) for side in sides], rounds=4)
    counts = []
    for side in sides:
        with FlopCounterMode(display=False) as counter:
            torch.empty(side, side, device="meta") @ torch.empty(side, side, device="meta")
        counts.append(counter.get_total_flops())
    cubic = [times[-1] * (side / sides[-1]) ** 3 for side in sides]
    report.curve("growth", {"NumPy's product": (sides, times), "side³": (sides, cubic)}, x="side", y="seconds",
                 log_x=True, log_y=True, caption="Processor time of a product of two square matrices.")  # fmt: skip
    report.claim("1.8.c4", exponent_of(sides, times), low=2.5, high=3.5, detail="slope of log time over log side, "
                 f"{sides[0]} to {sides[-1]}; of the operations that torch counts: "
                 f"{exponent_of(sides, counts):.2f}")  # fmt: skip


def _apart(ours: Float[Tensor, " d"], truth: Float[Tensor, " d"]) -> Tensor:
    return (ours - truth).norm() / truth.norm()
