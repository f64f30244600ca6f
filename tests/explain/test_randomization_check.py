"""Model randomisation: SciPy's rank correlation, an edge detector that must be caught, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.cam import cam
from vivace.explain.grad_cam import grad_cam
from vivace.explain.randomization_check import randomization_check, rank_correlation, shuffle_weights


def maps() -> tuple[Tensor, Tensor]:
    """With ties, as ReLU leaves them."""
    torch.manual_seed(0)
    return torch.randn(3, 5, 7).clamp_min(0), torch.randn(3, 5, 7).clamp_min(-0.5)


def check(correlation: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = maps()
    b = b + a**3
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert correlation(a, b).tolist() == pytest.approx(expected, abs=1e-5)


def test_scipy_agrees() -> None:
    check(rank_correlation)
    a, _ = maps()
    assert rank_correlation(a, a.exp()).tolist() == pytest.approx([1] * 3)
    assert rank_correlation(a, torch.ones_like(a)).tolist() == [0] * 3


def of_values(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack(
        [torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] for x, y in zip(a, b, strict=True)]
    )


def ties_in_order(a: Tensor, b: Tensor) -> Tensor:
    return of_values(*(m.flatten(1).argsort(dim=1, stable=True).argsort(1).float() for m in (a, b)))


def not_centred(a: Tensor, b: Tensor) -> Tensor:
    ranks = (m.flatten(1).argsort(1).argsort(1).float() for m in (a, b))
    return torch.nn.functional.cosine_similarity(*ranks)


@pytest.mark.parametrize("mutant", [of_values, ties_in_order, not_centred])
def test_rejects(mutant: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def net_and_pictures() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    return net, torch.rand(4, 3, 16, 16)


def test_a_map_that_knows_no_network_is_caught() -> None:
    net, x = net_and_pictures()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    edges = randomization_check(lambda _model, images, _target: images.mean(1), net, x)
    assert edges.tolist() == [[pytest.approx(1)] * 4]
    honest = randomization_check(cam, net, x, 2, generator=torch.Generator().manual_seed(0))
    assert honest.shape == (1, 4) and honest.mean() < 0.5
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_parts_are_shuffled_one_after_the_other_for_the_class_that_was_predicted() -> None:
    net, x = net_and_pictures()
    asked: list[object] = []

    def explain(model: nn.Module, images: Tensor, target: object) -> Tensor:
        asked.append(target)
        return grad_cam(model, images, target)  # type: ignore[arg-type]

    found = randomization_check(
        explain, net, x, parts=[["3"], ["4"], ["0"]], generator=torch.Generator().manual_seed(1)
    )
    assert found.shape == (3, 4) and asked == [net(x).argmax(1).tolist()] * 4
    assert found[0].tolist() == [pytest.approx(1)] * 4  # a Flatten has no weights
    assert found[1].mean() < 0.99 and found[2].mean() < 0.9
    with pytest.raises(InputError, match="no layer named 'head'"):
        randomization_check(explain, net, x, parts=[["head"]])


def test_shuffling_keeps_the_values() -> None:
    net, _ = net_and_pictures()
    before = net[4].weight.detach().clone()
    shuffle_weights(net, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(net[4].weight, before)
    assert torch.equal(net[4].weight.detach().flatten().sort().values, before.flatten().sort().values)
    assert net[4].weight.requires_grad
