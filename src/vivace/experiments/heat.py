"""Heat maps in experiments: methods by name, photographs to try them on, and maps laid over pictures."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.images import middle_square, overlay, read_image, resize
from vivace.cnn import EfficientNetLite, class_index, efficientnet_lite0
from vivace.explain import (
    grad_cam,
    grad_cam_plus_plus,
    guided_backpropagation,
    guided_grad_cam,
    layer_cam,
    score_cam,
)

Method = Literal["grad_cam", "grad_cam++", "layer_cam", "score_cam", "guided"]

PHOTOS = ("astronaut", "camera", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket")
SUBJECTS = {"chelsea": "Egyptian cat", "coffee": "espresso", "motorcycle": "moped", "camera": "tripod"}


def size_of(pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """A map of how much each pixel matters, of a gradient by its colours."""
    return pixels.abs().amax(1)


def guided_map(*args: Any, **kwargs: Any) -> Tensor:
    return size_of(guided_grad_cam(*args, **kwargs))


def guided_backpropagation_map(model: Any, images: Tensor, target: Any = None) -> Tensor:
    return size_of(guided_backpropagation(model, images, target))


def methods(score_maps: int) -> Mapping[str, Callable[..., Tensor]]:
    """Each method by its name: from a model, pictures and classes to maps; Score-CAM of so many of a layer's maps."""
    return {
        "grad_cam": grad_cam,
        "grad_cam++": grad_cam_plus_plus,
        "layer_cam": layer_cam,
        "score_cam": partial(score_cam, most=score_maps, batch_size=2),  # more at once leave the cache
        "guided": guided_map,
    }


TITLES = {"grad_cam": "Grad-CAM", "grad_cam++": "Grad-CAM++", "layer_cam": "Layer-CAM", "score_cam": "Score-CAM",
          "guided": "guided Grad-CAM"}  # fmt: skip


def backbone() -> EfficientNetLite:
    """EfficientNet-Lite0, trained on ImageNet, as it runs fastest on a processor."""
    return efficientnet_lite0(weights="imagenet").to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def photographs(names: tuple[str, ...] = PHOTOS) -> Float[Tensor, "b 3 224 224"]:
    return torch.stack([resize(read_image(name), (224, 224)) for name in names])


def scenes() -> tuple[Float[Tensor, "s 3 224 448"], list[list[int]], list[tuple[str, str]]]:
    """Two subjects side by side: each pair as one picture, the class of the left and of the right, and their names."""
    squares = {name: middle_square(read_image(name), 224) for name in SUBJECTS}
    pairs = list(combinations(SUBJECTS, 2))
    classes = [[class_index(SUBJECTS[pair[side]]) for pair in pairs] for side in (0, 1)]
    return torch.stack([torch.cat([squares[a], squares[b]], dim=2) for a, b in pairs]), classes, pairs


def on_own_half(of_left: Float[Tensor, "s h w"], of_right: Float[Tensor, "s h w"]) -> Float[Tensor, "n"]:
    """Of each scene and class: how much of its heat lies on its own half."""
    middle = of_left.shape[2] // 2
    return torch.cat([share(of_left, of_left[..., :middle]), share(of_right, of_right[..., middle:])])


def share(heat: Float[Tensor, "b h w"], part: Float[Tensor, "b ph pw"]) -> Float[Tensor, "b"]:
    """How much of each map's heat lies in a part of it."""
    return part.sum((1, 2)) / heat.sum((1, 2)).clamp_min(1e-12)


def laid_over(picture: Float[Tensor, "3 h w"], heat: Float[Tensor, "mh mw"], *, fine: bool = False) -> Tensor:
    """The positive part of a map, relative to its maximum, over the picture; `fine` lines of pixels alone, on black."""
    heat = heat.clamp_min(0)
    if not fine:
        return overlay(picture, heat / heat.max().clamp_min(1e-12))
    bright = (heat / heat.flatten().quantile(0.99).clamp_min(1e-12)).clamp(0, 1)
    return resize(bright[None].expand(3, -1, -1), (picture.shape[1], picture.shape[2]))
