"""AlexNet against torchvision's names and shapes, the paper's counts, and the forward pass written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import AlexNet, alexnet, create_model

# torchvision: convolutions (number in `features`, outputs, inputs that each sees, kernel), then the rest
ONE = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
TWO = ((0, 96, 3, 11), (3, 256, 48, 5), (6, 384, 256, 3), (8, 384, 192, 3), (10, 256, 192, 3))  # the paper's figure 2
FULL = ((1, 4096, 9216), (4, 4096, 4096), (6, 1000, 4096))


def published_shapes(convolutions: tuple[tuple[int, int, int, int], ...] = ONE) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for number, outputs, inputs, kernel in convolutions:
        shapes |= {
            f"features.{number}.weight": (outputs, inputs, kernel, kernel),
            f"features.{number}.bias": (outputs,),
        }
    for number, outputs, inputs in FULL:
        shapes |= {f"classifier.{number}.weight": (outputs, inputs), f"classifier.{number}.bias": (outputs,)}
    return shapes


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def without_memory(build: Callable[[], AlexNet]) -> AlexNet:
    with torch.device("meta"):
        return build()


def test_names_shapes_and_counts() -> None:
    one, two = without_memory(alexnet), without_memory(lambda: alexnet(columns=2, local_response=True))
    assert shapes_of(one) == published_shapes() and shapes_of(two) == published_shapes(TWO)
    assert sum(weight.numel() for weight in one.parameters()) == 61_100_840
    assert sum(weight.numel() for weight in two.parameters()) == 60_965_224
    assert list(dict(one.named_children())) == ["normalization", "features", "avgpool", "classifier"]
    assert len(one.features) == len(two.features) == 13 and len(one.classifier) == 7


def local_response_in_a_place_of_its_own() -> AlexNet:
    """The plausible way to add it: every layer behind it gets another number."""
    model = alexnet()
    layers = list(model.features)
    model.features = nn.Sequential(*layers[:2], nn.LocalResponseNorm(5), *layers[2:])
    return model


@pytest.mark.parametrize("mutant", [local_response_in_a_place_of_its_own, lambda: alexnet(columns=2),
                                    lambda: alexnet(classes=10)])  # fmt: skip
def test_rejects_other_shapes(mutant: Callable[[], AlexNet]) -> None:
    assert shapes_of(without_memory(mutant)) != published_shapes()


def test_maps_have_the_papers_sizes() -> None:
    model = without_memory(lambda: alexnet(columns=2, local_response=True)).to("meta")
    maps, sizes = torch.empty(1, 3, 224, 224, device="meta"), []
    for layer in model.features:
        maps = layer(maps)
        sizes += [tuple(maps.shape[1:])] if isinstance(layer, nn.Conv2d) else []
    assert sizes == [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    assert maps.shape == (1, 256, 6, 6)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of the paper's net, ten times as large as torch starts with, so that its local response normalisation shows."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in published_shapes(TWO).items():
        size = 10 if "features" in name else 1
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 4
        weights[name] = size * torch.randn(shape, generator=generator) / fan**0.5
    return weights


def written_out(
    w: dict[str, Tensor], x: Tensor, *, pool: int = 3, late: bool = False, crossing: bool = False
) -> Tensor:
    """Figure 2, the columns as two nets that meet in the third convolution; mutants by name."""
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def conv(x: Tensor, number: int, part: int | None = None, **how: int) -> Tensor:
        weight, bias = w[f"features.{number}.weight"], w[f"features.{number}.bias"]
        if part is None:
            return F.conv2d(x, weight, bias, **how)
        return F.conv2d(x, weight.chunk(2)[part], bias.chunk(2)[part], **how)

    def normalized(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)  # torch divides alpha by 5

    def pooled(x: Tensor) -> Tensor:
        return F.max_pool2d(x, pool, 2)

    def first(x: Tensor) -> Tensor:
        return normalized(pooled(x.relu())) if late else pooled(normalized(x.relu()))

    x = first(conv(x, 0, stride=4, padding=2))
    one, two = x.chunk(2, 1)
    one, two = (two, one) if crossing else (one, two)
    x = first(torch.cat([conv(one, 3, 0, padding=2), conv(two, 3, 1, padding=2)], 1))
    x = conv(x, 6, padding=1).relu()
    for number in (8, 10):
        x = torch.cat([conv(half, number, part, padding=1) for part, half in enumerate(x.chunk(2, 1))], 1).relu()
    x = F.adaptive_avg_pool2d(pooled(x), 6).flatten(1)
    for number in (1, 4):
        x = (x @ w[f"classifier.{number}.weight"].T + w[f"classifier.{number}.bias"]).relu()
    return x @ w["classifier.6.weight"].T + w["classifier.6.bias"]


@pytest.fixture(scope="module")
def model(weights: dict[str, Tensor]) -> AlexNet:
    model = without_memory(lambda: alexnet(columns=2, local_response=True))
    model.load_state_dict(weights, assign=True)
    return model.eval()


def computes(model: AlexNet, expected: Callable[[Tensor], Tensor]) -> bool:
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = expected(picture)
        return torch.allclose(model(picture), wanted, atol=1e-4 * wanted.abs().max().item())


def test_forward_is_the_paper_written_out(model: AlexNet, weights: dict[str, Tensor]) -> None:
    assert computes(model, lambda x: written_out(weights, x))


@pytest.mark.parametrize("mutant", [{"pool": 2}, {"late": True}, {"crossing": True}],
                         ids=["pooling without overlap", "pooled before normalised", "columns crossed"])  # fmt: skip
def test_rejects_a_wrong_forward(model: AlexNet, weights: dict[str, Tensor], mutant: dict[str, bool]) -> None:
    assert not computes(model, lambda x: written_out(weights, x, **mutant))


def test_without_local_response_it_is_another_net(model: AlexNet, weights: dict[str, Tensor]) -> None:
    plain = without_memory(lambda: alexnet(columns=2))
    plain.load_state_dict(weights, assign=True)
    assert not computes(plain.eval(), lambda x: written_out(weights, x))


def test_other_sizes_and_classes() -> None:
    model = alexnet(classes=10).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 63, 90)).shape == (1, 10)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="1 column or 2"):
        create_model("alexnet", columns=3)
    for options in ({"columns": 2}, {"local_response": True}):
        with pytest.raises(InputError, match="one column without"):
            create_model("alexnet", weights="imagenet", **options)


def test_loads_the_published_file_from_disk(publish: Callable[..., None]) -> None:
    publish("alexnet", published_shapes())
    model = alexnet(weights="imagenet")
    assert not model.training and model.features(torch.rand(1, 3, 63, 63)).abs().max() == 0
