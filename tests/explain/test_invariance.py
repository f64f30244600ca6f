"""Invariance: numbers by hand, invariants, and mutants."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from vivace.base.errors import InputError
from vivace.explain.invariance import invariance

A = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])  # 5, 8 and 5 apart: mean 6


def check(measure) -> None:  # type: ignore[no-untyped-def]
    assert measure(A, A) == pytest.approx(1)
    assert measure(A, A + torch.tensor([3.0, 0.0])) == pytest.approx(0.5)  # each moved by 3
    assert measure(A, A.roll(1, 0)) == pytest.approx(0)  # each as far as another is
    assert measure(7 * A + 1, 7 * A + 1 + torch.tensor([21.0, 0.0])) == pytest.approx(0.5)


def test_by_hand() -> None:
    check(invariance)
    check(lambda a, b: invariance(a.view(3, 2, 1, 1), b.view(3, 2, 1, 1)))


def mutant_not_divided(a: Tensor, b: Tensor) -> float:
    return float(1 - (a - b).norm(dim=1).mean())


def mutant_squares(a: Tensor, b: Tensor) -> float:
    return float(1 - (a - b).square().sum(1).mean() / torch.pdist(a).square().mean())


def mutant_own_distance_counted(a: Tensor, b: Tensor) -> float:
    return float(1 - (a - b).norm(dim=1).mean() / torch.cdist(a, a).mean())


@pytest.mark.parametrize("mutant", [mutant_not_divided, mutant_squares, mutant_own_distance_counted])
def test_rejects(mutant) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError):
        check(mutant)


def test_averaging_over_places_forgets_a_shift() -> None:
    maps = torch.rand(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    moved = maps.roll(3, 3)
    assert invariance(maps.mean((2, 3)), moved.mean((2, 3))) == pytest.approx(1, abs=1e-4)
    assert invariance(maps, moved) < 0.1


def test_bad_input() -> None:
    with pytest.raises((InputError, TypeCheckError), match=r"differ in shape|changed"):
        invariance(A, A[:2])
    with pytest.raises(InputError, match="two pictures"):
        invariance(A[:1], A[:1])
    with pytest.raises(InputError, match="the same for all"):
        invariance(torch.ones(3, 2), torch.ones(3, 2))
