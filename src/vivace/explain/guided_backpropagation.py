"""Guided backpropagation: the gradient by the pixels, of which each ReLU on the way back lets only positive parts pass.

Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for simplicity: the all convolutional net" (2015), section 3.4.
In: pictures (B, C, H, W) as the model takes them. Out: the same shape, any sign.
Departs from the paper: any ReLU counts, one that is bounded above (ReLU6) or a plain function of a model's code too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating
from vivace.explain.cam import Target, check_batch
from vivace.explain.grad_cam import Score, score_of

RECTIFIERS = {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


def guided_backpropagation(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target | Score = None,
    *,
    classes: Sequence[str] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Guided backpropagation of the score of `target`, which is what it is for `grad_cam`.

    Sharp and pretty, but much the same for every class (experiment `cam_variants`) and for networks with random upper
    layers (experiment `faithfulness`): it shows edges. InputError for a model without ReLUs, where it is the
    plain gradient.
    """
    check_batch(images)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        x = images.detach().clone().requires_grad_()
        with _PositiveGradients() as rectified:
            y = score_of(model(x.clone()), target=target, classes=classes)
        if not rectified.count:
            raise InputError(f"{type(model).__name__} has no ReLU; guided backpropagation is about nothing else")
        if not y.requires_grad:
            raise InputError("the score does not depend on the pixels in a way that can be differentiated")
        (gradient,) = torch.autograd.grad(y.sum(), x)
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


class _PositiveGradients(TorchFunctionMode):
    """Within this block what a ReLU puts out passes only the positive part of its gradient on, back to the ReLU."""

    count = 0

    def __torch_function__(self, func: Callable[..., Any], types: object, args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:  # fmt: skip
        output = func(*args, **(kwargs or {}))
        bounded_at_0 = func is F.hardtanh and 0 in (*args[1:2], (kwargs or {}).get("min_val"))  # nn.ReLU6's way
        if (func in RECTIFIERS or bounded_at_0) and output.requires_grad:
            self.count += 1
            output.register_hook(F.relu)
        return output
