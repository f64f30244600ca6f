"""Guided Grad-CAM: guided backpropagation's fine lines, kept where Grad-CAM sees the class.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM: visual explanations from deep networks via
gradient-based localization" (2017), section 3.2 and figure 2.
In: pictures (B, C, H, W) as the model takes them. Out: the same shape, any sign.
Departs from the paper: nowhere.
"""

from collections.abc import Sequence

from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.hooks import Layer
from vivace.explain.cam import Target
from vivace.explain.grad_cam import Score, grad_cam
from vivace.explain.guided_backpropagation import guided_backpropagation


def guided_grad_cam(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Guided backpropagation times the enlarged Grad-CAM map; arguments are those of `grad_cam`."""
    heat = grad_cam(model, images, target, layer=layer, classes=classes, enlarge=True)
    return guided_backpropagation(model, images, target, classes=classes) * heat[:, None]
