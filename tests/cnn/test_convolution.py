"""Four ways to convolve against torch in random settings, SciPy and the taught example; mutants fail the same check."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import (
    conv2d_fft,
    conv2d_im2col,
    conv2d_loops,
    conv2d_output_size,
    conv2d_parameters,
    conv2d_toeplitz,
    convolution,
    flipped,
    toeplitz_matrix,
    unfold,
)

WAYS: dict[str, Callable[..., Tensor]] = {
    "loops": conv2d_loops, "im2col": conv2d_im2col, "fft": conv2d_fft, "toeplitz": conv2d_toeplitz,
}  # fmt: skip
TAUGHT = torch.tensor([[1, 2, 1, 0, 2, 1], [3, 1, 0, 2, 1, 0], [1, 2, 1, 1, 0, 2],
                       [0, 1, 2, 1, 1, 0], [2, 0, 1, 0, 2, 1], [1, 1, 0, 2, 1, 0]]).double()[None, None]  # fmt: skip
EDGE = torch.tensor([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]).double()[None, None]
ANSWER = torch.tensor([[-3, -10, 10, 0], [7, -2, 0, -8], [-1, 9, 0, 1], [-8, 1, -10, 10]]).double()[None, None]


def setting(seed: int, largest: int = 9) -> tuple[tuple[Tensor, Tensor, Tensor | None], dict[str, Any]]:
    """Random sizes that fit, square or not, every fourth with padding "same"."""
    random = np.random.default_rng(seed)
    groups = int(random.integers(1, 4))
    inputs, outputs = (groups * int(random.integers(1, 4)) for _ in range(2))
    kernel, dilation = random.integers(1, 5, 2), random.integers(1, 4, 2)
    padding, stride = random.integers(0, 4, 2), random.integers(1, 4, 2)
    least = np.maximum(1, dilation * (kernel - 1) + 1 - 2 * padding)
    size = least + random.integers(0, largest, 2)
    given = torch.Generator().manual_seed(seed)
    x = torch.randn(int(random.integers(1, 4)), inputs, *size.tolist(), generator=given, dtype=torch.float64)
    w = torch.randn(outputs, inputs // groups, *kernel.tolist(), generator=given, dtype=torch.float64)
    b = torch.randn(outputs, generator=given, dtype=torch.float64) if seed % 2 else None
    more: dict[str, Any] = {"stride": tuple(stride.tolist()), "padding": tuple(padding.tolist()),
                            "dilation": tuple(dilation.tolist()), "groups": groups}  # fmt: skip
    if seed % 4 == 3:
        more |= {"stride": 1, "padding": "same"}
    return (x, w, b), more


def is_conv2d(way: Callable[..., Tensor], seeds: range, largest: int = 9) -> bool:
    """torch's result in every setting, with the taught example among them."""
    if not torch.allclose(way(TAUGHT, EDGE), ANSWER, rtol=0, atol=1e-12):
        return False
    for seed in seeds:
        given, more = setting(seed, largest)
        theirs = F.conv2d(*given, **more)
        ours = way(*given, **more)
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=0, atol=1e-10):
            return False
    return True


EVEN_KERNELS = pytest.mark.filterwarnings("ignore:Using padding='same' with even")  # torch copies; we don't


@EVEN_KERNELS
@pytest.mark.parametrize("name", ("im2col", "fft", "toeplitz"))
def test_three_hundred_random_settings(name: str) -> None:
    assert is_conv2d(WAYS[name], range(300))


@EVEN_KERNELS
def test_the_loops_are_the_definition() -> None:
    assert is_conv2d(conv2d_loops, range(60), largest=3)


MUTANTS: dict[str, Callable[..., Tensor]] = {
    "the kernel flipped": lambda x, w, b=None, **more: conv2d_im2col(x, flipped(w), b, **more),
    "the kernel transposed": lambda x, w, b=None, **more: conv2d_im2col(x, w.mT.contiguous().view_as(w), b, **more),
    "the bias forgotten": lambda x, w, b=None, **more: conv2d_im2col(x, w, **more),
    "stride across for down": lambda x, w, b=None, stride=1, **more: conv2d_im2col(
        x, w, b, stride=stride if isinstance(stride, int) else stride[::-1], **more
    ),
    "dilation forgotten": lambda x, w, b=None, dilation=1, **more: conv2d_im2col(x, w, b, **more),
    "every group sees the first": lambda x, w, b=None, groups=1, **more: conv2d_im2col(
        x[:, : w.shape[1]].repeat(1, groups, 1, 1), w, b, groups=groups, **more
    ),
    "padding above only": lambda x, w, b=None, padding=0, **more: conv2d_im2col(
        F.pad(x, (padding[1], padding[1], 2 * padding[0], 0)) if isinstance(padding, tuple) else x, w, b, **more
    ),
}


@EVEN_KERNELS
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[..., Tensor]) -> None:
    assert not is_conv2d(mutant, range(300))


