"""Image transformations: views of a picture, each turned, scaled and moved at random, that a gradient can pass.

Olah, Mordvintsev, Schubert, "Feature visualization" (2017), section "Transformation robustness".
In: pictures (B, 3, H, W). Out: as many views of the same size.
Departs from the paper: turning, scaling and moving are one affine map: a pixel is interpolated once, not three times.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


@dataclass(frozen=True)
class ImageTransformations:
    """How a picture is shaken; each of them alone or none, by setting the others to 0. Calling it gives views.

    pad: pixels of grey around the picture, so that what is turned or moved in is grey
    jitter: moved by up to so many whole pixels, each way, without interpolation
    rotation: turned by up to so many degrees, each way
    zoom: scaled by a factor from this range, equally likely on a log scale
    shift: moved by up to so much of its sides, each way
    """

    pad: int = 16
    jitter: int = 0
    rotation: float = 10.0
    zoom: tuple[float, float] = (0.8, 1.2)
    shift: float = 0.12

    def __post_init__(self) -> None:
        if min(self.pad, self.jitter, self.rotation, self.shift) < 0:
            raise InputError(f"how far a picture is padded, turned and moved is at least 0, not {self}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise InputError(f"zoom is a range of factors above 0, the smaller first, not {self.zoom}")

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator | None = None) -> Tensor:
        """A view of each picture, of its size."""
        height, width = images.shape[-2:]
        x = F.pad(images, (self.pad,) * 4, value=0.5) if self.pad else images
        if self.jitter:
            moves = torch.randint(-self.jitter, self.jitter + 1, (len(x), 2), generator=generator).tolist()
            x = torch.stack([image.roll(move, (1, 2)) for image, move in zip(x, moves, strict=True)])
        if self.rotation or self.shift or self.zoom != (1, 1):
            return self._seen(x, (height, width), generator)
        return x[..., self.pad : self.pad + height, self.pad : self.pad + width]

    def _seen(self, x: Float[Tensor, "b c ph pw"], size: tuple[int, int], generator: torch.Generator | None) -> Tensor:
        """Where each pixel of a view lies in the padded picture, and what is there, bilinearly."""
        height, width = size
        u = torch.rand(4, len(x), generator=generator).to(x)
        angle = math.radians(self.rotation) * (2 * u[0] - 1)
        low, high = (math.log(factor) for factor in self.zoom)
        scale = torch.exp(-(low + (high - low) * u[1]))  # a picture scaled up is sampled in smaller steps
        moved = self.shift * (2 * u[2:] - 1)  # (2, B): down, right
        y = (torch.arange(height, device=x.device) - (height - 1) / 2).to(x)[:, None]
        right = (torch.arange(width, device=x.device) - (width - 1) / 2).to(x)[None]
        cos, sin = (scale * f(angle) for f in (torch.cos, torch.sin))
        across = cos[:, None, None] * right - sin[:, None, None] * y + (moved[1] * width)[:, None, None]
        down = sin[:, None, None] * right + cos[:, None, None] * y + (moved[0] * height)[:, None, None]
        where = torch.stack([across / (x.shape[-1] / 2), down / (x.shape[-2] / 2)], dim=-1)  # (B, H, W, 2) in [-1, 1]
        # beyond the grey frame there is more grey, beyond a picture without a frame more of its edge
        return F.grid_sample(x, where, mode="bilinear", padding_mode="border", align_corners=False)
