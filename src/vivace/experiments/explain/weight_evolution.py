"""Experiment: a network's weights while it learns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from vivace.base.checkpoint import checkpoints, read_checkpoint
from vivace.base.data import Labelled, cifar10, digits, mnist
from vivace.base.drawing import BLUE, GREY, PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.images import grid, resize
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy
from vivace.experiments.labelled_pictures import in_colour, patches
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import excess_kurtosis, relative_change
from vivace.explain.gabor import color_and_shape, fit_gabor

QUICK = {"steps": 60, "crops": 20, "batch_size": 32, "frames": 6}

DataSet = Literal["photographs", "cifar10", "mnist", "digits"]
SIDE = 7  # of the first kernels
LAYERS = ("0", "4", "8", "11", "16")  # the convolutions and the linear layer of `network`
NAMES = ("conv 1", "conv 2", "conv 3", "conv 4", "linear")
RECIPES: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "AdamW": partial(AdamW, lr=5e-3, weight_decay=0.5, fused=True),
    "SGD": partial(SGD, lr=0.05, momentum=0.9, weight_decay=5e-3, fused=True),
}
NEAR = 0.1  # of the layer's root mean square
CHANCE = 300  # random filters

Weights = dict[str, Tensor]


class Trained(NamedTuple):
    """A network that has learned: its weights on the way, the first ones before any step, and how good it was then."""

    steps: list[int]
    weights: list[Weights]
    right: list[float]


@checked
def run(
    *,
    dataset: DataSet = "photographs",
    runs: FolderPath = None,
    steps: Annotated[int, Ge(10), Le(100_000)] = 300,
    batch_size: Annotated[int, Ge(8), Le(512)] = 64,
    nets: Annotated[int, Ge(3), Le(20)] = 3,
    crops: Annotated[int, Ge(10), Le(1000)] = 80,
    frames: Annotated[int, Ge(3), Le(60)] = 20,
    seed: Seed = 0,
    tell: Tell = ignore,
) -> Report:
    """First kernels grow out of noise; weights stay as Gaussian as they were, and which layers move is the optimiser's.

    vivace run weight_evolution        1 min on two cores; first kernels' R^2 with a Gabor function rises from 0.28 to
                                       0.56, kurtosis stays near 0, 8 % of weights are near zero all the time

    dataset: what is learned: crops of shipped photographs, by photograph; or CIFAR-10, MNIST, scikit-learn's digits
    runs: a folder of weights of yours (*.safetensors, or checkpoints that a training of Vivace left), shown over time
    steps: of each training
    batch_size: pictures a step
    nets: networks for each optimiser
    crops: of each of ten photographs to learn from, cut from their left halves; half as many of right ones for testing
    frames: moments at which weights are kept, and the animation's frames
    seed: the first network's seed
    """
    report = Report(
        "Weights while a network learns",
        f"Small networks with 16 first kernels of {SIDE} x {SIDE} learn with AdamW and with SGD, both with weight "
        "decay. On the way their weights are kept: how heavy the tails are (excess kurtosis 超值峰度, 0 for a "
        "Gaussian), how many are near zero, and how far each layer has moved, $\\|W_t - W_0\\| / \\|W_0\\|$.",
    )
    if runs is not None:
        _own(report, Path(runs).expanduser())
    train, test = _data(dataset, crops, seed, tell)
    found: dict[str, list[Trained]] = {name: [] for name in RECIPES}
    for turn in range(nets):
        for place, (name, recipe) in enumerate(RECIPES.items()):
            tell(Step(turn * len(RECIPES) + place, nets * len(RECIPES), f"network {turn + 1}, {name}"))
            found[name].append(_trained(train, test, recipe, steps, batch_size, frames, seed + turn))
    tell(Step(nets * len(RECIPES), nets * len(RECIPES), "drawing"))
    first = found["AdamW"][0]
    report.video(
        "evolution",
        torch.stack([_frame(first, at) for at in range(len(first.steps))]),
        fps=4,
        caption="The first kernels (grey is zero, one scale for all frames), the distribution of each layer's "
        "weights in standard deviations (dashed: Gaussian), and how far each layer has moved. AdamW.",
    )
    _curves(report, found)
    _claims(report, found, train.images.shape[1], seed)
    return report


def network(channels: int, classes: int, *, seed: int) -> nn.Sequential:
    """Four convolutions, the first with 16 kernels of 7 x 7, and a linear layer; weights are drawn as He et al. do."""
    with seeded(seed):
        net = nn.Sequential(
            nn.Conv2d(channels, 16, SIDE, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, classes),
        )
        for layer in LAYERS:
            nn.init.kaiming_normal_(net.get_parameter(f"{layer}.weight"))
    return net


def _data(dataset: DataSet, crops: int, seed: int, tell: Tell) -> tuple[Labelled, Labelled]:
    if dataset == "photographs":
        return patches(crops, side=32, seed=seed, part="left"), patches(crops // 2, side=32, seed=seed, part="right")
    if dataset == "cifar10":
        return cifar10("train", each=500, tell=tell), cifar10("test", each=50, tell=tell)
    read = mnist if dataset == "mnist" else digits
    parts = [in_colour(part) for part in (read("train").first(5000), read("test").first(500))]
    train, test = (part._replace(images=resize(part.images, (32, 32))) for part in parts)
    return train, test


def _trained(
    train: Labelled,
    test: Labelled,
    recipe: Callable[[Iterable[nn.Parameter]], Optimizer],
    steps: int,
    batch_size: int,
    frames: int,
    seed: int,
) -> Trained:
    """A training whose weights are kept at moments that lie closer together at its start."""
    net = network(train.images.shape[1], len(train.classes), seed=seed)
    optimizer = recipe(net.parameters())
    generator = torch.Generator().manual_seed(seed)
    moments = {round(steps * (at / (frames - 1)) ** 2) for at in range(frames)}
    found = Trained([], [], [])
    places = torch.zeros(0, dtype=torch.long)
    for step in range(steps + 1):
        if step in moments:
            found.steps.append(step)
            found.weights.append(
                {
                    name: net.get_parameter(f"{layer}.weight").detach().clone()
                    for name, layer in zip(NAMES, LAYERS, strict=True)
                }
            )
            found.right.append(100 * accuracy(net.eval(), test))
        if len(places) < batch_size:
            places = torch.cat([places, torch.randperm(len(train.labels), generator=generator)])
        some, places = places[:batch_size], places[batch_size:]
        loss = F.cross_entropy(net.train()(train.images[some]), train.labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def _frame(trained: Trained, at: int) -> Float[Tensor, "3 h w"]:
    """One frame of the animation, as a picture."""
    figure, axes = drawing(1, 3, width=9, height=3.2, width_ratios=(1, 1.5, 1))
    weights, first = trained.weights[at], trained.weights[-1]["conv 1"]
    kernels = (weights["conv 1"] / (2 * first.abs().max()) + 0.5).clamp(0, 1)
    axes[0].imshow(grid(kernels, columns=4, gap=1).movedim(0, -1).numpy(), interpolation="nearest")
    axes[0].set_axis_off()
    axes[0].set_title(f"step {trained.steps[at]}: {trained.right[at]:.0f} % right", fontsize=9)
    places = np.linspace(-4, 4, 81)
    for (name, weight), color in zip(weights.items(), PALETTE, strict=False):
        density, _ = np.histogram(((weight - weight.mean()) / weight.std()).numpy(), places[::4], density=True)
        axes[1].plot(places[2::4], density, color=color, label=name, linewidth=1.2)
    axes[1].plot(places, np.exp(-(places**2) / 2) / np.sqrt(2 * np.pi), "--", color=GREY, linewidth=1)
    axes[1].set(ylim=(0, 0.6), xlim=(-4, 4), yticks=(), xlabel="weight, in standard deviations")
    axes[1].legend(frameon=False, fontsize=7, loc="upper right")
    change = relative_change(trained.weights[0], weights)
    axes[2].bar(list(change), list(change.values()), color=PALETTE[: len(change)])
    axes[2].set(ylim=(0, 1.3), ylabel="relative change")
    axes[2].tick_params(axis="x", rotation=50, labelsize=7)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).float().movedim(-1, 0) / 255


def _near(weights: Weights) -> float:
    """The share of all weights below a tenth of their own layer's root mean square."""
    small = [(w.abs() < NEAR * w.square().mean().sqrt()).flatten() for w in weights.values()]
    return torch.cat(small).double().mean().item()


