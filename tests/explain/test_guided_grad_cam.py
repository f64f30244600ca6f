"""Guided Grad-CAM: captum, its two factors, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.grad_cam import grad_cam
from vivace.explain.guided_backpropagation import guided_backpropagation
from vivace.explain.guided_grad_cam import guided_grad_cam

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks")


def net_and_pictures() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
                        nn.Linear(8 * 25, 5))  # fmt: skip
    with torch.no_grad():
        net[5].weight.mul_(1000)  # or all would be near 0
    return net.eval(), torch.rand(2, 3, 16, 16)


def check(method: Callable[[nn.Module, Tensor, int], Tensor]) -> None:
    net, x = net_and_pictures()
    expected = GuidedGradCam(net, net[2]).attribute(x.clone().requires_grad_(), 3, interpolate_mode="bilinear").detach()
    torch.testing.assert_close(method(net, x, 3), expected)
    assert expected.any()


def test_captum_agrees() -> None:
    check(lambda net, x, c: guided_grad_cam(net, x, c, layer="2"))


def after_the_relu(net: nn.Module, x: Tensor, c: int) -> Tensor:
    return guided_grad_cam(net, x, c)


def grad_cam_alone(net: nn.Module, x: Tensor, c: int) -> Tensor:
    return grad_cam(net, x, c, layer="2", enlarge=True)[:, None].expand_as(x)


def in_blocks(net: nn.Module, x: Tensor, c: int) -> Tensor:
    heat = grad_cam(net, x, c, layer="2")
    return guided_backpropagation(net, x, c) * F.interpolate(heat[:, None], size=16)


@pytest.mark.parametrize("mutant", [after_the_relu, grad_cam_alone, in_blocks])
def test_rejects(mutant: Callable[[nn.Module, Tensor, int], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_bad_input() -> None:
    net, x = net_and_pictures()
    with pytest.raises(InputError, match="no layer named 'last'"):
        guided_grad_cam(net, x, 1, layer="last")
