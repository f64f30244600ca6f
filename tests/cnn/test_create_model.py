"""One call that makes a model: every name, other numbers of classes, published weights, and maps on the way."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vivace.base.errors import InputError
from vivace.cnn import ARCHITECTURES, create_model, replace_head


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_makes_a_classifier_of_as_many_classes(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, classes=7).eval().to("meta")
        assert model(torch.rand(1, 3, 224, 224)).shape == (1, 7)
    heads = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert heads[-1].out_features == 7


def test_an_unknown_name_or_layer_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="vgg16"):
        create_model("vgg_16")
    with pytest.raises(InputError, match=r"blocks\.3"):
        create_model("efficientnet_lite0", features=["block.3"])
    with pytest.raises(InputError, match="imagenet"):
        create_model("efficientnet_lite0", weights="imagnet")
    with pytest.raises(InputError, match="at least one class"):
        create_model("efficientnet_lite0", classes=0)


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
