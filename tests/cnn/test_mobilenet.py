"""MobileNetV2 against torchvision's names and shapes, the paper's counts, and the forward pass written out."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.cnn import DepthwiseSeparable, MobileNetV2, create_model, mobilenet_v2

# torchvision's features.1 to features.17 for width 1: (inputs, channels inside, outputs, stride), the paper's table 2
BLOCKS = (
    (32, 32, 16, 1), (16, 96, 24, 2), (24, 144, 24, 1), (24, 144, 32, 2), (32, 192, 32, 1), (32, 192, 32, 1),
    (32, 192, 64, 2), (64, 384, 64, 1), (64, 384, 64, 1), (64, 384, 64, 1), (64, 384, 96, 1), (96, 576, 96, 1),
    (96, 576, 96, 1), (96, 576, 160, 2), (160, 960, 160, 1), (160, 960, 160, 1), (160, 960, 320, 1),
)  # fmt: skip


def norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    vectors = {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"features.0.0.weight": (32, 3, 3, 3), **norm_shapes("features.0.1", 32)}
    for number, (inputs, inner, outputs, _) in enumerate(BLOCKS, start=1):
        block, place = f"features.{number}.conv", 0
        if inner != inputs:
            shapes |= {f"{block}.0.0.weight": (inner, inputs, 1, 1), **norm_shapes(f"{block}.0.1", inner)}
            place = 1
        shapes |= {f"{block}.{place}.0.weight": (inner, 1, 3, 3), **norm_shapes(f"{block}.{place}.1", inner)}
        shapes |= {
            f"{block}.{place + 1}.weight": (outputs, inner, 1, 1),
            **norm_shapes(f"{block}.{place + 2}", outputs),
        }
    shapes |= {"features.18.0.weight": (1280, 320, 1, 1), **norm_shapes("features.18.1", 1280)}
    return shapes | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def loads_published_weights(model: nn.Module) -> bool:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == published_shapes()


def without_memory(build: Callable[[], MobileNetV2]) -> MobileNetV2:
    with torch.device("meta"):
        return build()


def test_names_shapes_and_counts() -> None:
    model = without_memory(mobilenet_v2)
    assert loads_published_weights(model)
    found = cost(model)
    assert found.parameters == 3_504_872  # the paper's 3.4 M with the biases of the normalisations
    assert round(found.multiply_adds / 1e6) == 301  # the paper: 300 M


@pytest.mark.parametrize(("width", "parameters"), [(0.5, 1_968_680), (1.4, 6_108_776)])
def test_other_widths_have_as_many_parameters_as_torchvisions(width: float, parameters: int) -> None:
    model = without_memory(lambda: mobilenet_v2(width=width))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def with_biases() -> MobileNetV2:
    model = MobileNetV2()
    model.features[0][0] = nn.Conv2d(3, 32, 3, bias=True)
    return model


def expanding_always() -> MobileNetV2:
    """The first block too, though its factor is 1."""
    model = MobileNetV2()
    model.features[1] = type(model.features[1])(32, 16, expansion=2, stride=1)
    return model


@pytest.mark.parametrize("mutant", [with_biases, expanding_always, lambda: MobileNetV2(width=1.1)])
def test_rejects(mutant: Callable[[], MobileNetV2]) -> None:
    assert not loads_published_weights(without_memory(mutant))


@pytest.fixture(scope="module")
def model() -> MobileNetV2:
    torch.manual_seed(0)
    model = mobilenet_v2(classes=7)
    for module in model.modules():  # statistics as after a training, and maps that reach beyond 6
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 1, 5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        model(torch.rand(8, 3, 96, 96))
    return model.eval()


def written_out(weights: dict[str, Tensor], picture: Tensor, *, clamp: float = 6, add: bool = True,
                bend_last: bool = False) -> Tensor:  # fmt: skip
    """The paper's table 2 for width 1, layer after layer, with three ways to get it wrong."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        mean, var, gamma, beta = (weights[f"{norm}.{part}"][:, None, None]
                                  for part in ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
        return (y - mean) / (var + 1e-5).sqrt() * gamma + beta

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (picture - mean[:, None, None]) / std[:, None, None]
    x = conv_norm(x, "features.0.0", "features.0.1", stride=2).clamp(0, clamp)
    for number, (inputs, inner, outputs, stride) in enumerate(BLOCKS, start=1):
        block, place, y = f"features.{number}.conv", 0, x
        if inner != inputs:
            y, place = conv_norm(y, f"{block}.0.0", f"{block}.0.1").clamp(0, clamp), 1
        y = conv_norm(y, f"{block}.{place}.0", f"{block}.{place}.1", stride).clamp(0, clamp)
        y = conv_norm(y, f"{block}.{place + 1}", f"{block}.{place + 2}")
        y = y.clamp(0, clamp) if bend_last else y
        x = x + y if add and stride == 1 and inputs == outputs else y
    x = conv_norm(x, "features.18.0", "features.18.1").clamp(0, clamp).mean((2, 3))
    return x @ weights["classifier.1.weight"].T + weights["classifier.1.bias"]


