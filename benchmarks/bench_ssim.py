"""SSIM against scikit-image's with the paper's Gaussian window, and with its gradient."""

from collections.abc import Iterator

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from harness import Row, compare
from vivace.base.images import read_image, resize
from vivace.style import ssim


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    photo = read_image("astronaut")
    for side, dtype in ((512, torch.float32), (256, torch.float32), (128, torch.float32), (512, torch.float64)):
        x = resize(photo, side).to(dtype)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
        y = (x + 0.1 * noise).clamp(0, 1)
        what = f"SSIM of 3 x {side} x {side}, {str(dtype).removeprefix('torch.')}"
        yield compare(what, lambda x=x, y=y: float(ssim(x[None], y[None])), lambda x=x, y=y: peer(x, y),
                      peer_name="scikit-image", repeats=11,
                      agree=lambda ours, theirs: f"apart by {abs(ours - theirs):.0e}")  # fmt: skip
        yield compare(f"{what}: ours with its gradient too", lambda x=x, y=y: gradient(x, y),
                      lambda x=x, y=y: peer(x, y), peer_name="scikit-image, value only", repeats=11)  # fmt: skip
    torch.set_num_threads(threads)


def peer(x: Tensor, y: Tensor) -> float:
    return float(
        structural_similarity(x.numpy(), y.numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                              data_range=1, channel_axis=0)
    )  # fmt: skip


def gradient(x: Tensor, y: Tensor) -> Tensor:
    x = x[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(1 - ssim(x, y[None]).sum(), x)
    return slope
