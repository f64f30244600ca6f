"""Insertion and deletion: a model whose score is known cell by cell, a naive loop, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.insertion_deletion import insertion_deletion, with_hottest


class Corner(nn.Module):
    """Class 0's probability is what is bright of the upper left quarter: 1 if all of it is, 0 if it is black."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, :8, :8].mean((1, 2)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([bright.log(), (1 - bright).log()], 1)


QUARTERS = torch.tensor([[[4.0, 3], [2, 1]]])  # the upper left is the hottest


def check(areas: Callable[[nn.Module, Tensor, Tensor], tuple[float, float]]) -> None:
    """Bright in the upper left quarter alone: with this cell p is about 1, without it what the blur leaves."""
    x = torch.zeros(1, 3, 16, 16)
    x[..., :8, :8] = 1
    blurred = with_hottest(x, QUARTERS, 0)
    without = float(Corner()(blurred).softmax(1)[0, 0])
    assert 0.9 < without < 1  # a blur of 2 x 2 pixels: it is still bright inside
    # in four steps, trapezoids: inserted = without, 1, 1, 1, 1; deleted = 1, without (4 times)
    insertion, deletion = areas(Corner(), x, QUARTERS)
    assert insertion == pytest.approx((without + 1) / 8 + 3 / 4, abs=1e-4)
    assert deletion == pytest.approx((without + 1) / 8 + 3 * without / 4, abs=1e-4)


def ours(model: nn.Module, x: Tensor, heat: Tensor) -> tuple[float, float]:
    found = insertion_deletion(model, x, heat, 0, steps=4)
    return float(found.insertion), float(found.deletion)


def test_areas_by_hand() -> None:
    check(ours)


def swapped(model: nn.Module, x: Tensor, heat: Tensor) -> tuple[float, float]:
    return ours(model, x, heat)[::-1]


def coldest_first(model: nn.Module, x: Tensor, heat: Tensor) -> tuple[float, float]:
    return ours(model, x, -heat)


def transposed_map(model: nn.Module, x: Tensor, heat: Tensor) -> tuple[float, float]:
    return ours(model, x, heat.flip(2))


@pytest.mark.parametrize("mutant", [swapped, coldest_first, transposed_map])
def test_rejects(mutant: Callable[[nn.Module, Tensor, Tensor], tuple[float, float]]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_naive_loop() -> None:
    torch.manual_seed(0)
    net, x, heat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)), torch.rand(2, 3, 8, 8), torch.rand(2, 4, 4)
    found = insertion_deletion(net, x, heat, [1, 3], steps=16, batch_size=5)
    blurred = with_hottest(x, heat, 0)
    for b, c in enumerate((1, 3)):
        order = heat[b].flatten().argsort(descending=True)
        put, left = blurred[b].clone(), x[b].clone()
        for step in range(17):
            for picture, curve in ((put, found.inserted), (left, found.deleted)):
                p = net(picture[None]).softmax(1)[0, c]
                torch.testing.assert_close(curve[step, b], p.detach())
            if step < 16:
                i, j = divmod(int(order[step]), 4)
                cell = (slice(None), slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
                put[cell], left[cell] = x[b][cell], blurred[b][cell]
    assert found.fractions.tolist() == [n / 16 for n in range(17)]
    torch.testing.assert_close(found.score, found.insertion - found.deletion)


def test_bad_input() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)), torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="1 maps for 2 pictures"):
        insertion_deletion(net, x, torch.rand(1, 4, 4))
    for steps in (1, 17):
        with pytest.raises(InputError, match="2 to 16"):
            insertion_deletion(net, x, torch.rand(2, 4, 4), steps=steps)
