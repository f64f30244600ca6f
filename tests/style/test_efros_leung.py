"""Efros-Leung sampling against naive sums and textures with one right answer only; mutants fail the same checks."""

from functools import cache

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.style import efros_leung, fill_hole
from vivace.style.efros_leung import _apart, _Sight, _Windows


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache  # the mosaic is painted anew each time it is read
def exemplar(name: str = "mosaic", side: int = 32) -> Tensor:
    return resize(read_image(name), 96)[:, :side, :side]


def tiled(height: int, width: int) -> Tensor:
    """5 x 4 colours, again and again: any 5 x 5 window says where in it one is."""
    tile = torch.rand(3, 5, 4, generator=seeded(7))
    return tile.repeat(1, height // 5 + 1, width // 4 + 1)[:, :height, :width]


def is_filled(picture: Tensor, window: int) -> bool:
    hole = torch.zeros(picture.shape[-2:], dtype=torch.bool)
    hole[8:15, 9:16], hole[0:4, 0:5] = True, True
    return torch.equal(fill_hole(torch.where(hole, 0.5, picture), hole, window, generator=seeded(0)), picture)


def test_a_hole_in_a_pattern_is_filled_exactly() -> None:
    assert is_filled(tiled(30, 28), 5)
    mutant = tiled(30, 28)[:, :, torch.randperm(28, generator=seeded(1))]  # no pattern to go on
    assert not is_filled(mutant, 5)


def test_a_pattern_goes_on_exactly() -> None:
    made = efros_leung(tiled(20, 20), (23, 19), 9, generator=seeded(0))
    assert any(torch.equal(made, tiled(40, 40)[:, y : y + 23, x : x + 19]) for y in range(5) for x in range(4))


def test_a_seamless_pattern_fits_beside_itself() -> None:
    made = efros_leung(tiled(20, 20), (20, 20), 9, seamless=True, generator=seeded(0))
    assert torch.equal(made.roll((5, 4), (1, 2)), made)
    mutant = efros_leung(tiled(20, 20), (23, 19), 9, generator=seeded(0))
    assert not torch.equal(mutant.roll((5, 4), (1, 2)), mutant)


@pytest.mark.parametrize("name", ["mosaic", "gravel"])  # in colour, and grey, of which one axis is compared
def test_errors_are_the_naive_means(name: str) -> None:
    source, r = exemplar(name, 16), 2
    windows = _Windows(source, torch.ones(16, 16, dtype=torch.bool), 5)
    some = source[:, 3:8, 5:10] + 0.1
    known = torch.rand(5, 5, generator=seeded(0)) < 0.6
    y, x = torch.meshgrid(torch.arange(-r, r + 1), torch.arange(-r, r + 1), indexing="ij")

    def naive(bell: Tensor) -> Tensor:
        weights = known * bell
        errors = [((source[:, i : i + 5, j : j + 5] - some).square().sum(0) * weights).sum() / weights.sum()
                  for i in range(12) for j in range(12)]  # fmt: skip
        return torch.stack(errors)

    found = windows.errors(some[None], known.flatten()[None])[0]
    sigma = 5 / 6.4
    assert torch.allclose(found, naive(torch.exp(-(x**2 + y**2) / (2 * sigma**2))), rtol=1e-3, atol=1e-4)
    mutant = naive(torch.ones(5, 5))  # without the bell
    assert not torch.allclose(found, mutant, rtol=1e-3, atol=1e-4)


def test_pixels_drawn_together_do_not_see_each_other() -> None:
    known = torch.zeros(30, 30, dtype=torch.bool)
    known[10:20, 8:21] = True
    edge = torch.nonzero(~known & (torch.rand(30, 30, generator=seeded(0)) < 0.5))
    sight = _Sight(known, edge, 3)
    taken = edge[_apart(sight, seeded(0))]
    away = (taken[:, None] - taken[None]).abs()
    seen = torch.minimum(away, 30 - away).amax(2) + 99 * torch.eye(len(taken), dtype=torch.long)
    assert len(taken) > 3 and seen.min() > 3
    counts = sight.known.sum(1)
    assert known[taken[0, 0] - 3 : taken[0, 0] + 4, taken[0, 1] - 3 : taken[0, 1] + 4].sum() == counts.max()


@pytest.mark.parametrize("seamless", [False, True])
def test_every_pixel_is_one_of_the_exemplars(seamless: bool) -> None:
    source = exemplar()
    made = efros_leung(source, (11, 17), 5, seamless=seamless, generator=seeded(0))
    assert made.shape == (3, 11, 17)
    known = {tuple(color) for color in source.flatten(1).T.tolist()}
    assert {tuple(color) for color in made.flatten(1).T.tolist()} <= known


def test_outside_the_hole_nothing_changes() -> None:
    picture = exemplar("coffee", 40)
    hole = torch.zeros(40, 40, dtype=torch.bool)
    hole[12:20, 30:40] = True
    made = fill_hole(picture, hole, 7, generator=seeded(0))
    assert torch.equal(made[:, ~hole], picture[:, ~hole]) and not torch.equal(made[:, hole], picture[:, hole])


def test_the_generator_alone_decides() -> None:
    first, again, other = (efros_leung(exemplar(side=16), (10, 12), 5, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_one_color_is_a_texture() -> None:
    assert (efros_leung(torch.full((3, 9, 9), 0.3), (12, 12), 5, generator=seeded(0)) == 0.3).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exemplar": torch.full((3, 40, 40), float("nan"))}, "NaN"),
        ({"window": 4}, "odd side"),
        ({"window": 1}, "odd side"),
        ({"window": 33}, "don't fit"),
        ({"size": (2, 40)}, "at least 3"),
        ({"exemplar": torch.zeros(3, 1, 1)}, "at least 3"),
        ({"exemplar": torch.rand(3, 900, 900), "window": 31}, "reduce the exemplar"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        efros_leung(**{"exemplar": exemplar(), "size": (40, 40), "window": 5, **change})


def test_a_hole_everywhere_is_said() -> None:
    hole = torch.zeros(32, 32, dtype=torch.bool)
    hole[::4] = True
    with pytest.raises(InputError, match="free of the hole"):
        fill_hole(exemplar(), hole, 5)
