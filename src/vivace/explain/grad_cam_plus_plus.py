"""Grad-CAM++: Grad-CAM whose averages count the positions that raise the score, each with a weight of its own.

Chattopadhay, Sarkar, Howlader, Balasubramanian, "Grad-CAM++: generalized gradient-based visual explanations for deep
convolutional networks" (2018), eq. 5, 7 and 19.
In: pictures (B, C, H, W) as the model takes them. Out: maps (B, h, w) of the layer's size, at least 0.
Departs from the paper: without the factor exp(y), which is the same for a whole map; and in a map's sum its positive
part counts, which is all of it after a ReLU, as the paper has it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.hooks import Layer
from vivace.explain.cam import Target, heat_map
from vivace.explain.grad_cam import Score, map_and_gradient


def grad_cam_plus_plus(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
    normalize: bool = False,
    enlarge: bool = False,
) -> Float[Tensor, "b mh mw"]:
    """The Grad-CAM++ maps; arguments are those of `grad_cam`."""
    A, dy_dA = map_and_gradient(model, images, target, layer=layer, classes=classes)
    g = F.relu(dy_dA)
    total = F.relu(A).sum((2, 3), keepdim=True)
    # eq. 19's weight g^2 / (2 g^2 + total g^3), times g (eq. 5), with g^2 cancelled: never 0 / 0
    w = (g / (2 + total * g)).sum((2, 3))
    L = F.relu(torch.einsum("bk,bkij->bij", w, A))  # eq. 7
    return heat_map(L, images, normalize=normalize, enlarge=enlarge)
