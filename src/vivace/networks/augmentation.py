"""Data augmentation: pictures turned, scaled, moved, flipped and roughened at random, where that leaves their class.

Simard, Steinkraus, Platt, "Best practices for convolutional neural networks applied to visual document analysis"
(2003), section 2: affine distortions.
In: images (B, C, H, W) in [0, 1]; angles in radians, shifts in pixels. Out: images of the same shape, in [0, 1].
Departs from the paper: no elastic distortion; bilinear sampling, black (or a given grey) where nothing was.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vivace.base.errors import InputError


def random_affine(
    images: Float[Tensor, "b c h w"],
    *,
    rotation: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shift: float = 0.0,
    fill: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c h w"]:
    """Each picture turned by up to `rotation` radians each way, enlarged by `scale`, moved by up to `shift` pixels."""
    if not 0 < scale[0] <= scale[1]:
        raise InputError(f"scale is {scale}, but must be (smallest, largest), both above 0")
    if rotation < 0 or shift < 0:
        raise InputError(f"rotation ({rotation}) and shift ({shift}) are reaches: they must be at least 0")
    count, device = len(images), images.device
    draw = torch.rand(4, count, generator=generator, device=device, dtype=images.dtype)
    angle = (2 * draw[0] - 1) * rotation
    size = scale[0] * (scale[1] / scale[0]) ** draw[1]  # even in the logarithm
    right, down = (2 * draw[2:] - 1) * shift
    return affine(images, angle=angle, scale=size, right=right, down=down, fill=fill)


def affine(
    images: Float[Tensor, "b c h w"],
    *,
    angle: Float[Tensor, " b"],
    scale: Float[Tensor, " b"],
    right: Float[Tensor, " b"],
    down: Float[Tensor, " b"],
    fill: float = 0.0,
) -> Float[Tensor, "b c h w"]:
    """Each picture turned counter-clockwise about its middle by its own angle, then enlarged and moved."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(n, device=images.device, dtype=images.dtype) - (n - 1) / 2 for n in (width, height))
    x, y = x[None, None, :] - right[:, None, None], y[None, :, None] - down[:, None, None]  # from the new middle
    cos, sin = (f(angle)[:, None, None] / scale[:, None, None] for f in (torch.cos, torch.sin))
    from_x, from_y = cos * x - sin * y, sin * x + cos * y  # where the pixel comes from; y runs down
    places = torch.stack([2 * from_x / width, 2 * from_y / height], dim=-1)  # grid_sample's [-1, 1], edge to edge
    moved = F.grid_sample(images - fill, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (moved + fill).clamp(0, 1)


def random_flip(images: Float[Tensor, "b c h w"], p: float = 0.5, *, generator: torch.Generator | None = None
                ) -> Float[Tensor, "b c h w"]:  # fmt: skip
    """Each picture mirrored left to right with probability p."""
    chosen: Bool[Tensor, " b"] = torch.rand(len(images), generator=generator, device=images.device) < p
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def add_noise(images: Float[Tensor, "b c h w"], sigma: float, *, generator: torch.Generator | None = None
              ) -> Float[Tensor, "b c h w"]:  # fmt: skip
    """Gaussian noise of deviation `sigma` on every value, cut off at 0 and 1."""
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return (images + sigma * noise).clamp(0, 1)
