"""Experiment: a network trained on ImageNet learns your classes from a few pictures of each."""

import copy
import warnings
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
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import CifarResNet, create_model, load_model, save_model
from vivace.cnn.fine_tuning import fit_head, freeze, head_inputs, thaw
from vivace.experiments.classifier import accuracy, confusion_matrix, logits_of, shifted, warm_then_cosine
from vivace.experiments.labelled_pictures import own_pictures, patches
from vivace.explain import grad_cam
from vivace.networks import random_flip

QUICK = {"dataset": "photographs", "side": 64, "each": 8, "epochs": 1, "trials": 1}

WORDS = {"last": "the last blocks", "all": "all layers"}
LAYERS = {"head": ["classifier"], "last": ["blocks.12", "blocks.13", "blocks.14", "blocks.15", "head", "classifier"],
          "all": [""]}  # fmt: skip
BATCH = 32
HEAD = "the new head"
SCRATCH = "a ResNet-8 from scratch, at 32 x 32"
SCRATCH_EPOCHS = 40
WORST = 6  # mistakes shown
FEW = 20  # digits of each kind to learn from
SIDE = 48  # to which digits are enlarged


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
    batches = -(-len(train.labels) // BATCH)
    steps = (len(train.labels), epochs * batches, SCRATCH_EPOCHS * batches, trials)
    heard = [part_of(tell, sum(steps[:part]), sum(steps)) for part in range(4)]
    trained = create_model("efficientnet_lite0", weights="imagenet")
    model = _with_head(trained, head_inputs(trained, train.images, tell=heard[0]), train)
    right = {HEAD: accuracy(model, test)}
    if tune != "head":
        freeze(model, but=LAYERS[tune])
        _train(model, train, epochs=epochs, rate=learning_rate, seed=seed, tell=heard[1])
        thaw(model)
        right[f"then {WORDS[tune]}"] = accuracy(model, test)
    final = list(right.values())[-1]
    right[SCRATCH] = _from_scratch(train, test, seed=seed, tell=heard[2])
    report = Report(
        f"Fine-tuning: {final:.1%} of {len(test.labels):,} test pictures of {name} right",
        f"EfficientNet-Lite0, trained on ImageNet's 1000 classes, learns {len(train.classes)} others from "
        f"{len(train.labels):,} pictures of {side} x {side}. First the head: softmax regression on what the last "
        "linear layer is given, which is computed once. Then, from there, the layers that are let go, with a small "
        "rate; batch normalisation keeps its statistics.",
    )
    rows = [(way, round(100 * share, 1)) for way, share in right.items()]
    report.table("ways", ("what learns", "test pictures right, %"), rows,
                 f"From scratch: the same pictures, {SCRATCH_EPOCHS} times each, and nothing else.")  # fmt: skip
    if folder is not None:
        path = folder / "model.safetensors"
        save_model(path, model, architecture="efficientnet_lite0", classes=train.classes)
        report.file("model", path, "The network, for `load_model` and for `vivace run grad_cam --weights`.")
        model, _ = load_model(path)
    _mistakes(report, model, test)
    if trials:
        _digits(report, trained, trials, seed, heard[3])
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


def _train(model: nn.Module, train: Labelled, *, epochs: int, rate: float, seed: int, mirror: bool = True,
           tell: Tell = ignore) -> None:  # fmt: skip
    """AdamW on moved, and mirrored, pictures; what is frozen stays."""
    reach = train.images.shape[-1] // 16

    def loss(net: nn.Module, batch: Sequence[Tensor]) -> Float[Tensor, ""]:
        images, labels = batch
        return F.cross_entropy(net(shifted(random_flip(images) if mirror else images, reach)), labels)

    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # two thirds of the time
    optimizer = partial(AdamW, lr=rate, weight_decay=0.01, fused=True)
    fit(model, TensorDataset(train.images, train.labels), loss, epochs=epochs, batch_size=BATCH, optimizer=optimizer,
        schedule=warm_then_cosine, seed=seed, tell=tell)  # fmt: skip


def _from_scratch(train: Labelled, test: Labelled, *, seed: int, mirror: bool = True, tell: Tell = ignore) -> float:
    """The share of test pictures right of a small network that learnt from the training pictures alone, reduced."""
    small, unseen = (part._replace(images=resize(part.images, (32, 32))) for part in (train, test))
    with seeded(seed):
        model = CifarResNet(depth=8, classes=len(train.classes))
    _train(model, small, epochs=SCRATCH_EPOCHS, rate=1e-2, seed=seed, mirror=mirror, tell=tell)
    return accuracy(model, unseen)


def _mistakes(report: Report, model: nn.Module, test: Labelled) -> None:
    """What is confused with what, and the worst mistakes: where it looked for what it said, and for the truth."""
    p = logits_of(model, test.images, batch_size=BATCH).softmax(1)
    sure, said = p.max(1)
    report.figure("confusion", confusion_matrix(test, said), "Test pictures by what they are and what they were named.")
    wrong = said != test.labels
    order = (sure + wrong).argsort(descending=True)[:WORST]  # the surest mistakes first
    if not wrong.any():
        order = sure.argsort()[:WORST]
    shown = test.images[order]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing speaks for the class")  # the caption says what that looks like
        heats = {what: grad_cam(model, shown, classes[order].tolist(), normalize=True)
                 for what, classes in (("said", said), ("is", test.labels))}  # fmt: skip
    tiles = {}
    for place, index in enumerate(order.tolist()):
        truth, name = test.classes[int(test.labels[index])], test.classes[int(said[index])]
        large = resize(shown[place], (192, 192))
        tiles[f"{place + 1} {truth}"] = large
        for what, of in (("said", name), ("is", truth)):
            chance = p[index, test.classes.index(of)]
            tiles[f"{place + 1} {what} {of}: {chance:.2f}"] = overlay(large, heats[what][place])
    words = "The surest mistakes" if wrong.any() else "No mistakes; the pictures that it is least sure of"
    report.images("worst", tiles, f"{words}: the picture, the heat for what was said, and the heat for what it is; "
                                  "dark blue all over where nothing speaks for a class.")  # fmt: skip


def _digits(report: Report, trained: nn.Module, trials: int, seed: int, tell: Tell) -> None:
    """Pictures unlike ImageNet's: does it help, is the head enough, may batch norms follow (4.7.x30, x31, x32)?"""
    right: dict[str, list[float]] = {way: [] for way in (HEAD, "then all layers", "all, statistics let go", SCRATCH)}
    for turn in range(trials):
        tell(Step(turn, trials, "digits"))
        test = _enlarged(stratified(digits("test"), test_share=0.8, seed=seed + turn)["test"])
        train = _enlarged(stratified(digits("train"), test_share=FEW / 144, seed=seed + turn)["test"])
        model = _with_head(trained, head_inputs(trained, train.images), train)
        kept, loose = copy.deepcopy(model), copy.deepcopy(model)
        freeze(kept, but=[""])
        for tuned in (kept, loose):
            _train(tuned, train, epochs=8, rate=1e-3, seed=seed + turn, mirror=False)
        shares = [accuracy(net, test) for net in (model, kept, loose)]
        shares.append(_from_scratch(train, test, seed=seed + turn, mirror=False))
        for way, share in zip(right, shares, strict=True):
            right[way].append(100 * share)
    rows = [(way, f"{sum(shares) / trials:.1f}") for way, shares in right.items()]
    report.table("digits", ("what learns", "test digits right, %"), rows,
                 f"scikit-learn's digits, {FEW} of each to learn from, mean of {trials} draws.")  # fmt: skip
    head, kept_, loose_, scratch = (torch.tensor(shares) for shares in right.values())
    for claim, gain, most, what in (
        ("4.7.x30", scratch - head, 0, "a ResNet-8 from scratch, less with a new head on ImageNet's features"),
        ("4.7.x31", kept_ - head, 2, "fine-tuning all layers, less with a new head alone"),
        ("4.7.x32", kept_ - loose_, 2, "fine-tuning with the batch norms' statistics kept, less with them let go"),
    ):
        spread = float(gain.std()) / trials**0.5 if trials > 1 else 0.0
        report.claim(claim, gain.mean(), high=most, spread=spread, unit="points",
                     detail=f"accuracy on digits after {what}; {FEW} of each digit, {trials} draws")  # fmt: skip


def _enlarged(given: Labelled) -> Labelled:
    return given._replace(images=resize(given.images, (SIDE, SIDE)).expand(-1, 3, -1, -1))
