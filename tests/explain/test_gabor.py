"""Gabor fit: scikit-image's kernel, SciPy's least squares, what is known to be a Gabor, and mutants."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.optimize import least_squares
from skimage.filters import gabor_kernel
from torch import Tensor

from vivace.base.errors import InputError
from vivace.explain.gabor import GaborFit, color_and_shape, fit_gabor, gabor


def pixels(side: int) -> tuple[Tensor, Tensor]:
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return at[None, :], at[:, None]


def some(count: int, seed: int = 0) -> GaborFit:
    g = torch.Generator().manual_seed(seed)
    draw = torch.rand(8, count, generator=g, dtype=torch.float64)
    return GaborFit(0.5 + draw[0], draw[1] - 0.5, draw[2] - 0.5, 1 + draw[3], 1 + draw[4], 3 * draw[5],
                    0.12 + 0.25 * draw[6], 6 * draw[7] - 3, torch.ones(count))  # fmt: skip


@pytest.mark.parametrize(("f", "theta", "sx", "sy", "phase"), [(0.2, 0.0, 1.5, 2.0, 0.0), (0.1, 0.7, 2.0, 1.2, 1.1)])
def test_scikit_image_draws_the_same(f: float, theta: float, sx: float, sy: float, phase: float) -> None:
    theirs = gabor_kernel(f, theta, sigma_x=sx, sigma_y=sy, offset=phase, n_stds=3).real
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in theirs.shape)
    ours = gabor(columns[None, :], rows[:, None], 1 / (2 * math.pi * sx * sy), 0, 0, sx, sy,
                 torch.tensor(theta, dtype=torch.float64), f, phase)  # fmt: skip
    assert np.allclose(ours.numpy(), theirs, atol=1e-12)


def test_finds_what_is_a_gabor() -> None:
    true = some(60)
    found = fit_gabor(true.drawn(9, 9))
    assert found.r2.min() > 1 - 1e-6
    assert torch.allclose(found.drawn(9, 9), true.drawn(9, 9), atol=1e-3)
    assert (found.frequency - true.frequency).abs().median() < 1e-4
    assert (found.theta >= 0).all() and (found.theta <= math.pi).all()


def test_scale_does_not_matter() -> None:
    filters = torch.randn(10, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    small, large = fit_gabor(filters), fit_gabor(1000 * filters)
    assert torch.allclose(small.r2, large.r2, atol=1e-6)
    assert torch.allclose(1000 * small.amplitude, large.amplitude, rtol=1e-3)
    nothing = fit_gabor(torch.zeros(1, 5, 5))
    assert nothing.amplitude.tolist() == [0] and nothing.r2.tolist() == [0]


def test_r2_is_that_of_the_function_drawn() -> None:
    filters = torch.randn(10, 6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for centred in (False, True):
        fit = fit_gabor(filters, centred=centred)
        left = (filters - fit.drawn(6, 4)).square().sum((1, 2)) / filters.square().sum((1, 2))
        assert torch.allclose(1 - left, fit.r2, atol=1e-9)
        if centred:
            assert (fit.x.abs() < 1e-9).all() and (fit.y.abs() < 1e-9).all()
            assert torch.allclose(fit.sigma_x, fit.sigma_y)


def scipys(kernel: np.ndarray, starts: int = 12) -> float:
    """The best of many starts of a bounded fit of the same eight numbers."""
    side, rng = kernel.shape[0], np.random.default_rng(0)
    column, row = (at.numpy() for at in pixels(side))
    low = np.array([-side / 2, -side / 2, 0.5, 0.4, -10, 0, -20, -20])
    high = np.array([side / 2, side / 2, side, 2.5, 10, 0.5, 20, 20])

    def apart(p: np.ndarray) -> np.ndarray:
        x, y, s, r, t, f, a, b = p
        u, v = (column - x) * np.cos(t) + (row - y) * np.sin(t), (row - y) * np.cos(t) - (column - x) * np.sin(t)
        turn = 2 * np.pi * f * u
        return (np.exp(-((u / s) ** 2 + (v / (s * r)) ** 2) / 2) * (a * np.cos(turn) + b * np.sin(turn)) - kernel
                ).ravel()  # fmt: skip

    start_low = np.where(np.isin(np.arange(8), (4, 6, 7)), (0, 0, 0, 0, 0, 0, -1, -1), low)
    start_high = np.where(np.isin(np.arange(8), (4, 6, 7)), (0, 0, 0, 0, 3, 0, 1, 1), high)
    fits = [least_squares(apart, rng.uniform(start_low, start_high), bounds=(low, high)) for _ in range(starts)]
    return 1 - 2 * min(fit.cost for fit in fits) / (kernel**2).sum()


def test_scipy_finds_nothing_better() -> None:
    filters = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ours = fit_gabor(filters, starts=12, steps=100).r2
    theirs = torch.tensor([scipys(f.numpy()) for f in filters])
    assert (ours > theirs - 0.02).all()
    assert ours.mean() > theirs.mean() - 0.005


def mutant_no_bell(fit: GaborFit) -> GaborFit:
    return fit._replace(sigma_x=100 * fit.sigma_x, sigma_y=100 * fit.sigma_y)


def mutant_angle_the_other_way(fit: GaborFit) -> GaborFit:
    return fit._replace(theta=-fit.theta)


def mutant_phase_of_a_sine(fit: GaborFit) -> GaborFit:
    return fit._replace(phase=fit.phase + math.pi / 2)


def mutant_radians_for_cycles(fit: GaborFit) -> GaborFit:
    return fit._replace(frequency=fit.frequency / (2 * math.pi))


@pytest.mark.parametrize(
    "mutant", [mutant_no_bell, mutant_angle_the_other_way, mutant_phase_of_a_sine, mutant_radians_for_cycles]
)
def test_rejects(mutant) -> None:  # type: ignore[no-untyped-def]
    true = some(20)
    found = fit_gabor(true.drawn(9, 9))
    assert not torch.allclose(mutant(found).drawn(9, 9), true.drawn(9, 9), atol=1e-2)


def test_noise_is_none_and_small_filters_are_always_nearly_one() -> None:
    g = torch.Generator().manual_seed(4)
    r2 = {side: fit_gabor(torch.randn(40, side, side, generator=g)).r2.median() for side in (3, 7, 11)}
    assert r2[3] > 0.75 > r2[7] > r2[11]
    assert fit_gabor(torch.randn(40, 3, 3, generator=g), centred=True).r2.median() < r2[3]


def test_one_colour_times_one_shape() -> None:
    shape, color = torch.randn(4, 5, 5), torch.rand(4, 3)
    c, s = color_and_shape(color[:, :, None, None] * shape[:, None])
    assert torch.allclose(c[:, :, None, None] * s[:, None], color[:, :, None, None] * shape[:, None], atol=1e-5)
    assert torch.allclose(c.norm(dim=1), torch.ones(4)) and (c > 0).all()


@pytest.mark.parametrize("filters", [torch.rand(3, 3), torch.rand(1, 3, 1), torch.rand(0, 3, 3),
                                     torch.full((1, 3, 3), torch.nan)])  # fmt: skip
def test_bad_input(filters: Tensor) -> None:
    with pytest.raises((InputError, TypeCheckError), match=r"filters|NaN"):
        fit_gabor(filters)
    with pytest.raises(InputError, match="starts"):
        fit_gabor(torch.rand(1, 3, 3), starts=0)
