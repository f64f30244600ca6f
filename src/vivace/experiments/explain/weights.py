"""Experiment: what can be read off a trained network's weights."""

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from vivace.base.drawing import BLUE, GREEN, GREY, ORANGE, VIOLET, drawing
from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import grid, middle_square, read_image
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import create_model, load_model, make_permanent, prune_magnitude
from vivace.experiments.classifier import logits_of
from vivace.experiments.labelled_pictures import patches
from vivace.explain import (
    LayerStatistics,
    color_tuning,
    connection_pattern,
    filter_impact,
    filter_scaled,
    hue_colors,
    weight_statistics,
    weights_of,
)
from vivace.explain.gabor import color_and_shape, fit_gabor

QUICK = {"size": 96, "photographs": 3, "crops": 4, "chance": 300}

PHOTOGRAPHS = ("chelsea", "coffee", "motorcycle", "flower", "china", "rocket")
SHARES = (0.1, 0.2, 0.3, 0.5)  # of the weights that are set to zero
SHOWN = 32  # filters
DEAD = 0.01  # of the layer's largest norm


@checked
def run(
    *,
    image: ImagePath = "chelsea",
    architecture: str = "efficientnet_lite0",
    weights: FilePath = None,
    size: Annotated[int, Ge(32), Le(512)] = 224,
    photographs: Annotated[int, Ge(1), Le(6)] = 6,
    crops: Annotated[int, Ge(2), Le(100)] = 20,
    chance: Annotated[int, Ge(100), Le(20_000)] = 2000,
    seed: Seed = 0,
    tell: Tell = ignore,
) -> Report:
    """First kernels are part Gabor functions, part colours, part unused; deep ones can't be read as pictures.

    vivace run weights        a minute on one core; 11 of 28 living first kernels are nearer to Gabor functions than
                              95 % of random ones; half of the weights can't simply be dropped

    image: the photograph in whose maps single filters are changed
    architecture: a network with published weights, such as efficientnet_lite0 or resnet20
    weights: a network of yours instead, a file that `vivace run finetune` left
    size: pixels of a photograph's side as the network sees it
    photographs: how many shipped ones, beside yours, a filter's removal is tried on
    crops: of each of ten photographs, on which the pruned network is compared with the whole one (ResNet-20: twice)
    chance: random kernels that the trained ones are compared with
    seed: of random kernels and crops
    """
    model = _model(architecture, weights).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = next((name for name, weight in weights_of(model).items() if weight.ndim == 4), None)
    if first is None or model.get_parameter(f"{first}.weight").shape[1] != 3:
        raise InputError("the network's first convolution must see red, green and blue")
    report = Report(
        "Weights: what can be read off them",
        "A first kernel has one slice each for red, green and blue, so it *is* a picture. It is compared with the "
        "nearest Gabor function (a wave under a bell, 高斯包络下的正弦波), and shown coloured gratings. Behind it a "
        "kernel has as many slices as there are channels: all that can be drawn is which channels are connected, and "
        "how strongly. Then weights are changed, one filter at a time and many at once.",
    )
    names = dict.fromkeys([image, *PHOTOGRAPHS[:photographs]])
    pictures = torch.stack([middle_square(read_image(name), size) for name in names])
    tell(Step(0, 5, "first kernels"))
    kernels = model.get_parameter(f"{first}.weight").detach()
    _gabor(report, kernels, chance, seed)
    _colors(report, model, first, kernels, pictures)
    tell(Step(1, 5, "statistics of all layers"))
    rows = _statistics(report, model)
    tell(Step(2, 5, "deep kernels"))
    _deep(report, model, first)
    tell(Step(3, 5, "one filter at a time"))
    _impact(report, model, first, pictures)
    tell(Step(4, 5, "the smallest weights"))
    _pruning(report, architecture if weights is None else "your network", model, crops, seed)
    _table(report, rows)
    tell(Step(5, 5, "done"))
    return report


