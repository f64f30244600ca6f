"""Paintings: the same every time, the same at every size, and lively enough to be a style."""

from pathlib import Path

import pytest
import torch

from vivace.base import paintings
from vivace.base.errors import InputError
from vivace.base.images import PAINTED, read_image, resize, write_image


@pytest.mark.parametrize("name", PAINTED)
def test_is_a_picture_with_contrast_and_color(name: str) -> None:
    image = getattr(paintings, name)(96, 120)
    assert image.shape == (3, 96, 120) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert image.mean(0).std() > 0.1, "light and dark"
    assert (image.max(0).values - image.min(0).values).mean() > 0.1, "colours, not greys"
    assert image.diff(dim=2).abs().mean() > 0.01, "texture"


@pytest.mark.parametrize("name", PAINTED)
def test_is_the_same_every_time_and_another_with_another_seed(name: str) -> None:
    paint = getattr(paintings, name)
    torch.testing.assert_close(paint(64, 80), paint(64, 80), rtol=0, atol=0)
    assert (paint(64, 80) - paint(64, 80, seed=1)).abs().mean() > 0.005


@pytest.mark.parametrize("name", PAINTED)
def test_is_the_same_picture_at_every_size(name: str) -> None:
    paint = getattr(paintings, name)
    small, large = resize(paint(96, 120), (12, 15)), resize(paint(192, 240), (12, 15))
    assert (small - large).abs().mean() < 0.03
    other = resize(paint(96, 120, seed=1), (12, 15)) if name in ("swirls", "poppies") else small.flip(2)
    assert (other - large).abs().mean() > 0.04, "that would notice another picture"


def test_any_shape() -> None:
    for height, width in ((33, 97), (120, 40)):
        for name in PAINTED:
            assert getattr(paintings, name)(height, width).shape == (3, height, width)


def test_is_read_by_name_at_the_size_asked_for() -> None:
    assert read_image("waves", max_side=100).shape == (3, 80, 100)
    assert read_image("waves", max_side=10).shape == (3, 8, 10)
    assert read_image("mosaic").shape == (3, 512, 640)


def test_a_file_of_that_name_goes_first(elsewhere: Path) -> None:
    write_image("red.png", torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 8, 8))
    Path("red.png").rename("swirls")
    assert read_image("swirls").shape == (3, 8, 8)


def test_a_misspelt_name_is_told_the_right_one() -> None:
    with pytest.raises(InputError, match="swirls"):
        read_image("swirl")
