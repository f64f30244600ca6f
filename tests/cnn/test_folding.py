"""Folded networks answer as before; what must not fold doesn't; the arithmetic by hand."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating
from vivace.cnn import create_model, fold_batch_norms, for_inference, mobilenet_v2

# the batch norms of each network, and how many of them see a sum, a concatenation or a pooling and must stay
NORMS = {
    "resnet18": (20, 0),
    "resnet50": (53, 0),
    "resnet20": (19, 0),
    "densenet121": (121, 62),  # one before each of 58 layers' first convolution, 3 transitions, the last
    "densenet40": (39, 39),  # no bottleneck: all
    "mobilenet_v2": (52, 0),
    "efficientnet_lite0": (49, 0),
    "vgg11": (0, 0),
}


def lived(model: nn.Module) -> nn.Module:
    """The model with statistics as after a training: none of them 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for norm in norms(model):
        size = norm.running_mean.shape
        norm.running_mean.copy_(torch.randn(size, generator=generator) / 10)
        norm.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
        norm.weight.data.copy_(torch.rand(size, generator=generator) + 0.5)
        norm.bias.data.copy_(torch.randn(size, generator=generator) / 10)
    return model.eval()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


def same(first: nn.Module, second: nn.Module, pictures: Tensor) -> bool:
    with torch.inference_mode():
        expected = first(pictures)
        return torch.allclose(second(pictures), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", NORMS)
def test_every_architecture_answers_as_before(name: str) -> None:
    torch.manual_seed(0)
    model = lived(create_model(name, classes=10))
    before = copy.deepcopy(model.state_dict())
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = fold_batch_norms(model)
    assert (len(norms(model)), len(norms(folded))) == NORMS[name]
    assert same(model, folded, pictures) and same(model, for_inference(model), pictures)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in (*model.modules(), *folded.modules()))


def test_by_hand() -> None:
    layer, norm = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0)
    for tensor, value in ((layer.weight, 3.0), (layer.bias, 1.0), (norm.weight, 5.0), (norm.bias, -2.0),
                          (norm.running_mean, 4.0), (norm.running_var, 4.0)):  # fmt: skip
        tensor.data.fill_(value)
    folded = fold_batch_norms(nn.Sequential(layer, norm).eval(), (1,))
    assert folded[0].weight.item() == 7.5 and folded[0].bias.item() == -9.5  # 5 / 2 * 3; (1 - 4) * 5 / 2 - 2
    assert isinstance(folded[1], nn.Identity) and layer.weight.item() == 3


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.Conv2d(4, 6, 3, padding="same"),
     nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), nn.Conv2d(4, 6, (1, 3), dilation=2).double()],
)  # fmt: skip
@pytest.mark.parametrize("affine", [True, False])
def test_every_kind_of_convolution(conv: nn.Conv2d, affine: bool) -> None:
    norm = nn.BatchNorm2d(6, affine=affine)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    model = nn.Sequential(conv, norm, nn.ReLU()).to(conv.weight.dtype).eval()
    pictures = torch.rand(2, 4, 9, 9).to(conv.weight)
    folded = fold_batch_norms(model, (4, 9, 9))
    assert not norms(folded) and folded[0].weight.dtype == conv.weight.dtype
    assert same(model, folded, pictures) and same(model, for_inference(model, (4, 9, 9)), pictures)


class Read(nn.Module):
    """A convolution and a batch norm, and something between them or beside them."""

    def __init__(self, forward: Callable[["Read", Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm, self.how = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), forward
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> object:
        return self.how(self, x)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.norm(m.conv(x).relu()),  # an activation between
        lambda m, x: m.norm(m.conv(x).relu_()),  # in place: the same memory, no longer the convolution's output
        lambda m, x: (y := m.conv(x)) + m.norm(y),  # read a second time
        lambda m, x: m.norm(y := m.conv(x)) + y.flatten(2).mean(2)[..., None, None],  # by way of a view
        lambda m, x: (m.norm(y := m.conv(x)), y),  # answered
        lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))),  # both run twice
        lambda m, x: m.norm(torch.cat([m.conv(x), x], 2)),
    ],
)
def test_what_is_read_otherwise_stays(forward: Callable[[Read, Tensor], object]) -> None:
    model = lived(Read(forward))
    assert len(norms(fold_batch_norms(model))) == 1


