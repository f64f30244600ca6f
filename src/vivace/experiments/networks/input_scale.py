"""Experiment: inputs of different scales: saturated units, slow descent, and what scaling the inputs mends."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from vivace.base.data import Labelled, stratified
from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.classifier import accuracy
from vivace.experiments.plain_training import standardized_digits, train
from vivace.networks import ACTIVATIONS, MLP
from vivace.networks.saturation import saturated_share

QUICK = {"epochs": 10, "nets": 3, "limit": 5000}

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
UNITS = 1000.0  # every other column is given in units a thousand times smaller
SPLITS = 20  # of the rows, into those that the range is taken of and new ones
WITHIN = 1.01  # of the least loss: there a descent has arrived
RATES = (1.0, 0.1, 0.01, 0.001)  # of Adam; the best one counts


@checked
def run(*, data: FilePath = None, target: str | None = None, epochs: Annotated[int, Ge(1), Le(1000)] = 30,
        nets: Annotated[int, Ge(2), Le(50)] = 8, limit: Annotated[int, Ge(1000), Le(1_000_000)] = 20_000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What the scale of the inputs does to units, to descent and to a classifier, and what batch norm mends.

    vivace run input_scale        8 s; a thousandfold scale makes descent over a hundred times slower

    data: a CSV file of yours (a header, columns of numbers) for the descent; without one, 442 diabetes patients
    target: the column to predict; the last one by default
    epochs: of each training with batch norm
    nets: how many are trained of each kind
    limit: the most epochs of a descent
    seed: of the weights and the split
    """
    table = diabetes() if data is None else read_table(data, target)
    if len(table.names) < 2:
        raise InputError(f"{table.name} has one column of numbers beside the target; two or more are needed")
    report = Report(
        "Input scales: saturation, slow descent, and batch norm as a first layer",
        f"A sigmoid layer on digits of several scales; gradient descent on {table.name}, whose columns are given in "
        "other units; a classifier of breast cancer cells, whose 30 raw features differ in scale by $10^5$."
        + table.remark,
    )
    tell(Step(0, 4, "saturation"))
    _saturation(report, seed)
    tell(Step(1, 4, "descent"))
    _descent(report, table, limit)
    tell(Step(2, 4, "outside the range"))
    _min_max(report, table, seed)
    tell(Step(3, 4, "batch norm on raw features"))
    _batch_norm(report, epochs, nets, seed)
    tell(Step(4, 4, "done"))
    return report


@torch.no_grad()
def _saturation(report: Report, seed: int) -> None:
    digits, _ = standardized_digits()
    net = MLP([64, 256, 10], activation="sigmoid", initialization="xavier",
              generator=torch.Generator().manual_seed(seed))  # fmt: skip
    first = net.layers[0]
    z = first(digits.images.flatten(1))
    shares = {name: [saturated_share(ACTIVATIONS[name].slope(scale * z)).item() for scale in SCALES]
              for name in ("sigmoid", "tanh")}  # fmt: skip
    report.curve("saturation", {name: (SCALES, [100 * share for share in found]) for name, found in shares.items()},
                 x="spread of the inputs", y="slopes below 0.01, %", log_x=True,
                 caption=f"Digits, standardised and then multiplied, into a layer of {z.shape[1]} units with Xavier's "
                 "weights.")  # fmt: skip
    at = dict(zip(SCALES, shares["sigmoid"], strict=True))
    report.claim("2.12.Q2.c1", at[100] - at[1], low=0.5, detail="share of sigmoid slopes below 0.01 with inputs of "
                 f"spread 100, {at[100]:.1%}, less that with spread 1, {at[1]:.1%}")  # fmt: skip


