"""DeepDream: one step by hand, the objective grows, sizes, bytes, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Step
from vivace.explain.deep_dream import deep_dream
from vivace.explain.objectives import Objective, energy

PHOTO = resize(read_image("chelsea"), (48, 64)) * 0.8 + 0.1


class Filters(nn.Module):
    """A picture's first differences, wrapped around: moving the picture moves them."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x - x.roll(1, 3))


def check(dream: Callable[..., Tensor]) -> None:
    """The gradient of the mean square of x_j - x_(j-1) is 2 (2 x_j - x_(j-1) - x_(j+1)) / N, whatever the jitter."""
    up = 2 * PHOTO - PHOTO.roll(1, 2) - PHOTO.roll(-1, 2)
    expected = (PHOTO + 0.05 * up / up.square().mean().sqrt()).clamp(0, 1)
    made = dream(Filters(), PHOTO, energy("maps"), octaves=1, steps=1, rate=0.05)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_one_step_by_hand() -> None:
    check(deep_dream)


def down(model: nn.Module, image: Tensor, objective: Objective, **more: object) -> Tensor:
    return deep_dream(model, image, -objective, **more)


def not_rolled_back(model: nn.Module, image: Tensor, objective: Objective, **more: object) -> Tensor:
    return deep_dream(model, image, objective, **more).roll(1, 2)


def of_any_size(model: nn.Module, image: Tensor, objective: Objective, rate: float, **more: object) -> Tensor:
    """The step is not relative to the gradient's size."""
    x = image[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(model, x).sum(), x)
    return (image + rate * gradient[0]).clamp(0, 1)


@pytest.mark.parametrize("mutant", [down, not_rolled_back, of_any_size])
def test_rejects(mutant: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_more_of_what_the_network_sees() -> None:
    told: list[Step] = []
    before = float(energy("maps")(Filters(), PHOTO[None]))
    made = deep_dream(Filters(), PHOTO, energy("maps"), octaves=9, steps=3, tell=told.append)
    assert float(energy("maps")(Filters(), made[None])) > 1.5 * before
    assert made.shape == PHOTO.shape and made.min() >= 0 and made.max() <= 1
    assert [step.text for step in told][::3] == ["46 x 34", "64 x 48"]  # a third octave would be smaller than 32
    assert told[-1].done == told[-1].total == 6


def test_same_seed_same_bytes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    model[0].weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    def made(seed: int) -> bytes:
        dreamt = deep_dream(model, PHOTO, energy("1"), generator=torch.Generator().manual_seed(seed))
        return dreamt.numpy().tobytes()

    assert made(1) == made(1) != made(2)


def test_tells_what_is_wrong() -> None:
    with pytest.raises(InputError, match="at least 32"):
        deep_dream(Filters(), PHOTO[:, :31], energy("maps"))
    with pytest.raises(InputError, match="a scale above 1"):
        deep_dream(Filters(), PHOTO, energy("maps"), octave_scale=1)
    with pytest.raises(InputError, match="no layer named 'map'"):
        deep_dream(Filters(), PHOTO, energy("map"))
