"""A classifier as a convolution against the classifier on every window; enlarging against torch's interpolation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import create_model
from vivace.cnn.fully_convolutional import FullyConvolutional, bilinear, convolutionalize


class Small(nn.Module):
    """Unpadded, made for 20 x 20: 20, 18, 9, 7 and then 4 channels of 7 x 7, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
        self.classifier = nn.Sequential(nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def windows(model: nn.Module, picture: Tensor) -> Tensor:
    """The classifier on every window of 20 x 20, two pixels apart."""

    def at(y: int, x: int) -> Tensor:
        return model(picture[..., y : y + 20, x : x + 20])[..., None]

    height, width = picture.shape[-2:]
    rows = [torch.cat([at(y, x) for x in range(0, width - 19, 2)], 2) for y in range(0, height - 19, 2)]
    return torch.stack(rows, 2)


def transposed(score_map: nn.Module) -> None:
    """The mutant: rows and columns of the flattened map taken for each other."""
    first = next(m for m in score_map.get_submodule("head").modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach().transpose(2, 3).contiguous())


def test_is_the_classifier_on_every_window_and_a_mutant_is_not() -> None:
    torch.manual_seed(0)
    model = Small().eval()
    picture = torch.rand(1, 3, 26, 32)
    score_map = convolutionalize(model, size=20)
    with torch.no_grad():
        wanted = windows(model, picture)
        assert wanted.shape == (1, 5, 4, 7)
        assert torch.allclose(score_map(picture), wanted, atol=1e-5)
        transposed(score_map)
        assert not torch.allclose(score_map(picture), wanted, atol=1e-3)


def test_an_average_at_the_end_becomes_one_by_one() -> None:
    model = create_model("efficientnet_lite0", weights="imagenet")
    score_map = convolutionalize(model)
    picture = torch.rand(1, 3, 256, 320, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = score_map(picture)
        assert scores.shape == (1, 1000, 8, 10)
        assert torch.allclose(scores.mean((2, 3)), model(picture), atol=1e-3)


def test_enlarging_begins_as_bilinear_interpolation() -> None:
    maps = torch.rand(1, 3, 6, 8)
    for factor in (2, 4, 8):
        with torch.no_grad():
            grown = bilinear(3, factor)(maps)
        inside = (..., slice(factor, -factor), slice(factor, -factor))
        wanted = F.interpolate(maps, scale_factor=factor, mode="bilinear")
        assert torch.allclose(grown[inside], wanted[inside], atol=1e-5)


def test_skips_add_finer_scores_and_any_size_comes_back() -> None:
    torch.manual_seed(0)
    model = FullyConvolutional(create_model("resnet20"), ["layer1", "layer2", "layer3"], classes=4).eval()
    assert model.strides == [1, 2, 4]
    with torch.no_grad():
        assert model(torch.rand(2, 3, 30, 41)).shape == (2, 4, 30, 41)
        assert model(torch.rand(1, 3, 32, 32)).abs().max() == 0  # scores begin at zero
        model.scores[0].bias.fill_(2.0)
        assert torch.allclose(model(torch.rand(1, 3, 32, 32))[..., 4:-4, 4:-4], torch.tensor(2.0))


def test_the_last_enlarging_stays_bilinear_and_the_others_learn() -> None:
    model = FullyConvolutional(create_model("resnet20"), ["layer1", "layer2", "layer3"], classes=2)
    assert [layer.weight.requires_grad for layer in model.enlarge] == [False, True, True]
    model(torch.rand(1, 3, 32, 32)).sum().backward()
    assert model.scores[0].weight.grad is not None


def test_what_cannot_be_made_one_is_told() -> None:
    with pytest.raises(InputError, match="no fully connected layer"):
        convolutionalize(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(InputError, match="one layer at least"):
        FullyConvolutional(create_model("resnet20"), [], classes=2)
    with pytest.raises(InputError, match="half the size"):
        FullyConvolutional(create_model("resnet20"), ["layer1", "layer3"], classes=2)
    with pytest.raises(InputError, match="at least one class"):
        FullyConvolutional(create_model("resnet20"), ["layer1"], classes=0)