@pytest.mark.parametrize(
    ("mutant", "right"),
    [({}, True), ({"clamp": float("inf")}, False), ({"add": False}, False), ({"bend_last": True}, False)],
)
def test_forward_is_the_table_written_out(model: MobileNetV2, mutant: dict[str, float], right: bool) -> None:
    picture = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = written_out(model.state_dict(), picture, **mutant)  # type: ignore[arg-type]
        assert torch.allclose(model(picture), expected, rtol=0, atol=1e-4 * expected.abs().max().item()) == right


def test_activations_keep_what_a_layer_put_out_though_the_next_works_in_place(model: MobileNetV2) -> None:
    """ReLU6 writes over the normalisation's output; what was asked for must not change with it."""
    picture = torch.rand(1, 3, 64, 64)
    names = ["features.0.0", "features.0.1", "features.0"]
    with torch.no_grad():
        conv, norm, unit = activations(model, picture, names)
        torch.testing.assert_close(norm, model.features[0][1](conv))
        torch.testing.assert_close(unit, norm.clamp(0, 6))
    assert norm.min() < 0


def test_reduction_says_how_small_the_last_maps_are() -> None:
    for reduction in (2, 4, 8, 16, 32):
        model = without_memory(partial(mobilenet_v2, reduction=reduction)).to("meta").eval()
        assert model.features(torch.empty(1, 3, 64, 96, device="meta")).shape == (
            1,
            1280,
            64 // reduction,
            96 // reduction,
        )
        assert loads_published_weights(model)


def test_depthwise_separable_is_a_full_convolution_of_few_weights() -> None:
    layer = DepthwiseSeparable(64, 128)
    assert sum(weight.numel() for weight in layer.parameters()) == 9 * 64 + 64 * 128 == 8768
    k, c, d = 3, 64, 128
    assert 8768 / (k * k * c * d) == pytest.approx(1 / d + 1 / k**2)
    full = (layer.pointwise.weight[:, :, 0, 0, None, None] * layer.depthwise.weight[:, 0]).detach()  # (D, C, k, k)
    maps = torch.rand(2, 64, 9, 7)
    torch.testing.assert_close(layer(maps), F.conv2d(maps, full, padding=1), rtol=1e-4, atol=1e-5)
    mutant = nn.Sequential(
        layer.pointwise, nn.Conv2d(128, 128, 3, padding=1, groups=128, bias=False)
    )  # the other order
    assert sum(weight.numel() for weight in mutant.parameters()) != 8768
    assert DepthwiseSeparable(4, 8, 5, stride=2)(torch.rand(1, 4, 9, 9)).shape == (1, 8, 5, 5)


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match=r"0\.05 to 10; got 0"):
        mobilenet_v2(width=0)
    with pytest.raises(InputError, match=r"width 1; got 0\.5"):
        mobilenet_v2(width=0.5, weights="imagenet")
    with pytest.raises(InputError, match="imagenet"):
        create_model("mobilenet_v2", weights="imagenet21k")
