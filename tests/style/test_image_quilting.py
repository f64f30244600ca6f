"""Image quilting against brute force and naive sums; mutants fail the same checks."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.style import image_quilting
from vivace.style.image_quilting import _BlockErrors, _kept, _there, minimum_cut


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache  # the mosaic is painted anew each time it is read
def exemplar(name: str = "mosaic", side: int = 48) -> Tensor:
    return resize(read_image(name), 96)[:, :side, :side]


def cost(error: Tensor, path: Tensor) -> float:
    return float(error[torch.arange(len(path)), path].sum())


def is_the_cheapest(cut: Callable[[Tensor], Tensor]) -> bool:
    """Among all paths that move by one column at most."""
    good = True
    for seed in range(5):
        error = torch.rand(5, 4, generator=seeded(seed))
        paths = [torch.tensor(p) for p in product(range(4), repeat=5) if all(abs(a - b) <= 1 for a, b in pairwise(p))]
        path = cut(error)
        good &= (
            bool((path.diff().abs() <= 1).all()) and abs(cost(error, path) - min(cost(error, p) for p in paths)) < 1e-6
        )
    return good


def _greedy(error: Tensor) -> Tensor:
    path = [int(error[0].argmin())]
    for row in error[1:]:
        low = max(0, path[-1] - 1)
        path.append(low + int(row[low : path[-1] + 2].argmin()))
    return torch.tensor(path)


CUT_MUTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "greedy": _greedy,
    "the least of each row": lambda error: error.argmin(1),
    "straight": lambda error: error.sum(0).argmin().expand(len(error)),
    "from the last row": lambda error: minimum_cut(error.flip(0)),
}


def test_the_cut_is_the_cheapest() -> None:
    assert is_the_cheapest(minimum_cut)


@pytest.mark.parametrize("mutant", CUT_MUTANTS.values(), ids=CUT_MUTANTS)
def test_a_wrong_cut_is_found(mutant: Callable[[Tensor], Tensor]) -> None:
    assert not is_the_cheapest(mutant)


def test_errors_are_the_naive_sums() -> None:
    source, b, sides = exemplar("coffee", 20), 8, (3, 0, 2, 1)
    old = torch.rand(3, b, b, generator=seeded(0))
    there = _there(b, sides, old.device)
    naive = torch.stack([
        torch.stack([(there * (source[:, y : y + b, x : x + b] - old).square()).sum() for x in range(13)])
        for y in range(13)
    ])  # fmt: skip
    assert torch.allclose(_BlockErrors(source, b)(old, sides), naive, rtol=1e-4, atol=1e-4)
    mutant = _BlockErrors(source, b)(old, (3, 0, 2, 0))
    assert not torch.allclose(mutant, naive, rtol=1e-4, atol=1e-4)


def test_each_side_keeps_what_is_before_its_cut() -> None:
    """An error that is low along one known line on each side: row 2, columns 1 and 7."""
    error = torch.ones(9, 9)
    error[2], error[5:, 1], error[5:, 7] = 0, 0, 0
    kept = _kept(error, (4, 0, 3, 3))
    assert kept[:2, 3:6].all() and not kept[2:, 3:6].any(), "above its cut"
    assert kept[6:, 0].all() and not kept[6:, 1:3].any(), "left of it"
    assert kept[6:, 8].all() and not kept[6:, 6:8].any(), "right of it"
    assert torch.equal(_kept(error.flip(0), (0, 4, 0, 0)), _kept(error, (4, 0, 0, 0)).flip(0)), "below it"


@pytest.mark.parametrize("size", [(48, 48), (40, 61), (17, 33)])
@pytest.mark.parametrize("seamless", [False, True])
def test_every_pixel_is_one_of_the_exemplars(size: tuple[int, int], seamless: bool) -> None:
    source = exemplar()
    made = image_quilting(source, size, 16, seamless=seamless, generator=seeded(0))
    assert made.shape == (3, *size)
    known = {tuple(color) for color in source.flatten(1).T.tolist()}
    assert {tuple(color) for color in made.flatten(1).T.tolist()} <= known


def border_over_inside(image: Tensor) -> float:
    """Steps across the border, where copies of the picture meet, over those inside."""
    across = torch.cat(
        [(image[:, 0] - image[:, -1]).abs().flatten(), (image[:, :, 0] - image[:, :, -1]).abs().flatten()]
    )
    inside = torch.cat([image.diff(dim=1).abs().flatten(), image.diff(dim=2).abs().flatten()])
    return float(across.mean() / inside.mean())


@pytest.mark.parametrize("name", ["gravel", "mosaic"])
def test_seamless_tiles(name: str) -> None:
    ratios = [
        sum(border_over_inside(image_quilting(exemplar(name), (40, 40), 16, overlap=4, seamless=s,
                                              generator=seeded(seed))) for seed in range(4)) / 4
        for s in (True, False)
    ]  # fmt: skip
    assert ratios[0] < 1.15 < 1.25 < ratios[1], ratios  # not seamless: the mutant


def test_a_guide_is_followed() -> None:
    guide = resize(read_image("astronaut"), (60, 60))
    made = image_quilting(exemplar("gravel"), None, 8, guide=guide, generator=seeded(0))
    mutant = image_quilting(exemplar("gravel"), None, 8, guide=guide, guide_weight=0.0, generator=seeded(0))

    def likeness(image: Tensor) -> float:
        small = [resize(picture.mean(0, keepdim=True), (15, 15)).flatten() for picture in (image, guide)]
        return float(torch.corrcoef(torch.stack(small))[0, 1])

    assert made.shape == guide.shape and likeness(made) > 0.8 > 0.4 > likeness(mutant)


def test_the_generator_alone_decides() -> None:
    first, again, other = (image_quilting(exemplar(), (32, 32), 12, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_one_color_is_a_texture(level: float) -> None:
    made = image_quilting(torch.full((3, 20, 20), level), (33, 40), generator=seeded(0))
    assert (made == level).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exemplar": torch.full((3, 40, 40), float("nan"))}, "NaN"),
        ({"block": 64}, "don't fit"),
        ({"size": (8, 64)}, "don't fit"),
        ({"exemplar": torch.zeros(3, 1, 1)}, "don't fit"),
        ({"overlap": 0}, "overlap in 1 to 8"),
        ({"overlap": 9}, "overlap in 1 to 8"),
        ({"size": None}, "either a size or a guide"),
        ({"guide": torch.zeros(3, 64, 64)}, "either a size or a guide"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], words: str) -> None:
    block = {} if "exemplar" in change else {"block": 16}
    with pytest.raises(InputError, match=words):
        image_quilting(**{"exemplar": exemplar(), "size": (64, 64), **block, **change})
