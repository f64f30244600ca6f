"""Score-CAM: a naive loop over maps, one map whose worth is known, wrong versions, and runs that are saved."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.score_cam import score_cam


def net_and_pictures() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    with torch.no_grad():
        net[0].bias[1] = -9  # a map that is zero everywhere
        net[3].weight.mul_(8)  # scores that differ
    return net, torch.rand(2, 3, 8, 8)


def naive(net: nn.Sequential, x: Tensor, c: int) -> Tensor:
    heats = []
    for picture in x:
        A = net[:2](picture[None])[0].detach()
        scores = []
        for a in A:
            mask = F.interpolate(a[None, None], size=(8, 8), mode="bilinear", align_corners=False)[0, 0]
            mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-30)
            scores.append(float(net((picture * mask)[None])[0, c].detach()))
        alpha = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
        heats.append(sum(w * a for w, a in zip(alpha, A, strict=True)).clamp_min(0))  # type: ignore[union-attr]
    return torch.stack(heats)


def check(method: Callable[[nn.Sequential, Tensor, int], Tensor]) -> None:
    net, x = net_and_pictures()
    torch.testing.assert_close(method(net, x, 2), naive(net, x, 2))


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_is_the_naive_loop(batch_size: int) -> None:
    check(lambda net, x, c: score_cam(net, x, c, layer="1", batch_size=batch_size))


def masks_not_normalised(net: nn.Sequential, x: Tensor, c: int) -> Tensor:
    A = net[:2](x).detach()
    H = F.interpolate(A, size=(8, 8), mode="bilinear", align_corners=False)
    y = torch.stack([net(x * H[:, k : k + 1])[:, c] for k in range(6)], 1).detach()
    return F.relu((y.softmax(1)[:, :, None, None] * A).sum(1))


def without_softmax(net: nn.Sequential, x: Tensor, c: int) -> Tensor:
    A = net[:2](x).detach()
    H = F.interpolate(A, size=(8, 8), mode="bilinear", align_corners=False)
    H = (H - H.amin((2, 3), True)) / (H.amax((2, 3), True) - H.amin((2, 3), True) + 1e-30)
    y = torch.stack([net(x * H[:, k : k + 1])[:, c] for k in range(6)], 1).detach()
    return F.relu((y[:, :, None, None] * A).sum(1))


def of_another_class(net: nn.Sequential, x: Tensor, c: int) -> Tensor:
    return score_cam(net, x, c - 1, layer="1")


@pytest.mark.parametrize("mutant", [masks_not_normalised, without_softmax, of_another_class])
def test_rejects(mutant: Callable[[nn.Sequential, Tensor, int], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_the_map_that_makes_the_score_wins() -> None:
    """The score is what is red, and one of two maps is what is red: it takes nearly all of the weight."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(2, 1, bias=False))  # fmt: skip
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2, 3)[:, :, None, None])
        net[4].weight.copy_(torch.tensor([[50.0, 0]]))
    x = torch.zeros(1, 3, 8, 8)
    x[0, 0, :4], x[0, 1, 4:] = 1, 1  # red above, green below
    heat = score_cam(net, x, 0, layer="1")
    assert heat[0, 0, 0] > 0.99 and heat[0, 7, 0] < 0.01


def test_other_ways_to_ask() -> None:
    net, x = net_and_pictures()
    torch.testing.assert_close(score_cam(net, x, lambda y: y[:, 2]), score_cam(net, x, [2, 2]))
    predicted = net(x).argmax(1)
    assert torch.equal(score_cam(net, x), score_cam(net, x, predicted))
    assert torch.equal(score_cam(net, x, 1, most=100), score_cam(net, x, 1))
    assert score_cam(net, x, 1, most=2, normalize=True, enlarge=True).shape == (2, 8, 8)
    assert not any(module._forward_hooks for module in net.modules())


def test_maps_that_highlight_nothing_cost_one_run() -> None:
    net, x = net_and_pictures()
    runs = []
    net.register_forward_hook(lambda _m, inputs, _o: runs.append(len(inputs[0])))
    score_cam(net, x[:1], 2, batch_size=1)
    dead = int((net[:2](x[:1]).amax((2, 3)) == net[:2](x[:1]).amin((2, 3))).sum())
    assert dead >= 1 and sum(runs) == 2 + 6 - dead  # the picture, a black one, a run for each live map


@pytest.mark.parametrize("wrong", [{"most": 0}, {"batch_size": 0}])
def test_bad_input(wrong: dict) -> None:
    net, x = net_and_pictures()
    with pytest.raises(InputError, match="at least 1"):
        score_cam(net, x, 1, **wrong)
    with pytest.raises(InputError, match="no layer named"):
        score_cam(net, x, 1, layer="nothing")
