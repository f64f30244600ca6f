"""The class-selectivity index against its formula in loops, and against mutants of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.cnn.class_selectivity import class_selectivity


def in_loops(units: Tensor, labels: Tensor) -> Tensor:
    found = []
    for unit in units.T:
        means = [float(unit[labels == c].mean()) for c in range(int(labels.max()) + 1)]
        best = max(means)
        others = (sum(means) - best) / (len(means) - 1)
        found.append((best - others) / (best + others) if best else 0.0)
    return torch.tensor(found)


def agrees(index: Callable[[Tensor, Tensor], Tensor]) -> bool:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 0, 1])
    units = torch.rand(8, 6, generator=generator)
    units[:, 5] = 0
    return torch.allclose(index(units, labels), in_loops(units, labels), atol=1e-6)


def test_is_the_formula() -> None:
    assert agrees(class_selectivity)


def second_best(units: Tensor, labels: Tensor) -> Tensor:
    """The best class against the second best."""
    means = torch.stack([units[labels == c].mean(0) for c in range(3)]).sort(0, descending=True).values
    return (means[0] - means[1]) / (means[0] + means[1]).clamp(min=1e-30)


def sums(units: Tensor, labels: Tensor) -> Tensor:
    """Sums in place of means: large classes win."""
    totals = torch.stack([units[labels == c].sum(0) for c in range(3)])
    best = totals.max(0).values
    others = (totals.sum(0) - best) / 2
    return (best - others) / (best + others).clamp(min=1e-30)


@pytest.mark.parametrize("mutant", [second_best, sums])
def test_rejects_a_mutant(mutant: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert not agrees(mutant)


def test_ends_of_the_scale_and_maps() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    units = torch.stack([torch.ones(6), (labels == 1).float()], 1)
    assert class_selectivity(units, labels).tolist() == [0, 1]
    assert class_selectivity(units[:, :, None, None].expand(-1, -1, 3, 2), labels).tolist() == [0, 1]


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="after the ReLU"):
        class_selectivity(-torch.ones(4, 2), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(InputError, match="two classes"):
        class_selectivity(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
