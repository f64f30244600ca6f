"""EfficientNet-Lite0 against timm's numbers, a naive convolution, the training set's statistics, and known pictures."""

from collections.abc import Callable
from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import crop_center, read_image, resize
from vivace.cnn import (
    EfficientNetLite,
    class_index,
    class_names,
    classify,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
    efficientnet_lite3,
    efficientnet_lite4,
)
from vivace.cnn.efficientnet_lite import SameConv2d


@pytest.fixture(scope="module")
def model() -> EfficientNetLite:
    return efficientnet_lite0(weights="imagenet")


def photograph(name: str) -> Tensor:
    """As ImageNet's validation pictures are prepared: shorter side 256, the middle 224 x 224."""
    return crop_center(resize(read_image(name), 256), 224)[None]


# the mutants: each is a network that looks right, loads its weights and still names most pictures


def symmetric_padding() -> EfficientNetLite:
    """PyTorch's padding instead of TensorFlow's."""
    model = efficientnet_lite0(weights="imagenet")
    for module in model.modules():
        if isinstance(module, SameConv2d):
            module.forward = lambda x, conv=module: nn.Conv2d.forward(conv, x)
    return model


def torchvision_normalisation() -> EfficientNetLite:
    model = efficientnet_lite0(weights="imagenet")
    model.normalization.mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    model.normalization.std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return model


def pytorch_epsilon() -> EfficientNetLite:
    """Batch normalisation with PyTorch's 1e-5 instead of TensorFlow's 1e-3."""
    model = efficientnet_lite0(weights="imagenet")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    return model


def no_residual() -> EfficientNetLite:
    model = efficientnet_lite0(weights="imagenet")
    for block in model.blocks:
        block.residual = False
    return model


# Every 125th logit of timm 1.0.31's tf_efficientnet_lite0 with these weights, in double precision, for `wave` below.
TIMM = {
    (97, 64): (-3.5606, 1.8799, 0.1452, -4.6871, 1.6441, 1.6976, -0.6092, 0.8283),
    (64, 97): (-4.1640, 1.7819, 0.9578, -3.9806, 1.0460, 4.0401, -1.5159, 3.5564),
    (224, 224): (-0.6453, -0.4731, -1.2964, -1.0872, -1.5607, -1.3926, -0.6367, -0.9522),
}


def wave(height: int, width: int) -> Tensor:
    axes = (torch.arange(3.0), torch.arange(float(height)), torch.arange(float(width)))
    channel, row, column = torch.meshgrid(*axes, indexing="ij")
    return (0.5 + 0.5 * torch.sin((channel + 1) * row / 7 + column / 11))[None]


def agrees_with_timm(model: nn.Module) -> bool:
    with torch.no_grad():
        return all(torch.allclose(model(wave(*size))[0, ::125], torch.tensor(logits), atol=2e-3)
                   for size, logits in TIMM.items())  # fmt: skip


def test_logits_are_timms(model: EfficientNetLite) -> None:
    assert agrees_with_timm(model)


@pytest.mark.parametrize("mutant", [symmetric_padding, torchvision_normalisation, pytorch_epsilon, no_residual])
def test_rejects(mutant: Callable[[], EfficientNetLite]) -> None:
    assert not agrees_with_timm(mutant())


def naive_same(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Depthwise convolution by TensorFlow's rule, one multiplication at a time: x (C, H, W), weight (C, K, K)."""
    (channels, height, width), k = x.shape, weight.shape[-1]
    out = np.zeros((channels, ceil(height / stride), ceil(width / stride)))
    top = max((out.shape[1] - 1) * stride + k - height, 0) // 2
    left = max((out.shape[2] - 1) * stride + k - width, 0) // 2
    for c, i, j, u, v in np.ndindex(*out.shape, k, k):
        row, column = i * stride + u - top, j * stride + v - left
        if 0 <= row < height and 0 <= column < width:
            out[c, i, j] += x[c, row, column] * weight[c, u, v]
    return out


def pads_as_tensorflow(convolve: Callable[[SameConv2d, Tensor], Tensor], height: int, width: int, kernel: int,
                       stride: int) -> bool:  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    conv = SameConv2d(2, 2, kernel, stride=stride, groups=2).double()
    nn.init.normal_(conv.weight, generator=generator)
    x = torch.randn(1, 2, height, width, generator=generator).double()
    expected = torch.from_numpy(naive_same(x[0].numpy(), conv.weight[:, 0].detach().numpy(), stride))
    found = convolve(conv, x)[0]
    return found.shape == expected.shape and torch.allclose(found, expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (7, 8), (1, 2)])
def test_padding_is_tensorflows(height: int, width: int, kernel: int, stride: int) -> None:
    assert pads_as_tensorflow(SameConv2d.__call__, height, width, kernel, stride)


