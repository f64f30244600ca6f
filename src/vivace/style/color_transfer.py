"""Colour transfer: give a picture another one's colours, and leave what is light light and what is dark dark.

Gatys et al., "Preserving color in neural artistic style transfer" (2016), section 3.2, Cholesky transfer.
In: image (3, H, W) and palette (3, h, w), RGB, [0, 1]. Out: the picture (3, H, W) in the palette's colours, [0, 1].
Departs from the paper: the covariance is factored in the order luma, blue, red, not red, green, blue, with 3 % of grey
noise in it, so that a palette without variation is one, too.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.images import check_image

LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def color_transfer(image: Float[Tensor, "3 h w"], palette: Float[Tensor, "3 ph pw"]) -> Float[Tensor, "3 h w"]:
    """The picture with the palette's mean colour and covariance.

    Both covariances are factored by Cholesky with luma first: luma becomes luma, scaled, and then the colours follow.
    Style transfer uses it both ways: the content in the style's colours, or the style in the content's (which keeps
    the photograph's colours).
    """
    check_image(image)
    check_image(palette)
    to_luma = torch.tensor(LUMA_CHROMA).to(image).double()
    x, mean, L = _colors(to_luma @ image.flatten(1).double())
    _, new_mean, new_L = _colors(to_luma @ palette.flatten(1).double())
    moved = new_L @ torch.linalg.solve_triangular(L, x - mean, upper=False) + new_mean
    return torch.linalg.solve(to_luma, moved).to(image).view_as(image).clamp(0, 1)


def _colors(x: Float[Tensor, "3 n"]) -> tuple[Float[Tensor, "3 n"], Float[Tensor, "3 1"], Float[Tensor, "3 3"]]:
    """The colours, their mean, and the Cholesky factor of their covariance with a little grey noise in it."""
    mean = x.mean(1, keepdim=True)
    covariance = (x - mean) @ (x - mean).T / x.shape[1]
    return x, mean, torch.linalg.cholesky(covariance + 1e-3 * torch.eye(3).to(x))
