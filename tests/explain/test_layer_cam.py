"""Layer-CAM: numbers by hand, the same as Grad-CAM where gradients don't vary, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.grad_cam import grad_cam, map_and_gradient
from vivace.explain.layer_cam import layer_cam


def net() -> nn.Sequential:
    """Maps A1 = x and A2 = -x + 3; the score weighs each position, so dy/dA are these numbers."""
    conv, head = nn.Conv2d(1, 2, 1), nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([0.0, 3.0]))  # type: ignore[union-attr]
        head.weight.copy_(torch.tensor([[1.0, -1, 0, 2, -5, 1, 3, 1]]))
    return nn.Sequential(conv, nn.Flatten(), head)


X = torch.tensor([[[[1.0, 2], [3, 4]]]])


def check(method: Callable[[nn.Module, Tensor], Tensor]) -> None:
    # A1 = [[1, 2], [3, 4]], positive gradients [[1, 0], [0, 2]]; A2 = [[2, 1], [0, -1]], [[0, 1], [3, 1]]
    assert method(net(), X).tolist() == [[[1, 1], [0, 7]]]


def test_by_hand() -> None:
    check(lambda model, x: layer_cam(model, x, 0))


def relu_on_gradients_forgotten(model: nn.Module, x: Tensor) -> Tensor:
    A, g = map_and_gradient(model, x, 0)
    return F.relu((g * A).sum(1))


def relu_on_each_map(model: nn.Module, x: Tensor) -> Tensor:
    A, g = map_and_gradient(model, x, 0)
    return (F.relu(g) * F.relu(A)).sum(1)


def averaged(model: nn.Module, x: Tensor) -> Tensor:
    A, g = map_and_gradient(model, x, 0)
    return F.relu((F.relu(g).mean((2, 3), keepdim=True) * A).sum(1))


@pytest.mark.parametrize("mutant", [relu_on_gradients_forgotten, relu_on_each_map, averaged])
def test_rejects(mutant: Callable[[nn.Module, Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_is_grad_cam_of_the_positive_weights_before_average_pooling() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    x = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        model[4].weight.abs_()
    torch.testing.assert_close(layer_cam(model, x, 3), grad_cam(model, x, 3))
    with pytest.raises(InputError, match="no class 5"):
        layer_cam(model, x, 5)
