"""What a model costs, against counts by hand."""

import pytest
import torch
from torch import nn

from vivace.base.cost import bytes_kept, cost
from vivace.base.errors import InputError
from vivace.cnn import create_model


def test_counts_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),  # 8 maps of 4 x 4, each value from 27
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),  # from 2 channels each
        nn.ConvTranspose2d(8, 2, 2, stride=2),  # each of 8 x 16 values goes to 2 x 4
        nn.Flatten(),
        nn.Linear(128, 10, bias=False),
    )
    found = cost(model, (3, 8, 8))
    assert found.multiply_adds == 8 * 16 * 27 + 8 * 16 * 18 + 8 * 16 * 8 + 1280
    assert found.parameters == (216 + 8) + 16 + (144 + 8) + (64 + 2) + 1280
    assert found.activations == 3 * 128 + 128 + 128 + 128 + 10
    assert found.of("Linear").multiply_adds == 1280 and found.of("Conv2d").parameters == 376
    assert found.layers[0].shape == (8, 4, 4) and found.layers[0].kind == "Conv2d"


class Odd(nn.Module):
    """A layer that runs twice, and a product and a weight outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.own = nn.Parameter(torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x.flatten(1))) @ self.own


def test_shared_layers_and_work_outside_layers() -> None:
    found = cost(Odd(), (1, 2, 2))
    assert (found.parameters, found.multiply_adds, found.activations) == (20 + 16, 3 * 16, 8)
    assert found.layers[-1].kind == "Odd" and found.layers[-1].multiply_adds == 16


def test_nothing_is_computed_and_nothing_changed() -> None:
    model = create_model("vgg16")
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items() if weight.numel() < 10_000}
    found = cost(model)
    assert found.parameters == 138_357_544
    assert found.multiply_adds == 15_470_264_320  # Simonyan and Zisserman's D at 224 px
    assert model.training and all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_picture_that_does_not_fit_is_told() -> None:
    with pytest.raises(InputError, match=r"Sequential takes no picture \(3, 8, 8\)"):
        cost(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), (3, 8, 8))


def test_bytes_kept_by_hand() -> None:
    """Two layers keep what they were given, ReLU what it puts out, which is what the second layer was given."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    picture = torch.rand(1, 3, 2, 4)
    assert bytes_kept(model, picture) == 4 * (3 * 2 * 4 + 3 * 2 * 6)
    assert bytes_kept(nn.Sequential(nn.Flatten(), nn.Linear(24, 5)), picture) == 4 * 24  # weights are not counted
