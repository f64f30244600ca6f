"""Mean and deviation by hand and against NumPy's; mutants fail the same check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.style import feature_statistics, statistics_distance

BY_HAND = torch.tensor([[[[1.0, 3.0], [1.0, 3.0]], [[0.0, 0.0], [0.0, 4.0]]]])  # means 2 and 1, variances 1 and 3
Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]


def is_statistics(statistics: Statistics) -> bool:
    F = 2 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 1
    rows = F.flatten(2).numpy()
    expected = [([[2.0, 1.0]], [[1.0, 3.0**0.5]]), (rows.mean(2), rows.std(2))]
    return all(
        found.shape == np.shape(wanted) and np.allclose(found, wanted, atol=1e-4)
        for given, pair in zip((BY_HAND, F), expected, strict=True)
        for found, wanted in zip(statistics(given), pair, strict=True)
    )


def test_mean_and_deviation() -> None:
    assert is_statistics(feature_statistics)


MUTANTS: dict[str, Statistics] = {
    "variance for deviation": lambda F: (F.mean((2, 3)), F.var((2, 3), correction=0)),
    "of a sample": lambda F: (F.mean((2, 3)), F.std((2, 3))),
    "over the batch too": lambda F: (F.mean((0, 2, 3)).expand(len(F), -1), F.std((0, 2, 3)).expand(len(F), -1)),
    "over the channels": lambda F: (F.mean(1).flatten(1)[:, : F.shape[1]], F.std(1).flatten(1)[:, : F.shape[1]]),
    "changed over": lambda F: feature_statistics(F)[::-1],  # type: ignore[return-value]
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Statistics) -> None:
    assert not is_statistics(mutant)


def test_the_distance_by_hand() -> None:
    moved = BY_HAND + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)  # only the means move, by 5
    assert float(statistics_distance([BY_HAND], [moved])) == pytest.approx(5, abs=1e-4)
    assert float(statistics_distance([BY_HAND, BY_HAND], [moved, moved], [1.0, 0.5])) == pytest.approx(7.5, abs=1e-4)
    tiled = BY_HAND.repeat(1, 1, 2, 3)  # another size, the same statistics
    assert float(statistics_distance([BY_HAND], [tiled])) == pytest.approx(0, abs=1e-5)


def test_flat_maps_have_a_finite_gradient() -> None:
    F = torch.zeros(1, 2, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(statistics_distance([F], [torch.zeros(1, 2, 4, 4)]).sum(), F)
    assert bool(gradient.isfinite().all())


def test_bad_input_is_named() -> None:
    F = torch.rand(1, 2, 3, 3)
    with pytest.raises(InputError, match="two networks"):
        statistics_distance([F], [torch.rand(1, 3, 3, 3)])
    with pytest.raises(InputError, match="2 weights"):
        statistics_distance([F], [F], [1.0, 1.0])