def _descent(report: Report, table: Table, limit: int) -> None:
    """Least squares by descent at the best safe rate, and by Adam, until within 1 % of the least loss."""
    plain = (table.X - table.X.mean(0)) / table.X.std(0)
    other = plain * np.where(np.arange(plain.shape[1]) % 2, UNITS, 1.0)
    y = torch.from_numpy((table.y - table.y.mean()) / table.y.std())
    curves, epochs = {}, {}
    for label, X in (("scaled to 1", plain), ("as given", table.X - table.X.mean(0)), ("1 and 1000", other)):
        A = torch.from_numpy(X)
        curves[label], epochs[label] = _descended(A, y, limit)
    report.curve("descent", {label: (range(1, len(losses) + 1), losses) for label, losses in curves.items()},
                 x="epoch", y="loss over the least", log_x=True,
                 caption=f"{table.name}: mean squared error of a linear model over the least there is. Gradient "
                 f"descent, each at rate 1/L, L being the largest curvature; arrived is below {WITHIN}.")  # fmt: skip
    adams = {label: min(_adam(torch.from_numpy(X), y, rate, limit // 5) for rate in RATES)
             for label, X in (("scaled to 1", plain), ("1 and 1000", other))}  # fmt: skip
    rows = [(label, _count(epochs[label], limit), _count(adams[label], limit // 5) if label in adams else "")
            for label in epochs]  # fmt: skip
    report.table("epochs", ("columns", "epochs of gradient descent", "epochs of Adam, its best of four rates"), rows,
                 "Epochs until the loss is within 1 % of the least.")  # fmt: skip
    report.claim("2.12.Q2.c2", epochs["1 and 1000"] / epochs["scaled to 1"], low=10, unit="times as many",
                 detail=f"epochs to within 1 % of the least loss: {epochs['scaled to 1']} with all columns at scale 1, "
                 f"{_count(epochs['1 and 1000'], limit)} with every other one at 1000")  # fmt: skip
    report.claim("2.12.Q2.x1", adams["1 and 1000"] / adams["scaled to 1"], low=10, unit="times as many",
                 detail=f"the same with Adam, which has a rate for each weight: {adams['scaled to 1']} and "
                 f"{_count(adams['1 and 1000'], limit // 5)}")  # fmt: skip


def _descended(A: Float[Tensor, "n d"], y: Float[Tensor, " n"], limit: int) -> tuple[list[float], int]:
    least = _least(A, y)
    H, b = A.T @ A / len(y), A.T @ y / len(y)
    rate = 1 / torch.linalg.eigvalsh(H)[-1]
    w = torch.zeros_like(b)
    losses: list[float] = []
    square = y.square().mean()
    while len(losses) < limit and (not losses or losses[-1] > WITHIN):
        slope = H @ w - b
        losses.append(((square + w @ (slope - b)) / least).item())  # w H w - 2 b w + y^2: the mean squared error
        w = w - rate * slope
    return losses, len(losses)


def _adam(A: Float[Tensor, "n d"], y: Float[Tensor, " n"], rate: float, limit: int) -> int:
    least = _least(A, y)
    H, b = A.T @ A / len(y), A.T @ y / len(y)
    w, m, v = (torch.zeros_like(b) for _ in range(3))
    square = y.square().mean()
    for step in range(1, limit + 1):
        slope = H @ w - b
        if square + w @ (slope - b) <= WITHIN * least:
            return step
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope.square()
        w = w - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    return limit


def _least(A: Float[Tensor, "n d"], y: Float[Tensor, " n"]) -> float:
    best = torch.linalg.lstsq(A, y[:, None], driver="gelsd").solution[:, 0]
    return max((A @ best - y).square().mean().item(), 1e-6)  # of y's variance, 1: where the fit is exact


def _count(epochs: int, limit: int) -> str:
    return f"more than {limit:,}" if epochs >= limit else f"{epochs:,}"


def _min_max(report: Report, table: Table, seed: int) -> None:
    shuffled = np.random.default_rng(seed)
    outside, ends = [], []
    for _ in range(SPLITS):
        seen, new = np.split(shuffled.permutation(table.X), [len(table.X) * 4 // 5])
        low, high = seen.min(0), seen.max(0)
        varies = high > low
        scaled = (new - low)[:, varies] / (high - low)[varies]
        outside.append(((scaled < 0) | (scaled > 1)).any(1).sum())
        ends += [scaled.min(initial=0.0), scaled.max(initial=1.0)]  # of no column, where none varied in those seen
    report.claim("2.12.Q2.c3", np.mean(outside), high=0, unit="rows", detail=f"of {len(new)} new ones with a value "
                 f"outside [0, 1], mean of {SPLITS} splits; from {min(ends):.2f} to {max(ends):.2f}")  # fmt: skip
    constant = np.column_stack([seen[:, :2], np.full(len(seen), 3.0)])
    lost: dict[str, int] = {}
    formulas: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "min-max": lambda X: (X - X.min(0)) / (X.max(0) - X.min(0)),
        "z-score": lambda X: (X - X.mean(0)) / X.std(0),
    }
    with np.errstate(invalid="ignore"):
        for name, formula in formulas.items():
            lost[name] = int(np.isnan(formula(constant)).any(0).sum())
    each = ", ".join(f"{name} {count}" for name, count in lost.items())
    report.claim("2.12.Q2.x2", max(lost.values()), high=0, unit="columns", detail=f"of {constant.shape[1]}, of which "
                 f"one is constant, become NaN by the formulas as printed: {each}")  # fmt: skip


def _batch_norm(report: Report, epochs: int, nets: int, seed: int) -> None:
    found = load_breast_cancer()
    X = torch.from_numpy(found.data).float()
    every = Labelled(X[:, None, None], torch.from_numpy(found.target), tuple(found.target_names))
    parts = stratified(every, test_share=0.3, seed=seed)
    mean, spread = (f(parts["train"].images, 0) for f in (torch.mean, torch.std))
    scaled = {k: Labelled((p.images - mean) / spread, p.labels, p.classes) for k, p in parts.items()}
    kinds = {"raw": (parts, False, 32), "scaled": (scaled, False, 32), "raw, batch norm first": (parts, True, 32),
             "raw, batch norm first, batches of 2": (parts, True, 2)}  # fmt: skip
    scores: dict[str, list[float]] = {}
    for kind, (given, normed, batch) in kinds.items():
        for i in range(nets if batch > 2 else 2):
            net: nn.Module = MLP([30, 32, 2], generator=torch.Generator().manual_seed(seed + i))
            if normed:
                net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(30), net)
            keep = given["train"].taken(torch.arange(len(given["train"].labels) // 32 * 32))  # no batch of one
            train(net, keep, epochs=epochs, batch_size=batch, seed=seed + i)
            scores.setdefault(kind, []).append(100 * accuracy(net, given["test"]))
    report.table("batch-norm", ("inputs", "test accuracy, %", "lowest", "highest"),
                 [(k, round(float(np.mean(v)), 1), round(min(v), 1), round(max(v), 1)) for k, v in scores.items()],
                 f"Breast cancer cells, 30 features, an MLP 30-32-2, {epochs} epochs of Adam.")  # fmt: skip
    means = {kind: float(np.mean(v)) for kind, v in scores.items()}
    report.claim("2.12.Q2.c4", means["raw, batch norm first"] - means["scaled"], low=-3, unit="points",
                 detail="test accuracy, batch norm as first layer on raw features less scaled inputs; "
                 + ", ".join(f"{k} {v:.1f} %" for k, v in means.items()))  # fmt: skip
    layer = nn.BatchNorm1d(30)
    out = layer(parts["train"].images.flatten(1)).var(0)
    least = int(out.argmin())
    report.claim("2.12.Q2.x3", out.min().item(), low=0.9, detail="least variance of 30 features after it: "
                 f"'{found.feature_names[least]}', whose own is {spread.flatten()[least] ** 2:.1e}, below eps = "
                 f"{layer.eps:g}")  # fmt: skip
