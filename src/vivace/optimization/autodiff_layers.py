"""Layers for automatic differentiation: convolution, pooling and the classifier's loss, each with its own way back.

Dumoulin, Visin, "A guide to convolution arithmetic for deep learning" (2016), sections 2 to 4.
In: maps (B, C, H, W) or logits (B, K), as `Variable` or array. Out: `Variable`, maps (B, O, H', W') or one number.
Departs from the paper: nowhere; the last windows that don't fit are left out, as everywhere.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from vivace.base.errors import InputError
from vivace.optimization.autodiff import Variable, raw, result

Maps = Float[Variable, "b c h w"] | Float[np.ndarray, "b c h w"]


def conv2d(
    images: Maps,
    kernels: Float[Variable, "o c kh kw"] | Float[np.ndarray, "o c kh kw"],
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Variable, "b o _ _"]:
    """Each kernel laid on each window, multiplied and summed (correlation, as in every library); zeros around."""
    K = raw(kernels)
    X = np.pad(raw(images), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = _windows(X, K.shape[2:], stride)  # (b, c, h', w', kh, kw)

    def back_images(g: Float[np.ndarray, "b o y x"]) -> Float[np.ndarray, "b c h w"]:
        cells = np.tensordot(g, K, (1, 0)).transpose(0, 3, 1, 2, 4, 5)  # (b, h', w', c, kh, kw), c brought forward
        dX = _overlaid(cells, X.shape, stride)
        return dX[:, :, padding : X.shape[2] - padding, padding : X.shape[3] - padding]

    def back_kernels(g: Float[np.ndarray, "b o y x"]) -> Float[np.ndarray, "o c kh kw"]:
        return np.tensordot(g, windows, ((0, 2, 3), (0, 2, 3)))

    Y = np.tensordot(windows, K, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)  # (b, h', w', o), o brought forward
    return result("conv", Y, (images, back_images), (kernels, back_kernels))


def average_pool2d(images: Float[Variable, "b c h w"], size: int, stride: int = 0) -> Float[Variable, "b c _ _"]:
    """The mean of each window of size x size; the windows touch where no `stride` is given."""
    stride = stride or size
    windows = _windows(images.value, (size, size), stride)

    def back(g: Float[np.ndarray, "b c y x"]) -> Float[np.ndarray, "b c h w"]:
        return _overlaid(np.broadcast_to(g[..., None, None] / size**2, windows.shape), images.shape, stride)

    return result("average pool", windows.mean((-2, -1)), (images, back))


def max_pool2d(images: Float[Variable, "b c h w"], size: int, stride: int = 0) -> Float[Variable, "b c _ _"]:
    """The largest of each window of size x size, which alone gets the gradient (the first, where several are)."""
    stride = stride or size
    windows = _windows(images.value, (size, size), stride)
    winner = windows.reshape(*windows.shape[:4], -1).argmax(-1)[..., None]  # (b, c, h', w', 1)

    def back(g: Float[np.ndarray, "b c y x"]) -> Float[np.ndarray, "b c h w"]:
        cells = g[..., None] * (winner == np.arange(size**2))
        return _overlaid(cells.reshape(windows.shape), images.shape, stride)

    return result("max pool", windows.max((-2, -1)), (images, back))


def softmax_cross_entropy(logits: Float[Variable, "b k"], labels: Int[np.ndarray, " b"]) -> Float[Variable, ""]:
    """-log of the softmax at the right class, averaged; together their gradient is simply p - onehot."""
    count, classes = logits.shape
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(f"labels are 0 to {classes - 1} for {classes} logits; found {labels.min()} to {labels.max()}")
    z = logits.value - logits.value.max(1, keepdims=True)  # so that the largest exponential is 1
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    right = np.arange(count), labels

    def back(g: Float[np.ndarray, ""]) -> Float[np.ndarray, "b k"]:
        p = np.exp(log_p)
        p[right] -= 1
        return p * (g / count)

    return result("cross-entropy", -log_p[right].mean(), (logits, back))


def _windows(X: Float[np.ndarray, "b c h w"], size: tuple[int, ...], stride: int) -> Float[np.ndarray, "b c y x kh kw"]:
    """A view of every window, without copying."""
    if stride < 1 or min(size) < 1:
        raise InputError(f"a window and its stride are at least 1; got {size[0]} x {size[1]} and {stride}")
    if size[0] > X.shape[2] or size[1] > X.shape[3]:
        raise InputError(f"a window of {size[0]} x {size[1]} doesn't fit into maps of {X.shape[2]} x {X.shape[3]}")
    return sliding_window_view(X, size, axis=(2, 3))[:, :, ::stride, ::stride]


def _overlaid(cells: Float[np.ndarray, "b c y x kh kw"], shape: tuple[int, ...], stride: int) -> np.ndarray:
    """The opposite of `_windows`, its transpose: every window added back to where it was taken from."""
    whole = np.zeros(shape, cells.dtype)
    y, x, kh, kw = cells.shape[2:]
    for i in range(kh):
        for j in range(kw):
            whole[:, :, i : i + stride * y : stride, j : j + stride * x : stride] += cells[..., i, j]
    return whole
