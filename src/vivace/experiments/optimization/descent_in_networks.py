"""Experiment: gradients in deep nets that vanish or explode, what clipping can do, and what the flat places are."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from vivace.base.data import Labelled, digits
from vivace.base.drawing import GREY, ORANGE, drawing
from vivace.base.images import resize
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.descents import batches, train_on, weights_of
from vivace.networks import MLP
from vivace.optimization import SGD

QUICK = {"points": 5}

WIDTH = 64
SMALL = (16, 4, 4)  # a net whose Hessian is quickly found: 4 x 4 pixels, digits 0 to 3
DECAY = 1e-3  # of the small net's weights, so that minima are not at infinity
FLAT = 1e-6  # curvatures below count as zero


@checked
def run(*, depth: Annotated[int, Ge(2), Le(100)] = 20, limit: Annotated[float, Ge(1e-6), Le(100)] = 0.01,
        points: Annotated[int, Ge(2), Le(200)] = 20, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Vanishing and exploding gradients, clipping, and minima against saddles, in real nets on digits.

    vivace run descent_in_networks        30 s on two cores; no minimum among 20 flat places of a net of 88 weights

    depth: layers of the deep nets
    limit: the norm to which vanishing gradients are clipped
    points: flat places that are looked for
    seed: the first of the seeds of the nets
    """
    report = Report(
        "Deep nets: gradients that vanish or explode, and what flat places are",
        "Clipping multiplies the whole gradient by one number: it shortens one that explodes, but it can't change the "
        "ratio between the layers where it vanishes. Flat places are found by descending "
        r"$\lVert\nabla L\rVert$ from random weights, and told apart by the signs of the Hessian's eigenvalues.",
    )
    train = digits("train")
    _vanishing(report, train, depth, limit, seed)
    _exploding(report, train, depth, seed)
    _flat_places(report, train, points, seed, tell)
    return report


class Residual(nn.Module):
    """The same layers as an MLP's, each hidden one adding to its input: h + f(V h)."""

    def __init__(self, model: MLP) -> None:
        super().__init__()
        self.layers = model.layers

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        for layer in self.layers[:-1]:
            x = x + torch.sigmoid(layer(x))
        return self.layers[-1](x)


def layer_gradients(model: MLP | Residual, train: Labelled, *, limit: float | None = None) -> Float[Tensor, " l"]:
    """The norm of each layer's weight gradient on 256 digits, clipped to `limit` in all if there is one."""
    model.zero_grad()
    F.cross_entropy(model(train.images[:256].flatten(1).double()), train.labels[:256]).backward()
    if limit is not None:
        nn.utils.clip_grad_norm_(model.parameters(), limit)
    norms = []
    for layer in model.layers:
        assert isinstance(layer, nn.Linear) and layer.weight.grad is not None
        norms.append(layer.weight.grad.norm())
    return torch.stack(norms)


def deep(depth: int, activation: str, seed: int) -> MLP:
    """A deep net for digits, all hidden layers alike."""
    sizes = [WIDTH] * depth + [10]
    return MLP(sizes, activation=activation, generator=torch.Generator().manual_seed(seed)).double()  # type: ignore[arg-type]


def _vanishing(report: Report, train: Labelled, depth: int, limit: float, seed: int) -> None:
    """The first layer's gradient over the last one's (2.4.c5, x6)."""
    nets: dict[str, MLP | Residual] = {"sigmoid": deep(depth, "sigmoid", seed), "ReLU": deep(depth, "relu", seed),
            "sigmoid, with skips": Residual(deep(depth, "sigmoid", seed))}  # fmt: skip
    norms = {name: layer_gradients(net, train) for name, net in nets.items()}
    norms["sigmoid, clipped"] = layer_gradients(nets["sigmoid"], train, limit=limit)
    layers = range(1, depth + 1)
    report.curve(
        "vanishing",
        {name: (layers, norm) for name, norm in norms.items()},
        x="layer",
        y="gradient's norm",
        log_y=True,
        caption=f"A fresh net of {depth} layers on 256 digits. Clipping moves the curve, whole.",
    )
    ratios = {name: (norm[0] / norm[-1]).item() for name, norm in norms.items()}
    plain, clipped = ratios["sigmoid"], ratios["sigmoid, clipped"]
    report.claim(
        "2.4.c5",
        clipped / plain,
        low=10,
        detail=f"by what clipping to {limit} raises the first layer's "
        f"gradient over the last one's in {depth} sigmoid layers: from {plain:.2g} to {clipped:.2g}",
    )
    report.claim("2.4.x6", ratios["sigmoid, with skips"] / plain, low=1e4, detail="by what skip connections raise it: "
                 f"to {ratios['sigmoid, with skips']:.2g}; ReLU with He's initialisation has "
                 f"{ratios['ReLU']:.2g}")  # fmt: skip


