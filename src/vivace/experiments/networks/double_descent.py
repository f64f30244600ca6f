"""Experiment: more and more capacity: where a net that fits everything is at its worst, and what comes after."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.small_data import DataSet, Recipe, Small, learn, mean_and_spread, small_data
from vivace.learning import Ridge

QUICK = {"dataset": "digits", "few": 300, "epochs": 60, "runs": 3}

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 1.0, 9 / 8, 5 / 4, 3 / 2, 2, 4, 8, 16)  # units for each picture


@checked
def run(*, dataset: DataSet = "auto", few: Annotated[int, Ge(100), Le(1000)] = 500,
        wrong: Annotated[float, Ge(0.05), Le(0.6)] = 0.2, epochs: Annotated[int, Ge(30), Le(500)] = 60,
        runs: Annotated[int, Ge(3), Le(50)] = 4, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Double descent: the test error peaks where a net can just fit its pictures, and falls beyond.

    vivace run double_descent        30 s on two cores; at the peak 3 to 5 times the error of a net 16 times as wide

    dataset: mnist, scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    few: pictures to learn from
    wrong: the share of them whose label is that of another class
    epochs: of the net that learns random labels
    runs: nets of each width
    seed: the first of the seeds
    """
    data = [small_data(dataset, few, wrong, s) for s in range(seed, seed + runs)]
    count = len(data[0].train.labels)
    widths = [round(share * count) for share in SHARES]
    report = Report(
        "Double descent: wider than wide enough",
        f"One hidden layer of ReLU units whose weights stay random; the layer above is solved for by least squares, "
        f"the shortest solution where there are many. {count} pictures of {data[0].name}, {wrong:.0%} of their labels "
        "wrong.",
    )
    lines: dict[str, np.ndarray] = {}
    with threadpool_limits(1):
        for name, alpha in (("least squares", 0.0), ("with a ridge penalty", 1.0)):
            errors = np.zeros((2, runs, len(widths)))
            for i, width in enumerate(widths):
                tell(Step(i, len(widths), f"{width} units, {name}"))
                for r, one in enumerate(data):
                    errors[:, r, i] = random_features(one, width, alpha, seed + r)
            lines[f"training, {name}"], lines[f"test, {name}"] = errors.mean(1)
            if not alpha:
                _claims(report, errors[1], widths, count)
    report.curve(
        "width",
        {label: (widths, line) for label, line in lines.items()},
        x="hidden units",
        y="wrong, %",
        log_x=True,
        caption=f"The peak lies near {count} units, as many as pictures: there the one net that fits "
        "them all has huge weights. Beyond, ever shorter solutions exist; a penalty removes the peak.",
    )
    _memorised(report, data[0], epochs, seed)
    return report


def random_features(data: Small, width: int, alpha: float, seed: int) -> tuple[float, float]:
    """Training and test error in % of a net with random hidden weights, its last layer by ridge (alpha 0: shortest)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = data.train.images[0].numel()
    W = torch.randn(inputs, width, generator=generator) / inputs**0.5
    b = 0.1 * torch.randn(width, generator=generator)

    def hidden(images: Float[Tensor, "n c h w"]) -> np.ndarray:
        return torch.relu(images.flatten(1) @ W + b).double().numpy()

    targets = torch.nn.functional.one_hot(data.train.labels, 10).double().numpy()
    model = Ridge(alpha * width / inputs, fit_intercept=False).fit(hidden(data.train.images), targets)
    return tuple(
        float(100 * np.mean(model.predict(hidden(part.images)).argmax(1) != part.labels.numpy()))
        for part in (data.train, data.test)
    )  # type: ignore[return-value]


def _claims(report: Report, test: Float[np.ndarray, "r w"], widths: list[int], count: int) -> None:
    """From the peak to the widest, the error falls (3.5.c7); before it, it rises (3.5.x7)."""
    peak, least = SHARES.index(1.0), int(test[:, :7].mean(0).argmin())
    change, spread = mean_and_spread((test[:, -1] - test[:, peak]).tolist())
    report.claim(
        "3.5.c7",
        change,
        low=0,
        spread=spread,
        unit="points",
        detail=f"test error with {widths[-1]} hidden units, less that with {widths[peak]}; {count} training pictures",
    )
    rise, spread = mean_and_spread((test[:, peak] - test[:, least]).tolist())
    report.claim(
        "3.5.x7",
        rise,
        low=5,
        spread=spread,
        unit="points",
        detail=f"test error with {widths[peak]} units, less that with {widths[least]}",
    )


def _memorised(report: Report, data: Small, epochs: int, seed: int) -> None:
    """A net learns labels drawn at random: what it can do, not what it should (3.5.x8)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, data.train.labels.shape, generator=generator)
    drawn = Small(data.name, data.train._replace(labels=labels), data.validation, data.test)
    rows = []
    for name, hidden in (("16", (16,)), ("128-64", (128, 64)), ("512-512", (512, 512))):
        curves = learn(drawn, Recipe(hidden=hidden, epochs=epochs), seed).curves
        known = curves["training error"][-1]
        rows.append((name, f"{known:.1f}", f"{curves['test error'][-1]:.1f}"))
    report.table(
        "random-labels",
        ("hidden layers", "training error, %", "test error, %"),
        rows,
        f"{len(labels)} pictures with labels drawn at random, {epochs} epochs: the large nets know them by heart. "
        "So a small training error is no sign that anything was understood.",
    )
    report.claim(
        "3.5.x8",
        known,
        high=1,
        unit="%",
        detail="training error of the net with hidden layers 512-512 on labels drawn at random",
    )
