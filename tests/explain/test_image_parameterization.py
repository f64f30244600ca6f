"""Image parameters: NumPy's inverse transform, what is written is read back, ranges, and wrong versions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.explain.image_parameterization import COLORS, ImageParameters, blurred, high_frequencies


def check(picture: Callable[[ImageParameters], Tensor]) -> None:
    """Grey plus the waves that NumPy makes of the numbers, each divided by its frequency, colours mixed."""
    parameters = ImageParameters((6, 9), limit="none", generator=torch.Generator().manual_seed(0), deviation=1)
    f = np.hypot(np.fft.fftfreq(6)[:, None], np.fft.rfftfreq(9)[None])
    f[0, 0] = 1 / 9
    numbers = parameters.numbers.detach().double().numpy()
    waves = np.fft.irfft2((numbers[0, ..., 0] + 1j * numbers[0, ..., 1]) / f * np.sqrt(54) / 4, s=(6, 9))
    expected = 0.5 + np.tensordot(COLORS.double().numpy(), waves, 1)
    np.testing.assert_allclose(picture(parameters)[0].detach().numpy(), expected, atol=1e-5)


def test_is_numpys_inverse_transform() -> None:
    check(lambda parameters: parameters())


def colours_transposed(parameters: ImageParameters) -> Tensor:
    parameters.colors = parameters.colors.T
    return parameters()


def without_scale(parameters: ImageParameters) -> Tensor:
    parameters.scale = torch.full_like(parameters.scale, 54**0.5 / 4)
    return parameters()


def of_squared_frequency(parameters: ImageParameters) -> Tensor:
    parameters.scale = parameters.scale**2
    return parameters()


@pytest.mark.parametrize("mutant", [colours_transposed, without_scale, of_squared_frequency])
def test_rejects(mutant: Callable[[ImageParameters], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("basis", ["fourier", "pixel"])
@pytest.mark.parametrize("limit", ["sigmoid", "clip", "none"])
@pytest.mark.parametrize("decorrelate", [True, False])
def test_reads_what_was_written(basis: str, limit: str, decorrelate: bool) -> None:
    photo = resize(read_image("chelsea"), (33, 48))[None].clamp(0.01, 0.99)
    parameters = ImageParameters((33, 48), basis=basis, limit=limit, decorrelate=decorrelate)
    parameters.write(photo)
    torch.testing.assert_close(parameters().detach(), photo, atol=1e-5, rtol=0)


def test_limits() -> None:
    start = torch.Generator().manual_seed(0)
    wild = {limit: ImageParameters((8, 8), limit=limit, deviation=5, generator=start) for limit in ("sigmoid", "clip")}
    assert 0 <= wild["sigmoid"]().min() and wild["sigmoid"]().max() <= 1
    before = wild["clip"]().detach()
    assert before.min() < 0 and before.max() > 1
    wild["clip"].clip()
    torch.testing.assert_close(wild["clip"]().detach(), before.clamp(0, 1))


def test_colours_are_those_of_photographs() -> None:
    """Decorrelated axes: lightness first, by far the longest; their covariance correlates all three channels."""
    covariance = COLORS @ COLORS.T
    deviations = covariance.diagonal().sqrt()
    assert (covariance / deviations[:, None] / deviations).min() > 0.75
    lengths = COLORS.norm(dim=0)
    assert lengths[0] > 3 * lengths[1] > 3 * lengths[2]


def test_blur_is_a_gaussian() -> None:
    """One pixel becomes the bell curve."""
    dot = torch.zeros(1, 3, 33, 33)
    dot[..., 16, 16] = 1
    d = torch.arange(33) - 16.0
    bell = torch.exp(-(d**2) / (2 * 2.5**2)) / (2.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(blurred(dot, 2.5), (bell[:, None] * bell).expand(1, 3, -1, -1), atol=1e-6, rtol=0)


def test_high_frequencies_by_hand() -> None:
    """A wave of amplitude 1/4 has a mean square of 1/32, and counts where it is fast."""
    x = torch.arange(32.0)
    slow, fast = (0.5 + 0.25 * torch.cos(2 * math.pi * f * x).expand(1, 3, 32, 32) for f in (2 / 32, 10 / 32))
    assert float(high_frequencies(slow)) == pytest.approx(0, abs=1e-9)
    assert float(high_frequencies(fast)) == pytest.approx(1 / 32)
    assert float(high_frequencies(slow, above=0)) == pytest.approx(1 / 32)


@pytest.mark.parametrize(("wrong", "told"), [
    ({"size": (1, 9)}, "at least 2 x 2"), ({"count": 0}, "one at least"),
    ({"basis": "furier"}, "fourier"), ({"limit": "sigmoids"}, "sigmoid"),
])  # fmt: skip
def test_tells_what_is_wrong(wrong: dict, told: str) -> None:
    plain = getattr(ImageParameters.__init__, "__wrapped__", ImageParameters.__init__)  # the type check would be first
    with pytest.raises(InputError, match=told):
        plain(ImageParameters.__new__(ImageParameters), **({"size": (8, 8)} | wrong))
    with pytest.raises(InputError, match=r"\(1, 3, 8, 8\)"):
        ImageParameters((8, 8)).write(torch.rand(1, 3, 8, 9))
