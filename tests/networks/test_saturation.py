"""Shares of saturated and silent units, and dead units: counted by hand; mutants count something else."""

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.networks import MLP, dead_units, saturated_share, sparsity

SLOPES = torch.tensor([[0.0, 0.25, 0.009], [0.0, 0.0, -0.02]])  # two examples, three units


def counts_dead(count) -> bool:
    return count(SLOPES).tolist() == [True, False, False]


def test_by_hand() -> None:
    assert saturated_share(SLOPES).item() == pytest.approx(4 / 6)
    assert saturated_share(SLOPES, below=0.1).item() == pytest.approx(5 / 6)
    assert sparsity(SLOPES).item() == pytest.approx(3 / 6)
    assert counts_dead(dead_units)


@pytest.mark.parametrize(
    "mutant", [lambda s: (s == 0).any(0), lambda s: s[-1] == 0, lambda s: s.mean(0) <= 0, lambda s: s.amax(0) < 0.01]
)
def test_rejects_the_mutant(mutant) -> None:
    assert not counts_dead(mutant)


def test_dead_units_get_no_gradient() -> None:
    """What counts as dead is exactly what autograd gives no gradient."""
    net = MLP([6, 40, 3], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.layers[0].bias[:7] = -100.0
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(1))
    stored: list[Tensor] = net.forward_stored(x)
    net(x).square().sum().backward()
    dead = dead_units((stored[1] > 0).float())
    assert dead[:7].all()
    assert torch.equal(dead, (net.layers[0].weight.grad == 0).all(1))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="shares of nothing: the array given is 0 x 3"):
        saturated_share(torch.zeros(0, 3))
