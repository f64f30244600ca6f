"""Content loss: how far a picture's features are from another's, position by position, as squares or as distances.

Gatys, Ecker, Bethge, "Image style transfer using convolutional neural networks" (2016), eq. 1; Johnson, Alahi, Fei-Fei,
"Perceptual losses for real-time style transfer and super-resolution" (2016), eq. 2, divides it by the size.
In: features (B, C, H, W), any range, of the same size; or the pictures themselves. Out: (B,), 0 where they are equal.
Departs from the paper: the mean, as Johnson's, not half the sum; `power=1` takes absolute errors.
"""

from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


def content_loss(
    features: Float[Tensor, "b c h w"], others: Float[Tensor, "_ _ _ _"], *, power: int = 2
) -> Float[Tensor, " b"]:
    """The mean squared error (power 2), or the mean absolute error (1), which an outlier pulls no more than others."""
    if features.shape != others.shape:
        raise InputError(f"content is compared position by position, but {tuple(features.shape)} is not "
                         f"{tuple(others.shape)}: pictures of one size are needed")  # fmt: skip
    if power not in (1, 2):
        raise InputError(f"power is 1 (absolute errors) or 2 (squares); got {power}")
    return (features - others).abs().pow(power).mean((1, 2, 3))
