"""ResNet against torchvision's names and shapes, the papers' parameter counts, and two forward passes written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.report import Table
from vivace.base.weights import CARDS
from vivace.cnn import BasicBlock, Bottleneck, CifarResNet, ResNet, create_model, resnet18, resnet20
from vivace.experiments.cnn import resnet as resnet_experiment

# torchvision: blocks of each stage, convolutions of a block, parameters
PUBLISHED = {
    "resnet18": ((2, 2, 2, 2), 2, 11_689_512),
    "resnet34": ((3, 4, 6, 3), 2, 21_797_672),
    "resnet50": ((3, 4, 6, 3), 3, 25_557_032),
    "resnet101": ((3, 4, 23, 3), 3, 44_549_160),
    "resnet152": ((3, 8, 36, 3), 3, 60_192_808),
}
CIFAR = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}  # table 6, millions

Shapes = dict[str, tuple[int, ...]]


def convolution(name: str, norm: str, shape: tuple[int, ...]) -> Shapes:
    """A convolution without bias and the batch normalisation behind it, in torchvision's order."""
    each = dict.fromkeys((f"{norm}.{what}" for what in ("weight", "bias", "running_mean", "running_var")), shape[:1])
    return {f"{name}.weight": shape, **each, f"{norm}.num_batches_tracked": ()}


def published_shapes(name: str) -> Shapes:
    blocks, depth, _ = PUBLISHED[name]
    shapes, inputs = convolution("conv1", "bn1", (64, 3, 7, 7)), 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
        for number in range(count):
            block, outputs = f"layer{stage}.{number}.", width if depth == 2 else 4 * width
            sides = ((width, inputs, 3), (width, width, 3)) if depth == 2 else (
                (width, inputs, 1), (width, width, 3), (outputs, width, 1))  # fmt: skip
            for at, (out, into, side) in enumerate(sides, start=1):
                shapes |= convolution(f"{block}conv{at}", f"{block}bn{at}", (out, into, side, side))
            if number == 0 and inputs != outputs:
                shapes |= convolution(f"{block}downsample.0", f"{block}downsample.1", (outputs, inputs, 1, 1))
            inputs = outputs
    return shapes | {"fc.weight": (1000, inputs), "fc.bias": (1000,)}


