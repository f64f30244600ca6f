"""Photographs with a class each, and what a network trained on others sees in them: for grouping and naming them."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.data import ImageFolder, Labelled, cifar10, cifar10_at_hand, digits, stratified
from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Tell, ignore
from vivace.cnn import efficientnet_lite0, head_inputs

PHOTOGRAPHS = ("brick", "grass", "gravel", "chelsea", "coffee", "astronaut", "china", "flower", "rocket", "coins")

DataSet = Literal["auto", "cifar10", "digits"]
DIGITS = "scikit-learn's digits"


def faces() -> Labelled:
    """200 grey photographs (200, 1, 25, 25), half of them faces (Huang et al. 2007); they come with scikit-image."""
    from skimage.data import lfw_subset

    images = torch.from_numpy(lfw_subset()).float()[:, None]
    return Labelled(images, torch.arange(200) // 100, ("face", "no face"))


def cats_and_dogs(count: int) -> Labelled:
    """`count` of CIFAR-10's cats and dogs, cats first."""
    some = cifar10("train", each=count // 2)
    cat, dog = (torch.nonzero(some.labels == some.classes.index(name))[:, 0] for name in ("cat", "dog"))
    labels = torch.arange(2).repeat_interleave(count // 2)
    return Labelled(some.images[torch.cat([cat, dog])], labels, ("cat", "dog"))


def to_learn(dataset: DataSet, *, each: int | None = None, tell: Tell = ignore) -> tuple[str, Labelled, Labelled]:
    """What the data is called, and pictures to train and to test a small network on.

    "auto" is CIFAR-10 where it is at hand, and scikit-learn's digits, which are always, elsewhere; `each` takes only so
    many of each class to train on.
    """
    if dataset == "cifar10" or (dataset == "auto" and cifar10_at_hand()):
        return "CIFAR-10", cifar10("train", each=each, tell=tell), cifar10("test", tell=tell)
    train = digits("train")
    if each is not None:
        train = train.first_of_each(each)
    return DIGITS, train, digits("test")


def in_colour(given: Labelled) -> Labelled:
    """With three channels, for networks that take no fewer; grey pictures three times the same."""
    return given._replace(images=given.images.expand(-1, 3, -1, -1).contiguous())


def own_pictures(folder: str | Path, *, side: int, grey: bool = False, seed: int = 0, tell: Tell = ignore
                 ) -> tuple[str, Labelled, Labelled]:  # fmt: skip
    """What a folder with a sub-folder for each class is called, and its pictures, one in five of each for testing."""
    own = ImageFolder(folder, size=side, grey=grey)
    if len(own.classes) < 2:
        raise InputError(f"{folder} has one sub-folder only; a classifier needs at least two classes")
    parts = stratified(own.read(tell=tell), test_share=0.2, seed=seed)
    return Path(folder).resolve().name, parts["train"], parts["test"]


def patches(count: int, *, side: int, seed: int, part: Literal["whole", "left", "right"] = "whole") -> Labelled:
    """`count` random squares of each of ten shipped photographs, a third of its shorter side; the class is which.

    They are cut from the whole photograph or from one half of it, so that none need be both learnt from and tested on.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in PHOTOGRAPHS:
        picture = read_image(name)
        middle = picture.shape[-1] // 2
        picture = {"whole": picture, "left": picture[..., :middle], "right": picture[..., middle:]}[part]
        height, width = picture.shape[-2:]
        edge = min(height, width) // 3
        for _ in range(count):
            top = int(torch.randint(height - edge + 1, (), generator=generator))
            left = int(torch.randint(width - edge + 1, (), generator=generator))
            found.append(resize(picture[:, top : top + edge, left : left + edge], (side, side)))
    return Labelled(torch.stack(found), torch.arange(len(PHOTOGRAPHS)).repeat_interleave(count), PHOTOGRAPHS)


def pixels(images: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """The pictures as rows of numbers."""
    return images.flatten(1).double().numpy()


def cnn_features(images: Float[Tensor, "n c h w"], side: int, *, tell: Tell = ignore) -> Float[np.ndarray, "n 1280"]:
    """What EfficientNet-Lite0, trained on ImageNet, averages before it names a class; pictures enlarged to `side`."""
    enlarged = resize(images, (side, side)).expand(-1, 3, -1, -1)
    return head_inputs(efficientnet_lite0(weights="imagenet"), enlarged, batch_size=50, tell=tell).double().numpy()


def directions(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1: Euclidean distance then compares angles. A row of zeros (a network may see nothing) stays."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)
