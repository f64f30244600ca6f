"""Experiment: gradient clipping: what it does to a gradient, and what to a recurrent net whose gradients explode."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD

from vivace.base.data import Labelled, digits
from vivace.base.drawing import BLUE, GREY, ORANGE, PALETTE, RED, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.networks import LayerNorm
from vivace.optimization import clip_norm, clip_value, normalize_gradient

QUICK = {"steps": 150, "runs": 2, "drawn": 500}

BATCH = 32
HIDDEN = 48
VALUE = 0.01  # the limit of a single entry where clipping is by value

Change = Callable[[Iterable[Tensor]], Float[Tensor, ""]]


class Reader(nn.Module):
    """A recurrent net that reads a picture pixel by pixel, h <- tanh(W h + U x + b), and names the digit at the end."""

    def __init__(self, gain: float, *, layer_norm: bool = False, generator: torch.Generator) -> None:
        super().__init__()
        self.W = nn.Parameter(gain * torch.randn(HIDDEN, HIDDEN, generator=generator) / math.sqrt(HIDDEN))
        self.U = nn.Parameter(torch.randn(HIDDEN, 1, generator=generator))
        self.b = nn.Parameter(torch.zeros(HIDDEN))
        self.norm = LayerNorm(HIDDEN) if layer_norm else nn.Identity()
        self.out = nn.Parameter(torch.randn(10, HIDDEN, generator=generator) / math.sqrt(HIDDEN))

    def forward(self, pixels: Float[Tensor, "b t"]) -> Float[Tensor, "b 10"]:
        inputs = torch.addcmul(self.b, pixels[..., None], self.U[:, 0])  # (B, T, H)
        h = pixels.new_zeros(len(pixels), HIDDEN)
        for x in inputs.unbind(1):
            h = torch.tanh(self.norm(torch.addmm(x, h, self.W.T)))
        return h @ self.out.T


@checked
def run(*, gain: Annotated[float, Gt(0), Le(10)] = 1.5, rate: Annotated[float, Gt(0), Le(10)] = 0.3,
        limit: Annotated[float, Gt(0), Le(1e6)] = 1.0, steps: Annotated[int, Ge(20), Le(10_000)] = 600,
        runs: Annotated[int, Ge(1), Le(20)] = 3, drawn: Annotated[int, Ge(10), Le(100_000)] = 2000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Clipping caps the gradient's length and keeps its direction; a recurrent net that explodes learns with it.

    vivace run clipping        70 s on two cores; a recurrent net of gain 1.5 reads digits with it, and fails without

    gain: the recurrent weights' standard deviation times the root of their number; above 1 gradients may explode
    rate: the learning rate of plain gradient descent
    limit: the longest that a gradient may be
    steps: how many batches of 32 digits, read pixel by pixel, the net learns from
    runs: trainings from different initial weights
    drawn: random gradients that are clipped
    seed: the first of the seeds
    """
    report = Report(
        "Gradient clipping",
        "If the gradient $g$ of all weights together is longer than a limit $c$, it is scaled to that length: $g "
        "\\leftarrow g \\cdot \\min(1, c / \\lVert g \\rVert)$. The net that it is tried on reads a digit as a "
        f"series of 64 pixels; its recurrent weights are drawn with a gain of {gain:g}.",
    )
    _random_gradients(report, limit, drawn, seed)
    _three_four(report)
    changes: Mapping[str, Change] = {
        "not clipped": partial(clip_norm, limit=math.inf, nonfinite="keep"),
        f"norm at most {limit:g}": partial(clip_norm, limit=limit),
        f"entries at most {VALUE:g}": partial(clip_value, limit=VALUE),
    }
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    for i, (label, change) in enumerate(changes.items()):
        found[label] = []
        for k in range(runs):
            tell(Step(i * runs + k, len(changes) * runs, label))
            found[label].append(trained(change, gain, rate, steps, seed + k))
    _recurrent(report, found, limit)
    _over_time(report, seed)
    tell(Step(len(changes) * runs, len(changes) * runs, "done"))
    return report