def test_rejects_symmetric_padding() -> None:
    assert not pads_as_tensorflow(nn.Conv2d.forward, 8, 8, 3, 2)


def fits_the_statistics(model: EfficientNetLite) -> bool:
    """Whether photographs give the stem the variances that it had in training: they tell how pictures were scaled."""
    pictures = torch.cat([photograph(name) for name in ("astronaut", "chelsea", "china", "coffee", "motorcycle")])
    with torch.no_grad():
        (maps,) = activations(model, pictures, ["stem.conv"])
    ratio = maps.var((0, 2, 3)) / model.stem.norm.running_var
    return ratio.log().abs().median().item() < 0.7  # a factor of 2


def test_scale_of_the_input_is_the_one_of_training(model: EfficientNetLite) -> None:
    assert fits_the_statistics(model)
    assert not fits_the_statistics(torchvision_normalisation())


@pytest.mark.parametrize(
    ("name", "classes", "least"),
    [
        ("chelsea", ("tabby", "tiger cat", "Egyptian cat"), 0.85),
        ("coffee", ("espresso",), 0.9),
        ("camera", ("tripod",), 0.85),
        ("motorcycle", ("moped",), 0.3),
        ("rocket", ("missile", "projectile", "space shuttle"), 0.3),
    ],
)
def test_names_what_photographs_show(
    model: EfficientNetLite, name: str, classes: tuple[str, ...], least: float
) -> None:
    answers = classify(model, photograph(name))[0]
    assert answers[0][0] in classes
    assert sum(chance for answer, chance in answers if answer in classes) > least


@pytest.mark.parametrize(
    ("build", "count"),  # the counts of timm's tf_efficientnet_lite0 to lite4
    [
        (efficientnet_lite0, 4_652_008),
        (efficientnet_lite1, 5_416_680),
        (efficientnet_lite2, 6_092_072),
        (efficientnet_lite3, 8_197_096),
        (efficientnet_lite4, 13_006_568),
    ],
)
def test_parameter_count(build: Callable[[], EfficientNetLite], count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == count


def test_layers_before_and_after_the_activation(model: EfficientNetLite) -> None:
    before, after, inside = activations(model, photograph("coffee"), ["stem.norm", "stem", "blocks.5.expand.norm"])
    assert before.min() < 0 and torch.equal(after, before.clamp(0, 6))
    assert inside.min() < 0 and inside.shape == (1, 240, 28, 28)


def test_logits_are_the_average_of_the_scores_at_each_place(model: EfficientNetLite) -> None:
    picture = photograph("coffee")
    with torch.no_grad():
        maps = model.features(picture)
        scores = torch.einsum("bchw,kc->bkhw", maps, model.classifier.weight) + model.classifier.bias.view(-1, 1, 1)
        assert maps.shape == (1, 1280, 7, 7)
        assert torch.allclose(scores.mean((2, 3)), model(picture), atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (33, 320), (97, 64)])
def test_takes_pictures_of_any_size(model: EfficientNetLite, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert model(torch.rand(2, 3, *size)).shape == (2, 1000)
        assert model.features(torch.rand(1, 3, *size)).shape[-2:] == tuple(ceil(side / 32) for side in size)


def test_is_ready_to_use_and_starts_untrained_without_weights(model: EfficientNetLite) -> None:
    assert not model.training
    assert efficientnet_lite0().training
    assert set(efficientnet_lite0().state_dict()) == set(model.state_dict())
    with pytest.raises(InputError, match="imagenet"):
        efficientnet_lite0(weights="imagnet")


def test_class_names() -> None:
    names = class_names()
    assert len({name.lower() for name in names}) == 1000
    known = {"tench": 0, "tabby": 281, "tiger cat": 282, "Egyptian cat": 285, "espresso": 967, "toilet tissue": 999,
             "crane (bird)": 134, "crane (machine)": 517}  # fmt: skip
    assert {name: class_index(name) for name in known} == known
    assert class_index(" Tabby ") == 281
    with pytest.raises(InputError, match="tabby"):
        class_index("taby")


def test_classify_is_sorted_and_says_what_is_wrong(model: EfficientNetLite) -> None:
    answers = classify(model, torch.cat([photograph("coffee"), photograph("chelsea")]), top=3)
    assert [len(row) for row in answers] == [3, 3]
    assert all(row == sorted(row, key=lambda answer: -answer[1]) for row in answers)
    with pytest.raises(InputError, match="32 x 32"):
        classify(model, torch.rand(1, 3, 31, 64))
    with pytest.raises(InputError, match="1000 classes"):
        classify(model, torch.rand(1, 3, 32, 32), top=1001)
    with pytest.raises(InputError, match="NaN"):
        classify(model, torch.full((1, 3, 64, 64), torch.nan))
