"""ImageNet's thousand classes by name, and what a classifier of them says about pictures."""

from functools import cache
from importlib.resources import files

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.images import check_image


@cache
def class_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes in the order of the logits, each name once."""
    return tuple(files("vivace.cnn").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def class_index(name: str) -> int:
    """The logit of a class: class_index("tabby") is 281. InputError with the nearest names where there is none."""
    lower = [known.lower() for known in class_names()]
    if name.strip().lower() not in lower:
        raise unknown("ImageNet class", name, class_names())
    return lower.index(name.strip().lower())


@torch.no_grad()
def classify(model: nn.Module, images: Float[Tensor, "b 3 h w"], *, top: int = 5) -> list[list[tuple[str, float]]]:
    """For each picture the `top` likeliest classes with their probabilities, the likeliest first."""
    check_image(images)
    if min(images.shape[-2:]) < 32:
        raise InputError(f"a picture to classify has at least 32 x 32 pixels; this one has {tuple(images.shape[-2:])}")
    if not 1 <= top <= len(class_names()):
        raise InputError(f"there are {len(class_names())} classes: top is 1 to that many; got {top}")
    values, indices = model(images).softmax(1).topk(top)
    names = class_names()
    return [
        [(names[index], value) for index, value in zip(row.tolist(), chances.tolist(), strict=True)]
        for row, chances in zip(indices, values, strict=True)
    ]