def _random_gradients(report: Report, limit: float, drawn: int, seed: int) -> None:
    """Norm and cosine before and after, for gradients of many lengths (2.9.c1, 2.9.x1)."""
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[tuple[float, float, float]]] = {"norm": [], "value": []}
    for _ in range(drawn):
        length = 10 ** (4 * torch.rand((), generator=generator).item() - 2)
        g = torch.randn(100, generator=generator, dtype=torch.float64)
        g *= limit * length / g.norm()
        for kind, clip in (("norm", clip_norm), ("value", clip_value)):
            weight = torch.zeros_like(g, requires_grad=True)
            weight.grad = g.clone()
            before = clip(weight, limit if kind == "norm" else limit / 10).item()
            rows[kind].append(
                (before, weight.grad.norm().item(), torch.cosine_similarity(g, weight.grad, dim=0).item())
            )
    figure, axes = drawing(1, 2, width=8.5, height=3.4)
    for points, color, label in zip(rows.values(), (BLUE, ORANGE), (f"norm at most {limit:g}",
                                            f"entries at most {limit / 10:g}"), strict=True):  # fmt: skip
        norms, left, cosines = zip(*sorted(points), strict=True)
        axes[0].plot(norms, left, color=color, label=label)
        axes[1].plot(norms, cosines, color=color, linestyle="none", marker=".", markersize=3, label=label)
    axes[0].set(xscale="log", yscale="log", xlabel="norm before", ylabel="norm after")
    axes[1].set(xscale="log", xlabel="norm before", ylabel="cosine of before and after")
    axes[0].legend(frameon=False)
    report.figure("random", figure, f"{drawn:,} random gradients of 100 entries: scaling keeps the direction, "
                  "clamping the entries turns it.")  # fmt: skip
    kept = sum(after <= limit * (1 + 1e-9) and cosine > 1 - 1e-9 for _, after, cosine in rows["norm"])
    report.claim("2.9.c1", kept / drawn, low=1, detail=f"share of {drawn:,} random gradients, 0.01 to 100 times the "
                 "limit, whose norm is within it afterwards, with a cosine of 1 to before")  # fmt: skip
    turned = min(cosine for *_, cosine in rows["value"])
    report.claim("2.9.x1", turned, low=0.99, detail="smallest cosine of before and after where entries are clamped")


def _three_four(report: Report) -> None:
    rows = []
    for label, change in (("norm at most 1", partial(clip_norm, limit=1)), ("entries at most 1",
                          partial(clip_value, limit=1)), ("norm exactly 1", normalize_gradient)):  # fmt: skip
        weight = torch.zeros(2, requires_grad=True)
        weight.grad = torch.tensor([3.0, 4.0])
        change(weight)
        rows.append((label, "(3, 4)", "(" + ", ".join(f"{value:.3g}" for value in weight.grad.tolist()) + ")",
                     f"{weight.grad.norm():.3f}"))  # fmt: skip
    report.table("three-four", ("change", "gradient", "after", "norm after"), rows, "One gradient, of norm 5.")


def trained(change: Change, gain: float, rate: float, steps: int, seed: int) -> tuple[list[float], list[float]]:
    """The loss and the gradient's norm (before it is changed) at each step."""
    generator = torch.Generator().manual_seed(seed)
    model, train = Reader(gain, generator=generator), digits("train")
    optimizer, losses, norms = SGD(model.parameters(), lr=rate), [], []
    for _ in range(steps):
        loss = _loss(model, train, generator)
        optimizer.zero_grad()
        loss.backward()
        norms.append(change(model.parameters()).item())
        optimizer.step()
        losses.append(min(1e3, loss.item()))  # 1000 for NaN, too
    return losses, norms


def _loss(model: Reader, train: Labelled, generator: torch.Generator) -> Float[Tensor, ""]:
    places = torch.randint(len(train.labels), (BATCH,), generator=generator)
    return F.cross_entropy(model(train.images[places].flatten(1)), train.labels[places])