def _kurtosis(weights: Weights) -> float:
    """The mean of the layers' excess kurtosis: pooled together, layers of different scales would look heavy-tailed."""
    return float(np.mean([excess_kurtosis(weight) for weight in weights.values()]))


def _curves(report: Report, found: Mapping[str, Sequence[Trained]]) -> None:
    """Kurtosis, shares near zero and relative change over the steps, means of the networks."""
    figure, axes = drawing(2, 2, width=9, height=5.6)
    for (name, nets), style in zip(found.items(), ("-", "--"), strict=True):
        steps = nets[0].steps
        for each, measure in ((axes[0, 0], _kurtosis), (axes[0, 1], lambda weights: 100 * _near(weights))):
            values = np.mean([[measure(weights) for weights in net.weights] for net in nets], axis=0)
            each.plot(steps, values, style, color=BLUE, label=name)
        each = axes[1, 0 if name == "AdamW" else 1]
        for layer, color in zip(NAMES, PALETTE, strict=False):
            values = np.mean([[relative_change(net.weights[0], w)[layer] for w in net.weights] for net in nets], axis=0)
            each.plot(steps, values, color=color, label=layer)
        each.set(xlabel="step", ylabel=f"relative change, {name}", ylim=(0, None))
    axes[0, 0].axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes[0, 0].set(ylabel="mean excess kurtosis", xlabel="step", ylim=(-1, 2))
    axes[0, 1].axhline(8, color=GREY, linewidth=0.8, linestyle=":")
    axes[0, 1].set(ylabel="weights near zero, %", xlabel="step", ylim=(0, 30))
    axes[0, 0].legend(frameon=False)
    axes[1, 0].legend(frameon=False, fontsize=7, ncols=2)
    report.figure(
        "over_time",
        figure,
        "Above: how heavy the tails are and how many weights are near zero, over the "
        "training (dotted: a Gaussian). Below: how far each layer has moved from where it began.",
    )