@pytest.mark.parametrize("way", (conv2d_im2col, conv2d_fft))
def test_layers_of_real_size(way: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than one block of the FFT or one matrix of the cache, in float32."""
    monkeypatch.setattr(convolution, "CACHED", 2**14)
    g = torch.Generator().manual_seed(0)
    for channels, outputs, groups, side, kernel in ((3, 8, 1, 150, 7), (16, 32, 4, 40, 3), (1, 1, 1, 300, 61)):
        x = torch.randn(2, channels, side, side + 7, generator=g)
        w = torch.randn(outputs, channels // groups, kernel, kernel, generator=g)
        theirs = F.conv2d(x, w, padding=kernel // 2, stride=2, groups=groups)
        ours = way(x, w, padding=kernel // 2, stride=2, groups=groups)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_flipped_is_mathematical_convolution() -> None:
    w = torch.arange(1.0, 10, dtype=torch.float64).view(1, 1, 3, 3)
    theirs = signal.convolve2d(TAUGHT[0, 0].numpy(), w[0, 0].numpy(), mode="valid")
    assert np.allclose(conv2d_loops(TAUGHT, flipped(w))[0, 0], theirs)
    assert np.abs(conv2d_loops(TAUGHT, w)[0, 0].numpy() - theirs).max() == 20
    assert torch.equal(flipped(EDGE), EDGE)


@pytest.mark.parametrize("name", WAYS)
def test_its_gradients_are_the_derivatives(name: str) -> None:
    (x, w, b), more = setting(1, 2)
    given = [t.requires_grad_() for t in (x, w, b) if t is not None]
    probe = torch.randn(F.conv2d(*given, **more).shape, dtype=torch.float64)
    theirs = torch.autograd.grad((F.conv2d(*given, **more) * probe).sum(), given)
    ours = torch.autograd.grad((WAYS[name](*given, **more) * probe).sum(), given)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_unfold_is_torchs() -> None:
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    windows = unfold(x, (3, 2), stride=(2, 1), dilation=(1, 3))
    theirs = F.unfold(x, (3, 2), stride=(2, 1), dilation=(1, 3))
    assert torch.equal(windows.flatten(1, 3).flatten(2), theirs)
    assert windows.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_the_taught_matrix() -> None:
    """16 x 36, nine numbers in each row, the same in every row, along diagonals within and among the blocks."""
    w = torch.arange(1.0, 10, dtype=torch.float64).view(1, 1, 3, 3)
    T = toeplitz_matrix(w, (6, 6))
    dense = T.to_dense()
    assert dense.shape == (16, 36) and T.values().numel() == 144 and len(dense.unique()) == 10
    blocks = dense.view(4, 4, 6, 6).transpose(1, 2)  # (row of the map, row of the picture, 4, 6)
    for y in range(3):
        assert torch.equal(blocks[y, :-1], blocks[y + 1, 1:])
    for x in range(3):
        assert torch.equal(blocks[:, :, x, :-1], blocks[:, :, x + 1, 1:])
    (jacobian,) = torch.autograd.functional.jacobian(lambda x: F.conv2d(x, w), (TAUGHT,))
    assert torch.equal(jacobian.view(16, 36), dense)


def test_output_size_is_torchs() -> None:
    for seed in range(400):
        (x, w, _), more = setting(seed)
        if more["padding"] == "same":
            continue
        size = conv2d_output_size(x.shape[2:], w.shape[2:], **{k: v for k, v in more.items() if k != "groups"})
        assert size == tuple(F.conv2d(x, w, **more).shape[2:])
    assert conv2d_output_size(6, 3) == (4, 4)
    assert conv2d_output_size(224, 3, padding=1) == (224, 224)
    assert conv2d_output_size(224, 7, stride=2, padding=3) == (112, 112)


def test_parameters_are_torchs() -> None:
    assert conv2d_parameters(3, 64, 3) == 1792
    for inputs, outputs, kernel, groups, bias in ((3, 64, 3, 1, True), (8, 4, (2, 5), 2, False), (6, 6, 3, 6, True)):
        layer = nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=bias)
        ours = conv2d_parameters(inputs, outputs, kernel, groups=groups, bias=bias)
        assert ours == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0}, "at least 1"),
        ({"dilation": (1, -1)}, "at least 1"),
        ({"padding": -1}, "at least 0"),
        ({"dilation": 4}, "window of 9 does not fit into 6"),
        ({"groups": 2}, "do not fit pictures of 1"),
        ({"groups": 0}, "groups"),
        ({"bias": torch.zeros(2, dtype=torch.float64)}, "1 kernels need as many biases"),
        ({"padding": "same", "stride": 2}, "stride 1"),
    ],
)
@pytest.mark.parametrize("name", WAYS)
def test_what_does_not_fit_is_said(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        partial(WAYS[name], TAUGHT, EDGE)(**change)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="no pictures"):
        conv2d_im2col(TAUGHT[:0], EDGE)
    with pytest.raises(InputError, match="window of 7"):
        conv2d_output_size(6, 7)
    with pytest.raises(InputError, match="2 groups"):
        conv2d_parameters(3, 64, 3, groups=2)
