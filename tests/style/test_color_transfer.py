"""Colour transfer: mean and covariance are the palette's, light stays light; a mutant moves the mean only."""

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.style import color_transfer


def test_the_picture_has_the_palettes_colours() -> None:
    content, style = resize(read_image("coffee"), (40, 48)), resize(read_image("chelsea"), (48, 40))
    content, style = 0.3 + 0.3 * content, 0.35 + 0.3 * style  # far enough inside [0, 1] that little is clipped
    wanted = torch.cov(style.flatten(1))

    def off(picture: Tensor) -> float:
        return float((torch.cov(picture.flatten(1)) - wanted).norm() / wanted.norm())

    moved = color_transfer(content, style)
    assert (moved.mean((1, 2)) - style.mean((1, 2))).abs().max() < 0.02
    assert off(moved) < 0.5 < off(content)
    mutant = content - content.mean((1, 2), keepdim=True) + style.mean((1, 2), keepdim=True)  # the mean only
    assert off(mutant) > 0.5
    lighter = torch.corrcoef(torch.stack([moved.mean(0).flatten(), content.mean(0).flatten()]))[0, 1]
    assert lighter > 0.9, "what was lighter stays lighter"


def test_a_palette_of_one_color_is_a_palette() -> None:
    picture = resize(read_image("coffee"), (40, 48))
    plain = color_transfer(picture, torch.full((3, 8, 8), 0.4))
    assert plain.isfinite().all() and (plain.mean((1, 2)) - 0.4).abs().max() < 0.02


def test_what_is_no_picture_is_told() -> None:
    with pytest.raises(InputError, match="NaN"):
        color_transfer(torch.full((3, 8, 8), float("nan")), torch.zeros(3, 8, 8))
