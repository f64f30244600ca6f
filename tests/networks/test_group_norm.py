"""Group normalisation against torch's, its two ends (layer and instance), and mutants."""

from functools import partial

import pytest
import torch
from torch import nn

from networks.norm_problem import drawn, same
from vivace.base.errors import InputError
from vivace.networks import GroupNorm, group_norm, instance_norm, layer_norm


def fits_torch(formula, tolerance=1e-10) -> bool:
    """Whether formula(x, gamma, beta, groups=) and its gradients are torch's."""
    for shape in ((6, 24), (3, 12, 5), (2, 12, 5, 4)):
        leaves = [drawn(*shape), drawn(shape[1], seed=1), drawn(shape[1], seed=2)]
        for groups in (1, 3, 4, 12):

            def peer(x, gamma, beta, groups=groups):
                return nn.functional.group_norm(x, groups, gamma, beta)

            if not same(partial(formula, groups=groups), peer, leaves, tolerance):
                return False
    return True


def with_interleaved_groups(x, gamma, beta, *, groups):
    """Channels 0, G, 2G ... make a group, instead of neighbours."""
    order = torch.arange(x.shape[1]).view(-1, groups).T.flatten()
    mixed = group_norm(x[:, order], torch.ones_like(gamma), torch.zeros_like(beta), groups=groups)[:, order.argsort()]
    each = (-1, *[1] * (x.dim() - 2))
    return gamma.view(each) * mixed + beta.view(each)


def with_group_size_for_count(x, gamma, beta, *, groups):
    return group_norm(x, gamma, beta, groups=x.shape[1] // groups)


def with_unbiased_variance(x, gamma, beta, *, groups):
    count = x[0].numel() // groups
    return group_norm(x, gamma * ((count - 1) / count) ** 0.5, beta, groups=groups)


def test_formula_is_torchs():
    assert fits_torch(group_norm)


@pytest.mark.parametrize("mutant", [with_interleaved_groups, with_group_size_for_count, with_unbiased_variance])
def test_rejects(mutant):
    assert not fits_torch(mutant, tolerance=1e-7)


def test_one_group_is_layer_and_as_many_as_channels_is_instance_normalisation():
    x, gamma, beta = drawn(2, 12, 5, 4), torch.ones(12).double(), torch.zeros(12).double()
    whole = torch.ones(12, 5, 4).double()
    torch.testing.assert_close(group_norm(x, gamma, beta, groups=1), layer_norm(x, whole, 0 * whole))
    torch.testing.assert_close(group_norm(x, gamma, beta, groups=12), instance_norm(x))


def test_by_hand():
    # four channels in two groups: 1, 3 and 10, 30
    x = torch.tensor([[1.0, 3.0, 10.0, 30.0]])
    assert group_norm(x, torch.ones(4), torch.zeros(4), groups=2, eps=0.0).tolist() == [[-1, 1, -1, 1]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_module_is_torchs_and_weights_go_both_ways(dtype, tolerance):
    peer, ours = nn.GroupNorm(3, 12, dtype=dtype), GroupNorm(3, 12).to(dtype)
    nn.init.normal_(peer.weight)
    ours.load_state_dict(peer.state_dict(), strict=True)
    nn.GroupNorm(3, 12, dtype=dtype).load_state_dict(ours.state_dict(), strict=True)
    x = drawn(2, 12, 5, 4).to(dtype)
    torch.testing.assert_close(ours(x), peer(x), rtol=tolerance, atol=tolerance)


def test_eps_is_used():
    x = drawn(2, 12, 5, 4).float()
    torch.testing.assert_close(GroupNorm(3, 12, eps=0.5)(x), nn.GroupNorm(3, 12, eps=0.5)(x))


def test_bad_input():
    with pytest.raises(InputError, match="12 channels can't be taken in 5 groups"):
        GroupNorm(5, 12)
    with pytest.raises(InputError, match="has 12 channels, but the input has 4"):
        GroupNorm(3, 12)(torch.rand(2, 4, 3, 3))