def _recurrent(report: Report, found: Mapping[str, Sequence[tuple[list[float], list[float]]]], limit: float) -> None:
    """Loss curves and norms (2.9.c7, 2.9.x2)."""
    figure, axes = drawing(1, 2, width=10, height=3.8)
    for (label, results), color in zip(found.items(), (RED, BLUE, ORANGE), strict=True):
        for k, (losses, norms) in enumerate(results):
            smooth = torch.tensor(losses).unfold(0, 10, 1).mean(1)
            axes[0].plot(range(9, len(losses)), smooth, color=color, linewidth=1.2, label=label if k == 0 else None)
            if k == 0:
                axes[1].plot(norms, color=color, linewidth=0.7)
    axes[0].axhline(math.log(10), color=GREY, linestyle="--", linewidth=1, label="guessing")
    axes[1].axhline(limit, color=GREY, linestyle="--", linewidth=1)
    axes[0].set(xlabel="step", ylabel="training loss, mean of 10 steps")
    axes[1].set(xlabel="step", ylabel="gradient's norm before the change", yscale="log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    report.figure("recurrent", figure, "A recurrent net whose gradients are sometimes long: one such step, taken "
                  "whole, throws the weights where nothing is learnt. Clipping doesn't make the gradients shorter that "
                  "backpropagation finds (right); it makes the steps shorter. (Entries of at most "
                  f"{VALUE:g} bound the norm as well, by ${VALUE:g} \\sqrt{{2880}} = "
                  f"{VALUE * 2880**0.5:.2f}$.)")  # fmt: skip
    ends = {label: [sum(losses[-30:]) / 30 for losses, _ in results] for label, results in found.items()}
    rows = [(label, f"{sum(end) / len(end):.2f}", f"{min(end):.2f} to {max(end):.2f}",
             f"{max(max(norms) for _, norms in found[label]):.3g}") for label, end in ends.items()]  # fmt: skip
    report.table("recurrent-ends", ("gradient", "loss at the end", "over the trainings", "longest gradient "
                 "found"), rows,
                 "Mean loss of the last 30 steps; guessing has 2.30.")  # fmt: skip
    free, clipped = ([*found.values()][i] for i in (0, 1))
    at = [sum(end) / len(end) for end in [*ends.values()][:2]]
    report.claim("2.9.c7", at[1] / at[0], high=0.8, detail="training loss at the end with the norm clipped, "
                 f"{at[1]:.2f}, over that without, {at[0]:.2f}; guessing has 2.30")  # fmt: skip
    longest = min(max(norms) for _, norms in clipped)
    report.claim("2.9.x2", longest, high=limit, detail="longest gradient that backpropagation still finds while "
                 "clipping is on, in the training where it is shortest; without clipping "
                 f"{max(max(n) for _, n in free):.3g}")  # fmt: skip


def _over_time(report: Report, seed: int) -> None:
    """How the gradient at the first state grows with the length of the series, with layer normalisation and without."""
    lengths, gains = (4, 8, 16, 32, 64), (1.0, 1.5, 3.0)
    train, lines = digits("train"), {}
    for layer_norm in (False, True):
        for gain in gains:
            norms = []
            for length in lengths:
                model = Reader(gain, layer_norm=layer_norm, generator=torch.Generator().manual_seed(seed))
                images = train.images[:BATCH].flatten(1)[:, -length:]
                F.cross_entropy(model(images), train.labels[:BATCH]).backward()
                norms.append(clip_norm([model.W], math.inf).item())
            lines[f"gain {gain:g}{', layer norm' if layer_norm else ''}"] = norms
    figure, axes = drawing(width=6.6)
    for i, (label, norms) in enumerate(lines.items()):
        axes.plot(lengths, norms, ".--" if i > 2 else ".-", color=PALETTE[i % 3], label=label)
    axes.set(xscale="log", yscale="log", xlabel="pixels read", ylabel="norm of the recurrent weights' gradient")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    report.figure("over-time", figure, "Before training: with a large gain the gradient grows with each pixel read. "
                  "Layer normalisation inside the recurrence keeps its size, whatever the gain.")  # fmt: skip
    plain, normed = lines["gain 3"][-1], lines["gain 3, layer norm"][-1]
    report.claim("2.9.x3", plain / normed, low=10, detail="norm of the gradient after 64 pixels at gain 3: "
                 f"{plain:.3g} without layer normalisation over {normed:.3g} with it")  # fmt: skip
