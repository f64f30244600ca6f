"""Faithfulness: maps that know no network, that are flat, empty or wrong are named in words; honest ones are not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.filters import sobel
from torch import Tensor, nn

from vivace.explain.cam import cam
from vivace.explain.faithfulness import coarse_map, edge_map, faithfulness
from vivace.explain.grad_cam import grad_cam


class Red(nn.Module):
    """Class 0 is what has red stripes, class 1 green ones; found by a layer of maps whose weights matter."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.classifier = nn.Conv2d(3, 16, (1, 2), bias=False), nn.Linear(16, 2, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()[0, 0, 0] = torch.tensor([1.0, -1])
            self.maps.weight[1, 1, 0] = torch.tensor([1.0, -1])
            self.classifier.weight.zero_()[0, 0] = 200
            self.classifier.weight[1, 1] = 200

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.maps(x)).mean((2, 3)))


def picture() -> Tensor:
    """Red stripes in one corner, and blue ones, wider and all edges, elsewhere."""
    x = torch.zeros(1, 3, 32, 32)
    x[:, 2, ::4] = x[:, 2, 1::4] = 1
    x[:, :, :8, :8] = 0
    x[:, 0, :8, :8:2] = 1
    return x


def blue(_model: nn.Module, images: Tensor, _target: object) -> Tensor:
    return images[:, 2]


def flat(_model: nn.Module, images: Tensor, _target: object) -> Tensor:
    return torch.ones(len(images), 8, 8)


def empty(_model: nn.Module, images: Tensor, _target: object) -> Tensor:
    return torch.zeros(len(images), 8, 8)


def upside_down(model: nn.Module, images: Tensor, target: object) -> Tensor:
    return -cam(model, images, target)  # type: ignore[arg-type]


def warned(explain: Callable[..., Tensor]) -> str:
    found = faithfulness(explain, Red(), picture(), 0, steps=8, generator=torch.Generator().manual_seed(0))
    return "; ".join(found.warnings)


def test_an_honest_map_is_not_warned_of() -> None:
    assert warned(grad_cam) == ""


@pytest.mark.parametrize(("mutant", "words"), [
    (blue, "hardly depends on the network: with all weights shuffled it stays the same (rank correlation 1.00)"),
    (blue, "tells no more than by a random map"),
    (flat, "the same everywhere"), (empty, "zero everywhere"), (upside_down, "no more than by a random map"),
])  # fmt: skip
def test_warns(mutant: Callable[..., Tensor], words: str) -> None:
    assert words in warned(mutant)


def test_says_which_picture() -> None:
    pictures = torch.cat([picture(), picture().flip(3)])

    def first_is_flat(model: nn.Module, images: Tensor, target: object) -> Tensor:
        heat = grad_cam(model, images, target)  # type: ignore[arg-type]
        return torch.cat([torch.ones_like(heat[:1]), heat[1:]])

    found = faithfulness(first_is_flat, Red(), pictures, 0, steps=4, generator=torch.Generator().manual_seed(0))
    assert any("the same everywhere: this layer says nothing about places, picture 0" in w for w in found.warnings)
    assert found.similarity.shape == found.map.score.shape == (2,)


def test_edges_are_scikit_images() -> None:
    x = torch.rand(1, 3, 9, 12)
    expected = sobel(x[0].mean(0).numpy())
    inside = edge_map(x)[0, 1:-1, 1:-1].numpy()
    np.testing.assert_allclose(inside / inside.max(), expected[1:-1, 1:-1] / expected[1:-1, 1:-1].max(), atol=1e-5)
    assert coarse_map(torch.ones(1, 30, 10)).shape == (1, 14, 10)
