"""Layers by name, activations on the way, a graph that begins at a layer; and a model that stays as it was."""

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import activations, evaluating, find_layer, graph_from


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.unused = nn.Conv2d(1, 1, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_find_layer_by_name_and_by_module(net: Net) -> None:
    assert find_layer(net, "features.0") is net.features[0] is find_layer(net, net.features[0])
    with pytest.raises(InputError, match=r"no layer named 'feature\.0'; try features\.0"):
        find_layer(net, "feature.0")
    with pytest.raises(InputError, match="not part of the model"):
        find_layer(net, nn.ReLU())


def test_activations_come_in_the_order_asked_for_and_the_pass_stops_there(net: Net, x: Tensor) -> None:
    net.head.forward = None  # type: ignore[assignment]    would fail if it were reached
    pooled, conv = activations(net, x, ["features.3", "features.0"])
    assert pooled.shape == (2, 4, 3, 3) and conv.shape == (2, 4, 6, 6)
    assert torch.equal(conv, net.features[0](x)) and conv.requires_grad
    with pytest.raises(InputError, match="never ran its layer unused"):
        activations(Net(), x, ["unused"])


def test_evaluating_restores_each_module_and_weight(net: Net) -> None:
    net.features.eval()
    net.unused.weight.requires_grad_(False)
    with pytest.raises(ZeroDivisionError), evaluating(net):
        assert not any(m.training for m in net.modules()) and not any(p.requires_grad for p in net.parameters())
        raise ZeroDivisionError
    assert net.training and net.head[2].training and not net.features[1].training
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["unused.weight"]


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.2", "features.3", "features"])
def test_the_graph_from_a_layer_has_the_whole_graphs_values_and_gradients(net: Net, x: Tensor, layer: str) -> None:
    net.eval()
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output.retain_grad()
        found.append(output)
        return output.clone()

    handle = find_layer(net, layer).register_forward_hook(keep)
    y = net(x)
    y[:, 1].sum().backward()
    handle.remove()

    with graph_from(net, x, layer) as (A, output):
        (gradient,) = torch.autograd.grad(output[:, 1].sum(), A)
        assert A.is_leaf and A.grad_fn is None
    assert torch.equal(output, y) and torch.equal(A, found[0])
    assert torch.allclose(gradient, found[0].grad, atol=1e-7)  # type: ignore[arg-type]


def test_the_last_layer_with_a_map_is_neither_a_pooling_nor_what_ends_with_one(net: Net, x: Tensor) -> None:
    net.eval()
    with graph_from(net, x) as (A, _):
        assert torch.equal(A, net.features[:3](x))


def test_a_model_that_freezes_its_layers_by_no_grad(x: Tensor) -> None:
    class Frozen(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.features[:3](x)
            return self.head(x)

    for layer in ("features.2", "features.0", None):
        with graph_from(Frozen(), x, layer) as (A, output):
            assert torch.autograd.grad(output.sum(), A)[0].shape == A.shape


def test_what_cannot_be_explained_is_named(net: Net, x: Tensor) -> None:
    for layer, words in (
        ("head.3", r"head\.3 puts out \(2, 3\)"),
        ("head.0", r"\(2, 4, 1, 1\)"),
        ("unused", "never ran"),
    ):
        with pytest.raises(InputError, match=words), graph_from(net, x, layer):
            pass
    with pytest.raises(InputError, match="none of the model's layers"), graph_from(net.head, x.expand(-1, 4, -1, -1)):
        pass
    assert not any(module._forward_hooks for module in net.modules())
