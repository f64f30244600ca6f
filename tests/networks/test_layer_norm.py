"""Layer normalisation against torch's, numbers by hand, the batch's independence, and mutants."""

import pytest
import torch
from torch import nn

from networks.norm_problem import drawn, same
from vivace.base.errors import InputError
from vivace.networks import LayerNorm, layer_norm


def fits_torch(formula, tolerance=1e-10) -> bool:
    """Whether formula(x, gamma, beta) and its gradients are torch's, over one axis and over three."""

    def peer(x, gamma, beta):
        return nn.functional.layer_norm(x, gamma.shape, gamma, beta)

    leaves = [[drawn(6, 4, 5, 2), drawn(*axes, seed=1), drawn(*axes, seed=2)] for axes in ((2,), (4, 5, 2))]
    return all(same(formula, peer, each, tolerance) for each in leaves)


def with_unbiased_variance(x, gamma, beta):
    count = gamma.numel()
    return layer_norm(x, gamma * ((count - 1) / count) ** 0.5, beta)


def over_batch(x, gamma, beta):
    return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() + beta


def with_eps_outside_the_root(x, gamma, beta):
    axes = list(range(-gamma.dim(), 0))
    std = x.std(axes, correction=0, keepdim=True)
    return gamma * (x - x.mean(axes, keepdim=True)) / (std + 1e-5) + beta


def test_formula_is_torchs():
    assert fits_torch(layer_norm)


@pytest.mark.parametrize("mutant", [with_unbiased_variance, over_batch, with_eps_outside_the_root])
def test_rejects(mutant):
    assert not fits_torch(mutant, tolerance=1e-7)


def test_by_hand():
    # 1, 3: mean 2, variance 1; 10, 10: a constant example
    y = layer_norm(
        torch.tensor([[1.0, 3.0], [10.0, 10.0]]), torch.tensor([2.0, 4.0]), torch.tensor([0.0, 1.0]), eps=1e-12
    )
    assert y.tolist() == [[-2.0, 5.0], [0.0, 1.0]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("shape", [(5,), (4, 5)], ids=str)
def test_module_is_torchs_and_weights_go_both_ways(shape, dtype, tolerance):
    peer, ours = nn.LayerNorm(shape, dtype=dtype), LayerNorm(shape).to(dtype)
    nn.init.normal_(peer.weight)
    ours.load_state_dict(peer.state_dict(), strict=True)
    nn.LayerNorm(shape, dtype=dtype).load_state_dict(ours.state_dict(), strict=True)
    x = drawn(6, 4, 5).to(dtype)
    torch.testing.assert_close(ours(x), peer(x), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours(x), layer_norm(x, ours.weight, ours.bias), rtol=tolerance, atol=3 * tolerance)


def test_does_not_see_the_batch():
    x = drawn(6, 5).float()
    others = x.clone()
    others[1:] = 1e6
    assert torch.equal(LayerNorm(5)(x)[0], LayerNorm(5)(others)[0])


def test_eps_is_used():
    x = drawn(6, 5).float()
    torch.testing.assert_close(LayerNorm(5, eps=0.5)(x), nn.LayerNorm(5, eps=0.5)(x))


def test_bad_input():
    with pytest.raises(InputError, match=r"over \(5,\), but the input is \(2, 4\)"):
        LayerNorm(5)(torch.rand(2, 4))
    with pytest.raises(InputError, match="at least one axis"):
        LayerNorm(())
    with pytest.raises(InputError, match="each of at least 1"):
        LayerNorm((3, 0))
