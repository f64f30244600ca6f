"""Image parameterisation: the numbers behind a picture, chosen so that gradient steps move all frequencies and colours.

Olah, Mordvintsev, Schubert, "Feature visualization" (2017), section "Preconditioning and parameterization".
In: the picture's size (height, width). Out: a module; calling it gives the picture (B, 3, H, W), RGB, in [0, 1].
Departs from the paper: the colours' covariance is that of 200 photographs of BSDS500, measured for Vivace.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.images import check_image

Basis = Literal["fourier", "pixel"]
Limit = Literal["sigmoid", "clip", "none"]

# the colours' principal axes as columns, each as long as its standard deviation; relative to the longest row
COLORS = torch.tensor([[0.2077, 0.0610, -0.0185], [0.2022, -0.0010, 0.0344], [0.1823, -0.0683, -0.0171]]) / 0.2173


class ImageParameters(nn.Module):
    """A picture of `size` (height, width), at least 2 x 2, as parameters: its pixels or its frequencies.

    decorrelate: a parameter is not red, green or blue but a principal axis of photographs' colours
    limit: what keeps the picture in [0, 1]: "sigmoid" always does, "clip" if `clip()` follows each step, "none" nothing
    decay: a frequency f's parameter counts f^-decay times; 1 is the spectrum of natural pictures
    deviation: of the random parameters to start with; the mean picture is grey
    """

    scale: Float[Tensor, "h f"]
    colors: Float[Tensor, "3 3"]

    def __init__(
        self,
        size: tuple[int, int],
        *,
        count: int = 1,
        basis: Basis = "fourier",
        decorrelate: bool = True,
        limit: Limit = "sigmoid",
        decay: float = 1.0,
        deviation: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for kind, name, known in (("basis", basis, get_args(Basis)), ("limit", limit, get_args(Limit))):
            if name not in known:
                raise unknown(kind, name, known)
        if min(size) < 2 or count < 1:
            raise InputError(f"a picture has at least 2 x 2 pixels, and there is one at least, not {count} of {size}")
        self.size, self.basis, self.limit = size, basis, limit
        height, width = size
        shape = (count, 3, height, width // 2 + 1, 2) if basis == "fourier" else (count, 3, height, width)
        self.numbers = nn.Parameter(deviation * torch.randn(shape, generator=generator))
        self.register_buffer("scale", frequencies(size) ** -decay * (height * width) ** 0.5 / 4)
        self.register_buffer("colors", COLORS if decorrelate else torch.eye(3))

    def forward(self) -> Float[Tensor, "b 3 h w"]:
        x: Tensor = self.numbers
        if self.basis == "fourier":
            x = torch.fft.irfft2(torch.view_as_complex(x) * self.scale, s=self.size)
        x = torch.einsum("rc,bchw->brhw", self.colors, x)
        return x.sigmoid() if self.limit == "sigmoid" else x + 0.5

    @torch.no_grad()
    def write(self, images: Float[Tensor, "b 3 h w"]) -> None:
        """Set the parameters so that they give these pictures; behind the sigmoid 0 and 1 become 0.001 and 0.999."""
        check_image(images)
        if images.shape != (shape := (len(self.numbers), 3, *self.size)):
            raise InputError(f"these are parameters of {shape}, not of {tuple(images.shape)}")
        x = images.logit(1e-3) if self.limit == "sigmoid" else images - 0.5
        x = torch.einsum("cr,brhw->bchw", torch.linalg.inv(self.colors), x)
        if self.basis == "fourier":
            x = torch.view_as_real(torch.fft.rfft2(x) / self.scale)
        self.numbers.copy_(x)

    def clip(self) -> None:
        """Move the picture into [0, 1] if `limit` says so: the step after each gradient step."""
        if self.limit == "clip":
            self.write(self().clamp(0, 1))


def frequencies(size: tuple[int, int]) -> Float[Tensor, "h f"]:
    """Cycles a pixel of each coefficient of `rfft2`; the mean's, which is 0, counts as one cycle a picture."""
    height, width = size
    f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    return f.clamp_min(1 / max(size))


def blurred(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Gaussian blur of standard deviation `sigma` pixels; the picture goes on periodically beyond its edges."""
    size = (images.shape[-2], images.shape[-1])
    passed = torch.exp(-2 * (math.pi * sigma * _exact(size, images)) ** 2)
    return torch.fft.irfft2(torch.fft.rfft2(images) * passed, s=size)


def high_frequencies(images: Float[Tensor, "b c h w"], above: float = 0.125) -> Float[Tensor, " b"]:
    """The mean square of what a picture has in frequencies above so many cycles a pixel (a half is the most)."""
    size = (images.shape[-2], images.shape[-1])
    kept = torch.fft.rfft2(images) * (_exact(size, images) > above)
    return torch.fft.irfft2(kept, s=size).square().mean((1, 2, 3))


def _exact(size: tuple[int, int], like: Tensor) -> Float[Tensor, "h f"]:
    """Cycles a pixel, 0 for the mean."""
    f = frequencies(size).to(like)
    f[0, 0] = 0
    return f
