"""SSIM against scikit-image's, its terms and MS-SSIM against SciPy's filter; mutants fail the same check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.style import ms_ssim, ssim, ssim_map, ssim_terms

PAPER = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pair(side: int = 64, *, noise: float = 0.1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = resize(read_image("astronaut"), side)[None].to(dtype)
    generator = torch.Generator().manual_seed(0)
    return x, (0.9 * x + noise * torch.randn(x.shape, generator=generator, dtype=dtype)).clamp(0, 1)


def skimage(x: Tensor, y: Tensor) -> float:
    return float(structural_similarity(x[0].numpy(), y[0].numpy(), channel_axis=0, data_range=1, **PAPER))


def is_ssim(f: Callable[[Tensor, Tensor], Tensor], *, within: float = 1e-9) -> bool:
    x, y = pair()
    flat = torch.full_like(x, 0.3)
    return all(abs(float(f(*two)) - skimage(*two)) < within for two in ((x, y), (x, flat), (flat, flat + 0.1)))


def test_it_is_scikit_images() -> None:
    assert is_ssim(ssim)
    x, y = pair(dtype=torch.float32)
    assert abs(float(ssim(x, y)) - skimage(x.double(), y.double())) < 1e-6


def naive(x: Tensor, y: Tensor, *, C1: float = 1e-4, C2: float = 9e-4, power: float = 1.0, sigma: float = 1.5,
          inside: int = 5, sample: float = 1.0) -> Tensor:  # fmt: skip
    """The definition, with room for mistakes."""
    x, y = x[0].numpy(), y[0].numpy()

    def blur(a: np.ndarray) -> np.ndarray:
        return np.stack([gaussian_filter(plane, sigma, radius=5) for plane in a])

    mx, my = blur(x), blur(y)
    vx, vy, cov = (sample * v for v in (blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my))
    s = ((2 * mx * my + C1) / (mx**2 + my**2 + C1)) ** power * (2 * cov + C2) / (vx + vy + C2)
    return torch.tensor(s[:, inside : s.shape[1] - inside, inside : s.shape[2] - inside].mean())


def test_the_definition() -> None:
    assert is_ssim(naive)


MUTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "constants not squared": lambda x, y: naive(x, y, C1=0.01, C2=0.03),
    "constants changed over": lambda x, y: naive(x, y, C1=9e-4, C2=1e-4),
    "no luminance": lambda x, y: naive(x, y, power=0),
    "another window": lambda x, y: naive(x, y, sigma=1.0),
    "the border too": lambda x, y: naive(x, y, inside=0),
    "sample variances": lambda x, y: naive(x, y, sample=121 / 120),
    "bytes' range": lambda x, y: ssim(x, y, data_range=255),
    "of the grey picture": lambda x, y: ssim(x.mean(1, keepdim=True), y.mean(1, keepdim=True)),
    "product of the terms' means": lambda x, y: torch.stack([t.mean() for t in ssim_terms(x, y)]).prod(),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert not is_ssim(mutant, within=1e-6)


def test_the_map_is_scikit_images_inside() -> None:
    x, y = pair(40)
    _, theirs = structural_similarity(x[0].numpy(), y[0].numpy(), channel_axis=0, data_range=1, full=True, **PAPER)
    assert np.allclose(ssim_map(x, y)[0].numpy(), theirs[:, 5:-5, 5:-5], atol=1e-9)


def test_three_terms_make_it_with_half_of_c2() -> None:
    x, y = pair()
    luminance, contrast, structure = ssim_terms(x, y)
    assert torch.allclose(luminance * contrast * structure, ssim_map(x, y), atol=1e-7)
    luminance, contrast, structure = ssim_terms(x, y, C3=9e-4)
    assert not torch.allclose(luminance * contrast * structure, ssim_map(x, y), atol=1e-3)


def test_the_terms_see_what_they_are_named_for() -> None:
    x, _ = pair()
    brighter, flatter, upside = ssim_terms(x, x + 0.1), ssim_terms(x, 0.5 * x), ssim_terms(x, 1 - x)
    assert brighter.luminance.mean() < 0.98 and torch.allclose(brighter.contrast, torch.ones(1).double())
    assert flatter.contrast.mean() < 0.9 and flatter.structure.mean() > 0.95
    assert torch.allclose(upside.contrast, torch.ones(1).double()) and upside.structure.mean() < -0.5


def test_equal_pictures_have_one_and_other_ranges_are_scaled() -> None:
    x, y = pair()
    assert float(ssim(x, x)) == pytest.approx(1)
    assert float(ssim(255 * x, 255 * y, data_range=255)) == pytest.approx(float(ssim(x, y)))
    assert torch.allclose(ssim(torch.cat([x, y]), torch.cat([y, y])), torch.stack([ssim(x, y)[0], ssim(y, y)[0]]))


def test_ms_ssim_by_its_definition() -> None:
    x, y = pair(181)  # odd, and odd again
    expected = np.ones(3)
    a, b = x[0].numpy(), y[0].numpy()
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        for c in range(3):
            mx, my = (gaussian_filter(p[c], 1.5, radius=5) for p in (a, b))
            vx, vy, cov = (gaussian_filter(p[c] * q[c], 1.5, radius=5) for p, q in ((a, a), (b, b), (a, b)))
            rest = (2 * (cov - mx * my) + 9e-4) / (vx - mx**2 + vy - my**2 + 9e-4)
            light = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) if scale == 4 else 1
            expected[c] *= (light * rest)[5:-5, 5:-5].mean() ** weight
        h, w = (side // 2 * 2 for side in a.shape[1:])
        a, b = (p[:, :h, :w].reshape(3, h // 2, 2, w // 2, 2).mean((2, 4)) for p in (a, b))
    assert float(ms_ssim(x, y)) == pytest.approx(expected.mean(), abs=1e-9)
    assert float(ms_ssim(x, 1 - x)) == 0  # structure turned over: a negative mean has no root


def test_its_gradient_is_the_derivative() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(1, 1, 12, 11, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    for f in (ssim, ssim_terms):
        assert torch.autograd.gradcheck(f, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(ssim, (x, y), fast_mode=True)


def test_a_flat_picture_has_a_finite_gradient() -> None:
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    loss = sum(term.sum() for term in ssim_terms(flat, flat.detach() + 0.1)) + ssim(flat, flat.detach()).sum()
    (gradient,) = torch.autograd.grad(loss, flat)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 21), "one size"),
        (torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 20), "11 x 11"),
        (torch.rand(1, 3, 20, 20), torch.full((1, 3, 20, 20), float("nan")), "NaN"),
    ],
)
def test_bad_input_is_named(x: Tensor, y: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ssim(x, y)


def test_ranges_and_sizes_are_named() -> None:
    x, y = pair(100)
    with pytest.raises(InputError, match="176"):
        ms_ssim(x, y)
    with pytest.raises(InputError, match="data_range"):
        ssim(x, y, data_range=0)
