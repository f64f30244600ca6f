"""Experiment: what DenseNet connects, and what that costs in weights and in memory."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool
from torch import Tensor, nn

from vivace.base.cost import Cost, bytes_kept, cost
from vivace.base.drawing import BLUE, GREEN, ORANGE, drawing
from vivace.base.hooks import activations
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.weights import TORCHVISION
from vivace.cnn import create_model, densenet121
from vivace.cnn.densenet import DenseLayer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"size": 64}

ALEXNET = ("alexnet",)
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DENSENETS = ("densenet121", "densenet169", "densenet201")
FAMILIES = {"AlexNet": ALEXNET, "ResNet": RESNETS, "DenseNet": DENSENETS}
PUBLISHED = {name: top1 for name, _, _, top1 in TORCHVISION}  # % of ImageNet's validation pictures, the first answer


@checked
def run(*, image: ImagePath = "chelsea", size: Annotated[int, Ge(64), Le(320)] = 128, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """DenseNet connects within its blocks: small in weights, heavy in activations, and not about depth.

    vivace run densenet        10 s on two cores; 477 of 1,653 pairs of layers connected; 8.0 M parameters

    image: the picture that is sent through DenseNet-121
    size: its side in pixels, where connections and memory are measured
    seed: of the weights
    """
    report = Report(
        "DenseNet: what is connected, and what it costs",
        "A picture goes through an untrained DenseNet-121, and each layer's input is searched for the maps that other "
        "layers put out: these are its connections, $L(L+1)/2$ in a block of $L$ layers. Then AlexNet, the ResNets "
        "and the DenseNets are counted: convolutions, parameters, multiply-adds, activations at 224 pixels; and what "
        "training keeps in memory is measured.",
    )
    tell(Step(0, 1, "sending a picture through"))
    picture = crop_center(resize(read_image(image), size), size)[None]
    with seeded(seed):
        model = densenet121()
    _connections(report, model, picture)
    with torch.device("meta"):
        counted = {name: cost(create_model(name)) for family in FAMILIES.values() for name in family}
    _counts(report, counted)
    _equal_accuracy(report, counted)
    _memory(report, picture, seed)
    return report


@torch.no_grad()
def _connections(report: Report, model: nn.Module, picture: Tensor) -> None:
    """Which layers are given which layers' maps (c5), and how many of them a block connects (x21)."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, DenseLayer)}
    inputs: dict[str, list[bytes]] = {}
    handles = [layer.get_submodule("norm1").register_forward_pre_hook(
        lambda _, given, name=name: inputs.update({name: [channel.numpy().tobytes() for channel in given[0][0]]}))
        for name, layer in layers.items()]  # fmt: skip
    try:
        outputs = dict(zip(layers, activations(model.eval(), picture, list(layers)), strict=True))
    finally:
        for handle in handles:
            handle.remove()
    marks = {name: {channel.numpy().tobytes() for channel in maps[0]} for name, maps in outputs.items()}
    given = torch.tensor([[marks[source] <= set(inputs[name]) for source in layers] for name in layers])
    block = [name.split(".")[1] for name in layers]
    same = torch.tensor([[here == there for there in block] for here in block])
    earlier = torch.ones_like(given).tril(-1).bool()
    pairs, connected = int(earlier.sum()), int(given.sum())
    report.figure(
        "connections", _matrix(given, block), "A dot: the layer (row) is given the maps of the other (column)."
    )
    report.claim("4.3.c5", connected / pairs, low=1,
                 detail=f"in {connected} of {pairs:,} pairs of DenseNet-121's {len(layers)} layers the later is "
                 "given the maps of the earlier")  # fmt: skip
    inside = earlier & same
    report.claim("4.3.x21", int((given & inside).sum()) / int(inside.sum()), low=1,
                 detail=f"the same within blocks: {int((given & inside).sum())} of {int(inside.sum())} pairs; with "
                 "what enters a block, L(L+1)/2 connections: " + _triangles(block))  # fmt: skip


