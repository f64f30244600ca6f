"""Experiment: choosing a model, and why the score it was chosen by flatters it."""

import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

from vivace.base.data import Labelled, digits, mnist
from vivace.base.drawing import BLUE, GREY, ORANGE, PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.learning import LinearRegression
from vivace.learning.diagnostics import selection
from vivace.learning.metrics import accuracy_score
from vivace.learning.splits import Split, three_way_split
from vivace.networks import MLP

QUICK = {"repeats": 200, "candidates": 100, "epochs": 30}

COINS = 1000  # classifiers that flip a coin, at most
FEW = 100  # rows to choose by
LARGE = 10_000
HIDDEN = 80  # random features of each real candidate
WIDTHS = (4, 32, 256)
DECAYS = (0.0, 0.1)  # weight decay: the hyper-parameter


@checked
def run(*, repeats: Annotated[int, Ge(100), Le(10_000)] = 1000, candidates: Annotated[int, Ge(100), Le(1000)] = 200,
        epochs: Annotated[int, Ge(30), Le(1000)] = 150, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The validation score of a chosen model is optimistic; an untouched test set is not.

    vivace run model_selection        25 s on two cores; the best of 1,000 coin flippers scores 66 % on the 100 rows
    it was chosen by, and 50 % on fresh ones; the best of 200 real digit classifiers is overrated by 4.5 points

    repeats: how often each selection is repeated, on other rows
    candidates: how many real classifiers there are to choose from
    epochs: how long each network of the worked example trains
    seed: for coins, splits and first weights
    """
    report = Report(
        "A model that was chosen by a score is worse than that score says",
        "The best of $K$ scores is high partly because its model is good and partly because it was lucky. On rows that "
        "had no say in the choice the luck is gone. For $K$ equally good models and $n$ rows the luck is about "
        "$\\sqrt{p(1-p)/n}\\,\\sqrt{2\\ln K}$.",
    )
    generator = np.random.default_rng(seed)
    with threadpool_limits(1):
        tell(Step(0, 3, "coin flippers"))
        _coins(report, repeats, generator)
        tell(Step(1, 3, f"{candidates} digit classifiers"))
        _real(report, candidates, repeats, generator)
        tell(Step(2, 3, "a worked example"))
        _procedure(report, epochs, seed)
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _coins(report: Report, repeats: int, generator: np.random.Generator) -> None:
    """K classifiers that flip a coin for every row: all of one quality, so that what differs is luck."""
    counts = np.unique(np.geomspace(1, COINS, 25).astype(int))
    lines: dict[str, tuple[list[float], list[float]]] = {}
    ends: dict[int, tuple[float, float]] = {}
    for rows in (FEW, LARGE):
        seen, untouched = generator.binomial(rows, 0.5, (2, repeats, COINS)) / rows
        chosen = [selection(seen[:, :k], untouched[:, :k]) for k in counts]
        by, fresh = ([float(np.mean(part)) for part in column] for column in
                     zip(*((s.seen, s.untouched) for s in chosen), strict=True))  # fmt: skip
        at = counts.tolist()
        lines[f"on the {rows:,} rows it was chosen by"] = (at, by)
        lines[f"on {rows:,} untouched rows"] = (at, fresh)
        ends[rows] = by[-1], fresh[-1]
    bound = [0.5 + math.sqrt(2 * math.log(k) / FEW) / 2 for k in counts]
    lines["bound for 100 rows"] = (counts.tolist(), bound)
    report.curve("coins", lines, x="K, classifiers to choose from", y="accuracy of the best", log_x=True,
                 caption="Every one of them is right half of the time: what is above 0.5 is luck.")  # fmt: skip
    by_few, fresh_few = ends[FEW]
    report.claim(
        "1.2.c2",
        100 * ((by_few - 0.5) - abs(fresh_few - 0.5)),
        low=5,
        unit="points",
        detail=f"best of {COINS:,} coin flippers: {by_few:.3f} on the {FEW} validation rows, {fresh_few:.3f} on "
        "as many test rows (chance 0.5); the validation score's bias less the test score's",
    )
    report.claim(
        "1.2.x5",
        100 * (ends[LARGE][0] - 0.5),
        high=2,
        unit="points",
        detail=f"bias of the best of {COINS:,} coin flippers where {LARGE:,} rows choose",
    )


def _real(report: Report, candidates: int, repeats: int, generator: np.random.Generator) -> None:
    """Classifiers of real digits that differ in their random features, as attempts with other seeds do."""
    images, labels = _all_digits()
    parts = three_way_split(len(labels), ratio=(1, 0, 2), labels=labels, random_state=int(generator.integers(2**31)))
    right = np.array([_right(images, labels, parts, generator) for _ in range(candidates)])  # (candidates, rows)
    counts = np.unique(np.geomspace(1, candidates, 16).astype(int))
    seen, untouched = np.empty((2, repeats, candidates))
    for repeat in range(repeats):
        order = generator.permutation(right.shape[1])
        mine = right[generator.permutation(candidates)]
        seen[repeat], untouched[repeat] = mine[:, order[:FEW]].mean(1), mine[:, order[FEW:]].mean(1)
    found = [selection(seen[:, :k], untouched[:, :k]) for k in counts]
    report.claim(
        "1.2.c4",
        100 * (found[-1].optimism - found[0].optimism),
        low=1,
        unit="points",
        detail=f"the best of {candidates} digit classifiers on {FEW} test rows used {candidates} times, less its "
        f"accuracy on the other {right.shape[1] - FEW:,}; used once: {100 * found[0].optimism:+.2f} points",
    )
    times = counts.tolist()
    report.curve(
        "reuse",
        {
            f"on the {FEW} test rows": (times, [float(s.seen.mean()) for s in found]),
            "on rows never looked at": (times, [float(s.untouched.mean()) for s in found]),
        },
        x="times that the test set was used to choose",
        y="accuracy of the model chosen",
        log_x=True,
        caption=f"Real classifiers of 8 x 8 digits (random features and least squares), {repeats:,} drawings of the "
        "test set. What is reported rises with every use; what is true hardly does.",
    )


def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    train, test = digits("train"), digits("test")
    images = torch.cat([train.images, test.images]).flatten(1).double().numpy()
    return images, torch.cat([train.labels, test.labels]).numpy()


def _right(images: np.ndarray, labels: np.ndarray, parts: Split, generator: np.random.Generator) -> np.ndarray:
    """Which of the test rows a linear classifier on random features, fitted to the training rows, gets right."""
    hidden = np.maximum(0, images @ generator.normal(size=(images.shape[1], HIDDEN)) + generator.normal(size=HIDDEN))
    fitted = LinearRegression().fit(hidden[parts.train], np.eye(10)[labels[parts.train]])
    return fitted.predict(hidden[parts.test]).argmax(1) == labels[parts.test]


def _procedure(report: Report, epochs: int, seed: int) -> None:
    """Train, choose width, decay and epoch by validation, then use the test set, once."""
    pictures = _pictures(seed)
    parts = three_way_split(len(pictures.labels), labels=pictures.labels.numpy(), random_state=seed)
    train, validation, test = (pictures.taken(torch.from_numpy(rows)) for rows in parts)
    figure, axes = drawing(1, 2, width=9.6)
    rows: list[tuple[object, ...]] = []
    best: tuple[float, MLP] | None = None
    for i, width in enumerate(WIDTHS):
        for decay in DECAYS:
            curve, models = _trained(width, decay, train, validation, epochs, seed)
            losses = np.array(curve)
            at = int(losses[:, 1].argmin())
            model = models[at]
            score = _accuracy(model, validation)
            rows.append((width, decay, at + 1, losses[at, 0], losses[at, 1], losses[-1, 1], f"{score:.1%}"))
            if best is None or score > best[0]:
                best = score, model
            if decay == 0:
                axes[0].plot(np.arange(1, epochs + 1), losses[:, 0], color=PALETTE[i], linestyle=":")
                axes[0].plot(np.arange(1, epochs + 1), losses[:, 1], color=PALETTE[i], label=f"{width} units")
                axes[0].plot(at + 1, losses[at, 1], "o", color=PALETTE[i])
    assert best is not None
    tested = _accuracy(best[1], test)
    axes[0].set(xlabel="epoch", ylabel="cross-entropy", yscale="log", title="training (dotted) and validation")
    axes[0].legend(frameon=False, fontsize=8)
    names = [f"{row[0]}, {row[1]}" for row in rows]
    axes[1].bar(names, [float(str(row[-1]).rstrip("%")) for row in rows], color=GREY, width=0.6)
    axes[1].axhline(100 * best[0], color=ORANGE, label=f"the chosen one, validation: {best[0]:.1%}")
    axes[1].axhline(100 * tested, color=BLUE, label=f"the chosen one, test, once: {tested:.1%}")
    axes[1].set(xlabel="units, weight decay", ylabel="validation accuracy, %", ylim=(50, 108))
    axes[1].tick_params(axis="x", labelrotation=30)
    axes[1].legend(frameon=False, fontsize=8, loc="upper left")
    report.figure(
        "procedure",
        figure,
        "Dots: the epoch with the least validation loss, whose weights are kept. "
        "Where the training loss falls while the validation loss rises, the net overfits.",
    )
    columns = (
        "hidden units",
        "weight decay",
        "best epoch",
        "training loss",
        "validation loss",
        "at the last epoch",
        "validation accuracy",
    )
    report.table(
        "candidates",
        columns,
        rows,
        f"{len(train.labels):,} digits to train on, {len(validation.labels):,} "
        f"to choose by, {len(test.labels):,} for the last number: {tested:.1%}.",
    )


def _pictures(seed: int) -> Labelled:
    """Digits for the worked example: 2,000 of MNIST where it is at hand, else the shipped ones."""
    try:
        every = mnist("train")
    except InputError:
        parts = digits("train"), digits("test")
        return Labelled(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]), parts[0].classes)
    return every.taken(torch.from_numpy(np.random.default_rng(seed).permutation(len(every.labels))[:2000]))


def _trained(width: int, decay: float, train: Labelled, validation: Labelled, epochs: int, seed: int
             ) -> tuple[list[tuple[float, float]], list[MLP]]:  # fmt: skip
    """(training, validation) loss after each epoch, and the net as it was then."""
    generator = torch.Generator().manual_seed(seed)
    model = MLP((train.images[0].numel(), width, 10), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=decay)
    curve, models = [], []
    for _ in range(epochs):
        for rows in torch.randperm(len(train.labels), generator=generator).split(100):
            optimizer.zero_grad()
            _loss(model, train.taken(rows)).backward()
            optimizer.step()
        with torch.no_grad():
            curve.append((float(_loss(model, train)), float(_loss(model, validation))))
        kept = MLP(model.sizes)
        kept.load_state_dict(model.state_dict())
        models.append(kept)
    return curve, models


def _loss(model: MLP, given: Labelled) -> Float[Tensor, ""]:
    return F.cross_entropy(model(given.images), given.labels)


def _accuracy(model: MLP, given: Labelled) -> float:
    with torch.no_grad():
        return accuracy_score(given.labels.numpy(), model(given.images).argmax(1).numpy())
