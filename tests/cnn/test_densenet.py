"""DenseNet against torchvision's names and shapes, the papers' counts, and the forward pass written out."""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import DenseNet, densenet40, densenet121, densenet169, densenet201
from vivace.cnn.densenet import DenseLayer

BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
COUNTS = {121: 7_978_856, 169: 14_149_480, 201: 20_013_928}
Shapes = dict[str, tuple[int, ...]]


def norm(name: str, maps: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.{part}", (maps,)) for part in ("weight", "bias", "running_mean", "running_var"))
    yield f"{name}.num_batches_tracked", ()


def published_shapes(depth: int) -> Shapes:
    """torchvision's, in its order."""
    shapes: Shapes = {"features.conv0.weight": (64, 3, 7, 7), **dict(norm("features.norm0", 64))}
    maps = 64
    for b, layers in enumerate(BLOCKS[depth], start=1):
        for i in range(1, layers + 1):
            layer = f"features.denseblock{b}.denselayer{i}"
            shapes |= {**dict(norm(f"{layer}.norm1", maps)), f"{layer}.conv1.weight": (128, maps, 1, 1),
                       **dict(norm(f"{layer}.norm2", 128)), f"{layer}.conv2.weight": (32, 128, 3, 3)}  # fmt: skip
            maps += 32
        if b < 4:
            transition = f"features.transition{b}"
            shapes |= {**dict(norm(f"{transition}.norm", maps)), f"{transition}.conv.weight": (maps // 2, maps, 1, 1)}
            maps //= 2
    return {
        **shapes,
        **dict(norm("features.norm5", maps)),
        "classifier.weight": (1000, maps),
        "classifier.bias": (1000,),
    }


def old_names(shapes: Shapes) -> Shapes:
    """As in the files that torchvision publishes, which are older than the names, and than counted batches."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): shape for name, shape in shapes.items()}
    return {name: shape for name, shape in renamed.items() if "num_batches" not in name}


def shapes_of(model: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def without_memory(build: Callable[[], DenseNet]) -> DenseNet:
    with torch.device("meta"):
        return build()


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(("build", "depth"), [(densenet121, 121), (densenet169, 169), (densenet201, 201)])
def test_names_shapes_and_counts(build: Callable[[], DenseNet], depth: int) -> None:
    model = without_memory(build)
    assert list(shapes_of(model).items()) == list(published_shapes(depth).items())
    assert count(model) == COUNTS[depth]
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == depth - 1  # the name counts the classifier too


@pytest.mark.parametrize(
    "mutant",
    [densenet169, lambda: DenseNet(bottleneck=0), lambda: DenseNet(compression=1.0), lambda: DenseNet(growth=24)],
)
def test_rejects_other_shapes(mutant: Callable[[], DenseNet]) -> None:
    assert shapes_of(without_memory(mutant)) != published_shapes(121)


def test_cifar_nets_have_the_papers_counts() -> None:
    """Table 2: L = 40, k = 12 has 1.0 M parameters; with bottleneck and compression L = 100, k = 12 has 0.8 M."""
    assert count(without_memory(densenet40)) == 1_019_722
    bc = without_memory(lambda: DenseNet(growth=12, blocks=(16, 16, 16), stem="cifar", stem_maps=24, classes=10))
    assert count(bc) == 769_162
    for model, depth in ((without_memory(densenet40), 40), (bc, 100)):
        weighted = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        assert len(weighted) == depth


def small(**options: object) -> DenseNet:
    """Two blocks of ImageNet's kind, with statistics as after some training."""
    torch.manual_seed(0)
    model = DenseNet(**{"growth": 4, "blocks": (2, 3), "stem_maps": 6, "classes": 5, **options})  # type: ignore[arg-type]
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.bias)
    return model.eval()


def written_out(w: dict[str, Tensor], x: Tensor, *, newest_only: bool = False, first: bool = False) -> Tensor:
    """The small net's forward pass by names; a mutant where each layer sees only the newest maps of its block."""

    def bn(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (w[f"features.{name}.{part}"].view(-1, 1, 1)
                                   for part in ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).relu()

    def conv(x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, w[f"features.{name}.weight"], **how)

    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = F.max_pool2d(bn(conv(x, "conv0", stride=2, padding=3), "norm0"), 3, 2, padding=1)
    for block, layers in ((1, 2), (2, 3)):
        for i in range(1, layers + 1):
            layer = f"denseblock{block}.denselayer{i}"
            seen = torch.cat([torch.zeros_like(x[:, :-4]), x[:, -4:]], 1) if newest_only and i > 1 else x
            new = conv(bn(conv(bn(seen, f"{layer}.norm1"), f"{layer}.conv1"), f"{layer}.norm2"), f"{layer}.conv2",
                       padding=1)  # fmt: skip
            x = torch.cat([new, x] if first else [x, new], 1)
        if block == 1:
            x = F.avg_pool2d(conv(bn(x, "transition1.norm"), "transition1.conv"), 2)
    return bn(x, "norm5").mean((2, 3)) @ w["classifier.weight"].T + w["classifier.bias"]


def computes(model: DenseNet, **mutant: bool) -> bool:
    picture = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = written_out(model.state_dict(), picture, **mutant)
        return torch.allclose(model(picture), expected, atol=1e-4 * expected.abs().max().item())


def test_forward_is_the_paper_written_out() -> None:
    assert computes(small())


@pytest.mark.parametrize("mutant", ["newest_only", "first"])
def test_rejects_a_wrong_forward(mutant: str) -> None:
    assert not computes(small(), **{mutant: True})


def trained_a_step(model: DenseNet) -> dict[str, Tensor]:
    """The gradients of one step, and the statistics after it."""
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    model.train()(images).square().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return {**gradients, **dict(model.named_buffers())}  # type: ignore[dict-item]


def trains_the_same(frugal: DenseNet) -> bool:
    wanted, found = trained_a_step(small(bottleneck=frugal_bottleneck(frugal))), trained_a_step(frugal)
    return all(torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5) for name in wanted)


def frugal_bottleneck(model: DenseNet) -> int:
    return 4 * any(isinstance(layer, DenseLayer) and layer.bottleneck for layer in model.modules())


@pytest.mark.parametrize("bottleneck", [4, 0])
def test_memory_efficient_training_is_the_same_training(bottleneck: int) -> None:
    frugal = small(memory_efficient=True, bottleneck=bottleneck)
    assert trains_the_same(frugal)
    assert all(layer.momentum == 0.1 for layer in frugal.modules() if isinstance(layer, nn.BatchNorm2d))


def test_rejects_statistics_that_count_a_batch_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What plain checkpointing does, torchvision's included."""
    monkeypatch.setattr(DenseLayer, "_contexts", lambda self: (nullcontext(), nullcontext()))
    assert not trains_the_same(small(memory_efficient=True))


def kept(model: DenseNet) -> int:
    """Numbers that are kept for the way back, each storage once."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.train()(torch.rand(1, 3, 64, 64))
    assert output.requires_grad
    return sum(seen.values())


def test_memory_efficient_training_keeps_less() -> None:
    options = {"blocks": (12, 12), "growth": 12}
    assert kept(small(memory_efficient=True, **options)) < kept(small(**options)) / 2


def test_sizes_classes_and_bad_input() -> None:
    with torch.no_grad():
        assert small()(torch.rand(1, 3, 33, 80)).shape == (1, 5)
        assert densenet40().eval()(torch.rand(1, 3, 8, 8)).shape == (1, 10)
    for wrong in ({"growth": 0}, {"blocks": ()}, {"blocks": (2, 0)}, {"compression": 0.0}, {"bottleneck": -1}):
        with pytest.raises(InputError, match="no DenseNet"):
            small(**wrong)


def test_loads_the_published_file_with_its_old_names(publish: Callable[..., None]) -> None:
    old = old_names(published_shapes(121))
    assert "features.denseblock4.denselayer16.conv.2.weight" in old
    publish("densenet121", old)
    model = densenet121(weights="imagenet")
    assert not model.training and not any(tensor.is_meta for tensor in model.state_dict().values())
    assert model(torch.rand(1, 3, 32, 32)).abs().max() == 0
