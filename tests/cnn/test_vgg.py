"""VGG against torchvision's names and shapes, the paper's parameter counts, and the forward pass written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import VGG, vgg11, vgg13, vgg16, vgg19

# torchvision: the number in `features.N` of each convolution, and its outputs
CONVOLUTIONS = {
    11: {0: 64, 3: 128, 6: 256, 8: 256, 11: 512, 13: 512, 16: 512, 18: 512},
    13: {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 15: 512, 17: 512, 20: 512, 22: 512},
    16: {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512},
    19: {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512, 21: 512, 23: 512, 25: 512,
         28: 512, 30: 512, 32: 512, 34: 512},
}  # fmt: skip
COUNTS = {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240}


def published_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for number, outputs in CONVOLUTIONS[depth].items():
        shapes |= {f"features.{number}.weight": (outputs, inputs, 3, 3), f"features.{number}.bias": (outputs,)}
        inputs = outputs
    for number, outputs, inputs in ((0, 4096, 25088), (3, 4096, 4096), (6, 1000, 4096)):
        shapes |= {f"classifier.{number}.weight": (outputs, inputs), f"classifier.{number}.bias": (outputs,)}
    return shapes


def without_memory(build: Callable[[], VGG]) -> VGG:
    with torch.device("meta"):
        return build()


def loads_published_weights(model: nn.Module, depth: int) -> bool:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == published_shapes(depth)


@pytest.mark.parametrize(("build", "depth"), [(vgg11, 11), (vgg13, 13), (vgg16, 16), (vgg19, 19)])
def test_names_shapes_and_counts(build: Callable[[], VGG], depth: int) -> None:
    model = without_memory(build)
    assert loads_published_weights(model, depth)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[depth]


def with_batch_norm() -> VGG:
    """The other VGG that torchvision publishes, whose numbers in `features` differ."""
    model = VGG()
    layers: list[nn.Module] = []
    for layer in model.features:
        layers += [layer, nn.BatchNorm2d(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
    model.features = nn.Sequential(*layers)
    return model


def persistent_normalisation() -> VGG:
    """Mean and deviation among the weights: a published file would no longer load strictly."""
    model = VGG()
    model.normalization._non_persistent_buffers_set.clear()
    return model


@pytest.mark.parametrize("mutant", [with_batch_norm, persistent_normalisation, vgg16])
def test_rejects(mutant: Callable[[], VGG]) -> None:
    assert not loads_published_weights(without_memory(mutant), 19)


@pytest.fixture(scope="module")
def model() -> VGG:
    torch.manual_seed(0)
    return vgg11().eval()


def written_out(weights: dict[str, Tensor], picture: Tensor, pool: Callable[[Tensor, int], Tensor]) -> Tensor:
    """VGG-11 (A in the paper's table 1) for a 224 x 224 picture."""
    x = (picture - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for number in CONVOLUTIONS[11]:
        x = F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1).clamp(
            min=0
        )
        if number in (0, 3, 8, 13, 18):
            x = pool(x, 2)
    x = x.reshape(1, 25088)
    for number in (0, 3):
        x = (x @ weights[f"classifier.{number}.weight"].T + weights[f"classifier.{number}.bias"]).clamp(min=0)
    return x @ weights["classifier.6.weight"].T + weights["classifier.6.bias"]


def computes_vgg(model: VGG, weights: dict[str, Tensor], pool: Callable[[Tensor, int], Tensor]) -> bool:
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = written_out(weights, picture, pool)
        return torch.allclose(model(picture), expected, atol=1e-4 * expected.abs().max().item())


def test_forward_is_the_table_written_out(model: VGG) -> None:
    assert computes_vgg(model, model.state_dict(), F.max_pool2d)


def test_rejects_a_forward_that_forgets(model: VGG) -> None:
    assert not computes_vgg(model, model.state_dict(), F.avg_pool2d)  # the wrong pooling
    mean, model.normalization.mean = model.normalization.mean, torch.zeros(3, 1, 1)  # no normalisation
    assert not computes_vgg(model, model.state_dict(), F.max_pool2d)
    model.normalization.mean = mean


def test_average_pooling_changes_nothing_but_the_pooling(model: VGG) -> None:
    with torch.device("meta"):
        averaging = VGG(depth=11, pooling="average").eval()
    averaging.load_state_dict(model.state_dict(), assign=True)
    assert computes_vgg(averaging, model.state_dict(), F.avg_pool2d)


@pytest.mark.parametrize(
    ("depth", "name", "layer"),
    [(19, "conv1_1", "features.0"), (19, "relu4_2", "features.22"), (19, "conv5_4", "features.34"),
     (19, "pool5", "features.36"), (16, "relu3_3", "features.15"), (11, "relu5_1", "features.17"),
     (19, "fc7", "classifier.3"), (19, "relu7", "classifier.4")],
)  # fmt: skip
def test_layers_by_the_papers_names(depth: int, name: str, layer: str) -> None:
    model = without_memory(lambda: VGG(depth=depth))
    assert model.layer(name) == layer
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d, "fc": nn.Linear}
    assert isinstance(model.get_submodule(layer), kinds[name.rstrip("_0123456789")])


def test_an_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(InputError, match="relu4_2"):
        without_memory(vgg19).layer("relu42")


def test_other_sizes_and_classes(model: VGG) -> None:
    with torch.no_grad():
        assert model(torch.rand(1, 3, 32, 75)).shape == (1, 1000)
    assert without_memory(lambda: VGG(depth=11, classes=10)).classifier[6].out_features == 10


def test_loads_the_published_file_from_disk(publish: Callable[..., None]) -> None:
    publish("vgg19", published_shapes(19))
    model = vgg19(weights="imagenet")
    assert not model.training and not model.features[0].weight.is_meta and model.normalization.mean.device.type == "cpu"
    with torch.no_grad():
        assert model.features(torch.rand(1, 3, 32, 32)).abs().max() == 0
