"""Batch normalisation against torch's, numbers by hand, and mutants that mistake the axes, the variance or the mode."""

import pytest
import torch
from torch import nn

from networks.norm_problem import drawn, same
from vivace.base.errors import InputError
from vivace.networks import BatchNorm, batch_norm

SHAPES = [(8, 5), (4, 5, 7), (3, 5, 6, 4)]
PEERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def fits_torch(formula, tolerance=1e-10) -> bool:
    """Whether formula(x, gamma, beta) and its gradients are torch's in training."""

    def peer(x, gamma, beta):
        return nn.functional.batch_norm(x, None, None, gamma, beta, training=True)

    leaves = [[drawn(*shape), drawn(5, seed=1), drawn(5, seed=2)] for shape in SHAPES]
    return all(same(formula, peer, each, tolerance) for each in leaves)


def with_unbiased_variance(x, gamma, beta):
    count = x.numel() // x.shape[1]
    return batch_norm(x, gamma * ((count - 1) / count) ** 0.5, beta)


def without_eps(x, gamma, beta):
    return batch_norm(x, gamma, beta, eps=0)


def over_features(x, gamma, beta):
    """Layer normalisation's axes."""
    each = (-1, *[1] * (x.dim() - 2))
    axes = list(range(1, x.dim()))
    x_hat = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    return x_hat * gamma.view(each) + beta.view(each)


def over_batch_alone(x, gamma, beta):
    each = (-1, *[1] * (x.dim() - 2))
    x_hat = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    return x_hat * gamma.view(each) + beta.view(each)


def with_constant_statistics(x, gamma, beta):
    """The right output, but the gradient forgets that mean and variance depend on x."""
    return batch_norm(x.detach(), gamma, beta) + (x - x.detach()) * 0.1


def test_formula_is_torchs():
    assert fits_torch(batch_norm)


@pytest.mark.parametrize("mutant", [with_unbiased_variance, without_eps, over_features, over_batch_alone,
                                    with_constant_statistics])  # fmt: skip
def test_rejects(mutant):
    assert not fits_torch(mutant, tolerance=1e-7)


def test_by_hand():
    # channel 0: 1, 3: mean 2, variance 1. Channel 1: 5, 5: mean 5, variance 0.
    y = batch_norm(
        torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([10.0, 10.0]), torch.tensor([0.5, 0.5]), eps=0.0
    )
    assert y[:, 0].tolist() == [-9.5, 10.5] and y[:, 1].isnan().all()
    safe = batch_norm(torch.tensor([[5.0], [5.0]]), torch.tensor([10.0]), torch.tensor([0.5]))
    assert safe.tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_module_is_torchs_in_both_modes(shape, dtype, tolerance):
    ours, peer = BatchNorm(5).to(dtype), PEERS[len(shape)](5, dtype=dtype)
    for seed in range(3):  # the running averages follow
        x = drawn(*shape, seed=seed).to(dtype)
        torch.testing.assert_close(ours(x), peer(x), rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours(x), batch_norm(x, ours.weight, ours.bias), rtol=tolerance, atol=3 * tolerance)
        peer(x)
    for name, value in peer.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x), rtol=tolerance, atol=tolerance)


def test_weights_go_both_ways():
    ours, peer = BatchNorm(5), nn.BatchNorm2d(5)
    peer(drawn(3, 5, 6, 4).float())
    ours.load_state_dict(peer.state_dict(), strict=True)
    nn.BatchNorm1d(5).load_state_dict(ours.state_dict(), strict=True)
    assert ours.num_batches_tracked == 1 and torch.equal(ours.running_var, peer.running_var)


def test_running_variance_is_the_unbiased_one():
    """1, 3 and momentum 0.1: 0.9 * 1 + 0.1 * 2, where 2 is the squared deviations, 1 + 1, divided by 2 - 1."""
    layer = BatchNorm(1)
    layer(torch.tensor([[1.0], [3.0]]))
    assert layer.running_var.item() == pytest.approx(1.1) and layer.running_mean.item() == pytest.approx(0.2)


def test_evaluation_depends_on_the_example_alone():
    layer, x = BatchNorm(5), drawn(8, 5).float()
    layer(x)
    whole = layer.eval()(x)
    torch.testing.assert_close(torch.cat([layer(row[None]) for row in x]), whole)
    assert not torch.allclose(layer.train()(x), whole, atol=0.1)


def test_eps_and_momentum_are_used():
    ours, peer = BatchNorm(5, eps=0.5, momentum=0.3), nn.BatchNorm1d(5, eps=0.5, momentum=0.3)
    x = drawn(8, 5).float()
    torch.testing.assert_close(ours(x), peer(x))
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x))


def test_bad_input():
    with pytest.raises(InputError, match=r"two values a channel, but the input is \(1, 5\): take a larger batch"):
        BatchNorm(5)(torch.rand(1, 5))
    BatchNorm(5)(torch.rand(1, 5, 2, 2))  # four values a channel
    BatchNorm(5).eval()(torch.rand(1, 5))
    with pytest.raises(InputError, match="has 5 channels, but the input has 4"):
        BatchNorm(5)(torch.rand(2, 4))
    with pytest.raises(InputError, match="at least 1 channel"):
        BatchNorm(0)
    with pytest.raises(InputError, match=r"momentum is 1\.5"):
        BatchNorm(3, momentum=1.5)
