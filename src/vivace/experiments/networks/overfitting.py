"""Experiment: overfitting on few pictures with some wrong labels, and its cures side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.small_data import DataSet, Learned, Recipe, Small, learn, mean_and_spread, small_data
from vivace.networks import EarlyStopping, add_noise, count_parameters, random_affine

QUICK = {"dataset": "digits", "few": 300, "epochs": 40, "runs": 3}

PATIENCE = 10


@checked
def run(*, dataset: DataSet = "auto", few: Annotated[int, Ge(50), Le(1000)] = 500,
        wrong: Annotated[float, Ge(0.1), Le(0.6)] = 0.2, epochs: Annotated[int, Ge(30), Le(500)] = 60,
        runs: Annotated[int, Ge(3), Le(50)] = 4, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Overfitting, and every cure for it side by side.

    vivace run overfitting        2 min on two cores with MNIST: 25 % of the test digits wrong without a cure, 12 % with
    dropout, augmentation and weight decay together; 10 s with scikit-learn's digits

    dataset: mnist, scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    few: pictures to learn from
    wrong: the share of them whose label is that of another class
    epochs: how often each is seen
    runs: trainings of each kind, with other pictures, weights and wrong labels; their scatter gives the uncertainty
    seed: the first of the seeds
    """
    seeds = range(seed, seed + runs)
    data = [small_data(dataset, few, wrong, s) for s in seeds]
    recipes = cures(epochs)
    found: dict[str, list[Learned]] = {}
    for i, (name, recipe) in enumerate(recipes.items()):
        tell(Step(i, len(recipes) + 1, f"training: {name}"))
        found[name] = [learn(one, recipe, s) for one, s in zip(data, seeds, strict=True)]
    tell(Step(len(recipes), len(recipes) + 1, "training on clean labels"))
    clean = [learn(small_data(dataset, few, 0.0, s), Recipe(epochs=epochs), s) for s in seeds]
    inputs = data[0].train.images[0].numel()
    none, last = (_errors(found[name])[0] for name in ("no cure", "all three"))
    report = Report(
        f"Overfitting on {few} pictures of {data[0].name}, and its cures",
        f"A net {inputs}-128-64-10 learns {len(data[0].train.labels)} pictures, {wrong:.0%} of them wrongly labelled, "
        f"until it knows them by heart: **{none:.1f} % of {len(data[0].test.labels):,} test pictures are wrong**. "
        f"Dropout, augmentation and weight decay together leave {last:.1f} %. Means of {runs} trainings.",
    )
    _curves(report, found)
    _table(report, found, recipes, inputs)
    _turning(report, found["no cure"])
    _decay(report, found)
    _stopping(report, found["no cure"], clean, data)
    return report


def cures(epochs: int) -> dict[str, Recipe]:
    """The recipes that are compared, each another answer to overfitting."""
    plain = Recipe(epochs=epochs)
    return {
        "no cure": plain,
        "smaller net (16)": plain.but(hidden=(16,)),
        "tanh for ReLU": plain.but(activation="tanh"),
        "sigmoid for ReLU": plain.but(activation="sigmoid"),
        "batch normalisation": plain.but(batch_norm=True),
        "weight decay 1": plain.but(weight_decay=1.0),
        "weight decay 3": plain.but(weight_decay=3.0),
        "weight decay 30": plain.but(weight_decay=30.0),
        "dropout 0.5": plain.but(drop=0.5),
        "noise 0.2": plain.but(augment=_noise),
        "rotation, scaling, shift": plain.but(augment=_moved),
        "all three": plain.but(drop=0.3, augment=_moved, weight_decay=1.0),
    }


