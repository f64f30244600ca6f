"""Experiment: LeNet-5 of 1998, as it was and as it is built today, reads digits."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import drawing
from vivace.base.hooks import activations
from vivace.base.images import resize
from vivace.base.parameters import FolderPath, RunFolder, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import LeNet5, lenet5
from vivace.experiments.classifier import Recipe, accuracy, add_curves, add_predictions, logits_of, train_classifier
from vivace.experiments.networks.mlp import pictures

QUICK = {"dataset": "digits", "epochs": 5}

PAPER = 99.05  # % of MNIST's test digits, without distortions (section III.B)


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "mnist", "digits"] = "auto",
        epochs: Annotated[int, Ge(1), Le(200)] = 4, learning_rate: Annotated[float, Gt(0), Le(1)] = 0.005,
        seed: Seed = 0, folder: RunFolder = None, tell: Tell = ignore) -> Report:  # fmt: skip
    """LeNet-5 reads handwritten digits, in the form of 1998 and in today's.

    vivace run lenet        1 min on two cores; 98.6 % of MNIST's test digits as in 1998, 99.3 % as built today

    data: a folder of your own pictures to learn instead, one sub-folder for each class; reduced to 28 x 28, grey
    dataset: mnist (11 MB to download where it is missing), scikit-learn's digits, or auto: mnist if it is there
    epochs: how often each training picture is seen
    learning_rate: the highest of the schedule, which warms up over a fifth of the steps and then falls along a cosine
    seed: the initial weights and the order of the pictures
    """
    name, train, test = pictures(data, dataset, seed, tell)
    train, test = _sized(train), _sized(test)
    forms = {"of 1998": False, "of today": True}
    steps, right, nets = epochs * -(-len(train.labels) // 64), {}, {}
    for place, (form, modern) in enumerate(forms.items()):
        with seeded(seed):
            nets[form] = lenet5(classes=len(train.classes), modern=modern)
        fitted = train_classifier(nets[form], train, test, Recipe(epochs, 64, learning_rate, 1e-4, seed=seed),
                                  folder=folder if modern else None,
                                  tell=part_of(tell, place * steps, 2 * steps))  # fmt: skip
        right[form] = 100 * accuracy(nets[form], test)
    report = Report(
        f"LeNet-5 reads {name}: {right['of 1998']:.1f} % as in 1998, {right['of today']:.1f} % as built today",
        "The network of 1998: trained weights in its poolings, a table of which maps meet, scaled tanh, distances to "
        "drawn codes of the classes; and today's form: max pooling, all maps, ReLU, logits. Both learn for "
        f"{epochs} epochs; the paper's reached {PAPER} % of MNIST's test digits after 20.",
    )
    add_curves(report, fitted)
    _layers(report, nets["of 1998"], test.images[:1])
    p = logits_of(nets["of today"], test.images).softmax(1)
    add_predictions(report, test, p, range(min(5, len(test.labels))))
    if data is None:
        _claims(report, right, nets)
    return report


def _sized(given: Labelled) -> Labelled:
    """Pictures of 28 x 28: digits of 8 x 8 are enlarged to 20 x 20 and framed, as MNIST's are."""
    if given.images.shape[-1] == 28:
        return given
    return given._replace(images=torch.nn.functional.pad(resize(given.images, (20, 20)), [4] * 4))


def _claims(report: Report, right: dict[str, float], nets: dict[str, LeNet5]) -> None:
    count = {form: sum(weight.numel() for weight in net.parameters()) for form, net in nets.items()}
    report.claim("4.2.x1", count["of 1998"], low=60_000, high=60_000, unit="parameters",
                 detail="156 + 12 + 1,516 + 32 + 48,120 + 10,164; the codes are fixed; today's form has "
                 f"{count['of today']:,}")  # fmt: skip
    report.claim("4.2.x2", right["of 1998"], low=90, unit="%",
                 detail=f"test digits right, the form of 1998; today's {right['of today']:.1f} %")  # fmt: skip


@torch.no_grad()
def _layers(report: Report, net: nn.Module, picture: Float[Tensor, "1 1 h w"]) -> None:
    """What each layer makes of one digit, as the paper's figure 2 draws the layers."""
    maps = activations(net, picture, ("c1", "s2", "c3", "s4"))
    figure, axes = drawing(1, 5, width=9, height=2.6)
    axes[0].imshow(picture[0, 0].numpy(), cmap="gray")
    for each, found in zip(axes[1:], maps, strict=True):
        columns = 2 if found.shape[1] == 6 else 4
        rows = [torch.cat(list(row), dim=1) for row in found[0].split(columns)]
        each.imshow(torch.cat(rows).numpy(), cmap="gray")
    for each, title in zip(axes, ("input", "C1: 6 maps", "S2", "C3: 16 maps", "S4"), strict=True):
        each.set_title(title, fontsize=9)
        each.set_axis_off()
    report.figure("layers", figure, "One digit on its way through the trained network of 1998.")
