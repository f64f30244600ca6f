"""Residual MLP: NumPy's forward pass, the identity in its slope; without the skip, the same checks fail."""

import numpy as np
import pytest
import torch

from vivace.base.errors import InputError
from vivace.networks import ResidualBlock, ResidualMLP


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numpys(net: ResidualMLP, x: np.ndarray, *, skip: bool = True, relu_on_sum: bool = False) -> np.ndarray:
    """The definition, written out once more."""

    def linear(layer, v):
        return v @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    x = linear(net.embed, x)
    for block in net.blocks:
        correction = linear(block.second, np.maximum(linear(block.first, np.maximum(x, 0)), 0))
        x = x + correction if skip else correction
        x = np.maximum(x, 0) if relu_on_sum else x
    return linear(net.head, np.maximum(x, 0))


def test_forward_is_numpys() -> None:
    net = ResidualMLP(12, 7, 3, blocks=4, generator=seeded()).double()
    images = torch.randn(5, 3, 2, 2, generator=seeded(1)).double()
    x, out = images.numpy().reshape(5, 12), net(images).detach().numpy()
    np.testing.assert_allclose(out, numpys(net, x), rtol=1e-12)
    for mutant in ({"skip": False}, {"relu_on_sum": True}):
        assert not np.allclose(out, numpys(net, x, **mutant))
    plain = ResidualMLP(12, 7, 3, blocks=4, skip=False, generator=seeded()).double()
    np.testing.assert_allclose(plain(images).detach().numpy(), numpys(plain, x, skip=False), rtol=1e-12)
    assert net.depth == 10 == sum(parameter.ndim == 2 for parameter in net.parameters())


def test_a_block_that_corrects_nothing_is_the_identity() -> None:
    x = torch.randn(4, 6, generator=seeded())
    assert torch.equal(ResidualBlock(6, scale=0.0)(x), x)
    assert (ResidualBlock(6, scale=0.0, skip=False)(x) == 0).all()


def test_its_slope_is_the_identity_and_the_corrections() -> None:
    x = torch.randn(6, generator=seeded()).double()
    with_skip, without = (ResidualBlock(6, skip=skip, generator=seeded(1)).double() for skip in (True, False))
    slopes = [torch.autograd.functional.jacobian(lambda v, b=b: b(v[None])[0], x) for b in (with_skip, without)]
    assert torch.allclose(slopes[0], torch.eye(6) + slopes[1])


def test_depth_blows_nothing_up() -> None:
    x = torch.randn(100, 64, generator=seeded())
    start = ResidualMLP(64, 256, 256, blocks=1, generator=seeded(1))(x).square().mean()
    deep = ResidualMLP(64, 256, 256, blocks=100, generator=seeded(1))(x).square().mean()
    assert 0.3 < (deep / start).item() < 6  # (1 + 1/n)^n stays below e
    net = ResidualMLP(64, 256, 256, blocks=100, generator=seeded(1))
    with torch.no_grad():
        for block in net.blocks:
            block.second.weight *= 10  # mutant: the corrections at He's full size
    assert net(x).square().mean() > 1e6 * start


def test_bad_input() -> None:
    with pytest.raises(InputError, match="takes 64 values an image, but the images given have 16"):
        ResidualMLP(64, 8, 10, blocks=1)(torch.rand(2, 1, 4, 4))
    with pytest.raises(InputError, match="sizes are at least 1"):
        ResidualMLP(64, 8, 10, blocks=0)