def test_relus_write_over_what_nobody_else_reads() -> None:
    pictures = torch.rand(1, 3, 8, 8) - 0.5
    alone = lived(Read(lambda m, x: m.relu(m.norm(m.conv(x)))))
    twice = lived(Read(lambda m, x: (y := m.norm(m.conv(x))) - m.relu(y)))
    viewed = lived(Read(lambda m, x: m.relu((y := m.conv(x)).flatten(2)).view_as(y) + y))
    given = lived(Read(lambda m, x: m.norm(m.conv(m.relu(x)))))
    kept = pictures.clone()
    for model, in_place in ((alone, True), (twice, False), (viewed, False), (given, False)):
        ready = for_inference(model)
        assert ready.relu.inplace is in_place and not model.relu.inplace
        assert same(model, ready, pictures) and torch.equal(pictures, kept)


def fold(scale: Callable[[nn.BatchNorm2d], Tensor], shift: Callable[[nn.BatchNorm2d, Tensor], Tensor]) -> bool:
    """Whether a MobileNetV2 folded in this way, layer after layer, answers as before."""
    torch.manual_seed(0)
    model = lived(mobilenet_v2(width=0.25, classes=10))
    mutant = copy.deepcopy(model)
    previous = None
    for name, module in list(mutant.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            factor = scale(module).detach()
            previous.weight.data *= factor[:, None, None, None]
            previous.bias = nn.Parameter(shift(module, factor).detach())
            mutant.set_submodule(name, nn.Identity())
        previous = module
    return same(model, mutant, torch.rand(2, 3, 64, 64))


def right_scale(norm: nn.BatchNorm2d) -> Tensor:
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def right_shift(norm: nn.BatchNorm2d, factor: Tensor) -> Tensor:
    return norm.bias - norm.running_mean * factor


def test_rejects_mutants() -> None:
    assert fold(right_scale, right_shift)
    assert not fold(lambda n: n.weight / (n.running_var + n.eps), right_shift)  # variance for deviation
    assert not fold(lambda n: 1 / (n.running_var + n.eps).sqrt(), right_shift)  # gamma forgotten
    assert not fold(right_scale, lambda n, factor: n.bias - n.running_mean)  # the mean not scaled
    assert not fold(right_scale, lambda n, factor: n.bias)  # the mean forgotten


def test_a_model_in_training_and_a_wrong_picture_are_refused() -> None:
    model = mobilenet_v2(width=0.25)
    with pytest.raises(InputError, match=r"call model\.eval"):
        fold_batch_norms(model)
    assert not for_inference(model).training and model.training  # that takes a copy in evaluation mode
    with pytest.raises(InputError, match=r"Sequential takes no picture \(1, 8, 8\)"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(3, 8, 1)).eval(), (1, 8, 8))
    with evaluating(model):
        assert not norms(fold_batch_norms(model))


def test_features_asked_for_survive() -> None:
    model = create_model("resnet20", features=["conv1", "bn1", "layer1"])
    folded = fold_batch_norms(lived(model))
    assert len(norms(model)) - len(norms(folded)) == 6  # the six of layer1; conv1's own map is wanted as it is
    pictures = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        ready = for_inference(model)(pictures)
        for name, maps in model(pictures).items():
            torch.testing.assert_close(folded(pictures)[name], maps, rtol=0, atol=1e-5)
            torch.testing.assert_close(ready[name], maps, rtol=0, atol=1e-5)
