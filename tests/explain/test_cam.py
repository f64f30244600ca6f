"""CAM: numbers by hand, the head's own sum, heads that it refuses, and wrong CAMs that the same check rejects."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.cam import cam, check_batch, class_indices, unit_heat

IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def two_by_two() -> nn.Sequential:
    """Maps A1 = [[1, 2], [3, 4]] and A2 = [[2, 1], [0, -1]], averaged, then w = (1, -2) or (2, 3), b = (5, 1)."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.0, 3.0]))
        net[3].weight.copy_(torch.tensor([[1.0, -2.0], [2.0, 3.0]]))
        net[3].bias.copy_(torch.tensor([5.0, 1.0]))
    return net


def check(method: Callable[..., Tensor]) -> None:
    """Class 0: A1 - 2 A2. Class 1: 2 A1 + 3 A2; it is the one predicted."""
    net = two_by_two()
    assert method(net, IMAGE, 0).tolist() == [[[-3, 0], [3, 6]]]
    assert method(net, IMAGE, 1).tolist() == [[[8, 7], [6, 5]]]


def test_by_hand() -> None:
    check(cam)
    net = two_by_two()
    assert net(IMAGE).tolist() == [[6.5, 7.5]]
    assert torch.equal(cam(net, IMAGE), cam(net, IMAGE, 1))
    assert torch.equal(cam(net, IMAGE, 0).mean((1, 2)), net(IMAGE)[:, 0] - 5)  # the mean is the logit less the bias
    assert cam(net, IMAGE, 0, normalize=True).tolist() == [[[0, 0], [0.5, 1]]]
    assert cam(net, IMAGE, 0, enlarge=True).shape == (1, 2, 2)
    assert cam(net, torch.cat([IMAGE, IMAGE]), [1, 0]).tolist() == [[[8, 7], [6, 5]], [[-3, 0], [3, 6]]]


def without_class(net: nn.Sequential, images: Tensor, c: int) -> Tensor:
    return torch.einsum("k,bkij->bij", net[3].weight.mean(0), net[0](images))


def with_relu(net: nn.Sequential, images: Tensor, c: int) -> Tensor:
    return F.relu(cam(net, images, c))


def with_bias(net: nn.Sequential, images: Tensor, c: int) -> Tensor:
    return cam(net, images, c) + net[3].bias[c]


def weights_transposed(net: nn.Sequential, images: Tensor, c: int) -> Tensor:
    return torch.einsum("k,bkij->bij", net[3].weight[:, c], net[0](images))


def as_grad_cam(net: nn.Sequential, images: Tensor, c: int) -> Tensor:
    return cam(net, images, c) / 4


@pytest.mark.parametrize("mutant", [without_class, with_relu, with_bias, weights_transposed, as_grad_cam])
def test_rejects(mutant: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def body(channels: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())


HEADS: dict[str, Callable[[], nn.Module]] = {
    "flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 4)),
    "max pooling": lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    "two layers": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)
    ),
    "softmax": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Softmax(1)),
}


@pytest.mark.parametrize("head", HEADS)
def test_refuses_heads_without_global_average_pooling_before_one_linear_layer(head: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match="CAM needs global average pooling"):
        cam(nn.Sequential(body(), HEADS[head]()), torch.rand(2, 3, 8, 8))


class Functional(nn.Module):
    """As DenseNet: a ReLU and a mean that no hook sees; with dropout, and a 1 x 1 convolution for a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = body()[:2]
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(F.relu(self.features(x)).mean((2, 3), keepdim=True))).flatten(1)


def test_finds_the_head_by_what_it_computes() -> None:
    torch.manual_seed(0)
    net, images = Functional(), torch.rand(5, 3, 8, 8)
    maps = cam(net, images, 2)  # in train mode: explained as it predicts
    assert net.training
    net.eval()
    expected = net(images)[:, 2] - net.classifier.bias[2]  # type: ignore[index]
    assert torch.allclose(maps.mean((1, 2)), expected, atol=1e-6)
    assert torch.equal(maps, cam(net, images, 2, layer="features"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (4, "no class 4: the model has 4, 0 to 3"),
        (-1, "no class -1"),
        ([0, 1, 2], "3 target classes for 2 pictures"),
        ("car", "give classes="),
        ("tabbi", "no class named 'tabbi'; try tabby"),
    ],
)
def test_bad_targets(target: int | str | list[int], words: str) -> None:
    classes = ["tabby", "dog", "owl", "cup"] if target == "tabbi" else None
    net = nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(InputError, match=words):
        cam(net, torch.rand(2, 3, 8, 8), target, classes=classes)


def test_a_class_that_is_neither_index_nor_name() -> None:
    plain = getattr(class_indices, "__wrapped__", class_indices)  # the test run's type check would be first
    with pytest.raises(InputError, match=r"an index or a name, not 2\.5"):
        plain(2.5, torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(3, 8, 8), r"batch \(B, C, H, W\); this tensor is \(3, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"\(0, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN"),
    ],
)
def test_bad_pictures(images: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_batch(images)


def test_a_map_of_zeros_stays_zero_and_is_reported() -> None:
    heat = torch.stack([torch.zeros(2, 2), torch.tensor([[-1.0, 1.0], [2.0, 4.0]])])
    with pytest.warns(UserWarning, match=r"picture \[0\]"):
        unit = unit_heat(heat)
    assert unit.tolist() == [[[0, 0], [0, 0]], [[0, 0.25], [0.5, 1]]]


def test_on_the_backbone() -> None:
    from vivace.base.images import read_image, resize
    from vivace.cnn import class_index, efficientnet_lite0

    model, c = efficientnet_lite0(weights="imagenet"), class_index("tabby")
    image = resize(read_image("chelsea"), (224, 224))[None]
    heat = cam(model, image, c)
    assert heat.shape == (1, 7, 7)
    logit = model(image)[0, c] - model.classifier.bias[c]
    assert torch.allclose(heat.mean(), logit, rtol=1e-5)