def _model(architecture: str, weights: FilePath) -> nn.Module:
    if weights is not None:
        return load_model(weights)[0]
    small = architecture in ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "densenet40")
    return create_model(architecture, weights="cifar10" if small else "imagenet").eval()


def _gabor(report: Report, kernels: Float[Tensor, "n 3 h w"], chance: int, seed: int) -> None:
    """How near the first kernels are to Gabor functions, and random ones (c1, x1)."""
    small = min(kernels.shape[2:]) < 5  # eight numbers come close to any 3 x 3: five then
    norms = kernels.flatten(1).norm(dim=1)
    alive = norms > DEAD * norms.max()
    dead, kernels = int((~alive).sum()), kernels[alive]
    numbers = alive.nonzero()[:, 0].tolist()
    colors, shapes = color_and_shape(kernels)
    fit = fit_gabor(shapes, centred=small)
    null = torch.randn(chance, *kernels.shape[1:], generator=torch.Generator().manual_seed(seed))
    by_chance = fit_gabor(color_and_shape(null)[1], centred=small, starts=2, steps=25).r2
    bound = by_chance.quantile(0.95)
    order = fit.r2.argsort(descending=True)[:SHOWN].tolist()
    drawn = colors[:, :, None, None] * fit.drawn(*kernels.shape[2:])[:, None]
    figure, axes = drawing(2 * -(-len(order) // 8), 8, width=8.4, height=2.35 * -(-len(order) // 8), squeeze=False)
    for each in axes.flat:
        each.set_axis_off()
    for place, k in enumerate(order):
        row, column = 2 * (place // 8), place % 8
        top = 2 * float(kernels[k].abs().max())
        for each, picture in ((axes[row, column], kernels[k]), (axes[row + 1, column], drawn[k])):
            each.imshow((picture / top + 0.5).clamp(0, 1).movedim(0, -1).numpy(), interpolation="nearest")
        better = fit.r2[k] > bound
        axes[row, column].set_title(f"#{numbers[k]}: $R^2$ {fit.r2[k]:.2f}", fontsize=8, color=BLUE if better else GREY)
    report.figure(
        "first_kernels",
        figure,
        "First kernels (upper rows), each scaled to its largest weight, grey is "
        "zero, and below each the nearest Gabor function in its colour. Blue: nearer than 95 % of random "
        "kernels.",
    )
    figure, axes = drawing(width=5.6, height=2.8)
    bins = np.linspace(0, 1, 26)
    axes.hist(by_chance.numpy(), bins, density=True, color=GREY, alpha=0.5, label=f"{chance:,} random kernels")
    axes.hist(fit.r2.numpy(), bins, density=True, color=BLUE, alpha=0.6, label=f"{len(kernels)} trained kernels")
    axes.set(xlabel="$R^2$ of the nearest Gabor function", yticks=())
    axes.legend(frameon=False)
    report.figure(
        "gabor",
        figure,
        f"{'Five' if small else 'Eight'} numbers are fitted to {kernels[0, 0].numel()} "
        "weights: on small kernels even noise comes near, so the trained ones must come nearer.",
    )
    share = (fit.r2 > bound).double().mean().item()
    spread = 2 * (share * (1 - share) / len(kernels)) ** 0.5
    words = (
        f"of {len(kernels)} first kernels not dead ({dead} are), nearer to a Gabor function than 95 % of random "
        f"ones; median R^2 "
        f"{fit.r2.median():.2f}, random {by_chance.median():.2f}"
    )
    report.claim("5.5.c1", share, low=0.5, spread=spread, detail=f"share {words}; spread: two standard errors")
    report.claim(
        "5.5.x1", share / 0.05, low=2, spread=spread / 0.05, unit="times", detail=f"that share to 5 %: {words}"
    )


@torch.no_grad()
def _colors(
    report: Report,
    model: nn.Module,
    first: str,
    kernels: Float[Tensor, "n 3 kh kw"],
    photographs: Float[Tensor, "b 3 h w"],
) -> None:
    """Which first kernels answer to colour, by gratings, and whether photographs agree (x2)."""
    tuning = color_tuning(kernels)
    index = tuning.color_index
    grey = photographs.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    in_color, without = (activations(model, pictures, [first])[0] for pictures in (photographs, grey))
    moved = (in_color - without).square().mean((0, 2, 3)).sqrt() / in_color.std((0, 2, 3)).clamp(min=1e-9)
    norms = kernels.flatten(1).norm(dim=1)
    alive = norms > DEAD * norms.max()
    rank = spearmanr(index[alive].numpy(), moved[alive].numpy()).statistic
    order = torch.where(alive, index, -1).argsort(descending=True)[:12].tolist()
    figure = drawing(1, 1, width=8.6, height=3.6)[0]
    figure.clear()
    angles = torch.arange(tuning.by_hue.shape[1] + 1) * 2 * np.pi / tuning.by_hue.shape[1]
    for place, k in enumerate(order):
        axes = figure.add_subplot(2, 6, place + 1, projection="polar")
        strengths = torch.cat([tuning.by_hue[k], tuning.by_hue[k, :1]])
        axes.plot(angles.numpy(), strengths.numpy(), color=GREY, linewidth=0.8)
        hues = (0.5 + 0.6 * hue_colors(24)).clamp(0, 1).numpy()
        axes.scatter(angles[:-1].numpy(), tuning.by_hue[k].numpy(), c=hues, s=14)
        axes.plot(angles.numpy(), [float(tuning.light[k])] * len(angles), ":", color="#444444")
        axes.set(xticks=(), yticks=())
        axes.set_title(f"#{k}: {index[k]:.2f}", fontsize=8)
    report.figure(
        "hues",
        figure,
        "The answers of the twelve most colour-loving kernels to gratings between a hue and "
        "its complement, all as bright as grey; dotted: to gratings between light and dark. Above: the colour "
        "index, over 0.5 for a colour detector.",
    )
    report.claim(
        "5.5.x2",
        rank,
        low=0.5,
        detail=f"rank correlation, over {int(alive.sum())} kernels that aren't "
        "dead, of the colour index with how much a kernel's map moves when photographs lose their colour; "
        f"{int((index[alive] > 0.5).sum())} are colour detectors",
    )


def _statistics(report: Report, model: nn.Module) -> list[LayerStatistics]:
    """Distributions, sparsity, dead filters and norms of every layer (x3, x4)."""
    rows = weight_statistics(model)
    every = weights_of(model)
    _distributions(report, rows, every)
    figure, axes = drawing(2, 2, width=9, height=5)
    _by_layer(axes, rows)
    report.figure("layers", figure, "Every layer, from the first to the last. Dotted: what Gaussian weights have.")
    kurtosis = float(np.median([row.kurtosis for row in rows]))
    total = sum(np.prod(row.shape) for row in rows)
    near = sum(row.near_zero * np.prod(row.shape) for row in rows) / total
    report.claim(
        "5.5.x3",
        kurtosis,
        low=0.5,
        detail=f"median excess kurtosis of {len(rows)} layers; 0 for Gaussian "
        f"weights; {sum(row.kurtosis > 1 for row in rows)} above 1",
    )
    report.claim(
        "5.5.x4",
        near,
        high=0.12,
        detail="share of all weights below a tenth of their layer's root mean square; 0.08 of Gaussian weights",
    )
    return rows


def _table(report: Report, rows: Sequence[LayerStatistics]) -> None:
    report.table(
        "statistics",
        (
            "layer",
            "shape",
            "mean",
            "std",
            "excess kurtosis",
            "near zero, %",
            "dead filters, %",
            "norm",
            "spectral norm",
        ),
        [
            (
                row.name,
                "\u00d7".join(map(str, row.shape)),
                *(f"{v:.3g}" for v in (row.mean, row.std, row.kurtosis)),
                f"{100 * row.near_zero:.1f}",
                f"{100 * row.dead:.1f}",
                f"{row.norm:.3g}",
                f"{row.spectral_norm:.3g}",
            )
            for row in rows
        ],
        "Near zero: below a tenth of the layer's root mean square (8 % of Gaussian weights). Dead: filters "
        "whose norm is below a hundredth of the layer's largest.",
    )


def _distributions(report: Report, rows: Sequence[LayerStatistics], every: Mapping[str, Tensor]) -> None:
    """Histograms of eight layers, against a Gaussian."""
    chosen = [rows[i] for i in sorted({round(i) for i in np.linspace(0, len(rows) - 1, 8)})]
    figure, axes = drawing(2, 4, width=9, height=4)
    at = np.linspace(-4, 4, 81)
    for each, row in zip(axes.flat, chosen, strict=False):
        values = ((every[row.name].flatten() - row.mean) / max(row.std, 1e-12)).clamp(-4, 4).numpy()
        each.hist(values, at[::2], density=True, color=BLUE, alpha=0.6)
        each.plot(at, np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi), color=ORANGE, linewidth=1)
        each.set(yscale="log", ylim=(1e-4, 3), xlim=(-4, 4))
        each.set_title(f"{row.name}\nexcess kurtosis {row.kurtosis:.1f}", fontsize=7)
        each.tick_params(labelsize=6)
    report.figure(
        "distributions",
        figure,
        "How often weights of each size occur, in standard deviations of their "
        "layer, on a logarithmic scale (all beyond 4 at the edge); orange: a Gaussian.",
    )


def _by_layer(axes: np.ndarray, rows: list[LayerStatistics]) -> None:
    depth = np.arange(len(rows))
    kinds = {"depthwise": ORANGE, "3 x 3 and larger": GREEN, "1 x 1 and linear": BLUE}
    kind = [
        "1 x 1 and linear" if np.prod(row.shape[2:]) == 1 else "depthwise" if row.shape[1] == 1 else "3 x 3 and larger"
        for row in rows
    ]
    for each, (what, values, gaussian) in zip(
        axes.flat,
        (
            ("excess kurtosis", [row.kurtosis for row in rows], 0),
            ("near zero, %", [100 * row.near_zero for row in rows], 8),
            ("dead filters, %", [100 * row.dead for row in rows], None),
            ("spectral norm", [row.spectral_norm for row in rows], None),
        ),
        strict=True,
    ):
        for name, color in kinds.items():
            mine = [i for i in depth if kind[i] == name]
            each.plot(mine, [values[i] for i in mine], "o", markersize=4, color=color, label=name if mine else None)
        if gaussian is not None:
            each.axhline(gaussian, color=GREY, linewidth=0.8, linestyle=":")
        each.set(ylabel=what, xlabel="layer")
    axes.flat[0].legend(frameon=False, fontsize=7)


def _deep(report: Report, model: nn.Module, first: str) -> None:
    """Deep kernels: which channels are connected, how strongly, and a kernel's slices one by one."""
    dense = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and name != first
    ]
    chosen = [dense[i] for i in (0, len(dense) // 2)]
    figure, axes = drawing(1, 3, width=9.6, height=3.4)
    for each, (name, module) in zip(axes, chosen, strict=False):
        pattern = connection_pattern(module)
        shown = each.imshow(pattern.numpy(), cmap="magma", aspect="auto", vmax=float(pattern.quantile(0.995)))
        each.set(xlabel="input channel", ylabel="filter")
        each.set_title(name, fontsize=8)
        figure.colorbar(shown, ax=each, fraction=0.05)
    weight = chosen[1][1].weight.detach().flatten(1)
    large = weight.abs() > 0.1 * weight.square().mean().sqrt()
    axes[2].imshow(large[:64, :64].numpy(), cmap="gray", interpolation="nearest")
    axes[2].set_title(f"{chosen[1][0]}: zero or nearly (black)\nfirst 64 x 64 weights", fontsize=8)
    for each in axes:
        each.grid(False)
    report.figure(
        "connections",
        figure,
        "The length of every kernel slice: a bright column is a channel that many "
        "filters listen to, a dark row a filter that listens to little.",
    )
    spatial = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and min(module.kernel_size) > 1 and name != first
    ]
    if not spatial:
        return
    name, module = spatial[len(spatial) // 2]
    weight = module.weight.detach()
    slices = weight[:60, 0] if module.groups > 1 else weight[0, :60]
    tiles = (slices / (2 * slices.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)) + 0.5)[:, None]
    what = "filters, one slice each" if module.groups > 1 else f"slices of filter 0, which has {weight.shape[1]}"
    report.image(
        "deep_kernel",
        grid(F.interpolate(tiles, scale_factor=8), columns=15),
        f"{name}: {len(tiles)} {what}, grey is zero. A slice is a picture over a *feature map*, not over a "
        "photograph, so it doesn't show what the unit looks for.",
    )


def _impact(report: Report, model: nn.Module, first: str, photographs: Float[Tensor, "b 3 h w"]) -> None:
    """What becomes of the answer when one first filter is taken away, and whether its norm tells (x5)."""
    with torch.no_grad():
        logits = model(photographs)
    best = logits.argmax(1)
    change = filter_impact(model, photographs, first)  # (k, b, classes)
    after = (logits + change).log_softmax(2)
    each = torch.arange(len(best))
    mean = (after[:, each, best] - logits.log_softmax(1)[each, best]).abs().mean(1)
    norms = model.get_parameter(f"{first}.weight").detach().flatten(1).norm(dim=1)
    alive = norms > DEAD * norms.max()  # that dead filters do nothing needs no measuring
    rank = spearmanr(norms[alive].numpy(), mean[alive].numpy()).statistic
    figure, axes = drawing(width=5.4, height=3)
    axes.plot(norms.numpy(), mean.numpy(), "o", color=VIOLET)
    for k in mean.topk(min(4, len(mean))).indices.tolist():
        axes.annotate(f"#{k}", (norms[k], mean[k]), xytext=(4, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="norm of the filter", ylabel="change of the class's log-probability")
    report.figure(
        "magnitude",
        figure,
        "Each dot is a first filter: how large its weights are, and what its removal "
        "does to the class that was predicted (mean size over the photographs).",
    )
    _changed_maps(report, model, first, photographs[:1], mean, logits[0], change[:, 0])
    report.claim(
        "5.5.x5",
        rank,
        low=0.5,
        detail="rank correlation of a first filter's norm with the change that its removal makes to the predicted "
        f"class's log-probability, {int(alive.sum())} filters that aren't dead, {len(best)} photographs",
    )


@torch.no_grad()
def _changed_maps(
    report: Report,
    model: nn.Module,
    first: str,
    picture: Float[Tensor, "1 3 h w"],
    impact: Float[Tensor, " k"],
    logits: Float[Tensor, " c"],
    change: Float[Tensor, "k c"],
) -> None:
    """The maps on the way to the answer, with a filter and without it: where they differ, and by how much."""
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    layers = [convs[i] for i in sorted({1, len(convs) // 4, len(convs) // 2, len(convs) - 1})]
    before = activations(model, picture, layers)
    order = impact.argsort(descending=True)
    chosen = [int(order[0]), int(order[1]), int(order[len(order) // 2])]
    figure, axes = drawing(len(chosen), 2 + len(layers), width=9.4, height=1.75 * len(chosen) + 0.3)
    best = int(logits.argmax())
    for row, k in zip(axes, chosen, strict=True):
        kernel = model.get_parameter(f"{first}.weight").detach()[k]
        row[0].imshow((kernel / (2 * kernel.abs().max()) + 0.5).movedim(0, -1).numpy(), interpolation="nearest")
        row[0].set_title(f"filter #{k}: logit {logits[best]:.1f}\nto {logits[best] + change[k, best]:.1f}", fontsize=7)
        row[1].imshow(activations(model, picture, [first])[0][0, k].numpy(), cmap="gray")
        row[1].set_title("its map", fontsize=7)
        with filter_scaled(model, first, k):
            without = activations(model, picture, layers)
        for each, layer, a, b in zip(row[2:], layers, before, without, strict=True):
            moved = (a - b).square().mean(1)[0].sqrt() / a.std()
            each.imshow(moved.numpy(), cmap="magma", vmin=0, vmax=1)
            each.set_title(f"{layer}\n{moved.mean():.2f} std", fontsize=7)
    for each in axes.flat:
        each.set_axis_off()
    report.figure(
        "without",
        figure,
        "One filter's weights set to zero: the two whose loss changes the answer most, and "
        "an average one. From the third picture on: how far the maps of later layers move, in standard "
        "deviations (bright: 1 or more).",
    )


def _pruning(report: Report, name: str, model: nn.Module, crops: int, seed: int) -> None:
    """The smallest weights set to zero, or random ones: how often the answer stays (c4, x6)."""
    small = create_model("resnet20", weights="cifar10").eval()
    nets = {name: (model, 96, crops)}
    nets |= {f"resnet20, {which}": (small, 32, 2 * crops) for which in ("the smallest", "random ones")}
    lines, same = {}, {}
    for label, (net, side, each) in nets.items():
        given = patches(each, side=side, seed=seed)
        said = logits_of(net, given.images, batch_size=50).argmax(1)
        kept = []
        for share in SHARES:
            pruned = copy.deepcopy(net)
            if "random" in label:
                _drop(pruned, share, seed)
            else:
                prune_magnitude(pruned, share)
                make_permanent(pruned)
            kept.append((logits_of(pruned, given.images, batch_size=50).argmax(1) == said).double().mean().item())
        lines[label] = ((0.0, *SHARES), [100.0, *(100 * value for value in kept)])
        same[label] = dict(zip(SHARES, kept, strict=True))
    figure, axes = drawing(width=6.4, height=3.4)
    for (label, (x, y)), color in zip(lines.items(), (BLUE, ORANGE, GREEN), strict=True):
        axes.plot(x, y, "o-", color=color, label=label)
    axes.set(xlabel="share of all weights set to zero", ylabel="the same answer, %", ylim=(-3, 103))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8)
    report.figure(
        "pruned",
        figure,
        "How often a network, nothing trained on, still gives the class that it gave before, on "
        f"{10 * crops} crops of photographs (ResNet-20: {20 * crops}).",
    )
    random = same["resnet20, random ones"][0.2]
    report.claim(
        "5.5.c4",
        same["resnet20, the smallest"][0.2],
        low=0.9,
        detail=f"share of {20 * crops} crops that ResNet-20 (trained on CIFAR-10) names as before, with the "
        f"smallest fifth of its weights zero and nothing trained on; with a random fifth {random:.2f}",
    )
    report.claim(
        "5.5.x6",
        same[name][0.5],
        low=0.9,
        detail=f"the same for {name} with the smallest half zero; with a "
        f"tenth {same[name][0.1]:.2f}, with a fifth {same[name][0.2]:.2f}",
    )


@torch.no_grad()
def _drop(model: nn.Module, share: float, seed: int) -> None:
    """Set random weights of all layers to zero."""
    generator = torch.Generator().manual_seed(seed)
    for name in weights_of(model):
        weight = model.get_parameter(f"{name}.weight")
        weight.mul_(torch.rand(weight.shape, generator=generator) >= share)
