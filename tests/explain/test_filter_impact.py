"""Filter impact: a copy of the model with the weights really changed, and a model left as it was."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.filter_impact import filter_impact, filter_scaled


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, groups=2),
                        nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))  # fmt: skip
    net(torch.rand(20, 3, 9, 9))
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", ["0", "3", "7"])
@pytest.mark.parametrize("factor", [0.0, -2.0, 1.0])
def test_as_if_the_weights_were_written(net: nn.Sequential, images: Tensor, layer: str, factor: float) -> None:
    found = filter_impact(net, images, layer, factor=factor)
    reference = copy.deepcopy(net).eval()
    with torch.no_grad():
        before = reference(images)
        for k in range(len(found)):
            changed = copy.deepcopy(reference)
            changed.get_submodule(layer).weight[k] *= factor  # type: ignore[operator, index]
            assert torch.allclose(found[k], changed(images) - before, atol=1e-6)
    assert found.shape == (len(reference.get_submodule(layer).weight), 3, 5)  # type: ignore[arg-type]


def mutant_bias_taken_too(net: nn.Sequential, images: Tensor, k: int) -> Tensor:
    changed = copy.deepcopy(net)
    changed[0].weight[k] = 0
    changed[0].bias[k] = 0
    return changed(images) - net(images)


def mutant_map_dropped_behind_the_norm(net: nn.Sequential, images: Tensor, k: int) -> Tensor:
    maps = net[:3](images)
    maps[:, k] = 0
    return net[3:](maps) - net(images)


@pytest.mark.parametrize("mutant", [mutant_bias_taken_too, mutant_map_dropped_behind_the_norm])
def test_rejects(net: nn.Sequential, images: Tensor, mutant) -> None:  # type: ignore[no-untyped-def]
    net.eval()
    net[1].bias.data += 1  # so that what is left of a map without its filter passes the ReLU
    with torch.no_grad():
        wrong = torch.stack([mutant(net, images, k) for k in range(6)])
    assert not torch.allclose(filter_impact(net, images, "0"), wrong, atol=1e-4)


def test_the_model_stays_as_it_was(net: nn.Sequential, images: Tensor) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    filter_impact(net, images, "0")
    with pytest.raises(RuntimeError), filter_scaled(net, "0", 1):
        raise RuntimeError
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_bad_input(net: nn.Sequential, images: Tensor) -> None:
    with pytest.raises(InputError, match="there is no filter 6"), filter_scaled(net, "0", 6):
        pass
    with pytest.raises(InputError, match="BatchNorm2d"):
        filter_impact(net, images, "1")
    with pytest.raises(InputError, match="no layer named"):
        filter_impact(net, images, "stem")
