"""Colour tuning: gratings really drawn and convolved, filters whose answer is known, and mutants."""

import math

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import Tensor

from vivace.base.errors import InputError
from vivace.explain.color_tuning import color_tuning, hue_colors


def filters(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_gratings_convolved() -> None:
    """Each grating as a picture, moved along in 64 phases: the largest answer of a convolution to any."""
    w = filters()
    found = color_tuning(w, hues=4, angles=4, frequencies=3)
    grey = torch.full((1, 3), 3**-0.5)
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    best: dict[int, list[Tensor]] = {k: [] for k in range(5)}
    for k, color in enumerate(torch.cat([hue_colors(4), grey])):
        for theta in (0, math.pi / 4, math.pi / 2, 3 * math.pi / 4):
            for f in (0, 0.25, 0.5):
                phase = (
                    2
                    * math.pi
                    * (f * (x * math.cos(theta) + y * math.sin(theta)) + torch.arange(64)[:, None, None] / 64)
                )
                shown = (color[:, None, None] * phase.cos()[:, None]).double()
                best[k].append(F.conv2d(shown, w).amax((0, 2, 3)))
    top = torch.stack([torch.stack(best[k]).amax(0) for k in range(5)])
    assert torch.allclose(found.by_hue, top[:4].T, rtol=2e-3)
    assert torch.allclose(found.light, top[4], rtol=2e-3)
    assert torch.allclose(found.color, top[:4].amax(0), rtol=2e-3)


def known(color: tuple[float, float, float], wave: bool) -> Tensor:
    at = torch.cos(math.pi * torch.arange(4.0)) if wave else torch.ones(4)
    return (torch.tensor(color)[:, None, None] * at[None, None, :] * torch.ones(4, 1))[None]


def check(index) -> None:  # type: ignore[no-untyped-def]
    assert index(known((1, 1, 1), wave=True)) < 0.01
    assert index(known((1, -1, 0), wave=False)) > 0.99
    assert index(known((1, 0, 0), wave=False)) == pytest.approx(
        2**0.5 / (1 + 2**0.5), abs=0.01
    )  # sqrt(2/3) to sqrt(1/3)


def test_what_is_known() -> None:
    check(lambda w: color_tuning(w).color_index.item())
    red, green, blue = (
        color_tuning(known(c, wave=False), hues=24).hue.item() for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    assert [red, green, blue] == pytest.approx([0, 2 * math.pi / 3, 4 * math.pi / 3], abs=1e-5)
    edge = color_tuning(known((1, 1, 1), wave=True))
    assert (
        edge.light_frequency.item() == 0.5 and color_tuning(known((1, -1, 0), wave=False)).color_frequency.item() == 0
    )


def mutant_light_is_green(w: Tensor) -> float:
    found = color_tuning(w)
    light = w[:, 1].sum((1, 2)).abs().item()
    return (found.color / (found.color + light)).item()


def mutant_even_fields_only(w: Tensor) -> float:
    flat = w.sum((2, 3))
    color = (flat @ hue_colors(24).T).abs().amax()
    light = (flat @ torch.full((3,), 3**-0.5)).abs().squeeze()
    return (color / (color + light).clamp(min=1e-12)).item()


def mutant_colors_of_any_length(w: Tensor) -> float:
    found = color_tuning(w)
    return (found.color * 3 / (found.color * 3 + found.light)).item()


@pytest.mark.parametrize("mutant", [mutant_light_is_green, mutant_even_fields_only, mutant_colors_of_any_length])
def test_rejects(mutant) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError):
        check(mutant)
        assert mutant(known((0, 1, -1), wave=True)) == pytest.approx(
            color_tuning(known((0, 1, -1), wave=True)).color_index.item()
        )


def test_colors_are_as_bright_as_grey() -> None:
    assert torch.allclose(hue_colors(7).sum(1), torch.zeros(7), atol=1e-6)
    assert torch.allclose(hue_colors(7).norm(dim=1), torch.ones(7))


@pytest.mark.parametrize("wrong", [torch.rand(2, 1, 3, 3), torch.rand(3, 3, 3)])
def test_bad_input(wrong: Tensor) -> None:
    with pytest.raises((InputError, TypeCheckError), match=r"R, G and B|filters"):
        color_tuning(wrong)
    with pytest.raises(InputError, match="at least 2"):
        color_tuning(filters(), hues=1)
