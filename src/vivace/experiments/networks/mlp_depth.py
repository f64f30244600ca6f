"""Experiment: how deep, how wide, and for which picture size: many small MLPs on few digits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW

from vivace.base.data import Labelled, digits, stratified
from vivace.base.images import resize
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy, warm_then_cosine
from vivace.networks import MLP, count_parameters

QUICK = {"runs": 12, "parameters": 17_226, "side": 12, "epochs": 15}

DEPTHS = (1, 2, 4)
WIDTHS = (1, 2, 4, 16, 64, 256, 1024)
HIDDEN = (128, 64)
SIDE = 8  # of the digits
BATCH = 32


@dataclass
class Study:
    """Trains nets that differ in one thing, several of each kind, and tells how far it is."""

    train: Labelled
    test: Labelled
    runs: int
    epochs: int
    seed: int
    tell: Tell
    total: int
    done: int = 0

    def nets(self, hidden: Sequence[int], *, side: int = SIDE, pixels: Tensor | None = None,
             runs: int | None = None) -> list[MLP]:  # fmt: skip
        """Trained nets with these hidden layers, for digits of that side, or with their pixels in another order."""
        sizes = (side * side, *hidden, 10)
        self.tell(Step(self.done, self.total, f"training {'-'.join(map(str, sizes))}"))
        self.done += 1
        seeds = range(self.seed, self.seed + (runs or self.runs))
        return trained_together(sizes, seen(self.train, side, pixels), seeds, epochs=self.epochs)

    def accuracies(self, hidden: Sequence[int], *, side: int = SIDE, pixels: Tensor | None = None) -> Tensor:
        """Test accuracies, in %, of nets as in `nets`."""
        test = seen(self.test, side, pixels)
        return torch.tensor([100 * accuracy(net, test) for net in self.nets(hidden, side=side, pixels=pixels)])


@checked
def run(*, runs: Annotated[int, Ge(2), Le(100)] = 8, parameters: Annotated[int, Ge(1000), Le(10_000_000)] = 100_000,
        side: Annotated[int, Ge(9), Le(64)] = 28,
        epochs: Annotated[int, Ge(1), Le(1000)] = 30, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Deep or wide, one hidden layer or two, small pictures or large: MLPs compared at equal cost.

    vivace run mlp_depth        1 min on two cores; depth gains nothing on digits: 96.6 % one layer, 96.1 % four

    runs: nets of each kind, with different initial weights; their scatter gives the uncertainty
    parameters: what each net may have when depth is compared with width
    side: what the 8 x 8 digits are enlarged to
    epochs: how often each training picture is seen
    seed: the first of the seeds
    """
    parts = stratified(digits("train"), test_share=0.75)
    later = digits("test")
    rest = Labelled(torch.cat([parts["test"].images, later.images]), torch.cat([parts["test"].labels, later.labels]),
                    later.classes)  # fmt: skip
    total = len(DEPTHS) + len(WIDTHS) + 5
    study = Study(parts["train"], rest, runs, epochs, seed, tell, total)
    report = Report(
        "MLPs on few digits: deep or wide, and the size of the pictures",
        f"Each number is the mean of {runs} nets, trained on {len(study.train.labels)} of scikit-learn's digits and "
        f"tested on the other {len(rest.labels):,}. So few leave room to be better: with more, all come near 99 %.",
    )
    _depth_or_width(report, study, parameters)
    _one_layer(report, study)
    plain = study.nets(HIDDEN)
    base = torch.tensor([100 * accuracy(net, rest) for net in plain])
    _shuffled_pixels(report, study, base)
    _layer_by_layer(report, study, plain)
    _parameters_by_side(report)
    _larger_pictures(report, study, base, side)
    _weights_carried_over(report, study, plain, side)
    tell(Step(total, total, "done"))
    return report


