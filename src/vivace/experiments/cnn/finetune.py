"""Experiment: a network trained on ImageNet learns your classes from a few pictures of each."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import TensorDataset

from vivace.base.data import Labelled, cifar10, cifar10_at_hand, digits, stratified
from vivace.base.fit import fit
from vivace.base.images import overlay, resize
from vivace.base.parameters import FolderPath, RunFolder, Seed, checked
from vivace.base.randomness import own_randomness, seed_randomness
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import CifarResNet, create_model, fit_head, freeze, head_inputs, load_model, save_model, thaw
from vivace.experiments.classifier import accuracy, confusion_matrix, shifted, warm_then_cosine
from vivace.experiments.labelled_pictures import own_pictures, patches
from vivace.explain import grad_cam
from vivace.networks import random_flip

QUICK = {"dataset": "photographs", "side": 64, "each": 16, "epochs": 2, "trials": 1}

WORDS = {"last": "the last blocks", "all": "all layers"}
LAYERS = {"head": ["classifier"], "last": ["blocks.12", "blocks.13", "blocks.14", "blocks.15", "head", "classifier"],
          "all": [""]}  # fmt: skip
BATCH = 32
SCRATCH_EPOCHS = 40
WORST = 6  # mistakes shown
FEW = 20  # digits of each kind to learn from


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "cifar10", "photographs"] = "auto",
        tune: Literal["head", "last", "all"] = "last", side: Annotated[int, Ge(32), Le(512)] = 160,
        each: Annotated[int, Ge(2), Le(5000)] = 40, epochs: Annotated[int, Ge(1), Le(200)] = 6,
        learning_rate: Annotated[float, Gt(0), Le(0.1)] = 5e-4, trials: Annotated[int, Ge(0), Le(10)] = 3,
        seed: Seed = 0, folder: RunFolder = None, tell: Tell = ignore) -> Report:  # fmt: skip
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
    total = 3 + trials
    trained = create_model("efficientnet_lite0", weights="imagenet")
    features = head_inputs(trained, train.images, tell=part_of(tell, 0, total))
    model = _with_head(trained, features, train)
    right = {"the new head": accuracy(model, test)}
    if tune != "head":
        freeze(model, but=LAYERS[tune])
        _train(model, train, epochs=epochs, rate=learning_rate, seed=seed, tell=part_of(tell, 1, total))
        thaw(model)
        right[f"then {WORDS[tune]}"] = accuracy(model, test)
    final = list(right.values())[-1]
    right["a small ResNet from scratch"] = _from_scratch(train, test, seed, part_of(tell, 2, total))
    report = Report(
        f"Fine-tuning: {final:.1%} of {len(test.labels):,} test pictures of {name} right",
        f"EfficientNet-Lite0, trained on ImageNet's 1000 classes, learns {len(train.classes)} others from "
        f"{len(train.labels):,} pictures of {side} x {side}. First the head: softmax regression on what the last linear "
        "layer is given, which is computed once. Then, from there, the layers that are let go, with a small rate; batch "
        "normalisation keeps its statistics.",
    )
    rows = [(way, round(100 * share, 1)) for way, share in right.items()]
    report.table("ways", ("what learns", "test pictures right, %"), rows,
                 "From scratch: a ResNet-8 that sees the same pictures, at 32 x 32, and nothing else.")  # fmt: skip
    if data is None:
        gain = right["the new head"] - right["a small ResNet from scratch"]
        report.claim("4.7.x30", 100 * gain, low=10, unit="points",
                     detail=f"{name}, {len(train.labels)} pictures to learn from: test accuracy of the frozen network "
                     "with a new head, less that of a ResNet-8 from scratch")  # fmt: skip
    if folder is not None:
        path = folder / "model.safetensors"
        save_model(path, model, architecture="efficientnet_lite0", classes=train.classes)
        report.file("model", path, "The network, for `load_model` and for `vivace run grad_cam --weights`.")
        model, _ = load_model(path)
    _mistakes(report, model, test)
    if trials:
        _digits(report, trained, trials, seed, part_of(tell, 3, total))
    return report


def _pictures(data: FolderPath, dataset: str, side: int, each: int, seed: int, tell: Tell
              ) -> tuple[str, Labelled, Labelled]:  # fmt: skip
    """What is learnt, by name, and the pictures to train and to test on, all of one side."""
    if data is not None:
        return own_pictures(data, side=side, seed=seed, tell=tell)
    if dataset == "cifar10" or (dataset == "auto" and cifar10_at_hand()):
        every = cifar10("train", each=each), cifar10("test", each=100)
        train, test = (part._replace(images=resize(part.images, (side, side))) for part in every)
        return "CIFAR-10", train, test
    left, right = (patches(each, side=side, seed=seed, part=half) for half in ("left", "right"))
    return "ten photographs' right halves", _grey(left), _grey(right)


def _grey(given: Labelled) -> Labelled:
    """Without colour, by which ten photographs could be told apart at once."""
    return given._replace(images=given.images.mean(1, keepdim=True).expand(-1, 3, -1, -1))


def _with_head(model: nn.Module, features: Float[Tensor, "n d"], train: Labelled) -> nn.Module:
    """A copy of the model with a head for these classes, fitted to features that are computed already."""
    mine = copy.deepcopy(model)
    fit_head(mine, features, train.labels, classes=len(train.classes))
    return mine


def _train(model: nn.Module, train: Labelled, *, epochs: int, rate: float, seed: int, tell: Tell = ignore) -> None:
    """AdamW on mirrored and moved pictures; what is frozen stays."""
    reach = train.images.shape[-1] // 16

    def loss(net: nn.Module, batch: Sequence[Tensor]) -> Float[Tensor, ""]:
        images, labels = batch
        return F.cross_entropy(net(shifted(random_flip(images), reach)), labels)

    optimizer = partial(AdamW, lr=rate, weight_decay=0.01, fused=True)
    fit(model, TensorDataset(train.images, train.labels), loss, epochs=epochs, batch_size=BATCH, optimizer=optimizer,
        schedule=warm_then_cosine, seed=seed, tell=tell)  # fmt: skip


def _from_scratch(train: Labelled, test: Labelled, seed: int, tell: Tell) -> float:
    """The share of test pictures that a small network right, which saw nothing but the training pictures, at 32 x 32."""
    small, unseen = (part._replace(images=resize(part.images, (32, 32))) for part in (train, test))
    with own_randomness("cpu"):
        seed_randomness(seed)
        model = CifarResNet(depth=8, classes=len(train.classes))
    _train(model, small, epochs=SCRATCH_EPOCHS, rate=1e-2, seed=seed, tell=tell)
    return accuracy(model, unseen)


@torch.no_grad()
def _logits(model: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    return torch.cat([model(batch) for batch in images.split(BATCH)])


def _mistakes(report: Report, model: nn.Module, test: Labelled) -> None:
    """What is confused with what, and the worst mistakes: where the network looked for what it said, and for the truth."""
    p = _logits(model, test.images).softmax(1)
    sure, said = p.max(1)
    report.figure("confusion", confusion_matrix(test, said), "Test pictures by what they are and what they were named.")
    wrong = said != test.labels
    order = (sure + wrong).argsort(descending=True)[:WORST]  # the surest mistakes first
    if not wrong.any():
        order = sure.argsort()[:WORST]
    shown = test.images[order]
    heats = {
        "said": grad_cam(model, shown, said[order].tolist(), normalize=True),
        "is": grad_cam(model, shown, test.labels[order].tolist(), normalize=True),
    }
    tiles = {}
    for place, index in enumerate(order.tolist()):
        truth, name = test.classes[int(test.labels[index])], test.classes[int(said[index])]
        large = resize(shown[place], (192, 192))
        tiles[f"{truth}"] = large
        for what, of in (("said", name), ("is", truth)):
            tiles[f"{place + 1} {what} {of}: {p[index, test.classes.index(of)]:.2f}"] = overlay(
                large, heats[what][place]
            )
    words = "The surest mistakes" if wrong.any() else "No mistakes; the pictures that it is least sure of"
    report.images("worst", tiles, f"{words}: the picture, the heat for what was said, and the heat for what it is.")


def _digits(report: Report, trained: nn.Module, trials: int, seed: int, tell: Tell) -> None:
    """Pictures unlike ImageNet's: is the head enough, and may batch norms follow small batches? (4.7.x31, 4.7.x32)"""
    right: dict[str, list[float]] = {way: [] for way in ("the new head", "then all layers", "all, statistics let go")}
    for turn in range(trials):
        tell(Step(turn, trials, "digits"))
        test = _enlarged(stratified(digits("test"), test_share=0.8, seed=seed + turn)["test"])
        train = _enlarged(stratified(digits("train"), test_share=FEW / 144, seed=seed + turn)["test"])
        model = _with_head(trained, head_inputs(trained, train.images), train)
        right["the new head"].append(accuracy(model, test))
        for way in list(right)[1:]:
            tuned = copy.deepcopy(model)
            if way == "then all layers":
                freeze(tuned, but=[""])
            _train(tuned, train, epochs=8, rate=1e-3, seed=seed + turn)
            right[way].append(accuracy(tuned, test))
    head, whole, loose = (100 * torch.tensor(shares) for shares in right.values())
    rows = [(way, f"{100 * sum(shares) / trials:.1f}") for way, shares in right.items()]
    report.table("digits", ("what learns", "test digits right, %"), rows,
                 f"scikit-learn's digits, {FEW} of each to learn from, mean of {trials} draws.")  # fmt: skip
    for claim, gain, what in (("4.7.x31", whole - head, "all layers, less with a new head alone"),
                              ("4.7.x32", whole - loose, "batch norms' statistics kept, less with them let go")):  # fmt: skip
        spread = float(gain.std()) / trials**0.5 if trials > 1 else 0.0
        report.claim(claim, gain.mean(), high=2, spread=spread, unit="points",
                     detail=f"accuracy on digits after fine-tuning {what}; {trials} draws")  # fmt: skip


def _enlarged(given: Labelled) -> Labelled:
    return given._replace(images=resize(given.images, (48, 48)).expand(-1, 3, -1, -1))
