"""Training a classifier of pictures, and showing what it says: what the experiments that do so share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

from vivace.base.data import Labelled
from vivace.base.fit import Fitted, fit
from vivace.base.report import Report, Tell, ignore
from vivace.base.training import Precision
from vivace.networks import random_flip


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained: the rate raised, then lowered along a cosine; the pictures moved a little."""

    epochs: int
    batch_size: int
    learning_rate: float = 0.005
    weight_decay: float = 0.05
    reach: int = 0  # pixels by which a training picture may be moved, each way
    flip: bool = False  # whether half of the training pictures, at random, are mirrored left to right
    seed: int = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: with Nesterov's momentum, 0.9


def train_classifier(model: nn.Module, train: Labelled, test: Labelled, recipe: Recipe, *, devices: int = 1,
                     precision: Precision = "32-true", folder: Path | None = None, resume: str | Path | None = None,
                     tell: Tell = ignore) -> Fitted:  # fmt: skip
    """Train a model that gives logits, in place; the history has the accuracies after each epoch."""
    kinds: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgd": partial(SGD, momentum=0.9, nesterov=True)}
    settings = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    some = train.first(10_000)  # enough to see how well it knows them
    return fit(
        model,
        TensorDataset(train.images, train.labels),
        partial(_loss, reach=recipe.reach, flip=recipe.flip),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=partial(kinds[recipe.optimizer], **settings),
        schedule=warm_then_cosine,
        evaluate=partial(_accuracies, train=some, test=test),
        seed=recipe.seed,
        devices=devices,
        precision=precision,
        folder=folder,
        resume=resume,
        tell=tell,
    )


@torch.no_grad()
def logits_of(model: nn.Module, images: Float[Tensor, "n c h w"], *, batch_size: int = 500) -> Float[Tensor, "n k"]:
    """What the model says about the pictures, so many at a time."""
    like = next(model.parameters())
    return torch.cat([model(some.to(like)).cpu() for some in images.split(batch_size)])


def accuracy(model: nn.Module, given: Labelled) -> float:
    """The share of the pictures whose class gets the largest logit."""
    said = logits_of(model, given.images).argmax(1)
    return (said == given.labels).double().mean().item()