def _claims(report: Report, found: Mapping[str, Sequence[Trained]], channels: int, seed: int) -> None:
    every = [net for nets in found.values() for net in nets]
    start, end = ([_kurtosis(net.weights[at]) for net in every] for at in (0, -1))
    report.claim(
        "5.5.c2",
        float(np.mean(end)),
        low=1,
        spread=two_standard_errors(end),
        detail=f"mean excess kurtosis of a layer's weights after training, {len(every)} networks; before it "
        f"{np.mean(start):.2f}; 0 for a Gaussian, 3 for a Laplace distribution",
    )
    near = [_near(net.weights[-1]) for net in every]
    report.claim(
        "5.5.c3",
        float(np.mean(near)),
        low=0.25,
        spread=two_standard_errors(near),
        detail="share of weights below a tenth of their layer's root mean square after training with weight "
        f"decay; before it {np.mean([_near(net.weights[0]) for net in every]):.3f}",
    )
    for claim, name, low in (("5.5.c5", "AdamW", 1.0), ("5.5.x8", "SGD", 1.4)):
        changes = [relative_change(net.weights[0], net.weights[-1]) for net in found[name]]
        ratios = [change["conv 4"] / change["conv 1"] for change in changes]
        words = ", ".join(f"{layer} {np.mean([change[layer] for change in changes]):.2f}" for layer in NAMES)
        report.claim(
            claim,
            float(np.mean(ratios)),
            low=low,
            spread=two_standard_errors(ratios),
            unit="times",
            detail=f"relative change of the last convolution to the first's, {name}; by layer {words}",
        )
    random = torch.randn(CHANCE, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    chance = fit_gabor(color_and_shape(random)[1], starts=2, steps=20).r2.median()
    fits = [fit_gabor(color_and_shape(net.weights[-1]["conv 1"])[1], starts=2, steps=20).r2.median() for net in every]
    gains = [float(r2 - chance) for r2 in fits]
    report.claim(
        "5.5.x7",
        float(np.mean(gains)),
        low=0,
        spread=two_standard_errors(gains),
        detail=f"median R^2 of the first kernels' nearest Gabor functions after training, "
        f"{np.mean(fits):.2f}, less that of random ones, {chance:.2f}",
    )
    with seeded(seed):
        default = nn.Conv2d(64, 64, 3)
    report.claim(
        "5.5.x9",
        excess_kurtosis(default.weight.detach()),
        low=-0.3,
        high=0.3,
        detail="excess kurtosis of a convolution as PyTorch makes it, untrained; -1.2 is a uniform one's",
    )


def _own(report: Report, folder: Path) -> None:
    """The weights in a folder over time: how far each has moved since the first, and histograms of the last."""
    sets = _sets_of(folder)
    names = [name for name, value in sets[0][1].items() if value.ndim > 1 and value.is_floating_point()]
    kept = [(label, {name: weights[name] for name in names if name in weights}) for label, weights in sets]
    changes = [relative_change(kept[0][1], weights) for _, weights in kept]
    shown = [names[i] for i in sorted({round(i) for i in np.linspace(0, len(names) - 1, 8)})]
    figure, (left, right) = drawing(1, 2, width=9, height=3.6)
    for name, color in zip(shown, PALETTE, strict=False):
        left.plot(range(len(kept)), [change[name] for change in changes], "o-", color=color, label=name)
        right.plot(range(len(kept)), [excess_kurtosis(weights[name]) for _, weights in kept], "o-", color=color)
    left.set(ylabel="relative change since the first")
    right.set(ylabel="excess kurtosis")
    for each in (left, right):
        each.set_xticks(range(len(kept)), [label[-14:] for label, _ in kept], rotation=40, fontsize=7)
    left.legend(frameon=False, fontsize=6)
    report.figure("own", figure, f"The weights in {folder.name}, from the first file to the last.")


def _sets_of(folder: Path) -> list[tuple[str, Weights]]:
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    found: list[tuple[str, Weights]] = []
    for path in checkpoints(folder):
        found.append((path.name, dict(read_checkpoint(path).weights["weights"])))
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found.append((path.stem, safetensors.torch.load_file(path)))
        except SafetensorError as error:
            raise InputError(f"{path} is not a safetensors file: {error}") from None
    if len(found) < 2:
        raise InputError(
            f"{folder} has {len(found)} sets of weights; two at least (*.safetensors or checkpoints of a "
            "training) are needed to see a change"
        )
    return found
