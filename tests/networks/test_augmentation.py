"""Augmentation against torch.rot90, SciPy's and Pillow's geometry, and the statistics that it promises."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.networks import add_noise, affine, random_affine, random_flip

PHOTO = resize(read_image("chelsea"), (60, 84))[None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def placed(images: Tensor, *, angle: float = 0, scale: float = 1, right: float = 0, down: float = 0,
           fill: float = 0) -> Tensor:  # fmt: skip
    given = {"angle": angle, "scale": scale, "right": right, "down": down}
    tensors = {name: torch.full((len(images),), float(value), dtype=images.dtype) for name, value in given.items()}
    return affine(images, **tensors, fill=fill)


def clockwise(images: Tensor, *, angle: float = 0, **others: float) -> Tensor:
    return placed(images, angle=-angle, **others)


def about_the_corner(images: Tensor, *, angle: float = 0, **others: float) -> Tensor:
    height, width = images.shape[-2:]
    x, y = -(width - 1) / 2, -(height - 1) / 2
    off = x - (math.cos(angle) * x + math.sin(angle) * y), y - (math.cos(angle) * y - math.sin(angle) * x)
    return placed(
        images, angle=angle, right=off[0] + others.pop("right", 0), down=off[1] + others.pop("down", 0), **others
    )


def in_shares_of_the_side(images: Tensor, **given: float) -> Tensor:
    """Turns in coordinates that run from -1 to 1 both ways, as grid_sample's do: shears what is not square."""
    height, width = images.shape[-2:]
    square = torch.nn.functional.interpolate(images, (width, width), mode="bilinear", align_corners=False)
    turned = placed(square, **given)
    return torch.nn.functional.interpolate(turned, (height, width), mode="bilinear", align_corners=False)


def by_scipy(image: Tensor, angle: float, scale: float, right: float, down: float) -> np.ndarray:
    """Each output pixel's place in the input, written out in row, column."""
    height, width = image.shape[-2:]
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    inverse = np.array([[c, s], [-s, c]])  # from output (row, column) to input: counter-clockwise as one looks at it
    offset = middle - inverse @ (middle + np.array([down, right]))
    return np.stack([ndimage.affine_transform(channel, inverse, offset, order=1, mode="constant", cval=0.0)
                     for channel in image.numpy()])  # fmt: skip


def agrees_with_scipy(move: Any) -> bool:
    for angle, scale, right, down in ((0.3, 1, 0, 0), (-1.1, 1.3, 0, 0), (0.5, 0.8, 6.5, -3), (0, 1, 4, 2)):
        ours = move(PHOTO, angle=angle, scale=scale, right=right, down=down)[0].numpy()
        theirs = by_scipy(PHOTO[0], angle, scale, right, down)
        inside = (ours > 0).all(0) & (theirs > 0).all(0)  # the black's edge is drawn another way
        if inside.sum() < 1000 or np.abs(ours - theirs)[:, inside].mean() > 2e-3:
            return False
    return True


def test_agrees_with_scipy() -> None:
    assert agrees_with_scipy(placed)


@pytest.mark.parametrize("mutant", [clockwise, about_the_corner, in_shares_of_the_side])
def test_rejects(mutant: Any) -> None:
    assert not agrees_with_scipy(mutant)


def test_a_quarter_turn_is_exact() -> None:
    square = PHOTO[..., :60]
    for quarter in (1, 2, 3):
        turned = placed(square, angle=quarter * math.pi / 2)
        assert torch.allclose(turned, torch.rot90(square, quarter, (-2, -1)), atol=1e-5)


def test_nothing_asked_for_is_nothing_done() -> None:
    assert torch.allclose(random_affine(PHOTO, generator=seeded()), PHOTO, atol=1e-6)
    assert torch.equal(random_flip(PHOTO, 0.0), PHOTO) and torch.equal(add_noise(PHOTO, 0.0), PHOTO)


def test_whole_pixels_are_moved_whole_and_the_ground_comes_in() -> None:
    moved = placed(PHOTO, right=3, down=-2, fill=0.25)
    assert torch.allclose(moved[..., :-2, 3:], PHOTO[..., 2:, :-3], atol=1e-5)
    assert torch.allclose(moved[..., :, :3], torch.tensor(0.25), atol=1e-5)


def test_each_picture_is_drawn_for_itself_and_within_reach() -> None:
    dot = torch.zeros(400, 1, 41, 41)
    dot[..., 20, 20] = 1.0
    moved = random_affine(dot, shift=5, generator=seeded())
    at = torch.arange(41.0)
    middle = torch.stack([(moved.sum((1, axis)) * at).sum(1) for axis in (2, 3)]) - 20
    assert middle.abs().max() <= 5 + 1e-3 and middle.std(1).min() > 2.5  # even over 10 pixels: 2.9
    arm = torch.zeros(400, 1, 41, 41)
    arm[..., 20, 35] = 1.0
    turned = random_affine(arm, rotation=math.pi / 4, generator=seeded())
    x, y = ((turned.sum((1, axis)) * at).sum(1) / turned.sum((1, 2, 3)) - 20 for axis in (2, 3))
    angle = torch.atan2(-y, x)
    assert (
        angle.abs().max() <= math.pi / 4 + 0.05 and abs(angle.mean()) < 0.1 and angle.min() < -0.6 < 0.6 < angle.max()
    )


def test_the_scale_is_drawn_evenly_in_its_logarithm() -> None:
    square = torch.zeros(400, 1, 41, 41)
    square[..., 16:25, 16:25] = 1.0
    side = (random_affine(square, scale=(0.5, 2.0), generator=seeded()).sum((1, 2, 3)) / 81).sqrt()
    assert 0.4 < side.min() < 0.6 and 1.9 < side.max() < 2.1
    assert abs(side.log2().mean()) < 0.1  # evenly drawn from 0.5 to 2 it would be 0.25


def test_half_are_flipped_and_noise_has_its_deviation() -> None:
    many = PHOTO.repeat(400, 1, 1, 1)[..., :20, :21]
    flipped = random_flip(many, generator=seeded())
    share = (flipped != many).flatten(1).any(1).double().mean().item()
    assert 0.4 < share < 0.6 and torch.equal(random_flip(many, 1.0), many.flip(-1))
    grey = torch.full((1, 3, 200, 200), 0.5)
    noisy = add_noise(grey, 0.1, generator=seeded())
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02) and noisy.mean().item() == pytest.approx(0.5, abs=0.002)
    assert add_noise(grey, 5.0).amin() == 0 and add_noise(grey, 5.0).amax() == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"scale": (0.0, 1.0)}, "scale"), ({"scale": (2.0, 1.0)}, "scale"), ({"rotation": -0.1}, "at least 0")],
)  # fmt: skip
def test_bad_arguments_are_said(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        random_affine(PHOTO, **wrong)