def _exploding(report: Report, train: Labelled, depth: int, seed: int) -> None:
    """A ReLU net with weights half as large again as they should be, trained with and without clipping (2.4.x7)."""
    lines, ends = [], []
    for norm in (1.0, None):
        model = deep(depth, "relu", seed)
        with torch.no_grad():
            for layer in model.layers:
                layer.get_parameter("weight").mul_(1.5)
        given = batches(train, size=64, steps=100, seed=seed)
        losses = list(train_on(model, SGD(model.parameters(), lr=0.1), given, clip_norm=norm))
        ends.append(losses[-1] / losses[0])
        lines.append((range(1, len(losses) + 1), [loss if loss < 1e300 else math.nan for loss in losses]))
    report.curve(
        "exploding",
        dict(zip(("clipped to norm 1", "as it is"), lines, strict=True)),
        x="step",
        y="cross-entropy",
        log_y=True,
        caption=f"{depth} ReLU layers with weights 1.5 times He's, rate 0.1; the "
        "line ends where the loss is no number any more.",
    )
    clipped, plain = ends
    report.claim(
        "2.4.x7",
        clipped if math.isfinite(clipped) else math.inf,
        high=0.1,
        detail="loss after 100 steps over "
        f"the first one, with clipping to norm 1, where gradients explode; without it {plain:.3g}",
    )


def small_loss(train: Labelled) -> tuple[Callable[[Tensor], Tensor], int]:
    """The loss of a net 16-4-4 on the digits 0 to 3, of 4 x 4 pixels, as a function of its weights in one row."""
    some = train.taken(torch.nonzero(train.labels < SMALL[-1])[:, 0])
    x = resize(some.images, (4, 4)).flatten(1).double()
    x = (x - x.mean(0)) / x.std(0)
    model = MLP(SMALL, activation="tanh").double()
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss(w: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        parts = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), w.split(sizes), strict=True)}
        return F.cross_entropy(functional_call(model, parts, (x,)), some.labels) + DECAY / 2 * w @ w

    return loss, sum(sizes)


def to_flat_place(loss: Callable[[Tensor], Tensor], w: Float[Tensor, " n"], *, steps: int = 40) -> Float[Tensor, " n"]:
    """Descend the gradient's length by damped Gauss-Newton steps: the end is any stationary point, also a saddle."""
    slope = grad(loss)
    curvature = jacrev(slope)
    damping = 1.0
    g = slope(w)
    for _ in range(steps):
        H = curvature(w)
        while damping < 1e6:
            ahead = w - torch.linalg.solve(H @ H + damping * torch.eye(len(w), dtype=w.dtype), H @ g)
            if slope(ahead).norm() < g.norm():
                w, g, damping = ahead, slope(ahead), max(damping / 5, 1e-12)
                break
            damping *= 4
        if g.norm() < 1e-9 or damping >= 1e6:
            break
    return w


def _flat_places(report: Report, train: Labelled, points: int, seed: int, tell: Tell) -> None:
    """Hessian's signs where the gradient is small, and where descent ends (2.4.c6, x8)."""
    loss, count = small_loss(train)
    slope = grad(loss)
    curvature = jacrev(slope)
    flat: list[tuple[float, float, float]] = []
    low: list[tuple[float, float, float]] = []
    for i in range(points):
        tell(Step(i, points, "looking for flat places"))
        model = MLP(SMALL, activation="tanh", generator=torch.Generator().manual_seed(seed + i)).double()
        begin = weights_of(model)
        for places, w in ((flat, to_flat_place(loss, begin)), (low, _descended(loss, begin))):
            negative = (torch.linalg.eigvalsh(curvature(w)) < -FLAT).double().mean().item()
            places.append((loss(w).item(), negative, (slope(w).norm() / slope(begin).norm()).item()))
    tell(Step(points, points, "done"))
    figure, axes = drawing()
    for places, name, color in ((flat, "flat places, searched for", ORANGE), (low, "after 600 steps of descent", GREY)):
        axes.plot([loss for loss, *_ in places], [100 * share for _, share, _ in places], "o", color=color, label=name)
    axes.set(xlabel="loss", ylabel="directions that lead down, %", ylim=(-2, None))
    axes.legend(frameon=False)
    report.figure("flat-places", figure, f"Negative eigenvalues of the Hessian of a net of {count} weights: a flat "
                  "place that has any is a saddle. Grey: where descent with momentum ends, same starts.")  # fmt: skip
    minima = sum(share == 0 for _, share, _ in flat) / points
    report.claim("2.4.c6", minima, low=0.5, detail=f"share of minima among {points} places with a gradient of at most "
                 f"{max(size for *_, size in flat):.2g} of the first; {min(s for _, s, _ in flat):.0%} to "
                 f"{max(s for _, s, _ in flat):.0%} of their {count} directions lead down")  # fmt: skip
    ends = torch.tensor([loss for loss, *_ in low])
    report.claim(
        "2.4.x8",
        ends.max() / min(loss for loss, *_ in flat),
        high=0.5,
        detail="the worst loss that descent "
        f"ends with, over the best of those flat places; it ends with {ends.min():.3f} to {ends.max():.3f}",
    )


def _descended(loss: Callable[[Tensor], Tensor], w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    w = w.clone()
    optimizer = SGD([w], lr=0.1, momentum=0.9)
    slope = grad(loss)
    for _ in range(600):
        w.grad = slope(w.detach())
        optimizer.step()
    return w.detach()
