"""Score-CAM: a map is worth the score that the picture gets when only what the map highlights is left; no gradient.

Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu, "Score-CAM: score-weighted visual explanations for convolutional
neural networks" (2020), eq. 4 to 6 and algorithm 1.
In: pictures (B, C, H, W) as the model takes them. Out: maps (B, h, w) of the layer's size, at least 0.
Departs from the paper: `most` can take the maps of the largest variance alone; what is not highlighted is black, the
convention's 0, and a map that highlights nothing is not run again and again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, as_map, evaluating, graph_from
from vivace.explain.cam import Target, check_batch, class_indices, heat_map
from vivace.explain.grad_cam import Score, score_of


def score_cam(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
    most: int | None = None,
    batch_size: int = 16,
    normalize: bool = False,
    enlarge: bool = False,
) -> Float[Tensor, "b mh mw"]:
    """The Score-CAM maps: the model runs once for each of the layer's K maps, or for the `most` of them.

    `batch_size`: how many masked pictures it sees at a time. Other arguments are those of `grad_cam`.
    """
    check_batch(images)
    if batch_size < 1 or (most is not None and most < 1):
        raise InputError(f"most={most} maps in batches of {batch_size}; both must be at least 1")
    with graph_from(model, images, layer, partial(score_of, target=target, classes=classes)) as (A, output):
        A = as_map(A.detach(), images)
        scores_of = [target] * len(A) if callable(target) else [_of(c) for c in class_indices(target, output, classes)]
    A = A.to(torch.promote_types(A.dtype, torch.float32))
    with torch.inference_mode(), evaluating(model):
        maps = [
            _weighted(model, image, A_i, score, most or A.shape[1], batch_size)
            for image, A_i, score in zip(images, A, scores_of, strict=True)
        ]
    return heat_map(torch.stack(maps).clone(), images, normalize=normalize, enlarge=enlarge)


def _of(c: Tensor) -> Callable[[Any], Tensor]:
    return lambda output: output[:, c]


def _weighted(model: nn.Module, image: Tensor, A: Tensor, score: Score, most: int, batch_size: int) -> Tensor:
    """One picture's map (h, w) from its layer's (K, h, w)."""
    A = A[A.var((1, 2)).topk(min(most, len(A))).indices]
    rises = A.amax((1, 2)) > A.amin((1, 2))
    y = score(model(torch.zeros_like(image)[None])).to(A).expand(len(A)).clone()  # of maps that highlight nothing
    masked = (_highlighted(image, few) for few in A[rises].split(batch_size))
    y[rises] = torch.cat([y[:0], *(score(model(few)).to(A) for few in masked)])
    alpha = y.softmax(0)  # eq. 5 less a constant, the score of a black picture, which the softmax does not see
    return F.relu(torch.einsum("k,kij->ij", alpha, A))  # eq. 6


def _highlighted(image: Tensor, maps: Tensor) -> Tensor:
    """The picture (C, H, W) as often as there are maps (k, h, w), each time in the light of one: eq. 4."""
    H = F.interpolate(maps[:, None], size=image.shape[1:], mode="bilinear", align_corners=False)
    low, high = H.amin((2, 3), keepdim=True), H.amax((2, 3), keepdim=True)
    return image * ((H - low) / (high - low)).to(image)
