"""Feature inversion: distances by hand, layers that have an inverse, what is open stays open, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import read_image, resize
from vivace.base.report import Step
from vivace.explain import ImageParameters, feature_distance, feature_inversion


def check_distance(distance: Callable[[Tensor, Tensor, str], Tensor]) -> None:
    """phi - phi_0 = (1, -2), (0, 0) at two positions; phi_0 = (3, 4), (0, 1)."""
    phi_0 = torch.tensor([[[3.0, 0.0], [4.0, 1.0]]])  # (1, channels, positions)
    phi = torch.tensor([[[4.0, 0.0], [2.0, 1.0]]])
    assert float(distance(phi, phi_0, "l2")) == pytest.approx(5 / 26)
    assert float(distance(phi, phi_0, "l1")) == pytest.approx(3 / 8)
    cosines = (4 * 3 + 2 * 4) / (5 * 20**0.5), 1
    assert float(distance(phi, phi_0, "cosine")) == pytest.approx(1 - sum(cosines) / 2)


def test_distances_by_hand() -> None:
    check_distance(feature_distance)


def relative_to_itself(phi: Tensor, phi_0: Tensor, distance: str) -> Tensor:
    return feature_distance(phi_0, phi, distance)


def not_relative(phi: Tensor, phi_0: Tensor, distance: str) -> Tensor:
    return (phi - phi_0).square().sum()


def over_positions(phi: Tensor, phi_0: Tensor, distance: str) -> Tensor:
    return feature_distance(phi.mT, phi_0.mT, distance)


@pytest.mark.parametrize("mutant", [relative_to_itself, not_relative, over_positions])
def test_rejects(mutant: Callable[[Tensor, Tensor, str], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check_distance(mutant)


def network() -> nn.Sequential:
    """A first layer that loses nothing (12 channels of 2 x 2 pixels, orthogonal), and a second that sees means only."""
    model = nn.Sequential(nn.Conv2d(3, 12, 2, stride=2, bias=False), nn.AdaptiveAvgPool2d(1))
    nn.init.orthogonal_(model[0].weight.view(12, 12), generator=torch.Generator().manual_seed(0))
    return model


def inverted(layer: str, **settings: object) -> tuple[Tensor, Tensor]:
    """A small photograph, and what is found from that layer's features of it."""
    photo, model = resize(read_image("chelsea"), (8, 12))[None], network()
    (features,) = activations(model, photo, [layer])
    settings = {"size": (8, 12), "smoothness": 0, "generator": torch.Generator().manual_seed(1)} | settings
    return photo, feature_inversion(model, features, layer, **settings)


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_finds_the_picture_where_nothing_is_lost(distance: str) -> None:
    photo, again = inverted("0", distance=distance, steps=150)
    assert (again - photo).abs().max() < 0.03


def test_in_frequencies_too() -> None:
    frequencies = ImageParameters((8, 12), generator=torch.Generator().manual_seed(0))
    photo, again = inverted("0", steps=150, rate=0.05, parameters=frequencies)
    assert (again - photo).abs().max() < 0.1


def test_what_a_layer_forgets_does_not_come_back() -> None:
    """Means of 2 x 2 blocks' coefficients: another picture with the same means is found."""
    photo, again = inverted("1", steps=150)
    model = network()
    assert feature_distance(model(again), model(photo)) < 1e-4
    assert (again - photo).abs().mean() > 0.05


def test_smoothness_and_norm_say_which_of_them() -> None:
    """Total variation takes the smoothest; the norm one without extremes."""
    _, rough = inverted("1", steps=100)
    _, smooth = inverted("1", steps=100, smoothness=1)
    _, grey = inverted("1", steps=100, norm=100)
    assert smooth.diff(dim=3).abs().mean() < 0.2 * rough.diff(dim=3).abs().mean()
    assert (grey - 0.5).abs().max() < (rough - 0.5).abs().max()


def test_same_seed_same_picture_and_nothing_else_changes() -> None:
    told: list[Step] = []
    _, once = inverted("0", steps=5, tell=told.append)
    _, again = inverted("0", steps=5)
    assert torch.equal(once, again)
    assert [step.done for step in told] == [1, 2, 3, 4, 5] and told[-1].total == 5
    model = network().train()
    feature_inversion(model, torch.ones(1, 12, 8, 8), "0", size=(16, 16), steps=2)
    assert model.training and all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_tells_what_is_wrong() -> None:
    model, features = network(), torch.ones(1, 12, 8, 8)
    with pytest.raises(InputError, match=r"the features are \(1, 12, 8, 8\); of pictures \(1, 3, 8, 12\)"):
        feature_inversion(model, features, "0", size=(8, 12))
    with pytest.raises(InputError, match="no layer named '7'"):
        feature_inversion(model, features, "7", size=(16, 16))
    with pytest.raises(InputError, match="at least one step"):
        feature_inversion(model, features, "0", size=(16, 16), steps=0)
    with pytest.raises(InputError, match="zero everywhere"):
        feature_inversion(model, torch.zeros(1, 12, 8, 8), "0", size=(16, 16))
