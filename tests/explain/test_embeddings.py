"""Embeddings: numbers by hand, published widths, and wrong versions that are rejected."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain import embedded, embedding, embeddings

IMAGES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, -1.0], [-2.0, -5.0]]]])


def two_by_two() -> nn.Sequential:
    """Maps x and 1 - x, averaged; a hidden layer that doubles them; a head that adds them up."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(2, 1),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.0, 1.0]))
        net[3].weight.copy_(2 * torch.eye(2))
        net[3].bias.zero_()
    return net


def check(method: Callable[..., Tensor]) -> None:
    net = two_by_two().train()
    assert method(net, IMAGES).tolist() == [[5, 0], [0, 6]]  # relu(2 * (2.5, -1.5)), relu(2 * (-2, 3))
    assert method(net, IMAGES, "0").tolist() == [[2.5, -1.5], [-2, 3]]
    assert method(net, IMAGES, "0", pool="max").tolist() == [[4, 0], [0, 6]]
    assert method(net, IMAGES, "0", pool="flatten")[0].tolist() == [1, 2, 3, 4, 0, -1, -2, -3]
    assert torch.allclose(method(net, IMAGES, "3", unit=True)[1], torch.tensor([-4.0, 6.0]) / 52**0.5)


def test_by_hand() -> None:
    check(embeddings)
    check(lambda net, images, *args, **kwargs: torch.cat(list(embedded(net, images.split(1), *args, **kwargs))))


def in_training(net: nn.Module, images: Tensor, layer: str | None = None, **more: object) -> Tensor:
    return net[:6](images) if layer is None else embeddings(net, images, layer, **more)  # type: ignore[index, arg-type]


def the_logits(net: nn.Module, images: Tensor, layer: str | None = None, **more: object) -> Tensor:
    return embeddings(net, images, layer or "6", **more)  # type: ignore[arg-type]


def before_the_activation(net: nn.Module, images: Tensor, layer: str | None = None, **more: object) -> Tensor:
    return embeddings(net, images, layer or "3", **more)  # type: ignore[arg-type]


def summed(net: nn.Module, images: Tensor, layer: str | None = None, **more: object) -> Tensor:
    return embeddings(net, images, layer, **more) * (4 if layer == "0" else 1)  # type: ignore[arg-type]


def over_the_batch(net: nn.Module, images: Tensor, layer: str | None = None, **more: object) -> Tensor:
    found = embeddings(net, images, layer, **{**more, "unit": False})  # type: ignore[arg-type]
    return F.normalize(found, dim=0) if more.get("unit") else found


@pytest.mark.parametrize("mutant", [in_training, the_logits, before_the_activation, summed, over_the_batch])
def test_rejects(mutant: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError):
        torch.manual_seed(0)
        check(mutant)


def test_leaves_the_model_as_it_was_and_makes_no_graph() -> None:
    net = two_by_two().train()
    found = embeddings(net, IMAGES)
    assert net.training and not found.requires_grad and all(p.requires_grad for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_batches_change_nothing() -> None:
    net, images = two_by_two(), torch.rand(7, 1, 4, 4)
    whole = embeddings(net, images)
    told: list[int] = []
    assert torch.equal(embeddings(net, images, batch_size=3, tell=lambda step: told.append(step.done)), whole)
    assert told == [0, 3, 6]


def test_tokens_are_averaged_over_their_places_not_their_channels() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Identity(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x.flatten(2).transpose(1, 2)).mean(1))  # (B, places, 3)

    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(embedding(Tokens(), images, "layer"), images.mean((2, 3)))


def test_on_the_backbone_as_by_its_own_parts_and_by_halves_of_the_bits() -> None:
    from vivace.base.images import read_image, resize
    from vivace.cnn import efficientnet_lite0, head_inputs

    model, image = efficientnet_lite0(weights="imagenet"), resize(read_image("chelsea"), (64, 64))[None]
    found = embeddings(model, image)
    with torch.no_grad():
        assert torch.allclose(found, model.features(image).mean((2, 3)), atol=1e-6)
    assert torch.equal(found, head_inputs(model, image))
    half = embeddings(model, image, precision=torch.bfloat16)
    assert half.dtype == torch.float32 and float(F.cosine_similarity(found, half)) > 0.995


@pytest.mark.parametrize(
    ("name", "layer", "width"), [("vgg16", None, 4096), ("resnet50", None, 2048), ("resnet18", None, 512)]
)
def test_published_widths(name: str, layer: str | None, width: int) -> None:
    from vivace.cnn import create_model
    from vivace.cnn._imagenet import Normalization

    with torch.device("meta"):
        model = create_model(name)
    for module in model.modules():
        if isinstance(module, Normalization):
            module.to("meta")
    net = model.eval()
    shapes: list[tuple[int, ...]] = []
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    net(torch.empty(1, 3, 224, 224, device="meta"))
    assert shapes == [(1, width)]


@pytest.mark.parametrize(
    ("layer", "images", "words"),
    [
        ("9", IMAGES, "no layer named '9'"),
        (None, IMAGES[:0], "no pictures"),
        (None, torch.full((1, 1, 2, 2), torch.nan), "NaN"),
    ],
)
def test_bad_input(layer: str | None, images: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        embeddings(two_by_two(), images, layer)


def test_models_without_what_is_asked_for() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    with pytest.raises(InputError, match="never ran its last linear layer head"):
        embeddings(Lazy(), IMAGES)
    with pytest.raises(InputError, match="no linear layer"):
        embeddings(nn.Sequential(nn.Conv2d(1, 2, 1)), IMAGES)
    with pytest.raises(InputError, match="one tensor with a row for each picture"):
        embeddings(nn.Sequential(nn.Flatten(0), nn.Linear(4, 2)), IMAGES[:1], "0")
    with pytest.raises(InputError, match="batch_size is 0"):
        embeddings(two_by_two(), IMAGES, batch_size=0)
