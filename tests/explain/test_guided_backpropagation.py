"""Guided backpropagation: numbers by hand, captum, ReLUs of all kinds, wrong versions, and the check that it fails."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.guided_backpropagation import guided_backpropagation
from vivace.explain.randomization_check import rank_correlation, shuffle_weights


def by_hand() -> tuple[nn.Module, Tensor]:
    """y = relu(x) . (3, -2, 1): the ReLU's input is (1, 2, -1)."""
    head = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, -2, 1]]))
    return nn.Sequential(nn.ReLU(), nn.Flatten(), head), torch.tensor([[[[1.0, 2, -1]]]])


def check(method: Callable[[nn.Module, Tensor], Tensor]) -> None:
    net, x = by_hand()
    assert method(net, x).tolist() == [[[[3, 0, 0]]]]  # -2 is negative on its way back, 1 meets a ReLU that is off


def test_by_hand() -> None:
    check(lambda net, x: guided_backpropagation(net, x, 0))


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x).sum(), x)[0]


def deconvolution(net: nn.Module, x: Tensor) -> Tensor:
    """Positive gradients pass, whether the ReLU was on or off (Zeiler and Fergus)."""
    return F.relu(net[2].weight).view(x.shape)  # type: ignore[index]


def rectified_at_the_end(net: nn.Module, x: Tensor) -> Tensor:
    deep = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(3, 1, bias=False))
    deep.load_state_dict(net.state_dict())
    return gradient(deep, x).abs()


@pytest.mark.parametrize("mutant", [gradient, deconvolution, rectified_at_the_end])
def test_rejects(mutant: Callable[[nn.Module, Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


class Net(nn.Module):
    """A shortcut, batch norm and pooling; each ReLU is written in another way, as `rectify` says."""

    def __init__(self, rectify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head, self.rectify = nn.BatchNorm2d(8), nn.Linear(8, 5), rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.first(x))
        x = self.rectify(x + self.norm(self.second(x)))
        return self.head(F.max_pool2d(x, 2).mean((2, 3)))


class Modules(Net):
    """For captum, which sees modules only, and each of them once."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU())
        self.again = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.first(x))
        x = self.again(x + self.norm(self.second(x)))
        return self.head(F.max_pool2d(x, 2).mean((2, 3)))


RELUS = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.ReLU6(inplace=True), F.relu, torch.relu, Tensor.relu,
         F.relu6, lambda x: F.relu(x, inplace=True), lambda x: x.relu_(), lambda x: F.hardtanh(x, 0, 6)]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("rectify", RELUS)
def test_captum_agrees_whichever_way_a_relu_is_written(rectify: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    theirs = Modules().eval()
    ours, x = Net(rectify).eval(), torch.rand(2, 3, 12, 12)
    ours.load_state_dict(theirs.state_dict())
    expected = GuidedBackprop(theirs).attribute(x.clone().requires_grad_(), [1, 4])
    torch.testing.assert_close(guided_backpropagation(ours, x, [1, 4]), expected.detach())
    assert not torch.allclose(expected, gradient(theirs, x), atol=1e-4)
    assert not x.requires_grad and all(p.grad is None and p.requires_grad for p in ours.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(guided_backpropagation(ours, x * 1, [1, 4]), expected.detach())


def test_it_hardly_depends_on_the_class_or_the_last_layer() -> None:
    """Why it explains little: with the classifier shuffled most of it stays, where the plain gradient changes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (3, 16, 16, 16):
        layers += [nn.Conv2d(inputs, 16, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 256, 5)).eval()
    x = F.interpolate(torch.rand(4, 3, 4, 4), size=16, mode="bilinear")
    before = guided_backpropagation(net, x, 0).abs().amax(1), gradient_of(net, x, 0)
    shuffle_weights(net[-1], generator=torch.Generator().manual_seed(0))
    after = guided_backpropagation(net, x, 0).abs().amax(1), gradient_of(net, x, 0)
    guided, plain = (rank_correlation(a, b).mean() for a, b in zip(before, after, strict=True))
    assert guided > plain + 0.2


def gradient_of(net: nn.Module, x: Tensor, c: int) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x)[:, c].sum(), x)[0].abs().amax(1)


def test_bad_input() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(288, 2)), torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="Sequential has no ReLU"):
        guided_backpropagation(net, x, 0)
    rectified = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(InputError, match="in a way that can be differentiated"):
        guided_backpropagation(rectified, x, lambda y: y.detach()[:, 0])
    with pytest.raises(InputError, match="no class 2"):
        guided_backpropagation(rectified, x, 2)