def shifted(images: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """Each picture moved by up to `reach` pixels each way at random, black coming in at the edge."""
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(0, 2 * reach + 1, (2, count, 1), device=device)
    rows = (down + torch.arange(height, device=device))[:, :, None]
    columns = (right + torch.arange(width, device=device))[:, None, :]
    each = torch.arange(count, device=device)[:, None, None]
    return F.pad(images, [reach] * 4).movedim(1, -1)[each, rows, columns].movedim(-1, 1)


def warm_then_cosine(optimizer: Optimizer, steps: int) -> LambdaLR:
    """The rate as a share of the highest: rising over the first fifth of the steps, falling to zero at the end."""
    return LambdaLR(optimizer, lambda t: min(5 * (t + 1) / steps, 0.5 + 0.5 * math.cos(math.pi * t / steps)))


def add_curves(report: Report, fitted: Fitted) -> None:
    """Accuracies and loss over the epochs."""
    epochs = [row["epoch"] for row in fitted.history]
    lines = {part: (epochs, [100 * row[f"{part}_accuracy"] for row in fitted.history]) for part in ("training", "test")}
    report.curve(
        "accuracy",
        lines,
        x="epoch",
        y="right, %",
        caption="Pictures named correctly, of those that it learns from and of those that it doesn't.",
    )
    report.curve(
        "loss",
        {"training": (epochs, [row["train_loss"] for row in fitted.history])},
        x="epoch",
        y="cross-entropy",
        log_y=True,
        caption="The loss that is minimised, averaged over each epoch.",
    )


def add_budget(report: Report, trainings: Sequence[Fitted]) -> None:
    """What the trainings, the longest last, took and reached."""
    rows = []
    for fitted in trainings:
        last = fitted.history[-1]
        right = [round(100 * last[f"{part}_accuracy"], 2) for part in ("test", "training")]
        rows.append((len(fitted.history), round(fitted.seconds, 1), *right))
    columns = ("epochs", "seconds of training", "test accuracy, %", "training accuracy, %")
    report.table("budget", columns, rows,
                 "What does my budget buy? Each row is a training of its own, its schedule as long as it.")  # fmt: skip


def add_predictions(report: Report, test: Labelled, p: Float[Tensor, "n k"], shown: Sequence[int]) -> None:
    """The probabilities of the pictures `shown` and of the surest mistake, the confusion matrix, and the mistakes."""
    sure, said = p.max(1)
    wrong = torch.nonzero(said != test.labels)[:, 0]
    wrong = wrong[sure[wrong].argsort(descending=True)]
    report.figure("probabilities", probability_bars(test, p, [*dict.fromkeys([*shown, *wrong[:1].tolist()])]),
                  "Class probabilities of some test pictures, then of the one named rightly but least surely"
                  + (", and of the surest mistake." if len(wrong) else ".") + " Blue: its class.")  # fmt: skip
    report.figure("confusion", confusion_matrix(test, said), "How many pictures of each class were taken for which.")
    mistakes = {
        f"#{i}: {test.classes[test.labels[i]]}, seen as {test.classes[said[i]]} ({sure[i]:.0%})": test.images[i]
        for i in wrong[:12].tolist()
    }
    if mistakes:
        caption = f"The surest of {len(wrong)} mistakes in {len(test.labels):,} test pictures."
        report.images("mistakes", mistakes, caption)


def probability_bars(given: Labelled, p: Float[Tensor, "n k"], shown: Sequence[int]) -> Figure:
    """Some of the pictures, each over the probabilities of its classes (the ten largest, if there are more)."""
    figure = Figure(figsize=(1.9 * len(shown), 4), layout="constrained")
    axes = figure.subplots(2, len(shown), height_ratios=(1, 1.6), squeeze=False)
    for (top, bottom), i in zip(axes.T, shown, strict=True):
        top.imshow(given.images[i].movedim(0, -1).numpy(), cmap="gray", vmin=0, vmax=1)
        top.set_axis_off()
        top.set_title(given.classes[given.labels[i]], fontsize=11)
        best = p[i].topk(min(10, p.shape[1])).indices.sort().values.tolist()
        colors = ["#3b82f6" if k == given.labels[i] else "#f59e0b" for k in best]
        bottom.barh([given.classes[k][:12] for k in best], p[i, best].numpy(), color=colors)
        bottom.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        bottom.spines[["top", "right"]].set_visible(False)
        bottom.invert_yaxis()
    return figure


def confusion_matrix(given: Labelled, said: Int[Tensor, " n"]) -> Figure:
    """Counts by true class (rows) and named class (columns), coloured by their share of the row."""
    k = len(given.classes)
    counts = torch.bincount(given.labels * k + said, minlength=k * k).reshape(k, k)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(2 + 0.4 * k, 1.5 + 0.4 * k), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1)  # the root, so that a few mistakes can be seen
    for row, column in counts.nonzero().tolist():
        color = "white" if share[row, column] > 0.4 else "#444444"
        axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", size=8, color=color)
    axes.set_xticks(range(k), given.classes, rotation=90 if max(map(len, given.classes)) > 2 else 0)
    axes.set_yticks(range(k), given.classes)
    axes.set(xlabel="named", ylabel="is")
    return figure


def _loss(model: nn.Module, batch: Sequence[Tensor], *, reach: int, flip: bool) -> Float[Tensor, ""]:
    images, labels = batch
    images = random_flip(images) if flip else images
    return F.cross_entropy(model(shifted(images, reach) if reach else images), labels)


def _accuracies(model: nn.Module, *, train: Labelled, test: Labelled) -> Mapping[str, float]:
    return {"test_accuracy": accuracy(model, test), "training_accuracy": accuracy(model, train)}
