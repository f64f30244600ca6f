"""U-Net against the paper's sizes, its forward pass written out, and tiles that fit together."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.cnn import UNet
from vivace.cnn.unet import tiled, unet


def written_out(model: UNet, images: Tensor, *, skip: bool = True, corner: int = 4) -> Tensor:
    """Depth 1 without padding; the map of the way down loses `corner` pixels at each side before it is joined."""
    weights = model.state_dict()

    def two(x: Tensor, name: str) -> Tensor:
        for place in (0, 2):
            x = F.conv2d(x, weights[f"{name}.{place}.weight"], weights[f"{name}.{place}.bias"]).clamp(min=0)
        return x

    top = two(images, "down.0")
    bottom = two(F.max_pool2d(top, 2), "down.1")
    grown = F.conv_transpose2d(bottom, weights["up.0.weight"], weights["up.0.bias"], stride=2)
    side = grown.shape[-1]
    cut = top[..., corner : corner + side, corner : corner + side]
    x = two(torch.cat([cut if skip else torch.zeros_like(cut), grown], 1), "merge.0")
    return F.conv2d(x, weights["head.weight"], weights["head.bias"])


def agrees(**changes: int) -> bool:
    torch.manual_seed(0)
    model = UNet(3, width=4, depth=1)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.allclose(model(images), written_out(model, images, **changes), atol=1e-5)


def test_forward_is_the_figure_written_out() -> None:
    assert agrees()


@pytest.mark.parametrize("mutant", [{"skip": 0}, {"corner": 0}])
def test_rejects_a_mutant(mutant: dict[str, int]) -> None:
    assert not agrees(**mutant)


def test_the_papers_sizes_and_parameters() -> None:
    with torch.device("meta"):
        model = unet()
    assert model(torch.empty(1, 3, 572, 572, device="meta")).shape == (1, 2, 388, 388)
    widths, wanted, before = (64, 128, 256, 512, 1024), 0, 3
    for width in widths:  # down: two 3 x 3; up: 2 x 2; merge: two 3 x 3 on twice as many
        wanted += 9 * before * width + 9 * width * width + 2 * width
        before = width
    for width in widths[:-1]:
        wanted += 4 * 2 * width * width + width + 9 * 2 * width * width + 9 * width * width + 2 * width
    assert sum(weight.numel() for weight in model.parameters()) == wanted + 2 * 64 + 2 == 31_031_810


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (1, 9)])
def test_with_padding_any_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    model = UNet(2, width=2, depth=2, padded=True, norm=True).eval()
    assert model(torch.rand(1, 3, *size)).shape == (1, 2, *size)


def test_tiles_are_the_whole() -> None:
    torch.manual_seed(0)
    model = UNet(2, width=3, depth=1).eval()
    images = torch.rand(1, 3, 40, 52)
    with torch.no_grad():
        whole = model(F.pad(images, [model.margin] * 4, mode="reflect"))
        assert torch.allclose(tiled(model, images, tile=20), whole, atol=1e-5)


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(InputError, match="such as 24 x 24"):
        UNet(2, width=2, depth=1)(torch.rand(1, 3, 25, 24))
    with pytest.raises(InputError, match="tiles would not fit"):
        tiled(UNet(2, width=2, depth=1, padded=True), torch.rand(1, 3, 24, 24))
    with pytest.raises(InputError, match=r"tile=50 is not one of them, tile=52 is"):
        tiled(UNet(2, width=2, depth=4), torch.rand(1, 3, 300, 300), tile=50)
    with pytest.raises(InputError, match=r"tile=0 is not one of them, tile=4 is"):
        tiled(UNet(2, width=2, depth=1), torch.rand(1, 3, 24, 24), tile=0)
    with pytest.raises(InputError, match="pixels to mirror"):
        tiled(UNet(2, width=2, depth=1), torch.rand(1, 3, 6, 24), tile=20)
    with pytest.raises(InputError, match="no U-Net"):
        UNet(0)
