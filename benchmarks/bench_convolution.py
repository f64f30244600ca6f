"""Convolution: im2col and FFT against torch.conv2d and SciPy; hand-made kernels on a photograph against SciPy's."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage, signal
from torch import Tensor

from harness import Row, compare
from vivace.base.images import read_image, resize
from vivace.cnn import apply_kernel, conv2d_fft, conv2d_im2col, gaussian, kernel


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    for batch, inputs, side, outputs, size in ((8, 64, 56, 64, 3), (8, 256, 14, 256, 3), (1, 3, 224, 64, 3)):
        x, w = torch.randn(batch, inputs, side, side), torch.randn(outputs, inputs, size, size)
        what = f"{batch} x {inputs} x {side} x {side} to {outputs}, {size} x {size}"
        ours = partial(conv2d_im2col, x, w, padding=size // 2)
        yield compare(f"im2col, {what}", ours, partial(F.conv2d, x, w, padding=size // 2),
                      peer_name="torch.conv2d", repeats=9, agree=apart)  # fmt: skip
        yield compare(f"im2col, {what}", ours, partial(by_unfold, x, w), peer_name="F.unfold and @", repeats=9,
                      agree=apart)  # fmt: skip
    x, w = torch.randn(8, 16, 64, 64), torch.randn(16, 16, 31, 31)
    yield compare("FFT, 8 x 16 x 64 x 64 to 16, 31 x 31", partial(conv2d_fft, x, w, padding=15),
                  partial(F.conv2d, x, w, padding=15), peer_name="torch.conv2d", repeats=5, agree=apart)  # fmt: skip
    for side, size in ((512, 9), (512, 31), (1024, 31), (1024, 101)):
        x, w = torch.randn(1, 1, side, side), torch.randn(1, 1, size, size)
        ours = partial(conv2d_fft, x, w, padding=size // 2)
        what = f"FFT, {side} x {side}, kernel {size} x {size}"
        if size < 100:  # where it takes half a minute
            yield compare(what, ours, partial(F.conv2d, x, w, padding=size // 2), peer_name="torch.conv2d",
                          repeats=5, agree=apart)  # fmt: skip
        for peer in (signal.fftconvolve, signal.oaconvolve):
            theirs = partial(peer, x[0, 0].numpy(), w[0, 0].numpy()[::-1, ::-1], mode="same")
            yield compare(what, ours, theirs, peer_name=f"scipy.signal.{peer.__name__}", repeats=11, agree=apart)
    photo = resize(read_image("astronaut"), 512)
    for name, k in (("edge", kernel("edge")), ("Gaussian, sigma 4", gaussian(4))):
        yield compare(f"{name} on 512 x 512 x 3", partial(apply_kernel, photo, k), partial(by_scipy, photo, k),
                      peer_name="scipy.ndimage.correlate", repeats=5, agree=apart)  # fmt: skip


def by_unfold(x: Tensor, w: Tensor) -> Tensor:
    """im2col as one writes it with torch's own."""
    return (w.flatten(1) @ F.unfold(x, w.shape[2:], padding=w.shape[2] // 2)).view(len(x), len(w), *x.shape[2:])


def by_scipy(photo: Tensor, k: Tensor) -> np.ndarray:
    return np.stack([ndimage.correlate(channel, k.numpy(), mode="mirror") for channel in photo.numpy()])


def apart(ours: Tensor, theirs: Tensor | np.ndarray) -> str:
    theirs = torch.as_tensor(theirs).reshape(ours.shape)
    return f"max difference {float((ours - theirs).abs().max() / theirs.abs().max()):.0e} of the largest"
