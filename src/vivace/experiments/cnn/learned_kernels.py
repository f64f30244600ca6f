"""Experiment: a network's first kernels before and after training, against chance, and if they had to be learned."""

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

from vivace.base.data import Labelled
from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.images import grid
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import KERNELS, kernel
from vivace.experiments.classifier import accuracy
from vivace.experiments.labelled_pictures import DataSet, to_learn
from vivace.experiments.plain_training import train

QUICK = {"dataset": "digits", "runs": 3}

COUNT, SIDE, CHANCE = 16, 5, 400  # kernels in the first layer, their side, and random sets to compare with
Kind = Literal["learned", "random, fixed", "hand-made, fixed", "learned, pixels shuffled"]
KINDS: tuple[Kind, ...] = ("learned", "random, fixed", "hand-made, fixed", "learned, pixels shuffled")


@checked
def run(*, dataset: DataSet = "auto", each: Annotated[int, Ge(50), Le(5000)] = 400,
        epochs: Annotated[int, Ge(1), Le(100)] = 8, runs: Annotated[int, Ge(2), Le(20)] = 3, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A network's first kernels start random and become structured: neighbouring weights come to agree.

    vivace run learned_kernels        60 s on two cores; from chance to 30 standard deviations above it (digits: 10)

    dataset: what is learned from; "auto" is CIFAR-10 where it is at hand, else scikit-learn's digits
    each: pictures of each class to learn from
    epochs: passes over them for each network
    runs: networks of each kind, each with weights of its own
    seed: the first run's seed
    """
    name, given, test = to_learn(dataset, each=each, tell=tell)
    test = test.first(2000)
    report = Report(
        "Learned kernels: from noise to structure",
        f"A small network with {COUNT} first kernels of {SIDE} x {SIDE} learns {name}. *Structure* is how much "
        "neighbouring weights of a kernel agree, its mean taken off: $\\sum w_p w_q$ over neighbours $p, q$, relative "
        f"to $\\sum w_p^2$; given in standard deviations above the mean of {CHANCE} sets of random kernels.",
    )
    places = torch.randperm(given.images[0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = [Labelled(part.images.flatten(2)[..., places].view_as(part.images), part.labels, part.classes)
                for part in (given, test)]  # fmt: skip
    chance = structure(torch.rand(CHANCE, COUNT, given.images.shape[1], SIDE, SIDE,
                                  generator=torch.Generator().manual_seed(seed)) - 0.5)  # fmt: skip
    found: dict[Kind, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    pictures: dict[Kind, tuple[Tensor, Tensor]] = {}
    for turn in range(runs):
        for place, kind in enumerate(KINDS):
            tell(Step(turn * len(KINDS) + place, runs * len(KINDS), f"run {turn + 1}: {kind}"))
            train_on, test_on = shuffled if "shuffled" in kind else (given, test)
            model, first = network(kind, given.images.shape[1], seed + turn)
            before = first.weight.detach().clone()
            train(model, train_on, epochs=epochs, seed=seed + turn, optimizer=adam)
            after = first.weight.detach()
            start, end = ((structure(w[None]) - chance.mean()) / chance.std() for w in (before, after))
            found[kind].append((start.item(), end.item(), 100 * accuracy(model, test_on)))
            pictures.setdefault(kind, (before, after))
    _show(report, pictures, chance, found)
    _claims(report, {kind: torch.tensor(rows) for kind, rows in found.items()}, epochs)
    tell(Step(runs * len(KINDS), runs * len(KINDS), "done"))
    return report


def structure(kernels: Float[Tensor, "n o c h w"]) -> Float[Tensor, " n"]:
    """How much neighbouring weights agree in each of n sets of kernels: 1 for smooth ones, about 0 for noise."""
    w = kernels - kernels.mean((-2, -1), keepdim=True)
    products = [(w[..., 1:, :] * w[..., :-1, :]), (w[..., 1:] * w[..., :-1])]
    mean = sum(p.flatten(1).sum(1) for p in products) / (2 * products[0][0].numel())  # both kinds are as many
    return mean / w.square().flatten(1).mean(1)


def network(kind: Kind, channels: int, seed: int) -> tuple[nn.Sequential, nn.Conv2d]:
    """Two convolutions and a classifier; the first layer, returned too, is fixed where the kind says so."""
    with seeded(seed):
        first = nn.Conv2d(channels, COUNT, SIDE, padding=SIDE // 2)
        model = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(COUNT, 32, 3, padding=1), nn.ReLU(),
                              nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))  # fmt: skip
    if kind == "hand-made, fixed":
        made = torch.stack([F.pad(kernel(name), [(SIDE - 3) // 2] * 4) for name in (*KERNELS, "identity")])[:COUNT]
        made = made[:, None].expand(-1, channels, -1, -1)
        made = made / made.square().mean((1, 2, 3), keepdim=True).sqrt()
        with torch.no_grad():
            first.weight.copy_(made * first.weight.square().mean().sqrt())
    first.requires_grad_("fixed" not in kind)
    return model, first


def adam(parameters: Iterable[nn.Parameter]) -> AdamW:
    return AdamW([weight for weight in parameters if weight.requires_grad], lr=5e-3, weight_decay=0.5, fused=True)


def _picture(kernels: Float[Tensor, "o c h w"]) -> Float[Tensor, "3 y x"]:
    """All kernels in rows of four, each with a contrast of its own; 0 is grey."""
    limit = kernels.abs().amax((1, 2, 3), keepdim=True)
    tiles = (0.5 + kernels / (2 * limit)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return grid(tiles, columns=4)


def _show(report: Report, pictures: dict[Kind, tuple[Tensor, Tensor]], chance: Float[Tensor, " n"],
          found: dict[Kind, list[tuple[float, float, float]]]) -> None:  # fmt: skip
    shown = {"before training": _picture(pictures["learned"][0]), "after": _picture(pictures["learned"][1]),
             "after, pixels shuffled": _picture(pictures["learned, pixels shuffled"][1]),
             "hand-made": _picture(pictures["hand-made, fixed"][0])}  # fmt: skip
    report.images("kernels", shown, f"{COUNT} first kernels. Noise becomes blobs, edges and lines, if the pictures "
                  "have neighbourhoods to learn from.")  # fmt: skip
    figure, ax = drawing(width=7.5, height=3.2)
    ax.hist(((chance - chance.mean()) / chance.std()).numpy(), bins=30, color=GREY, alpha=0.5, label="random kernels")
    for kind, color, marker in zip((KINDS[0], KINDS[3]), (BLUE, ORANGE), "os", strict=True):
        starts, ends, _ = zip(*found[kind], strict=True)
        ax.plot(starts, [-2] * len(starts), marker, color=color, mfc="none", label=f"{kind}: before")
        ax.plot(ends, [-2] * len(ends), marker, color=color, label=f"{kind}: after")
    ax.set(xlabel="structure: standard deviations above random kernels", ylabel=f"of {CHANCE} random sets")
    ax.legend(frameon=False, fontsize=9, loc="upper center")
    report.figure("structure", figure, "Before training a network's kernels are among the random ones; after it, far "
                  "from them, unless the pixels were shuffled.")  # fmt: skip
    rows = [(kind, *(f"{sum(values) / len(values):.1f}" for values in zip(*rows, strict=True)))
            for kind, rows in found.items()]  # fmt: skip
    report.table("networks", ("first layer", "structure before", "after", "right on new pictures, %"), rows,
                 f"Means of {len(found['learned'])} networks of each kind.")  # fmt: skip


def _claims(report: Report, found: dict[Kind, Float[Tensor, "n 3"]], epochs: int) -> None:
    (start, end, right), shuffled = found["learned"].T, found["learned, pixels shuffled"]
    report.claim("4.10.c9", (end - start.abs()).min(), low=3, unit="standard deviations", detail="structure after "
                 f"training above that before, the least of {len(start)} networks; before: {_list(start)}; after: "
                 f"{_list(end)}")  # fmt: skip
    report.claim("4.10.x6", start.abs().max(), high=4, unit="standard deviations", detail="largest distance of "
                 f"untrained kernels from the mean of {CHANCE} random sets")  # fmt: skip
    report.claim("4.10.x7", shuffled[:, 1].mean() / end.mean(), high=0.5, detail="structure that is learned when the "
                 f"pixels of all pictures are shuffled alike, over that without; {_list(shuffled[:, 1])}")  # fmt: skip
    lost = right - found["random, fixed"][:, 2]
    made = right - found["hand-made, fixed"][:, 2]
    report.claim("4.10.x8", lost.mean(), low=5, spread=(lost.std() / len(lost) ** 0.5).item(), unit="points",
                 detail=f"accuracy lost where the first kernels stay random, {epochs} epochs; where they are the "
                 f"hand-made ones: {made.mean():.1f} points; learned: {right.mean():.1f} % right")  # fmt: skip


def _list(values: Tensor) -> str:
    return ", ".join(f"{value:.1f}" for value in values.tolist())
