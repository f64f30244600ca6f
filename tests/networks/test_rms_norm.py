"""RMS normalisation against torch's, numbers by hand, and mutants."""

import pytest
import torch
from torch import nn

from networks.norm_problem import drawn, same
from vivace.base.errors import InputError
from vivace.networks import RMSNorm, layer_norm, rms_norm


def fits_torch(formula, tolerance=1e-10) -> bool:
    """Whether formula(x, gamma) and its gradients are torch's, over one axis and over three."""

    def peer(x, gamma):
        return nn.functional.rms_norm(x, gamma.shape, gamma, 1e-5)

    return all(same(formula, peer, [drawn(6, 4, 5, 2), drawn(*axes, seed=1)], tolerance) for axes in ((2,), (4, 5, 2)))


def with_the_mean_taken_away(x, gamma):
    return layer_norm(x, gamma, torch.zeros_like(gamma))


def with_the_length_for_the_root_mean_square(x, gamma):
    return rms_norm(x, gamma / gamma.numel() ** 0.5)


def with_eps_outside_the_root(x, gamma):
    return gamma * x / (x.square().mean(list(range(-gamma.dim(), 0)), keepdim=True).sqrt() + 1e-5)


def test_formula_is_torchs():
    assert fits_torch(rms_norm)


@pytest.mark.parametrize("mutant", [with_the_mean_taken_away, with_the_length_for_the_root_mean_square,
                                    with_eps_outside_the_root])  # fmt: skip
def test_rejects(mutant):
    assert not fits_torch(mutant, tolerance=1e-7)


def test_by_hand():
    # 1, 7: mean square 25, root 5
    assert rms_norm(torch.tensor([1.0, 7.0]), torch.tensor([5.0, 10.0]), eps=0.0).tolist() == [1, 14]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_module_is_torchs_and_weights_go_both_ways(dtype, tolerance):
    peer, ours = nn.RMSNorm((4, 5), eps=1e-5, dtype=dtype), RMSNorm((4, 5)).to(dtype)
    nn.init.normal_(peer.weight)
    ours.load_state_dict(peer.state_dict(), strict=True)
    nn.RMSNorm((4, 5), dtype=dtype).load_state_dict(ours.state_dict(), strict=True)
    x = drawn(6, 4, 5).to(dtype)
    torch.testing.assert_close(ours(x), peer(x), rtol=tolerance, atol=tolerance)


def test_eps_is_used():
    x = drawn(6, 5).float()
    torch.testing.assert_close(RMSNorm(5, eps=0.5)(x), nn.RMSNorm(5, eps=0.5)(x))


def test_bad_input():
    with pytest.raises(InputError, match=r"over \(5,\), but the input is \(2, 4\)"):
        RMSNorm(5)(torch.rand(2, 4))
    with pytest.raises(InputError, match="at least one axis"):
        RMSNorm(())