def trained_together(sizes: Sequence[int], train: Labelled, seeds: Sequence[int], *, epochs: int) -> list[MLP]:
    """A net for each seed, with its own initial weights and order of the pictures; one batched product trains all."""
    nets = [MLP(sizes, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    states = [net.state_dict() for net in nets]
    weights = {name: torch.stack([state[name] for state in states]).requires_grad_() for name in states[0]}
    optimizer = AdamW(weights.values(), lr=0.005, weight_decay=0.05, fused=True)
    count = len(train.labels)
    schedule = warm_then_cosine(optimizer, epochs * -(-count // BATCH))
    for _ in range(epochs):
        order = torch.stack([torch.randperm(count, generator=generator) for generator in orders])
        for places in order.split(BATCH, dim=1):  # (runs, batch)
            logits = forward_together(weights, train.images[places].flatten(2))
            loss = F.cross_entropy(logits.flatten(0, 1), train.labels[places].flatten())
            optimizer.zero_grad()
            (len(nets) * loss).backward()  # the sum of the nets' own mean losses
            optimizer.step()
            schedule.step()
    for i, net in enumerate(nets):
        net.load_state_dict({name: tensor[i] for name, tensor in weights.items()})
    return nets


def forward_together(weights: Mapping[str, Tensor], x: Float[Tensor, "r b p"]) -> Float[Tensor, "r b k"]:
    """The logits of several MLPs of one shape, their weights stacked, each for pictures of its own."""
    depth = len(weights) // 2
    for layer in range(depth):
        W, b = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
        x = torch.baddbmm(b[:, None], x, W.mT)
        x = torch.relu(x) if layer < depth - 1 else x
    return x


def seen(given: Labelled, side: int, pixels: Tensor | None) -> Labelled:
    """The digits enlarged to that side, or with their pixels in another order."""
    images = resize(given.images, (side, side))
    if pixels is not None:
        images = images.flatten(1)[:, pixels].view_as(images)
    return Labelled(images, given.labels, given.classes)


def widest(depth: int, parameters: int, *, inputs: int = SIDE**2, classes: int = 10) -> tuple[int, ...]:
    """Hidden layers, all of one width: the widest that keep an MLP of that depth within so many parameters."""
    width = 1
    while count_parameters((inputs, *[width + 1] * depth, classes)) <= parameters:
        width += 1
    return (width,) * depth


def gain(better: Float[Tensor, " n"], worse: Float[Tensor, " n"]) -> tuple[float, float]:
    """The mean difference and twice its standard error."""
    difference = better - worse
    return difference.mean().item(), 2 * (difference.std() / math.sqrt(len(difference))).item()


def _depth_or_width(report: Report, study: Study, parameters: int) -> None:
    found, rows = {}, []
    for depth in DEPTHS:
        hidden = widest(depth, parameters)
        found[depth] = study.accuracies(hidden)
        rows.append((depth, hidden[0], count_parameters((SIDE**2, *hidden, 10)), _mean(found[depth])))
    report.table("depth", ("hidden layers", "width of each", "parameters", "test accuracy, %"), rows,
                 "As many parameters, as one wide layer or as several narrower ones.")  # fmt: skip
    for id_, depth in (("3.4.Q1.c2", 2), ("3.4.c4", 4)):
        change, spread = gain(found[depth], found[1])
        detail = f"test accuracy with {depth} hidden layers, less that with one; {parameters:,} parameters each"
        report.claim(id_, change, low=0.5, spread=spread, unit="points", detail=detail)


def _one_layer(report: Report, study: Study) -> None:
    scores = []
    for width in WIDTHS:
        (net,) = study.nets((width,), runs=1)
        scores.append((100 * accuracy(net, study.train), 100 * accuracy(net, study.test)))
    training, test = zip(*scores, strict=True)
    report.curve("width", {"training": (WIDTHS, training), "test": (WIDTHS, test)}, x="units in the one hidden layer",
                 y="right, %", log_x=True, caption="One hidden layer, wider and wider.")  # fmt: skip
    count = len(study.train.labels)
    few, *_, many = (round((1 - right / 100) * count) for right in training[1:])
    report.claim("3.4.Q1.c3", many, high=0, unit="errors",
                 detail=f"in {count} training pictures with {WIDTHS[-1]} units; {few} with {WIDTHS[1]}")  # fmt: skip


def _shuffled_pixels(report: Report, study: Study, base: Float[Tensor, " n"]) -> None:
    order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(study.seed))
    shuffled = study.accuracies(HIDDEN, pixels=order)
    change, spread = gain(shuffled, base)
    report.claim("3.4.Q1.x1", change, low=-1, high=1, spread=spread, unit="points",
                 detail=f"test accuracy with the pixels of all pictures in one random order, {_mean(shuffled)} %, less "
                 f"that with the pixels as they are, {_mean(base)} %; net 64-128-64-10")  # fmt: skip
    some = [int((study.test.labels == k).int().argmax()) for k in range(4)]
    mixed = seen(study.test, SIDE, order)
    pictures = {f"{k}": study.test.images[i] for k, i in enumerate(some)}
    pictures |= {f"{k}, shuffled": mixed.images[i] for k, i in enumerate(some)}
    report.images("shuffled", pictures, "A fully connected layer learns the shuffled ones as well as the others.")


@torch.no_grad()
def _layer_by_layer(report: Report, study: Study, nets: Sequence[MLP]) -> None:
    fresh = [MLP(net.sizes, generator=torch.Generator().manual_seed(study.seed + i)) for i, net in enumerate(nets)]
    after, before = (torch.tensor([_probed(net, study) for net in some]) for some in (nets, fresh))
    names = ("pixels", "first hidden layer", "second hidden layer")
    report.table("layers", ("what the class means are taken of", "trained, % right", "untrained, % right"),
                 [(name, _mean(after[:, i]), _mean(before[:, i])) for i, name in enumerate(names)],
                 "Each test picture gets the class whose mean is nearest: the simplest linear probe.")  # fmt: skip
    steps = [gain(after[:, i + 1], after[:, i]) for i in range(2)]
    least, spread = min(steps)
    report.claim("3.4.c5", least, low=0, spread=spread, unit="points", detail="the smaller of the two gains of a "
                 "nearest-class-mean probe, pixels to first to second hidden layer: "
                 + ", ".join(f"{change:+.2f}" for change, _ in steps))  # fmt: skip


def _probed(net: MLP, study: Study) -> list[float]:
    """How often the nearest class mean is the right one, in %, for the pixels and each hidden layer."""
    found = []
    learnt, asked = net.forward_stored(study.train.images)[:-1], net.forward_stored(study.test.images)[:-1]
    for h, h_test in zip(learnt, asked, strict=True):
        means = torch.stack([h[study.train.labels == k].mean(0) for k in range(10)])
        found.append(100 * (torch.cdist(h_test, means).argmin(1) == study.test.labels).double().mean().item())
    return found


def _parameters_by_side(report: Report) -> None:
    sides = (8, 16, 28, 64)
    counts = [count_parameters((side**2, *HIDDEN, 10)) for side in sides]
    growth = (counts[-1] - counts[0]) / (sides[-1] ** 2 - sides[0] ** 2)  # a + b s^2 through the first and the last
    expected = [counts[0] + growth * (side**2 - sides[0] ** 2) for side in sides]
    scaled = [count_parameters((side**2, 16 * side, 8 * side, 10)) for side in sides]
    rows = [(f"{side} x {side}", *row) for side, *row in zip(sides, counts, scaled, strict=True)]
    report.table("sides", ("picture", "parameters, hidden 128-64", "parameters, hidden in proportion"), rows,
                 "As they are, the count grows with the square of the side; in proportion, with its cube.")  # fmt: skip
    apart = max(abs(count / line - 1) for count, line in zip(counts, expected, strict=True))
    report.claim("3.4.Q5.c1", apart, high=0.001, detail="largest deviation, as a share, of the counts for sides 8, 16, "
                 "28 and 64 from a + b s^2 laid through the first and the last")  # fmt: skip


def _larger_pictures(report: Report, study: Study, base: Float[Tensor, " n"], side: int) -> None:
    wide = tuple(width * side // SIDE for width in HIDDEN)
    found = {
        (SIDE, HIDDEN): base,
        (side, HIDDEN): study.accuracies(HIDDEN, side=side),
        (side, wide): study.accuracies(wide, side=side),
        (SIDE, wide): study.accuracies(wide),
    }
    rows = [(f"{at} x {at}", "-".join(map(str, hidden)), count_parameters((at * at, *hidden, 10)), _mean(accuracies))
            for (at, hidden), accuracies in found.items()]  # fmt: skip
    report.table("larger", ("picture", "hidden layers", "parameters", "test accuracy, %"), rows,
                 "Enlarged digits, hidden layers as they are and in proportion; wide ones on small ones.")  # fmt: skip
    scaled = found.pop((side, wide))
    change, spread = min(gain(scaled, other) for other in found.values())
    report.claim("3.4.Q5.c2", change, low=0.5, spread=spread, unit="points",
                 detail=f"test accuracy at {side} x {side} with hidden layers in proportion, less that of the best "
                 "alternative (as they are, on the small digits, or both)")  # fmt: skip


@torch.no_grad()
def _weights_carried_over(report: Report, study: Study, nets: Sequence[MLP], side: int) -> None:
    test, small = seen(study.test, side, None), study.test
    before, fresh, interpolated = [], [], []
    for i, net in enumerate(nets):
        new = MLP((side**2, *net.sizes[1:]), generator=torch.Generator().manual_seed(study.seed + i))
        kept = {name: tensor for name, tensor in net.state_dict().items() if name != "layers.0.weight"}
        new.load_state_dict(kept, strict=False)
        before.append(100 * accuracy(net, small))
        fresh.append(100 * accuracy(new, test))
        images = net.get_parameter("layers.0.weight").view(-1, 1, SIDE, SIDE)
        larger = F.interpolate(images, size=(side, side), mode="bicubic") * (SIDE / side) ** 2  # the sums stay as large
        new.load_state_dict({**kept, "layers.0.weight": larger.flatten(1)})
        interpolated.append(100 * accuracy(new, test))
    lost, repaired = (gain(torch.tensor(before), torch.tensor(now)) for now in (fresh, interpolated))
    report.claim("3.4.Q5.c3", lost[0], high=1, spread=lost[1], unit="points", detail=f"accuracy lost from 8 x 8 to "
                 f"{side} x {side}: all tensors that fit reloaded, the first matrix fresh")  # fmt: skip
    report.claim("3.4.Q5.x1", repaired[0], high=2, spread=repaired[1], unit="points",
                 detail="accuracy lost when the first layer's weight images are interpolated instead")  # fmt: skip


def _mean(values: Float[Tensor, " n"]) -> str:
    return f"{values.double().mean():.2f} ± {values.double().std() / math.sqrt(len(values)):.2f}"
