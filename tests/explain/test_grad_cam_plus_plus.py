"""Grad-CAM++: numbers by hand, the formula position by position, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.explain.grad_cam import grad_cam, map_and_gradient
from vivace.explain.grad_cam_plus_plus import grad_cam_plus_plus

Weights = Callable[[Tensor, Tensor], Tensor]


def linear(weights: list[float]) -> nn.Sequential:
    """Two maps A1 = x and A2 = 2 x, each position with a weight of its own: dy/dA are these numbers."""
    conv, head = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        head.weight.copy_(torch.tensor([weights]))
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head)


def test_by_hand() -> None:
    x = torch.tensor([[[[1.0, 0], [0, 1]]]])  # the maps' sums are 2 and 4
    # w1 = 1 / (2 + 2 * 1) + 2 / (2 + 2 * 2) = 7 / 12, -3 does not count; w2 = 1 / (2 + 4 * 1) = 1 / 6
    heat = grad_cam_plus_plus(linear([1, 2, -3, 0, 0, 0, 0, 1]), x, 0)
    expected = (7 / 12 + 2 * 1 / 6) * x[:, 0]
    torch.testing.assert_close(heat, expected)


def by_loops(A: Tensor, g: Tensor) -> Tensor:
    """eq. 19, eq. 5 and eq. 7 as they are written, in float64, one position after the other."""
    B, K, h, w = A.shape
    L = torch.zeros(B, h, w, dtype=torch.float64)
    for b in range(B):
        for k in range(K):
            weight, total = 0.0, float(A[b, k].sum())
            for i in range(h):
                for j in range(w):
                    d = float(g[b, k, i, j])
                    if d > 0:
                        weight += d * d**2 / (2 * d**2 + total * d**3)
            L[b] += weight * A[b, k].double()
    return L.clamp_min(0)


def net_and_pictures() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))
    return net, torch.rand(2, 3, 8, 8)


def check(weights: Weights) -> None:
    net, x = net_and_pictures()
    A, g = map_and_gradient(net, x, 2)
    L = F.relu(torch.einsum("bk,bkij->bij", weights(A, g), A))
    torch.testing.assert_close(L.double(), by_loops(A, g), rtol=1e-5, atol=1e-7)


def test_is_the_papers_formula() -> None:
    net, x = net_and_pictures()
    A, g = map_and_gradient(net, x, 2)
    heat = grad_cam_plus_plus(net, x, 2)
    torch.testing.assert_close(heat.double(), by_loops(A, g), rtol=1e-5, atol=1e-7)
    assert heat.any() and not grad_cam(net, x, 2).any()  # the mean gradient speaks against it, some positions for it


def gradients_of_any_sign(A: Tensor, g: Tensor) -> Tensor:
    return (g / (2 + A.sum((2, 3), keepdim=True) * g)).sum((2, 3))


def the_mean(A: Tensor, g: Tensor) -> Tensor:
    return (F.relu(g) / (2 + A.sum((2, 3), keepdim=True) * F.relu(g))).mean((2, 3))


def sum_forgotten(A: Tensor, g: Tensor) -> Tensor:
    return (F.relu(g) / (2 + A * F.relu(g))).sum((2, 3))


def alpha_without_the_gradient(A: Tensor, g: Tensor) -> Tensor:
    return ((g > 0) / (2 + A.sum((2, 3), keepdim=True) * F.relu(g))).sum((2, 3))


@pytest.mark.parametrize("mutant", [gradients_of_any_sign, the_mean, sum_forgotten, alpha_without_the_gradient])
def test_rejects(mutant: Weights) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_maps_that_are_not_rectified_divide_by_nothing_small() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(216, 4))
    assert torch.isfinite(grad_cam_plus_plus(net, torch.randn(4, 3, 8, 8), 1)).all()
