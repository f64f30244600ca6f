"""The template network against its layers written out, and against counts by hand."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import ConvNet


def written_out(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Two stages with max pooling, one hidden layer."""
    x = images
    for stage in (1, 2):
        kernel, bias = (weights[f"features.{stage}.conv.{part}"] for part in ("weight", "bias"))
        x = F.max_pool2d(F.conv2d(x, kernel, bias, padding=1).clamp(min=0), 2)
    x = (x.flatten(1) @ weights["classifier.1.weight"].T + weights["classifier.1.bias"]).clamp(min=0)
    return x @ weights["classifier.3.weight"].T + weights["classifier.3.bias"]


def is_the_template(build: Callable[[], nn.Module]) -> bool:
    torch.manual_seed(0)
    model = build()
    images = torch.randn(4, 1, 13, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.allclose(model(images), written_out(model.state_dict(), images), atol=1e-5)


def test_is_the_layers_written_out() -> None:
    assert is_the_template(lambda: ConvNet((1, 13, 16), 10, (4, 8), hidden=(16,)))


class ReluOnLogits(ConvNet):
    """The mutant that lecture notes draw: a ReLU behind every fully connected layer, the last too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).relu()


@pytest.mark.parametrize("mutant", [
    lambda: ReluOnLogits((1, 13, 16), 10, (4, 8), hidden=(16,)),
    lambda: ConvNet((1, 13, 16), 10, (4, 8), hidden=(16,), pooling="average"),
    lambda: ConvNet((1, 13, 16), 10, (4, 8), hidden=(16,), activation="tanh"),
])  # fmt: skip
def test_rejects_a_mutant(mutant: Callable[[], nn.Module]) -> None:
    assert not is_the_template(mutant)


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("hidden", [0, 1, 2])
@pytest.mark.parametrize("pooling", ["max", "average", "stride", "none"])
def test_parameters_by_hand(stages: int, hidden: int, pooling: str) -> None:
    model = ConvNet((3, 12, 20), 7, [6] * stages, hidden=[5] * hidden, pooling=pooling)  # type: ignore[arg-type]
    height, width = 12, 20
    for _ in range(stages):
        if pooling == "stride":
            height, width = -(-height // 2), -(-width // 2)
        elif pooling != "none":
            height, width = height // 2, width // 2
    units = [6 * height * width, *[5] * hidden, 7]
    wanted = 6 * 27 + 6 + (stages - 1) * (6 * 54 + 6) + sum(n * m + m for n, m in pairwise(units))
    assert sum(weight.numel() for weight in model.parameters()) == wanted


def test_batch_normalisation_stands_between_convolution_and_activation() -> None:
    model = ConvNet((1, 8, 8), 3, (4,), norm=True)
    kinds = [type(layer) for layer in model.get_submodule("features.1").children()]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert model.get_submodule("features.1.conv").bias is None


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="nothing is left of 8 x 8 after 4 poolings"):
        ConvNet((1, 8, 8), 10, (4, 4, 4, 4))
    with pytest.raises(InputError, match="at least 1"):
        ConvNet((1, 8, 8), 0)
