"""Kernels: small hand-made tables of weights that find edges, blur, sharpen or emboss a picture.

Sobel, Feldman 1968 (in Duda, Hart, "Pattern classification and scene analysis" (1973), sec. 7.3) for the gradients;
Marr, Hildreth, "Theory of edge detection" (1980), sec. 3, for Laplacian and Gaussian.
In: pictures (3, H, W), (1, H, W) or a batch, any range; kernels (h, w). Out: pictures of the same size, not clipped.
Departs from the paper: nowhere.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.cnn.convolution import conv2d_fft

Border = Literal["zero", "reflect", "replicate", "circular", "valid"]

_Rows = tuple[tuple[float, ...], ...]

KERNELS: Mapping[str, _Rows] = {
    "identity": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "edge": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),  # the Laplacian of all eight neighbours: 9 (x - box blur)
    "laplacian": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),  # identity minus the Laplacian
    "box blur": ((1 / 9,) * 3,) * 3,
    "gaussian": ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
    "sobel x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),  # grows to the right: answers vertical edges
    "sobel y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "sobel diagonal": ((0, 1, 2), (-1, 0, 1), (-2, -1, 0)),  # grows to the upper right
    "prewitt x": ((-1, 0, 1),) * 3,
    "prewitt y": ((-1, -1, -1), (0, 0, 0), (1, 1, 1)),
    "scharr x": ((-3, 0, 3), (-10, 0, 10), (-3, 0, 3)),
    "scharr y": ((-3, -10, -3), (0, 0, 0), (3, 10, 3)),
    "corner": ((-4, 5, 5), (-4, 5, 5), (-4, -4, -4)),  # of a bright upper right
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}

LARGE = 11  # from this side on, the FFT takes less time than the sum


def kernel(name: str) -> Float[Tensor, "3 3"]:
    """The hand-made kernel of that name."""
    if name not in KERNELS:
        raise unknown("kernel", name, KERNELS)
    return torch.tensor(KERNELS[name], dtype=torch.float32)


def box_blur(side: int) -> Float[Tensor, "n n"]:
    """The mean of side x side pixels."""
    if side < 1:
        raise InputError(f"a blur of side {side}, but 1 is the least")
    return torch.full((side, side), 1 / side**2)


def gaussian(sigma: float, *, reach: float = 4) -> Float[Tensor, "n n"]:
    """exp(-r^2 / 2 sigma^2), cut off at `reach` sigmas, summing to 1."""
    if not 0 < sigma < 1000:
        raise InputError(f"sigma is {sigma}, but must be above 0 and below 1000")
    radius = round(reach * sigma)
    line = torch.exp(-(torch.arange(-radius, radius + 1).double() ** 2) / (2 * sigma**2))
    line = line / line.sum()
    return line.outer(line).float()


def apply_kernel(images: Float[Tensor, "*b c h w"], kernel: Float[Tensor, "m n"], border: Border = "reflect"
                 ) -> Float[Tensor, "*b c y x"]:  # fmt: skip
    """Slide one kernel over each channel (cross-correlation, as everywhere in deep learning).

    What lies beyond the border: "zero" is black, "reflect" the mirror image, "replicate" the last pixel, "circular" the
    picture's other end; "valid" takes only places where the kernel fits, so the result is smaller.
    """
    if border not in get_args(Border):
        raise unknown("border", border, get_args(Border))
    (m, n), (height, width) = kernel.shape, images.shape[-2:]
    planes = images.reshape(1, -1, height, width)
    if border != "valid":
        top, left = (m - 1) // 2, (n - 1) // 2
        pad = (left, n - 1 - left, top, m - 1 - top)
        limit = {"reflect": 1, "circular": 0}.get(border)
        if limit is not None and (max(pad[2:]) > height - limit or max(pad[:2]) > width - limit):
            raise InputError(f"a kernel of {m} x {n} needs more {border} border than {height} x {width} pixels give")
        planes = F.pad(planes, pad, "constant" if border == "zero" else border)
    if planes.shape[2] < m or planes.shape[3] < n:
        raise InputError(f"a kernel of {m} x {n} does not fit into {height} x {width} pixels")
    weight = kernel.to(images)[None, None]
    if min(m, n) >= LARGE:
        maps = conv2d_fft(planes.transpose(0, 1), weight)
    else:
        maps = F.conv2d(planes, weight.expand(planes.shape[1], 1, m, n), groups=planes.shape[1])
    return maps.reshape(*images.shape[:-2], *maps.shape[2:])
