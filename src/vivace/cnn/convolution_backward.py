"""Backward pass of a convolution: the gradients of its input, its weight and its bias are convolutions and a sum.

LeCun et al., "Backpropagation applied to handwritten zip code recognition" (1989); Dumoulin, Visin, "A guide to
convolution arithmetic for deep learning" (2016), section 4.
In: the loss's gradient (B, O, H', W') with respect to the output, the images (B, C, H, W) and the weight
(O, C / groups, kh, kw) of y_p = b + sum_k w_k x_(stride p + dilation k - padding). Out: the gradients, each shaped
like what it belongs to.
Departs from the paper: nowhere; as in every library "convolution" leaves the kernel unturned (it is a correlation).
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from vivace.base.errors import InputError

Pair = int | tuple[int, int]  # rows and columns, or one number for both
Output = Float[Tensor, "b o oh ow"]
Images = Float[Tensor, "b c h w"]
Weight = Float[Tensor, "o i kh kw"]


def input_gradient(gradient: Output, weight: Weight, size: Sequence[int], *, stride: Pair = 1, padding: Pair = 0,
                   dilation: Pair = 1, groups: int = 1) -> Images:  # fmt: skip
    """dL/dx: the full convolution of the gradient with the kernel turned by 180 degrees. `size` is (H, W).

    A stride had left positions out: they come back as zeros between the gradient's values.
    """
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    (h, w), (oh, ow), (kh, kw) = size, gradient.shape[-2:], weight.shape[-2:]
    spread = gradient
    if (sh, sw) != (1, 1):
        spread = gradient.new_zeros(*gradient.shape[:2], (oh - 1) * sh + 1, (ow - 1) * sw + 1)
        spread[..., ::sh, ::sw] = gradient
    top, left = dh * (kh - 1) - ph, dw * (kw - 1) - pw  # a "full" border, less what forward had padded
    bottom, right = h + dh * (kh - 1) - spread.shape[2] - top, w + dw * (kw - 1) - spread.shape[3] - left
    spread = F.pad(spread, (left, right, top, bottom))  # a negative border cuts
    turned = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (C, O / groups, kh, kw)
    return F.conv2d(spread, turned, dilation=(dh, dw), groups=groups)


def weight_gradient(gradient: Output, images: Images, size: Sequence[int], *, stride: Pair = 1, padding: Pair = 0,
                    dilation: Pair = 1, groups: int = 1) -> Weight:  # fmt: skip
    """dL/dw: the correlation of the input with the gradient, summed over the batch; no turning. `size` is (kh, kw).

    It is a convolution in which pictures and channels change places, and so do stride and dilation.
    """
    x = images.unflatten(1, (groups, -1)).permute(2, 1, 0, 3, 4).flatten(1, 2)  # (C / groups, groups * B, H, W)
    g = gradient.transpose(0, 1)  # (O, B, H', W')
    found = F.conv2d(x, g, stride=_pair(dilation), padding=_pair(padding), dilation=_pair(stride), groups=groups)
    return found[..., : size[0], : size[1]].transpose(0, 1)  # rows that no window had reached make it larger


def bias_gradient(gradient: Output) -> Float[Tensor, " o"]:
    """dL/db: the sum over batch and space, for the bias was added everywhere."""
    return gradient.sum((0, 2, 3))


def convolution_backward(
    gradient: Output, images: Images, weight: Weight, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Images, Weight, Float[Tensor, " o"]]:  # fmt: skip
    """All three gradients of `F.conv2d(images, weight, bias, stride, padding, dilation, groups)`."""
    size, kernel = images.shape[2:], weight.shape[2:]
    each = zip(size, kernel, *(_pair(value) for value in (stride, padding, dilation)), strict=True)
    expected = (len(images), len(weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each))
    if gradient.shape != expected or images.shape[1] != weight.shape[1] * groups:
        raise InputError(f"images {tuple(images.shape)}, weight {tuple(weight.shape)} and {groups} groups give an "
                         f"output {expected}; its gradient cannot be {tuple(gradient.shape)}")  # fmt: skip
    return (
        input_gradient(gradient, weight, size, stride=stride, padding=padding, dilation=dilation, groups=groups),
        weight_gradient(gradient, images, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups),
        bias_gradient(gradient),
    )


class Conv2dByHand(nn.Conv2d):
    """torch's `nn.Conv2d` whose gradients come from this file instead of torch's own backward pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise InputError("Conv2dByHand pads with zeros, by a number of pixels: padding=1, not 'same' or 'reflect'")

    def forward(self, images: Images) -> Output:
        settings = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return _ByHand.apply(images, self.weight, self.bias, settings)


class _ByHand(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, settings: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = settings
        return F.conv2d(images, weight, bias, **settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """Only what somebody asks for: the first layer's input, the pictures, needs no gradient."""
        (images, weight), (g,) = ctx.saved_tensors, gradients
        wanted = ctx.needs_input_grad
        return (
            input_gradient(g, weight, images.shape[2:], **ctx.settings) if wanted[0] else None,
            weight_gradient(g, images, weight.shape[2:], **ctx.settings) if wanted[1] else None,
            bias_gradient(g) if wanted[2] else None,
            None,
        )


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