def loads_published_weights(model: nn.Module, name: str) -> bool:
    found = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    return found == published_shapes(name) and list(found) == list(published_shapes(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_counts(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert loads_published_weights(model, name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name][2]
    assert name in CARDS


def test_rejects_other_names_and_shapes() -> None:
    with torch.device("meta"):
        assert not loads_published_weights(ResNet(BasicBlock, (3, 4, 6, 3)), "resnet50")  # the other block
        assert not loads_published_weights(ResNet(Bottleneck, (2, 2, 2, 2)), "resnet18")
        biased = resnet18()
        biased.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        assert not loads_published_weights(biased, "resnet18")


def shaken(model: nn.Module) -> nn.Module:
    """Statistics and weights of batch normalisation that are not 0 and 1, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                assert tensor is not None
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 4)
            for tensor in (module.running_var, module.weight.data):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


Shortcut = Callable[
    [dict[str, Tensor], str, Tensor, Tensor], Tensor
]  # weights, block, x, F(x) -> what is added to F(x)


def unit(w: dict[str, Tensor], conv: str, norm: str, x: Tensor, stride: int) -> Tensor:
    """Convolution with zeros around, and batch normalisation with the stored statistics, from their definitions."""
    weight = w[f"{conv}.weight"]
    y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, var, gain, bias = (w[f"{norm}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias"))
    return (y - mean) / (var + 1e-5).sqrt() * gain + bias


def written_out(w: dict[str, Tensor], x: Tensor, stages: list[tuple[int, int]], shortcut: Shortcut) -> Tensor:
    """From after the stem to the logits: `stages` has the blocks and the stride of each."""
    for stage, (count, stride) in enumerate(stages, start=1):
        for number in range(count):
            block, s = f"layer{stage}.{number}", stride if number == 0 else 1
            convs = [f"conv{k}" for k in (1, 2, 3) if f"{block}.conv{k}.weight" in w]
            out = x
            for conv in convs:
                strided = w[f"{block}.{conv}.weight"].shape[-1] == 3 and conv == convs[len(convs) - 2]
                out = unit(w, f"{block}.{conv}", f"{block}.bn{conv[-1]}", out, s if strided else 1)
                out = out.clamp(min=0) if conv != convs[-1] else out
            x = (out + shortcut(w, block, x, out)).clamp(min=0)
    return x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


def projected(w: dict[str, Tensor], block: str, x: Tensor, out: Tensor) -> Tensor:
    """Option B."""
    if f"{block}.downsample.0.weight" not in w:
        return x
    return unit(w, f"{block}.downsample.0", f"{block}.downsample.1", x, x.shape[-1] // out.shape[-1])


def padded(w: dict[str, Tensor], block: str, x: Tensor, out: Tensor) -> Tensor:
    """Option A: the first channels are every second pixel of x, the others zero."""
    stride, added = x.shape[-1] // out.shape[-1], torch.zeros_like(out)
    added[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
    return added


def nothing(w: dict[str, Tensor], block: str, x: Tensor, out: Tensor) -> Tensor:
    return torch.zeros_like(out)


def sum_pooled(w: dict[str, Tensor], block: str, x: Tensor, out: Tensor) -> Tensor:
    """Means of 2 x 2 pixels where option A takes one of them."""
    stride, added = x.shape[-1] // out.shape[-1], torch.zeros_like(out)
    added[:, : x.shape[1]] = F.avg_pool2d(x, stride)
    return added


def unprojected(w: dict[str, Tensor], block: str, x: Tensor, out: Tensor) -> Tensor:
    return x if x.shape == out.shape else torch.zeros_like(out)


@torch.no_grad()
def computes(model: nn.Module, stages: list[tuple[int, int]], shortcut: Shortcut, *, cifar: bool) -> bool:
    w = model.state_dict()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)) if cifar else (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # fmt: skip
    x = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    x = unit(w, "conv1", "bn1", x, 1 if cifar else 2).clamp(min=0)
    x = x if cifar else F.max_pool2d(x, 3, 2, 1)
    expected = written_out(w, x, stages, shortcut)
    return torch.allclose(model(images), expected, atol=1e-4 * expected.abs().max().item())


BASIC = [(2, 1), (2, 2), (2, 2), (2, 2)]
THIN = [(1, 1), (2, 2), (1, 2), (1, 2)]  # of bottlenecks
TWENTY = [(3, 1), (3, 2), (3, 2)]


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {"18": resnet18(), "bottlenecks": ResNet(Bottleneck, (1, 2, 1, 1)), "20": resnet20()}
    return {name: shaken(model) for name, model in made.items()}


def test_forward_is_the_equations_written_out(models: dict[str, nn.Module]) -> None:
    assert computes(models["18"], BASIC, projected, cifar=False)
    assert computes(models["bottlenecks"], THIN, projected, cifar=False)
    assert computes(models["20"], TWENTY, padded, cifar=True)
    torch.manual_seed(0)
    assert computes(shaken(resnet20(residual=False)), TWENTY, nothing, cifar=True)


@pytest.mark.parametrize(
    ("name", "stages", "shortcut"),
    [("18", BASIC, unprojected), ("18", BASIC, nothing), ("bottlenecks", THIN, unprojected), ("20", TWENTY, sum_pooled),
     ("20", TWENTY, nothing), ("20", TWENTY, unprojected)],
)  # fmt: skip
def test_rejects_a_wrong_shortcut(
    models: dict[str, nn.Module], name: str, stages: list[tuple[int, int]], shortcut: Shortcut
) -> None:
    assert not computes(models[name], stages, shortcut, cifar=name == "20")


def test_rejects_a_relu_before_the_sum(models: dict[str, nn.Module]) -> None:
    """The mutant that many implementations were: F(x) could only add, never take away."""
    block = models["20"].get_submodule("layer2.1")
    bn2 = block.bn2
    block.bn2 = nn.Sequential(bn2, nn.ReLU())
    with torch.no_grad():
        x = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0))
        wrong = block(x)
        block.bn2 = bn2
        out = bn2(block.conv2(block.bn1(block.conv1(x)).clamp(min=0)))
        assert torch.allclose(block(x), (out + x).clamp(min=0), atol=1e-5)
        assert not torch.allclose(wrong, (out + x).clamp(min=0), atol=1e-2)


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_networks_are_as_large_as_the_papers_with_or_without_shortcuts(name: str) -> None:
    depth = int(name.removeprefix("resnet"))
    with torch.device("meta"):
        model, plain = create_model(name, classes=10), create_model(name, classes=10, residual=False)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    digits = 1 if CIFAR[name] > 1 else 2
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, digits) == CIFAR[name]


def test_blocks_whose_last_normalisation_begins_at_zero_are_the_identity() -> None:
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        started = CifarResNet(depth=8, zero_init_residual=True).eval().layer1(x)
        assert torch.equal(started, x)
        assert not torch.allclose(CifarResNet(depth=8).eval().layer1(x), x, atol=0.1)  # as in the paper


def test_zero_init_works_on_the_last_normalisation_of_a_bottleneck() -> None:
    model = ResNet(Bottleneck, (1, 1, 1, 1), zero_init_residual=True)
    zero = [name for name, tensor in model.named_parameters() if name.endswith("weight") and not tensor.any()]
    assert zero == [f"layer{k}.0.bn3.weight" for k in (1, 2, 3, 4)]


def test_a_hook_keeps_what_it_saw(models: dict[str, nn.Module]) -> None:
    """Nothing works in place: a normalisation's map is still that when the block is done."""
    seen: list[Tensor] = []
    layer = models["20"].get_submodule("layer1.0.bn2")
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.extend((output, output.clone())))
    with torch.no_grad():
        models["20"](torch.rand(1, 3, 32, 32))
    handle.remove()
    assert torch.equal(*seen)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="6n"):
        CifarResNet(depth=18)
    with pytest.raises(InputError, match="6n"):
        CifarResNet(depth=2)
    with pytest.raises(InputError, match="cifar10"):
        resnet20(weights="imagenet")
    with pytest.raises(InputError, match="of the residual network"):
        resnet20(weights="cifar10", residual=False)
    with pytest.raises(InputError, match="resnet56"):
        create_model("resnet56", weights="cifar10")
    with pytest.raises(InputError, match="at least one class"):
        resnet20(classes=0)
    with pytest.raises(InputError, match="imagenet"):
        create_model("resnet50", weights="cifar10")


def test_two_processes_run_the_recipe_of_the_experiment() -> None:
    report = resnet_experiment.run(dataset="digits", epochs=6, devices=2)
    assert "2 x CPU" in report.summary
    table = next(artefact for artefact in report.artefacts if artefact.name == "budget")
    assert isinstance(table, Table)
    assert float(table.rows[-1][2]) > 70  # % of test digits right; chance is 10
