"""Experiment: a network trained on ImageNet learns your classes from a few pictures of each."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from vivace.base.data import ImageFolder, Labelled, cifar10, cifar10_at_hand, digits, stratified
from vivace.base.errors import InputError
from vivace.base.fit import fit
from vivace.base.hooks import evaluating
from vivace.base.images import overlay, resize
from vivace.base.parameters import FolderPath, RunFolder, Seed, checked
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import create_model, fit_head, freeze, head_inputs, load_model, save_model
from vivace.experiments.classifier import confusion_matrix, shifted, warm_then_cosine
from vivace.experiments.labelled_pictures import patches
from vivace.explain import grad_cam
from vivace.networks import random_flip

QUICK = {"dataset": "photographs", "side": 64, "epochs": 2, "trials": 1}

MODEL = "efficientnet_lite0"
LAYERS = {"head": ["classifier"], "last": ["blocks.12", "blocks.13", "blocks.14", "blocks.15", "head", "classifier"],
          "all": [""]}  # fmt: skip
WORST = 6  # mistakes shown
DIGITS_SIDE = 64


class Outcome(NamedTuple):
    """A network that has learnt, and what it says about the test pictures."""

    model: nn.Module
    logits: Float[Tensor, "n k"]


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "cifar10", "photographs"] = "auto", tune: Literal["head", "last", "all"] = "last",
        side: Annotated[int, Ge(32), Le(512)] = 160, each: Annotated[int, Ge(2), Le(5000)] = 40,
        epochs: Annotated[int, Ge(1), Le(200)] = 6, learning_rate: Annotated[float, Gt(0), Le(0.1)] = 5e-4,
        trials: Annotated[int, Ge(0), Le(10)] = 3, seed: Seed = 0, folder: RunFolder = None,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A network trained on ImageNet learns classes of yours from a few pictures of each.

    vivace run finetune --data photos/        2 min on two cores for 400 pictures; then, with the file it leaves,
    vivace run grad_cam --image me.jpg --weights runs/finetune/model.safetensors

    data: a folder of your own pictures, one sub-folder for each class; a fifth of each is kept for testing
    dataset: without a folder: crops of ten shipped photographs, CIFAR-10, or auto: CIFAR-10 where it is there
    tune: what learns: the new head alone (features computed once), the last blocks too, or all layers
    side: pixels of the square that a picture is cut and brought to; the network was trained at 224
    each: pictures of each class to learn from, where no folder is given
    epochs: how often each picture is seen once the head is fitted
    learning_rate: the highest of the schedule for what learns besides the head
    trials: on how many draws of digits the ways of fine-tuning are compared; 0 leaves this out
    seed: which pictures are for testing, their order, and how they are moved
    """
    name, train, test = _pictures(data, dataset, side, each, seed, tell)
    total = 3 + 2 * trials
    model = create_model(MODEL, weights="imagenet")
    features = [head_inputs(model, part.images, tell=part_of(tell, 0, total)) for part in (train, test)]
    outcomes = {"a new head": _with_head(model, features, train, epochs=0)}
    if tune != "head":
        learner = _with_head(model, features, train, epochs=0).model
        outcomes[f"{tune} layers"] = _tuned(learner, train, test, LAYERS[tune], epochs=epochs, rate=learning_rate,
                                            seed=seed, tell=part_of(tell, 1, total))  # fmt: skip
    final = list(outcomes.values())[-1]
    outcomes["from scratch"] = _tuned(_untrained(len(train.classes), seed), train, test, [""], epochs=3 * epochs,
                                      rate=5e-3, seed=seed, fixed=False, tell=part_of(tell, 2, total))  # fmt: skip
    right = {way: _right(outcome.logits, test.labels) for way, outcome in outcomes.items()}
    report = Report(
        f"Fine-tuning: {_right(final.logits, test.labels):.1%} of {len(test.labels)} test pictures of {name} right",
        f"EfficientNet-Lite0, trained on ImageNet's 1000 classes, learns {len(train.classes)} others from "
        f"{len(train.labels)} pictures of {side} x {side}. First the head: softmax regression on what the last linear "
        "layer is given, computed once for each picture. Then, from there, the layers that are let go, with a small "
        "rate; batch normalisation keeps its statistics.",
    )
    report.table("ways", ("what learns", "test pictures right, %"), [(way, round(100 * r, 1)) for way, r in right.items()],
                 "The same pictures; 'from scratch' is the same network without ImageNet, for three times as long.")  # fmt: skip
    if data is None:
        report.claim("4.7.x30", 100 * (right["a new head"] - right["from scratch"]), low=10, unit="points",
                     detail=f"{name}, {len(train.labels)} pictures to learn from: accuracy of the frozen network with "
                     "a new head, less that of the same network from scratch")  # fmt: skip
    _show(report, final, test)
    if folder is not None:
        path = folder / "model.safetensors"
        save_model(path, final.model, architecture=MODEL, classes=train.classes)
        report.file("model", path, "The network that was learnt, for `load_model` and for `vivace run grad_cam --weights`.")
        final = Outcome(load_model(path)[0], final.logits)
    _explained(report, final, test)
    if trials:
        _digits(report, trials, seed, part_of(tell, 3, total))
    return report


def _pictures(data: FolderPath, dataset: str, side: int, each: int, seed: int, tell: Tell
              ) -> tuple[str, Labelled, Labelled]:  # fmt: skip
    """What is learnt, by name, and the pictures to train and to test on, all of one side."""
    if data is not None:
        own = ImageFolder(data, size=side)
        if len(own.classes) < 2:
            raise InputError(f"{data} has one sub-folder only; a classifier needs at least two classes")
        parts = stratified(own.read(tell=part_of(tell, 0, 2 * len(own))), test_share=0.2, seed=seed)
        return Path(data).resolve().name, parts["train"], parts["test"]
    if dataset == "cifar10" or (dataset == "auto" and cifar10_at_hand()):
        every = cifar10("train", each=each), cifar10("test", each=100)
        train, test = (part._replace(images=resize(part.images, (side, side))) for part in every)
        return "CIFAR-10", train, test
    left, right = (patches(each, side=side, seed=seed, part=half) for half in ("left", "right"))
    return "ten photographs' right halves", _grey(left), _grey(right)


def _grey(given: Labelled) -> Labelled:
    """Without colour, by which ten photographs could be told apart at once."""
    return given._replace(images=given.images.mean(1, keepdim=True).expand(-1, 3, -1, -1))


def _with_head(model: nn.Module, features: Sequence[Tensor], train: Labelled, test_features: Tensor) -> Outcome:
    ...
