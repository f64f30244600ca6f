"""One call that makes a model: every name, other numbers of classes, published weights, and maps on the way."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vivace.base.errors import InputError
from vivace.cnn import ARCHITECTURES, create_model, replace_head

OTHERS = {"lenet5": ((1, 28, 28), ()), "unet": ((3, 188, 204), (4, 20))}  # what goes in, and the pixels that come out
OTHERS |= dict.fromkeys(("fcn8s", "fcn16s", "fcn32s"), ((3, 70, 90), (70, 90)))
CLASSIFIERS = [name for name in ARCHITECTURES if name not in OTHERS]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_name_makes_a_classifier_of_as_many_classes(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, classes=7).eval().to("meta")
        assert model(torch.rand(1, 3, 224, 224)).shape == (1, 7)
    heads = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert heads[-1].out_features == 7


@pytest.mark.parametrize("name", OTHERS)
def test_what_takes_other_pictures_or_names_each_pixel_is_made_by_the_same_call(name: str) -> None:
    size, pixels = OTHERS[name]
    with torch.device("meta"):
        model = create_model(name, classes=7).eval().to("meta")
        assert model(torch.rand(1, *size)).shape == (1, 7, *pixels)
    with pytest.raises(InputError, match="at least one class"):
        create_model(name, classes=0)
    with pytest.raises(InputError, match="weights for"):
        create_model(name, weights="imagnet")


def test_options_and_features_of_the_others() -> None:
    unet = create_model("unet", classes=3, padded=True, norm=True, features=["down.1", "merge.0"]).eval()
    lenet = create_model("lenet5", modern=True, features=["c3"])
    with torch.no_grad():
        assert {name: tuple(each.shape) for name, each in unet(torch.rand(1, 3, 32, 48)).items()} == {
            "down.1": (1, 128, 16, 24), "merge.0": (1, 64, 32, 48)}  # fmt: skip
        assert lenet(torch.rand(2, 1, 28, 28))["c3"].shape == (2, 16, 10, 10)


@pytest.mark.parametrize("layers", [["backbone.features.4"], ["backbone.features.4", "scores.2"], ["enlarge.1"]])
def test_features_of_a_network_that_looks_into_another(layers: list[str]) -> None:
    """FCN stops its backbone early by itself; that must not be taken for the end of the features, nor the reverse."""
    with torch.device("meta"):
        maps = create_model("fcn8s", features=layers).eval().to("meta")(torch.rand(1, 3, 64, 64))
    assert list(maps) == layers


def test_fcn_has_the_papers_134_million_weights() -> None:
    with torch.device("meta"):
        model = create_model("fcn8s", classes=21)
    convolutions, fc6, fc7 = 14_714_688, 4096 * (7 * 7 * 512 + 1), 4096 * (4096 + 1)
    scores = 21 * (256 + 1 + 512 + 1 + 4096 + 1)
    enlarging = 21 * 21 * (4 * 4 + 4 * 4 + 16 * 16)
    found = sum(weight.numel() for weight in model.parameters())
    assert found == convolutions + fc6 + fc7 + scores + enlarging


def test_an_unknown_name_or_layer_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="vgg16"):
        create_model("vgg_16")
    with pytest.raises(InputError, match=r"blocks\.3"):
        create_model("efficientnet_lite0", features=["block.3"])
    with pytest.raises(InputError, match="imagenet"):
        create_model("efficientnet_lite0", weights="imagnet")
    with pytest.raises(InputError, match="at least one class"):
        create_model("efficientnet_lite0", classes=0)


def test_an_option_that_an_architecture_lacks_is_told_with_those_it_has() -> None:
    with pytest.raises(InputError, match="no option of vgg16 named 'clases'; try classes"):
        create_model("vgg16", clases=10)
    with pytest.raises(InputError, match="try features"):
        create_model("resnet18", feature=["layer1"])


@pytest.mark.parametrize(("name", "least"), [("vgg11", 32), ("alexnet", 63), ("densenet121", 29), ("densenet40", 4)])
def test_pictures_too_small_for_a_network_are_told_in_pixels(name: str, least: int) -> None:
    """The least size is the true one: it passes. A mutant check before the first layer would forbid early maps too."""
    with torch.device("meta"):
        model = create_model(name).eval().to("meta")
        assert model(torch.rand(1, 3, least, least + 1)).shape[0] == 1
        with pytest.raises(InputError, match=f"{least - 1} x {least + 1} pixels .* {least} x {least} are the least"):
            model(torch.rand(1, 3, least - 1, least + 1))
    if name == "vgg11":
        assert create_model(name, features=["features.0"])(torch.rand(1, 3, 5, 5))["features.0"].shape == (1, 64, 5, 5)


def test_features_are_the_maps_that_a_hook_sees() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", features=["blocks.2", "stem"]).eval()
    images = torch.rand(2, 3, 64, 96)
    maps = model(images)
    inner = model.get_submodule("model")
    stem = inner.get_submodule("stem")(inner.get_submodule("normalization")(images))
    assert list(maps) == ["blocks.2", "stem"]
    torch.testing.assert_close(maps["stem"], stem)
    torch.testing.assert_close(maps["blocks.2"], inner.get_submodule("blocks")[:3](stem))  # type: ignore[index]


def test_trained_weights_with_other_classes_get_a_new_head_and_keep_the_rest() -> None:
    whole = create_model("efficientnet_lite0", weights="imagenet").state_dict()
    ten = create_model("efficientnet_lite0", weights="imagenet", classes=10)
    assert not ten.training
    mine = ten.state_dict()
    assert mine["classifier.weight"].shape == (10, 1280) and mine["classifier.bias"].shape == (10,)
    assert all(torch.equal(mine[name], whole[name]) for name in whole if not name.startswith("classifier"))


def test_a_head_keeps_dtype_and_bias() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
    head = replace_head(model, 5)
    assert model[2] is head and head.weight.dtype == torch.float64 and head.bias is None
    with pytest.raises(InputError, match="Conv2d has no linear layer"):
        replace_head(nn.Conv2d(3, 3, 1), 2)


def test_a_published_file_that_lacks_a_weight_is_refused(publish: Callable[..., None]) -> None:
    """The mutant of a file: strict loading must not let it pass."""
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in create_model("vgg11").state_dict().items()}
    del shapes["features.0.bias"]
    publish("vgg11", shapes, digits=8)
    with pytest.raises(RuntimeError, match=r"features\.0\.bias"):
        create_model("vgg11", weights="imagenet")
