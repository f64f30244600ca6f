"""Experiment: a ResNet learns CIFAR-10, or pictures of yours, and what a budget of minutes buys."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import nn

from vivace.base.data import Labelled
from vivace.base.parameters import FolderPath, RunFolder, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.base.training import Precision
from vivace.cnn import Bottleneck, CifarResNet, create_model, resnet50, resnet152
from vivace.experiments.classifier import Recipe, add_budget, add_curves, add_predictions, logits_of, train_classifier
from vivace.experiments.labelled_pictures import DataSet, in_colour, own_pictures, to_learn

QUICK = {"dataset": "digits", "epochs": 8}

SIDE = 32  # the side that pictures of one's own are reduced to, as in CIFAR-10
STEPS = 800  # of a training whose length nobody gave
DEEPEST = 1202  # layers of the deepest network in the paper's section 4.2

# ResNet-20 on CIFAR-10 with the settings below and bf16-mixed: epochs, minutes of one thread, test accuracy in %
MEASURED = ((2, 1.95, 67.93), (10, 9.89, 83.14), (58, 57.58, 88.14))
PAPER = (164, 91.25)  # 64,000 steps of 128 pictures; table 6


@checked
def run(*, data: FolderPath = None, dataset: DataSet = "auto",
        model: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"] = "resnet20",
        epochs: Annotated[int, Ge(1), Le(1000)] | None = None, batch_size: Annotated[int, Ge(1), Le(10_000)] = 128,
        learning_rate: Annotated[float, Gt(0), Le(10)] = 0.15, weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4,
        shift: Annotated[int, Ge(0), Le(8)] = 4, flip: bool = True, devices: Annotated[int, Ge(1), Le(64)] = 1,
        precision: Precision = "32-true", seed: Seed = 0, folder: RunFolder = None, resume: FolderPath = None,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A ResNet of the paper's CIFAR kind learns ten sorts of photographs.

    vivace run resnet --model resnet20        2 min on two cores: 68 % of CIFAR-10's test pictures, 88 % in 58

    data: a folder of your own pictures to learn instead, one sub-folder for each class; reduced to 32 x 32
    dataset: cifar10 (170 MB to download where it is missing), scikit-learn's digits, or auto: cifar10 if it is there
    model: 20 to 110 layers
    epochs: how often each training picture is seen; without it so often that it takes 800 steps, at most 60 times
    batch_size: pictures in one step
    learning_rate: the highest of the schedule, which warms up over a fifth of the steps and then falls along a cosine
    weight_decay: how strongly the weights are drawn to zero
    shift: each training picture is moved at random by up to this many pixels of 32, each way
    flip: half of the training pictures, at random, are mirrored left to right; digits never are
    devices: how many processes or GPUs train together
    precision: the arithmetic of training; bf16-mixed is 1.7 times as fast where the processor can do it
    seed: the initial weights, the order of the pictures, their changes, and which of your own are for testing
    resume: the folder of a run that was stopped, to go on with it
    """
    if data is not None:
        name, train, test = own_pictures(data, side=SIDE, seed=seed, tell=tell)
    else:
        name, *grey = to_learn(dataset, tell=tell)
        train, test = (in_colour(part) for part in grey)
    steps = -(-len(train.labels) // batch_size)
    epochs = epochs or max(1, min(60, STEPS // steps))
    digits = data is None and name != "CIFAR-10"
    recipe = Recipe(epochs, batch_size, learning_rate, weight_decay, shift * train.images.shape[-1] // SIDE,
                    flip and not digits, seed, "sgd")  # fmt: skip
    few = epochs // 5
    learn = partial(train_classifier, train=train, test=test, devices=devices, precision=precision)
    net = _network(model, len(train.classes), seed)
    fitted = learn(net, recipe=recipe, folder=folder, resume=resume, tell=part_of(tell, 0, steps * (epochs + few)))
    trainings = [fitted]
    if few:
        shorter = part_of(tell, steps * epochs, steps * (epochs + few))
        trainings.insert(0, learn(_network(model, len(train.classes), seed), recipe=replace(recipe, epochs=few),
                                  tell=shorter))  # fmt: skip
    report = Report(
        f"{model} on {name}: {fitted.history[-1]['test_accuracy']:.2%} of {len(test.labels):,} test pictures right",
        f"A ResNet with {sum(p.numel() for p in net.parameters()):,} parameters was trained for {epochs} epochs, "
        f"{fitted.seconds:.3g} s on {fitted.device}. The test pictures were not learnt from.",
    )
    add_curves(report, fitted)
    add_budget(report, trainings)
    _measured(report)
    _predictions(report, net, test)
    if folder is not None:
        classes = "" if len(test.classes) == 10 else f", classes={len(test.classes)}"
        report.file("weights", folder / "weights.safetensors",
                    f'The trained weights, for `create_model("{model}"{classes})`.')  # fmt: skip
    _layers(report)
    return report


def _network(name: str, classes: int, seed: int) -> nn.Module:
    """Untrained, laid out channels last, which convolutions on a CPU are faster in."""
    with seeded(seed):
        model = create_model(name, classes=classes)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _measured(report: Report) -> None:
    """What ResNet-20 reached on CIFAR-10 before, to choose a budget by."""
    rows: list[tuple[object, ...]] = [(epochs, minutes, right, "measured") for epochs, minutes, right in MEASURED]
    rows.append((PAPER[0], "", PAPER[1], "He et al. 2015, table 6"))
    columns = ("epochs", "minutes of one core", "test accuracy, %", "by whom")
    caption = "ResNet-20 on CIFAR-10 with these settings and bf16-mixed, each measured once; then the paper's."
    report.table("longer", columns, rows, caption)


def _predictions(report: Report, net: nn.Module, test: Labelled) -> None:
    p = logits_of(net, test.images).softmax(1)
    sure, said = p.max(1)
    least_sure = int((sure + (said != test.labels)).argmin())
    add_predictions(report, test, p, [*range(min(4, len(test.labels))), least_sure])


def _layers(report: Report) -> None:
    """How deep it goes (4.3.c8), and where x and F(x) have the same shape (4.3.x1)."""
    with torch.device("meta"):
        convolutions = sum(isinstance(module, nn.Conv2d) for module in resnet152().modules())
        blocks = [module for module in resnet50().modules() if isinstance(module, Bottleneck)]
    with seeded(0):
        deepest = CifarResNet(depth=DEEPEST)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(deepest(images), torch.tensor([0, 1])).backward()
    layers = [module.weight.grad for module in deepest.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    reached = sum(bool(grad is not None and grad.isfinite().all() and grad.any()) for grad in layers)
    report.claim("4.3.c8", reached, low=200, unit="layers",
                 detail=f"of {len(layers)} with weights in a CIFAR ResNet, how many get a gradient; ResNet-152 has "
                 f"{convolutions} convolutions, 4 of them in shortcuts")  # fmt: skip
    agree = sum(block.downsample is None for block in blocks)
    report.claim("4.3.x1", agree / len(blocks), low=1,
                 detail=f"share of ResNet-50's {len(blocks)} blocks in which F(x) has the shape of x; the other "
                 f"{len(blocks) - agree} need a projection")  # fmt: skip
