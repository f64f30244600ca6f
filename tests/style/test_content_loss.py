"""The content loss by hand and against torch's losses; mutants fail the same check."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from vivace.base.errors import InputError
from vivace.style import content_loss


def is_content_loss(loss: Callable[[Tensor, Tensor, int], Tensor]) -> bool:
    generator = torch.Generator().manual_seed(0)
    F, P = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    theirs = {1: nnf.l1_loss, 2: nnf.mse_loss}
    return all(
        torch.allclose(loss(F, P, power), torch.stack([f(a, b) for a, b in zip(F, P, strict=True)]))
        for power, f in theirs.items()
    )


def test_it_is_torchs() -> None:
    assert is_content_loss(lambda F, P, power: content_loss(F, P, power=power))


MUTANTS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "the paper's half sum": lambda F, P, power: (F - P).abs().pow(power).sum((1, 2, 3)) / 2,
    "always squares": lambda F, P, _: content_loss(F, P, power=2),
    "signs kept": lambda F, P, power: (F - P).pow(power).mean((1, 2, 3)),
    "the root": lambda F, P, power: (F - P).abs().pow(power).mean((1, 2, 3)) ** (1 / power),
    "over the batch": lambda F, P, power: (F - P).abs().pow(power).mean().expand(2),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    assert not is_content_loss(mutant)


def test_an_outlier_by_hand() -> None:
    """99 errors of 0.1 and one of 10: it makes 99 % of the squares and half of the absolute errors."""
    errors = torch.full((1, 1, 10, 10), 0.1, dtype=torch.float64)
    errors[..., 0, 0] = 10
    zeros = torch.zeros_like(errors)
    assert float(content_loss(errors, zeros)) == pytest.approx((99 * 0.01 + 100) / 100)
    assert float(content_loss(errors, zeros, power=1)) == pytest.approx((9.9 + 10) / 100)


def test_bad_input_is_named() -> None:
    F = torch.rand(1, 2, 3, 3)
    with pytest.raises(InputError, match="one size"):
        content_loss(F, torch.rand(1, 2, 3, 4))
    with pytest.raises(InputError, match="power"):
        content_loss(F, F, power=3)