def _triangles(block: Sequence[str]) -> str:
    counts = [block.count(name) for name in dict.fromkeys(block)]
    return " + ".join(str(n * (n + 1) // 2) for n in counts) + f" = {sum(n * (n + 1) // 2 for n in counts)}"


def _matrix(given: Bool[Tensor, "n n"], block: Sequence[str]) -> "Figure":
    figure, axes = drawing(width=5.2, height=4.6)
    rows, columns = (place + 1 for place in given.nonzero().T)
    axes.scatter(columns, rows, s=5, color=BLUE)
    ends = [i + 0.5 for i in range(1, len(block)) if block[i] != block[i - 1]]
    for end in ends:
        axes.axhline(end, color=ORANGE, lw=1)
        axes.axvline(end, color=ORANGE, lw=1)
    axes.plot([], [], color=ORANGE, label="transition")
    axes.set(xlabel="dense layer that gives", ylabel="dense layer that is given", xlim=(0, len(block) + 1),
             ylim=(len(block) + 1, 0), aspect="equal")  # fmt: skip
    axes.legend(loc="upper right", frameon=False)
    return figure


def _counts(report: Report, counted: Mapping[str, Cost]) -> None:
    """Convolutions, parameters, work and activations of the three families (c6, c7, x22, x23)."""
    depth = {name: len(each.of("Conv2d").layers) for name, each in counted.items()}
    rows = [(name, depth[name], f"{each.parameters / 1e6:.2f} M", f"{each.multiply_adds / 1e9:.2f} G",
             f"{each.activations / 1e6:.1f} M", PUBLISHED[name]) for name, each in counted.items()]  # fmt: skip
    columns = ("network", "convolutions", "parameters", "multiply-adds", "activations", "published accuracy, %")
    report.table("networks", columns, rows, "One picture of 224 x 224. Activations: numbers that all layers put out, "
                 "the normalised picture's too, copies made by concatenation not. Accuracies: of torchvision's first "
                 "weights, not measured here.")  # fmt: skip
    dense, residual = counted["densenet121"], counted["resnet50"]
    report.claim("4.3.c6", residual.parameters / dense.parameters, low=1.5, unit="times",
                 detail=f"ResNet-50's {residual.parameters:,} to DenseNet-121's {dense.parameters:,}")  # fmt: skip
    spans = {name: [depth[each] for each in family] for name, family in FAMILIES.items()}
    steps = [min(later) - max(before) for before, later in pairwise(spans.values())]
    words = "; ".join(f"{name} {', '.join(map(str, span))}" for name, span in spans.items())
    report.claim("4.3.c7", min(steps), low=1, unit="convolutions",
                 detail="the shallowest of a family less the deepest of the one before it, the smaller of the two "
                 f"steps: {words}")  # fmt: skip
    report.claim("4.3.x22", steps[0], low=1, unit="convolutions", detail="the same, from AlexNet to the ResNets")
    report.claim("4.3.x23", dense.activations / residual.activations, high=1, unit="times",
                 detail=f"DenseNet-121's {dense.activations / 1e6:.1f} M activations to ResNet-50's "
                 f"{residual.activations / 1e6:.1f} M; parameters {dense.parameters / residual.parameters:.2f} times, "
                 f"multiply-adds {dense.multiply_adds / residual.multiply_adds:.2f} times")  # fmt: skip


def _equal_accuracy(report: Report, counted: Mapping[str, Cost]) -> None:
    """Parameters at the same published accuracy: the factor of 3.2 compares unequal nets (x24)."""
    lines = {family: ([counted[name].parameters / 1e6 for name in names], [PUBLISHED[name] for name in names])
             for family, names in (("ResNet", RESNETS), ("DenseNet", DENSENETS))}  # fmt: skip
    figure, axes = drawing(height=3.4)
    for (family, (x, y)), color in zip(lines.items(), (BLUE, GREEN), strict=True):
        axes.plot(x, y, "o-", color=color, label=family)
    axes.set(xlabel="million parameters", ylabel="published accuracy, %")
    axes.set_xscale("log")
    axes.set_xticks([8, 12, 20, 30, 45, 60], ["8", "12", "20", "30", "45", "60"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    report.figure("equal-accuracy", figure, "ImageNet, torchvision's first weights; accuracies as published.")
    wanted, (x, y) = PUBLISHED["resnet50"], lines["DenseNet"]
    above = next(i for i, accuracy in enumerate(y) if accuracy >= wanted)
    share = (wanted - y[above - 1]) / (y[above] - y[above - 1])
    needed = x[above - 1] * (x[above] / x[above - 1]) ** share
    report.claim("4.3.x24", counted["resnet50"].parameters / 1e6 / needed, low=3, unit="times",
                 detail=f"ResNet-50's parameters to the {needed:.1f} M, between DenseNet-169 and 201, at which a line "
                 f"reaches its {wanted} %; DenseNet-121 has {PUBLISHED['densenet121']} %")  # fmt: skip


def _memory(report: Report, picture: Tensor, seed: int) -> None:
    """What a step of training keeps for the way back, as a program does it (x25, x26)."""
    kept = {}
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("resnet50", {}), ("densenet121", {}), ("densenet121", {"memory_efficient": True}),
    )  # fmt: skip
    for name, options in kinds:
        with seeded(seed):
            model = create_model(name, **options)
        kept[name + " memory_efficient" * bool(options)] = bytes_kept(model, picture)
    figure, axes = drawing(height=2.2)
    names = list(reversed(kept))
    bars = axes.barh([name.replace(" ", "\n") for name in names], [kept[name] / 2**20 for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xlabel=f"MiB that training keeps for a picture of {picture.shape[-1]} x {picture.shape[-1]}")
    report.figure("memory", figure, "Every tensor that the backward pass needs, weights left out.")
    plain, frugal = kept["densenet121"], kept["densenet121 memory_efficient"]
    report.claim("4.3.x25", plain / kept["resnet50"], high=1, unit="times",
                 detail=f"bytes training DenseNet-121 keeps to ResNet-50's, {picture.shape[-1]} pixels")  # fmt: skip
    report.claim("4.3.x26", plain / frugal, low=2, unit="times",
                 detail="bytes kept by DenseNet-121 to those with memory_efficient=True, which computes concatenation, "
                 "normalisation and the 1 x 1 convolution twice")  # fmt: skip
