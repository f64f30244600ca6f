"""Grad-CAM: where in a picture a network finds the evidence for a class, whatever its head is.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM: visual explanations from deep networks via
gradient-based localization" (2017), section 3, eq. 1 and 2.
In: pictures (B, C, H, W) as the model takes them. Out: maps (B, h, w) of the layer's size, at least 0.
Departs from the paper: nowhere; `normalize` and `enlarge` are what it does for display.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, as_map, graph_from
from vivace.explain.cam import Target, check_batch, class_indices, heat_map

# from the model's output, whatever that is, to one number for each picture: a caption's log-probability, a box's score
Score = Callable[[Any], Tensor]


def grad_cam(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
    normalize: bool = False,
    enlarge: bool = False,
) -> Float[Tensor, "b mh mw"]:
    """The Grad-CAM maps of any model that has a spatial map and a score that is differentiable by it.

    A spatial map is (B, K, h, w), (B, h, w, K), or a transformer's tokens (B, N, K), whose patches are put back into
    their rows and columns.

    `target`: the class (its index; its name, if `classes` gives the names in the order of the logits; one for each
    picture; None is the predicted one), or a function from the model's output to the score that is to be explained.
    `layer`: its dotted name or the module; None is the last layer with a spatial map, poolings left out (of a
    transformer that reads its class token, the last whose patches still matter).
    `normalize`: each map in [0, 1]. `enlarge`: to the pictures' size, bilinearly. The model, its gradients, mode and
    hooks stay as they were. InputError for a layer, a class or a picture that can't be, or a score without gradient.
    """
    A, dy_dA = map_and_gradient(model, images, target, layer=layer, classes=classes)
    alpha = dy_dA.mean((2, 3))  # eq. 1: (B, K)
    L = F.relu(torch.einsum("bk,bkij->bij", alpha, A))  # eq. 2
    return heat_map(L, images, normalize=normalize, enlarge=enlarge)


def map_and_gradient(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Float[Tensor, "b k mh mw"], Float[Tensor, "b k mh mw"]]:
    """What Grad-CAM is made of, in at least float32: the layer's map A and the gradient of the score y by it."""
    check_batch(images)
    score = partial(score_of, target=target, classes=classes)
    with graph_from(model, images, layer, score) as (A, output):
        y = score(output)
        if not isinstance(y, Tensor) or not y.requires_grad:
            raise InputError("the score does not depend on the layer in a way that can be differentiated")
        if not bool(torch.isfinite(y).all()):
            raise InputError("the model's score is NaN or infinite: its weights or its precision are at fault")
        (dy_dA,) = torch.autograd.grad(y.sum(), A, allow_unused=True)  # pictures don't mix, so a sum keeps them apart
    if dy_dA is None:
        raise InputError("the score does not depend on the layer")
    A, dy_dA = as_map(A.detach(), images), as_map(dy_dA, images)
    wide = torch.promote_types(A.dtype, torch.float32)
    return A.to(wide), dy_dA.to(wide)


def score_of(output: Any, *, target: Target | Score, classes: Sequence[str] | None = None) -> Tensor:
    """The number that is explained, one for each picture: a class's score, or what the function `target` makes."""
    if callable(target):
        return target(output)
    return torch.gather(output, 1, class_indices(target, output, classes)[:, None])[:, 0]
