"""AdaIN against PyTorch's instance_norm and numbers by hand; the decoder against what its shape promises."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.style import StyleDecoder, adain_maps, adaptive_instance_norm, feature_statistics, stylize
from vivace.style.adain import Maps, as_rgb, matched_colors, mixed, opponents

Norm = Callable[[Tensor, Tensor], Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def theirs(content: Tensor, style: Tensor) -> Tensor:
    """The same with PyTorch's instance_norm and NumPy-like statistics."""
    mean, deviation = style.mean((2, 3), keepdim=True), style.std((2, 3), keepdim=True, correction=0)
    return F.instance_norm(content) * deviation + mean


def is_adain(norm: Norm) -> bool:
    x, y = 3 * random(2, 4, 6, 5) + 1, 0.5 * random(2, 4, 7, 3, seed=1) - 2
    by_hand = norm(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[10.0], [20.0]]]]))  # (2, 1) becomes (15, 5)
    hand = torch.allclose(by_hand, torch.tensor([[[[10.0, 20.0]]]]), atol=1e-3)
    return hand and torch.allclose(norm(x, y), theirs(x, y), atol=1e-4)


def test_adain_is_the_formula() -> None:
    assert is_adain(adaptive_instance_norm)


MUTANTS: dict[str, Norm] = {
    "the content's own deviation": lambda x, y: x - x.mean((2, 3), keepdim=True) + y.mean((2, 3), keepdim=True),
    "means not exchanged": lambda x, y: adaptive_instance_norm(x, y - y.mean((2, 3), keepdim=True)),
    "content and style exchanged": lambda x, y: F.interpolate(adaptive_instance_norm(y, x), size=x.shape[2:]),
    "over the batch": lambda x, y: (x - x.mean()) / x.std() * y.std() + y.mean(),
    "variance for deviation": lambda x, y: adaptive_instance_norm(x, y) * 1.1,
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Norm) -> None:
    assert not is_adain(mutant)


def test_each_picture_of_a_batch_gets_its_own_style() -> None:
    x, y = random(3, 4, 6, 5), random(3, 4, 7, 3, seed=1)
    alone = torch.cat([adaptive_instance_norm(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    assert torch.allclose(adaptive_instance_norm(x, y), alone, atol=1e-6)


def test_colours_get_mean_and_covariance() -> None:
    x, y = random(2, 3, 20, 20), 2 * random(2, 3, 15, 15, seed=1).cumsum(1)  # channels that hang together
    out = matched_colors(x, y)
    for image, style in zip(out, y, strict=True):
        assert torch.allclose(image.mean((1, 2)), style.mean((1, 2)), atol=1e-4)
        assert torch.allclose(torch.cov(image.flatten(1)), torch.cov(style.flatten(1)), rtol=0.02, atol=0.02)
    assert torch.allclose(as_rgb(opponents(x)), x, atol=1e-5)


def encode(images: Tensor) -> Maps:
    """A toy encoder: colours at an eighth, maps at a fourth and at an eighth."""
    quarter = F.avg_pool2d(images, 4)
    return [opponents(F.avg_pool2d(images, 8)), quarter.repeat(1, 2, 1, 1), F.avg_pool2d(quarter, 2).repeat(1, 3, 1, 1)]


def decoder() -> StyleDecoder:
    net = StyleDecoder((0, 0, 6, 9), (4, 6, 8, 10))
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


def test_mixing_styles_and_alpha() -> None:
    content, one, two = ([random(1, 2, 4, 4, seed=s), random(1, 3, 2, 2, seed=s)] for s in range(3))
    half = mixed(content, [one, two], torch.tensor([1.0, 3.0]), alpha=0.5)
    for out, f, a, b in zip(half, content, one, two, strict=True):
        assert torch.allclose(out, 0.5 * f + 0.5 * (a + 3 * b) / 4, atol=1e-6)
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2], masks[1, :, 2:] = 1, 1
    left_right = mixed(content, [one, two], masks)[0]
    assert torch.allclose(left_right[..., :2], one[0][..., :2]) and torch.allclose(left_right[..., 2:], two[0][..., 2:])


def test_any_size_comes_back_as_it_went_in() -> None:
    style, net = read_image("swirls", max_side=96), decoder()
    for height, width in ((33, 50), (64, 48), (5, 3), (1, 1)):
        image = read_image("coffee", max_side=64)[:, :1, :1].expand(3, height, width)
        out = stylize(encode, net, image, style)
        assert out.shape == image.shape and 0 <= float(out.min()) and float(out.max()) <= 1


def test_the_margin_leaves_no_frame() -> None:
    """A flat picture stays flat to its edges, although the layers' padding is not the picture's."""
    out = stylize(encode, decoder(), torch.full((3, 40, 40), 0.5), read_image("waves", max_side=64))
    assert float(out.std((1, 2)).max()) < 1e-5


def test_alpha_zero_takes_no_style() -> None:
    content, net = read_image("coffee", max_side=64), decoder()
    one, other = (stylize(encode, net, content, read_image(s, max_side=64), alpha=0) for s in ("waves", "swirls"))
    assert torch.allclose(one, other)
    weighted = stylize(encode, net, content, [read_image("waves", max_side=64)] * 2, weights=[0.2, 5.0])
    assert torch.allclose(weighted, stylize(encode, net, content, read_image("waves", max_side=64)), atol=1e-5)


def test_maps_are_matched_at_every_depth() -> None:
    maps = adain_maps([random(1, 3, 8, 8), random(1, 5, 4, 4)], [random(1, 3, 6, 6, seed=1), 2 * random(1, 5, 9, 9)])
    assert torch.allclose(feature_statistics(maps[1])[1], feature_statistics(2 * random(1, 5, 9, 9))[1], atol=1e-4)


def test_bad_input_is_named() -> None:
    image, net = torch.rand(3, 32, 32), decoder()
    with pytest.raises(InputError, match="alpha is from 0"):
        stylize(encode, net, image, image, alpha=1.5)
    with pytest.raises(InputError, match="as many weights"):
        stylize(encode, net, image, [image, image], weights=[1.0])
    with pytest.raises(InputError, match="as many weights"):
        stylize(encode, net, image, [])
    with pytest.raises(InputError, match="at least 0"):
        stylize(encode, net, image, [image, image], weights=[1.0, -1.0])
    with pytest.raises(InputError, match="not all 0"):
        stylize(encode, net, image, image, weights=[0.0])
