"""Layer-CAM: each position of each map is weighted by its own gradient, so that early, fine layers show something too.

Jiang, Zhang, Hou, Cheng, Wei, "LayerCAM: exploring hierarchical class activation maps for localization" (2021),
eq. 4 to 6.
In: pictures (B, C, H, W) as the model takes them. Out: maps (B, h, w) of the layer's size, at least 0.
Departs from the paper: nowhere; it also adds up several layers' maps, which is left to the caller.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.hooks import Layer
from vivace.explain.cam import Target, heat_map
from vivace.explain.grad_cam import Score, map_and_gradient


def layer_cam(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
    normalize: bool = False,
    enlarge: bool = False,
) -> Float[Tensor, "b mh mw"]:
    """The Layer-CAM maps; arguments are those of `grad_cam`."""
    A, dy_dA = map_and_gradient(model, images, target, layer=layer, classes=classes)
    w = F.relu(dy_dA)  # eq. 4: one for each position, where Grad-CAM has their mean
    L = F.relu((w * A).sum(1))  # eq. 5 and 6
    return heat_map(L, images, normalize=normalize, enlarge=enlarge)
