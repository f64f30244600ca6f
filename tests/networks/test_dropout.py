"""Dropout against its definition, torch's module and its own gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.networks import Dropout, dropout

ONES = torch.ones(400, 500)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ours(x: Tensor, p: float) -> Tensor:
    return dropout(x, p, generator=seeded())


def not_scaled(x: Tensor, p: float) -> Tensor:
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=seeded())


def keep_for_drop(x: Tensor, p: float) -> Tensor:
    return x * torch.empty_like(x).bernoulli_(p, generator=seeded()) / p


def scaled_by_p(x: Tensor, p: float) -> Tensor:
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=seeded()) / p


def whole_rows(x: Tensor, p: float) -> Tensor:
    return x * torch.empty(len(x), 1).bernoulli_(1 - p, generator=seeded()) / (1 - p)


def is_inverted_dropout(drop: Any) -> bool:
    """A share p is zero, the rest 1 / (1 - p), independently: so the mean is 1 in all rows and all columns."""
    for p in (0.1, 0.3, 0.8):
        y = drop(ONES, p)
        dropped = (y == 0).double().mean().item()
        rest = y[y != 0]
        if abs(dropped - p) > 0.01 or not torch.allclose(rest, torch.full_like(rest, 1 / (1 - p))):
            return False
        scale = (p / (1 - p)) ** 0.5  # deviation of one value
        if (y.mean(1) - 1).abs().max() > 6 * scale / 500**0.5 or (y.mean(0) - 1).abs().max() > 6 * scale / 400**0.5:
            return False
    return True


def test_is_inverted_dropout() -> None:
    assert is_inverted_dropout(ours)


@pytest.mark.parametrize("mutant", [not_scaled, keep_for_drop, scaled_by_p, whole_rows])
def test_rejects(mutant: Any) -> None:
    assert not is_inverted_dropout(mutant)


def test_the_module_draws_as_torchs_does() -> None:
    x = torch.rand(64, 100, generator=seeded())
    ours, peer = Dropout(0.3), nn.Dropout(0.3)
    found = []
    for module in (ours, peer):
        torch.manual_seed(0)
        found.append(torch.stack([module(x) for _ in range(200)]))
    assert torch.allclose(found[0].mean(0), found[1].mean(0), atol=0.25)
    assert torch.allclose(found[0].var(0), found[1].var(0), atol=0.3)
    assert repr(ours) == repr(peer).replace(", inplace=False", "")


def test_predicting_drops_and_scales_nothing() -> None:
    assert Dropout(0.5).eval()(ONES) is ONES


def test_gradients_go_through_the_same_units() -> None:
    x = torch.rand(50, 40, generator=seeded(), requires_grad=True)
    y = dropout(x, 0.4, generator=seeded())
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.where(y == 0, 0.0, torch.tensor(1 / 0.6)))


def test_the_ends() -> None:
    assert torch.equal(dropout(ONES, 0.0), ONES) and not dropout(ONES, 1.0).any()
    assert dropout(torch.ones(3, dtype=torch.float64)).dtype == torch.float64
    assert torch.equal(dropout(ONES, generator=seeded(3)), dropout(ONES, generator=seeded(3)))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_probability_out_of_range_is_said(p: float) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        Dropout(p)
    with pytest.raises(InputError, match="0 to 1"):
        dropout(ONES, p)
