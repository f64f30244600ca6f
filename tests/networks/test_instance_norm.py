"""Instance normalisation against torch's, numbers by hand, what it forgets of a picture, and mutants."""

import pytest
import torch
from torch import nn

from networks.norm_problem import drawn, same
from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.networks import InstanceNorm, instance_norm


def fits_torch(formula, tolerance=1e-10) -> bool:
    """Whether formula(x) and its gradient are torch's, in one, two and three dimensions."""
    shapes = ((3, 5, 7), (3, 5, 6, 4), (2, 5, 3, 4, 2))
    return all(same(formula, nn.functional.instance_norm, [drawn(*shape)], tolerance) for shape in shapes)


def with_unbiased_variance(x):
    count = x.shape[2:].numel()
    return instance_norm(x) * ((count - 1) / count) ** 0.5


def over_batch_too(x):
    """Batch normalisation's axes."""
    axes = [0, *range(2, x.dim())]
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()


def over_channels_too(x):
    """Layer normalisation's axes."""
    axes = list(range(1, x.dim()))
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()


def test_formula_is_torchs():
    assert fits_torch(instance_norm)


@pytest.mark.parametrize("mutant", [with_unbiased_variance, over_batch_too, over_channels_too])
def test_rejects(mutant):
    assert not fits_torch(mutant, tolerance=1e-7)


def test_by_hand():
    # one picture, two channels of two pixels: 1, 3 and 10, 30
    assert instance_norm(torch.tensor([[[1.0, 3.0], [10.0, 30.0]]]), eps=0.0).tolist() == [[[-1, 1], [-1, 1]]]


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_module_is_torchs_and_weights_go_both_ways(affine, dtype, tolerance):
    peer, ours = nn.InstanceNorm2d(5, affine=affine, dtype=dtype), InstanceNorm(5, affine=affine).to(dtype)
    if affine:
        nn.init.normal_(peer.weight)
        nn.init.normal_(peer.bias)
    ours.load_state_dict(peer.state_dict(), strict=True)
    nn.InstanceNorm2d(5, affine=affine, dtype=dtype).load_state_dict(ours.state_dict(), strict=True)
    x = drawn(3, 5, 6, 4).to(dtype)
    torch.testing.assert_close(ours(x), peer(x), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x), rtol=tolerance, atol=tolerance)


def test_forgets_contrast_and_tint():
    """A photograph, and the same darker and bluer, come out the same, but for eps."""
    photo = read_image("chelsea", max_side=100)[None].double()
    tinted = photo * torch.tensor([0.3, 0.4, 0.6]).view(3, 1, 1) + torch.tensor([0.0, 0.1, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(instance_norm(tinted, eps=1e-12), instance_norm(photo, eps=1e-12))


def test_eps_is_used():
    x = drawn(3, 5, 6, 4).float()
    torch.testing.assert_close(InstanceNorm(5, eps=0.5)(x), nn.InstanceNorm2d(5, eps=0.5)(x))


def test_bad_input():
    with pytest.raises(InputError, match=r"two values a channel, but the input is \(2, 5, 1, 1\)"):
        InstanceNorm(5)(torch.rand(2, 5, 1, 1))
    with pytest.raises(InputError, match=r"two values a channel, but the input is \(2, 5\)"):
        InstanceNorm(5)(torch.rand(2, 5))
    with pytest.raises(InputError, match="has 5 channels, but the input has 4"):
        InstanceNorm(5)(torch.rand(2, 4, 3, 3))
    with pytest.raises(InputError, match="at least 1 channel"):
        InstanceNorm(0)