def _moved(images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    shift = images.shape[-1] / 28
    return random_affine(images, rotation=math.radians(15), scale=(0.9, 1.1), shift=shift, generator=generator)


def _noise(images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    return add_noise(images, 0.2, generator=generator)


def _errors(learned: Sequence[Learned], part: str = "test") -> tuple[float, float]:
    return mean_and_spread([one.curves[f"{part} error"][-1] for one in learned])


def _mean_curve(learned: Sequence[Learned], name: str) -> np.ndarray:
    return np.mean([one.curves[name] for one in learned], axis=0)


def _curves(report: Report, found: Mapping[str, Sequence[Learned]]) -> None:
    names = ("no cure", "weight decay 3", "dropout 0.5", "rotation, scaling, shift", "smaller net (16)", "all three")
    report.figure("learning-curves", _drawn({name: found[name] for name in names}),
                  "Training error (of the labels as given, wrong ones included) and validation error over the epochs. "
                  "Without a cure the validation error turns upward; its best epoch is marked.")  # fmt: skip
    losses = {part: _mean_curve(found["no cure"], f"{part} loss") for part in ("training", "validation", "test")}
    report.curve("losses", {part: (range(1, len(loss) + 1), loss) for part, loss in losses.items()}, x="epoch",
                 y="cross-entropy", caption="No cure: the loss turns earlier than the error.")  # fmt: skip


def _drawn(found: Mapping[str, Sequence[Learned]]) -> Figure:
    figure, axes = drawing(2, 3, width=10, height=5.6, sharex=True, sharey=True)
    for each, (name, learned) in zip(axes.flat, found.items(), strict=True):
        training, validation = (_mean_curve(learned, f"{part} error") for part in ("training", "validation"))
        at = np.arange(1, len(training) + 1)
        each.plot(at, training, color=BLUE, linewidth=1.8, label="training")
        each.plot(at, validation, color=ORANGE, linewidth=1.8, label="validation")
        best = int(validation.argmin())
        each.plot(best + 1, validation[best], "o", color=ORANGE)
        each.axhline(validation[best], color=GREY, linewidth=0.8, linestyle=":")
        each.set_title(f"{name}: {_errors(learned)[0]:.1f} % of test", fontsize=10)
        each.set_ylim(0, 60)
    axes[0, 0].legend(frameon=False)
    for each in axes[1]:
        each.set_xlabel("epoch")
    for each in axes[:, 0]:
        each.set_ylabel("wrong, %")
    return figure


def _table(report: Report, found: Mapping[str, Sequence[Learned]], recipes: Mapping[str, Recipe], inputs: int) -> None:
    """Errors, gap and how complex each net is."""
    rows = []
    for name, learned in found.items():
        test, spread = _errors(learned)
        norms = [nn.utils.parameters_to_vector(one.net.parameters()).detach().norm().item() for one in learned]
        training, gap = _errors(learned, "training")[0], float(np.mean([one.gap for one in learned]))
        count = count_parameters((inputs, *recipes[name].hidden, 10))
        cells = (name, f"{training:.1f}", f"{test:.1f} ± {spread:.1f}", f"{gap:+.1f}", count, float(np.mean(norms)))
        rows.append(cells)
    columns = ("cure", "training error, %", "test error, %", "gap, points", "parameters", "length of all weights")
    caption = (
        "After the last epoch, no early stopping. The gap is test less training error: negative where the net refuses "
        "to learn the wrong labels. Neither the number of parameters nor the length of the weights tells by itself how "
        "well a net does on new pictures."
    )
    report.table("cures", columns, rows, caption)


def _turning(report: Report, learned: Sequence[Learned]) -> None:
    """Validation error rises while training error falls (3.5.c1)."""
    validation, training = (_mean_curve(learned, f"{part} error") for part in ("validation", "training"))
    best = int(validation.argmin())
    rises = [one.curves["validation error"][-1] - one.curves["validation error"][best] for one in learned]
    report.claim(
        "3.5.c1",
        float(np.mean(rises)) if training[-1] < training[best] else 0.0,
        low=1,
        unit="points",
        detail=f"rise of the mean validation error from its least (epoch {best + 1}) to the last; the training error "
        f"goes from {training[best]:.1f} to {training[-1]:.1f} %",
    )


def _decay(report: Report, found: Mapping[str, Sequence[Learned]]) -> None:
    """The gap, and the test error, over weight decay (3.5.c5, 3.5.x3)."""
    both = zip(found["no cure"], found["weight decay 3"], strict=True)
    shrunk, spread = mean_and_spread([plain.gap - decayed.gap for plain, decayed in both])
    detail = "test less training error: without weight decay, less that with a decay of 3"
    report.claim("3.5.c5", shrunk, low=2, spread=spread, unit="points", detail=detail)
    best = min(_errors(found[f"weight decay {decay}"])[0] for decay in (1, 3))
    harm, spread = _errors(found["weight decay 30"])
    detail = "test error with a decay of 30, less that with the better of 1 and 3"
    report.claim("3.5.x3", harm - best, high=0, spread=spread, unit="points", detail=detail)


def _stopping(report: Report, noisy: Sequence[Learned], clean: Sequence[Learned], data: Sequence[Small]) -> None:
    """The printed rule and the patience rule on real curves; the best epoch against the last (3.5.c3, 3.4.Q3.c3)."""
    curves = [[error / 100 for error in one.curves["validation error"]] for one in noisy]
    printed = [_printed_rule(curve, PATIENCE) for curve in curves]
    report.claim(
        "3.5.c3",
        sum(stop is not None for stop in printed),
        low=len(curves),
        unit="trainings",
        detail=f"of {len(curves)} that 'stop if error > best error + patience' ends within {len(curves[0])} epochs, "
        f"patience {PATIENCE}; the validation error rises by {max(c[-1] - min(c) for c in curves):.2f} at most",
    )
    stops = [_patience_rule(curve, PATIENCE) for curve in curves]
    report.claim(
        "3.5.x2",
        sum(stop is not None and stop[0] - stop[1] == PATIENCE for stop in stops),
        low=len(curves),
        unit="trainings",
        detail=f"of {len(curves)} that counting {PATIENCE} epochs without improvement ends before the last",
    )
    for id_, learned, word in (("3.4.Q3.c3", noisy, ""), ("3.4.Q3.x1", clean, ", all labels right")):
        gains = []
        for one in learned:
            best = int(np.argmin(one.curves["validation error"]))
            gains.append(one.curves["test error"][-1] - one.curves["test error"][best])
        gain, spread = mean_and_spread(gains)
        detail = f"test error after the last epoch, less that at the epoch with the best validation accuracy{word}"
        report.claim(id_, gain, low=1, spread=spread, unit="points", detail=detail)
    rows = [
        (i + 1, *(stop[::-1] if stop else ("-", "never")), "never" if early is None else early + 1)
        for i, (stop, early) in enumerate(zip(stops, printed, strict=True))
    ]
    columns = ("training", "best epoch", "patience rule stops after", "printed rule stops after")
    caption = f"Patience {PATIENCE} on {len(data[0].validation.labels)} validation pictures."
    report.table("stopping", columns, rows, caption)


def _printed_rule(errors: Sequence[float], patience: int) -> int | None:
    """The epoch at which 'current error > best error + patience' becomes true: an error is compared with a count."""
    best = math.inf
    for epoch, error in enumerate(errors):
        if error > best + patience:
            return epoch
        best = min(best, error)
    return None


def _patience_rule(errors: Sequence[float], patience: int) -> tuple[int, int] | None:
    """The epoch after which `EarlyStopping` ends it, and its best; None where it doesn't."""
    stopping = EarlyStopping(patience)
    for error in errors:
        if stopping.update(error):
            return stopping.epoch, stopping.best_epoch
    return None
