"""Experiment: the parts of a convolutional network, and what each is there for."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREEN, ORANGE, drawing
from vivace.base.images import read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import ConvNet, linear_probe, max_pool2d, pooled_features, vgg16
from vivace.experiments.classifier import accuracy
from vivace.experiments.labelled_pictures import DataSet, to_learn
from vivace.experiments.plain_training import gradient_norms, train

QUICK = {"epochs": 6, "runs": 1}

STAGES, HIDDEN = (1, 2, 3), (0, 1, 2)
WIDTHS = (8, 16, 16)
DEAD = 4  # starts with a ReLU on the logits
PHOTOGRAPHS = ("chelsea", "astronaut", "china", "coffee", "flower", "rocket")
LAYERS = ("features.1", "features.2", "features.3", "classifier.2")
DIRECTIONS = 4  # of drawn edges


class ReluOnLogits(ConvNet):
    """As lecture notes draw it: a ReLU behind every fully connected layer, the last too."""

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return super().forward(images).relu()


@checked
def run(*, image: ImagePath = "chelsea", dataset: DataSet = "digits", each: Annotated[int, Ge(10), Le(5000)] = 200,
        epochs: Annotated[int, Ge(1), Le(200)] = 8, runs: Annotated[int, Ge(1), Le(20)] = 3, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """The parts of a convolutional network: what is lost without each of them.

    vivace run components        25 s on two cores (CIFAR-10: 3 min); nine networks of one template read digits

    image: a photograph that is moved by a pixel, beside six shipped ones
    dataset: what is learnt: scikit-learn's digits, cifar10, or auto: CIFAR-10 if it is there
    each: pictures of each class to learn from
    epochs: passes over them
    runs: networks of each kind, each from its own start
    seed: of the first
    """
    pictures = {str(each): read_image(each, max_side=256) for each in dict.fromkeys([image, *PHOTOGRAPHS])}
    name, learnt, test = to_learn(dataset, each=each, tell=tell)
    test = test.first(1000)
    report = Report(
        "The parts of a convolutional network",
        f"$(\\text{{Conv-ReLU-Pool}}) \\times N - (\\text{{FC-ReLU}}) \\times M - \\text{{FC}}$, on {name}: "
        f"{len(learnt.labels):,} pictures, {epochs} epochs.",
    )
    learn = partial(_accuracies, learnt, test, epochs=epochs, runs=runs, seed=seed)
    tell(Step(0, 4, "the template"))
    _template(report, name, learnt, learn)
    tell(Step(1, 4, "activations"))
    _activations(report, name, learnt, learn, seed)
    tell(Step(2, 4, "ReLU on the logits"))
    _dead(report, learnt, test, epochs, seed)
    tell(Step(3, 4, "shifts and layers"))
    _shift(report, pictures)
    _probes(report, learnt, test, epochs, range(seed, seed + runs))
    with torch.device("meta"):
        sides = [layer.shape[-1] for layer in cost(vgg16()).of("MaxPool2d").layers]
    words = ", ".join(map(str, sides))
    report.claim("4.2.c5", sum(sides[i] * 2 == before for i, before in enumerate([224, *sides[:-1]])), low=5,
                 detail=f"of VGG-16's five poolings, how many halve the map: 224, {words}")  # fmt: skip
    return report


def _network(learnt: Labelled, stages: int, hidden: int, kind: type[ConvNet] = ConvNet, **options: Any) -> ConvNet:
    _, channels, height, width = learnt.images.shape
    return kind((channels, height, width), len(learnt.classes), WIDTHS[:stages], hidden=[32] * hidden, **options)


def _accuracies(learnt: Labelled, test: Labelled, stages: int, hidden: int, *, epochs: int, runs: int, seed: int,
                **options: Any) -> tuple[Float[Tensor, " r"], list[float]]:  # fmt: skip
    """Test accuracy in % of each run, and the losses of the first over the epochs."""
    right = torch.zeros(runs)
    losses: list[float] = []
    for turn in range(runs):
        with seeded(seed + turn):
            net = _network(learnt, stages, hidden, **options)
        found = train(net, learnt, epochs=epochs, seed=seed + turn, optimizer=_adam)
        losses = losses or found
        right[turn] = 100 * accuracy(net, test)
    return right, losses


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=4e-3, weight_decay=0, fused=True)


def _template(report: Report, name: str, learnt: Labelled, learn: Any) -> None:
    """N = 1 to 3 stages, M = 0 to 2 hidden layers (c4)."""
    found = {(n, m): learn(n, m)[0].mean().item() for n in STAGES for m in HIDDEN}
    counts = {(n, m): sum(w.numel() for w in _network(learnt, n, m).parameters()) for n in STAGES for m in HIDDEN}
    rows = [(n, *(f"{found[n, m]:.1f} ({counts[n, m]:,})" for m in HIDDEN)) for n in STAGES]
    report.table("template", ("N", *(f"M = {m}" for m in HIDDEN)), rows,
                 f"Test pictures of {name} right, % (parameters).")  # fmt: skip
    if "digits" in name:
        report.claim("4.2.c4", min(found.values()), low=80, unit="%",
                     detail=f"least test accuracy of the nine, {name}; chance is 10 %")  # fmt: skip


def _activations(report: Report, name: str, learnt: Labelled, learn: Any, seed: int) -> None:
    """ReLU against tanh and sigmoid: how fast they learn, and the gradient in the first layer (c2)."""
    figure, axes = drawing(width=6, height=3)
    losses, first = {}, {}
    for kind, color in (("relu", BLUE), ("tanh", GREEN), ("sigmoid", ORANGE)):
        losses[kind] = learn(3, 1, activation=kind)[1]
        with seeded(seed):
            net = _network(learnt, 3, 1, activation=kind)
        loss = nn.functional.cross_entropy(net(learnt.images[:256]), learnt.labels[:256])
        weights = [net.get_parameter("features.1.conv.weight"), net.get_parameter("classifier.3.weight")]
        a, b = (
            norm / float(weight.detach().norm())
            for norm, weight in zip(gradient_norms(loss, weights), weights, strict=True)
        )
        first[kind] = a / b
        axes.plot(range(1, len(losses[kind]) + 1), losses[kind], "o-", color=color, label=kind)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    ratio = {kind: losses[kind][-1] / losses["relu"][-1] for kind in ("sigmoid", "tanh")}
    report.figure("activations", figure, "The training loss falls from epoch to epoch: three stages, one hidden layer; "
                  f"the first run. At the end sigmoid's is {ratio['sigmoid']:.1f} times ReLU's.")  # fmt: skip
    report.claim("4.2.c2", first["relu"] / first["sigmoid"], low=3, unit="times",
                 detail="gradient over weights in the first convolution, relative to the last layer's: ReLU's to the "
                 f"sigmoid's before training (tanh {first['tanh'] / first['sigmoid']:.1f} times)")  # fmt: skip
    if "digits" in name:
        report.claim("4.2.x3", ratio["sigmoid"], low=2, unit="times",
                     detail=f"training loss with sigmoid to that with ReLU after as many epochs, {name}")  # fmt: skip
        report.claim("4.2.x4", ratio["tanh"], low=2, unit="times", detail="the same with tanh")


def _dead(report: Report, learnt: Labelled, test: Labelled, epochs: int, seed: int) -> None:
    """A ReLU behind the last layer too: classes whose logit is zero for every picture (x5)."""
    dead = torch.zeros(DEAD)
    right = torch.zeros(2, DEAD)
    for turn in range(DEAD):
        for row, kind in enumerate((ConvNet, ReluOnLogits)):
            with seeded(seed + turn):
                net = _network(learnt, 2, 1, kind)
            train(net, learnt, epochs=epochs, seed=seed + turn, optimizer=_adam)
            right[row, turn] = 100 * accuracy(net, test)
        with torch.no_grad():
            dead[turn] = (net(test.images).amax(0) == 0).sum()
    report.claim("4.2.x5", (right[0] - right[1]).mean(), high=1, unit="points",
                 spread=2 * float((right[0] - right[1]).std()) / DEAD**0.5,
                 detail=f"accuracy without a ReLU on the logits less with it, {DEAD} starts; classes "
                 f"whose logit is always zero: {', '.join(str(int(n)) for n in dead)}")  # fmt: skip


@torch.no_grad()
def _shift(report: Report, pictures: dict[str, Float[Tensor, "3 _ _"]]) -> None:
    """How much maps change when a photograph moves by a pixel, before and after pooling (c1)."""
    kernels = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    kernels -= kernels.mean((1, 2, 3), keepdim=True)
    noise = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(1))
    change = {}
    for name, source in [*pictures.items(), ("noise", noise)]:
        maps = torch.relu(nn.functional.conv2d(source[None], kernels))
        here, moved = maps[..., :-1], maps[..., 1:]
        pooled = [max_pool2d(part, 4) for part in (here, moved)]
        change[name] = [float((a - b).norm() / a.norm()) for a, b in ((here, moved), pooled)]
    rows = [(Path(name).stem, *(f"{x:.2f}" for x in (before, after, after / before)))
            for name, (before, after) in change.items()]  # fmt: skip
    report.table("shift", ("picture", "before pooling", "after it", "ratio"), rows,
                 "By how much, relatively, maps of 16 random kernels change when the picture moves by a pixel, before "
                 "and after 4 x 4 max pooling.")  # fmt: skip
    *ratios, of_noise = (after / before for before, after in change.values())
    report.claim("4.2.c1", max(ratios), high=0.8,
                 detail=f"relative change of the maps after 4 x 4 max pooling to that before it: the largest ratio of "
                 f"{len(ratios)} photographs; the least {min(ratios):.2f}, of noise {of_noise:.2f}")  # fmt: skip


def _probes(report: Report, learnt: Labelled, test: Labelled, epochs: int, seeds: range) -> None:
    """What planes on each layer's features tell: a drawn edge's direction, and the class (c3)."""
    right = torch.zeros(2, len(seeds), len(LAYERS))
    for turn, seed in enumerate(seeds):
        with seeded(seed):
            net = _network(learnt, 3, 1)
        train(net, learnt, epochs=epochs, seed=seed, optimizer=_adam)
        edges = [_edges(learnt.images.shape[1:], 600, 2 * seed + half) for half in (0, 1)]
        for row, (known, unseen) in enumerate((edges, (learnt, test))):
            features = [pooled_features(net, part.images, LAYERS, batch_size=500) for part in (known, unseen)]
            for place, (a, b) in enumerate(zip(*features, strict=True)):
                right[row, turn, place] = 100 * linear_probe(a, known.labels, b, unseen.labels).test
    edge, kind = right.mean(1)
    figure, axes = drawing(width=5.4, height=3)
    axes.plot(LAYERS, kind, "o-", color=BLUE, label="class of the picture (chance 10 %)")
    axes.plot(LAYERS, edge, "o-", color=ORANGE, label=f"direction of a drawn edge (chance {100 / DIRECTIONS:.0f} %)")
    axes.set_ylabel("told rightly by\na plane on its means, %")
    axes.legend(frameon=False, fontsize=8)
    report.figure("probes", figure, "Linear probes on each layer's maps, averaged over places, of a trained network: "
                  "the class becomes readable layer by layer, and an edge's direction is not lost.")  # fmt: skip
    words = [", ".join(f"{share:.0f}" for share in row) for row in (edge, kind)]
    report.claim("4.2.c3", torch.minimum(edge[0] - edge[-1], kind[-1] - kind[0]), low=5, unit="points",
                 detail="the smaller of two gains: the first stage's over the last hidden layer in telling an edge's "
                 f"direction (by layer {words[0]} %), the last's over the first in telling the class")  # fmt: skip
    report.claim("4.2.x6", kind[-1] - kind[0], low=5, unit="points",
                 detail=f"accuracy of a linear probe for the class on the last hidden layer less on the first stage; "
                 f"by layer {words[1]} %")  # fmt: skip


def _edges(shape: torch.Size, count: int, seed: int) -> Labelled:
    """Straight edges in four directions, at any place, either side bright, of any contrast, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    labels = torch.arange(count) % DIRECTIONS
    draw = torch.rand(3, count, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    angle = (math.pi / DIRECTIONS * labels)[:, None, None]
    across = angle.cos() * x + angle.sin() * y - (draw[0] - 0.5) * height / 2
    sign = 2 * (draw[1] > 0.5) - 1
    images = 0.5 + 0.5 * (0.4 + 0.6 * draw[2]) * (across * sign).clamp(-1, 1)
    images = images + 0.05 * torch.randn(images.shape, generator=generator)
    return Labelled(images.clamp(0, 1)[:, None].expand(-1, channels, -1, -1), labels, ("|", "/", "-", "\\"))
