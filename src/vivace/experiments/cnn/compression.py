"""Experiment: a trained network made smaller: zeros, fewer bits, a pupil."""

import copy
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import efficientnet_lite0
from vivace.cnn.distillation import distillation_loss
from vivace.cnn.pruning import prune_magnitude, sparse_bytes
from vivace.cnn.quantization import quantized, stored_bytes
from vivace.experiments.classifier import logits_of
from vivace.experiments.labelled_pictures import DataSet, patches, to_learn
from vivace.experiments.small_cnns import convnet, error, learn

QUICK = {"dataset": "digits", "steps": 200, "crops": 4}

WIDTH, PUPIL = 24, 4  # maps of the first convolution
SHARES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)  # of the weights that are zero
BITS = (8, 6, 4, 3, 2)
LABELLED = 60  # pictures whose class the pupil is told


@checked
def run(*, dataset: DataSet = "auto", steps: Annotated[int, Ge(50), Le(100_000)] = 400,
        crops: Annotated[int, Ge(1), Le(100)] = 10, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A network in a fraction of its bytes: pruned, quantised, distilled.

    vivace run compression        3 min on two cores (digits: 20 s); four fifths of the weights, or three bytes of four,
                                  are not missed

    dataset: what is learnt: cifar10, scikit-learn's digits, or auto: CIFAR-10 if it is there
    steps: of 64 pictures each, of the large network
    crops: of each of ten photographs, on which EfficientNet-Lite0 is compared with itself in 8 bits
    seed: of weights and batches
    """
    name, train, test = to_learn(dataset, tell=tell)
    test = test.first(2000)
    report = Report(
        "Compression: zeros, fewer bits, a pupil",
        f"A network of four convolutions, {WIDTH} maps in the first, learns {name}. Then its smallest weights are set "
        "to zero and the rest trained on; its numbers are rounded to fewer bits; and a network of "
        f"{PUPIL} maps learns its answers.",
    )
    tell(Step(0, 4, "the network"))
    teacher = convnet(train, WIDTH, seed=seed)
    learn(teacher, train, steps=steps, seed=seed)
    base = error(teacher, test)
    lines = _pruned(report, teacher, train, test, base, steps, seed, tell)
    lines["quantised, untrained"] = _rounded(report, teacher, train, test, base, tell)
    _draw(report, name, teacher, base, lines)
    _taught(report, teacher, train, test, steps, seed, tell)
    _imagenet(report, crops, seed, tell)
    return report


Line = tuple[list[float], list[float]]  # bytes, errors


def _pruned(report: Report, teacher: nn.Sequential, train: Labelled, test: Labelled, base: float, steps: int,
            seed: int, tell: Tell) -> dict[str, Line]:  # fmt: skip
    """Errors with growing shares of zeros, at once and after training on (x12, x13)."""
    lines: dict[str, Line] = {"pruned, untrained": ([], []), "pruned, trained on": ([], [])}
    wrong: dict[str, dict[float, float]] = {way: {} for way in lines}
    for share in SHARES:
        tell(Step(1, 4, f"pruning {share:.0%}"))
        net = copy.deepcopy(teacher)
        prune_magnitude(net, share)
        for way, (sizes, errors) in lines.items():
            if way == "pruned, trained on" and share:
                learn(net, train, steps=steps // 2, rate=2e-3, seed=seed + 1)
            wrong[way][share] = error(net, test)
            sizes.append(sparse_bytes(net) / 1024)
            errors.append(wrong[way][share])
    report.claim("4.7.x12", wrong["pruned, trained on"][0.8] - base, high=1.5, unit="points",
                 detail=f"error with 80 % of the weights zero and the rest trained on, less the whole net's {base:.1f} "
                 "%")  # fmt: skip
    report.claim("4.7.x13", wrong["pruned, untrained"][0.95] - base, high=5, unit="points",
                 detail="the same with 95 % zero and nothing trained on")  # fmt: skip
    return lines


def _rounded(report: Report, teacher: nn.Sequential, train: Labelled, test: Labelled, base: float, tell: Tell) -> Line:
    """Errors with weights and inputs of each layer in fewer bits (x14, x15)."""
    errors, sizes = [], []
    for bits in BITS:
        tell(Step(2, 4, f"{bits} bits"))
        small = quantized(teacher, train.images[:256], bits=bits)
        errors.append(error(small, test))
        sizes.append(stored_bytes(small) / 1024)
    report.claim("4.7.x14", errors[0] - base, high=0.6, unit="points",
                 detail=f"error with weights and maps in 8 bits less that in 32, in {sizes[0]:.0f} KiB of "
                 f"{stored_bytes(teacher) / 1024:.0f}")  # fmt: skip
    report.claim("4.7.x15", errors[-1] - base, high=5, unit="points", detail="the same in 2 bits, not trained so")
    return sizes, errors


def _draw(report: Report, name: str, teacher: nn.Module, base: float, lines: dict[str, Line]) -> None:
    figure, axes = drawing(width=6.8, height=3.6)
    for (way, (sizes, errors)), color in zip(lines.items(), (ORANGE, GREEN, BLUE), strict=True):
        axes.plot(sizes, errors, "o-", color=color, label=way)
        for label, x, y in zip(BITS if "quantised" in way else [f"{share:.0%}" for share in SHARES], sizes, errors,
                               strict=True):  # fmt: skip
            if way != "pruned, trained on":
                axes.annotate(str(label), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7, color=color)
    axes.axhline(base, color="#888888", linewidth=0.8, linestyle=":")
    least = min(error for _, errors in lines.values() for error in errors)
    axes.set(xlabel="KiB that the network takes", ylabel=f"wrong on {name}, %", xscale="log", yscale="symlog")
    axes.set_xticks([10, 20, 50, 100, 200, 500], [10, 20, 50, 100, 200, 500])
    axes.set_yticks([0, 1, 2, 5, 10, 20, 50, 100], [0, 1, 2, 5, 10, 20, 50, 100])
    axes.set_ylim(-0.3 if least < 2 else least / 2, 110)
    axes.minorticks_off()
    axes.legend(frameon=False)
    report.figure("bytes", figure, "Beside the points: the share of zeros, or the bits of a number. Dotted: the whole "
                  f"network, {stored_bytes(teacher) / 1024:.0f} KiB.")  # fmt: skip


def _taught(report: Report, teacher: nn.Sequential, train: Labelled, test: Labelled, steps: int, seed: int,
            tell: Tell) -> None:  # fmt: skip
    """A small network with few labels, and with the teacher's answers to all pictures (x16)."""
    tell(Step(3, 4, "a pupil"))
    few = train.taken(torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))[:LABELLED])
    answers = logits_of(teacher, train.images).log_softmax(1)

    def as_taught(_: nn.Module, logits: Float[Tensor, "b k"], places: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        return distillation_loss(logits, answers[places], None, temperature=2.0, soft=1.0)

    alone, taught = (convnet(train, PUPIL, seed=seed + 1) for _ in range(2))
    learn(alone, few, steps=steps, seed=seed)
    learn(taught, train, steps=steps, seed=seed, loss=as_taught)
    wrong = {"the large network": error(teacher, test), f"a small one, {LABELLED} labels": error(alone, test),
             "a small one, taught by the large one without labels": error(taught, test)}  # fmt: skip
    sizes = [stored_bytes(net) / 1024 for net in (teacher, alone, taught)]
    rows = [(way, f"{size:.0f}", round(share, 1)) for (way, share), size in zip(wrong.items(), sizes, strict=True)]
    report.table("pupil", ("network", "KiB", "wrong, %"), rows, "The teacher was told all classes; its pupil none.")
    one, two = list(wrong.values())[1:]
    report.claim("4.7.x16", one - two, low=2, unit="points",
                 detail=f"error of a small network that saw {LABELLED} labels less that of its twin that saw the large "
                 "network's answers to all pictures")  # fmt: skip


@torch.no_grad()
def _imagenet(report: Report, crops: int, seed: int, tell: Tell) -> None:
    """EfficientNet-Lite0's first answers with weights in 8 bits, one scale a channel or one a layer (x17, x18)."""
    tell(Step(3, 4, "EfficientNet-Lite0 in 8 bits"))
    model = efficientnet_lite0(weights="imagenet")
    images = patches(crops, side=160, seed=seed).images
    whole = logits_of(model, images, batch_size=20)
    found = {per: logits_of(quantized(model, per_channel=per), images, batch_size=20) for per in (True, False)}
    same = {per: float((logits.argmax(1) == whole.argmax(1)).float().mean()) for per, logits in found.items()}
    off = {per: float((logits - whole).square().mean().sqrt()) for per, logits in found.items()}
    size = stored_bytes(quantized(model)) / stored_bytes(model)
    report.claim("4.7.x17", same[True], low=0.7,
                 detail=f"share of {len(images)} crops of photographs with the same first answer, weights in 8 bits "
                 f"with a scale for each channel: {size:.0%} of the bytes")  # fmt: skip
    report.claim("4.7.x18", off[False] / off[True], high=1.25, unit="times",
                 detail="how far the logits are off with one scale for each layer, to how far with one for each "
                 f"channel; the first answers agree in {same[False]:.0%} of the crops")  # fmt: skip
