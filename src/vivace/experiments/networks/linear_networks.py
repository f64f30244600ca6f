"""Experiment: layers without activations: they collapse into one matrix, but they don't learn like one."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.plain_training import standardized_digits
from vivace.networks import MLP

QUICK = {"seeds": 3, "steps": 500}

SIZES = (64, 32, 48, 12, 10)  # four matrices; the narrowest place is the output
NARROW = (64, 32, 3, 48, 10)  # here it is a hidden layer of three
XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0])
STRENGTHS = (4.0, 2.0, 1.0, 0.5)  # of the map that is to be learnt: its singular values
START = 1e-2  # singular value of the map at the start, deep or shallow
LEARNT = 0.9  # of a strength
TIE = 1e-3  # an output this near to one half says nothing: only rounding decides


@checked
def run(*, seeds: Annotated[int, Ge(1), Le(50)] = 10, steps: Annotated[int, Ge(300), Le(20_000)] = 1000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Deep linear networks: one matrix in what they can say, but not in how they learn.

    vivace run linear_networks        8 s; four layers equal one matrix to 1e-15, XOR stays at 75 %

    seeds: how often XOR is learnt from new random weights
    steps: of each training on XOR
    seed: the first of the seeds
    """
    report = Report(
        "Without activations, layers collapse; yet they learn differently",
        "$W_4 W_3 W_2 W_1 x = (W_4 W_3 W_2 W_1) x$: one matrix, whose rank is at most the narrowest layer's width. "
        "The way gradient descent takes to that matrix does depend on the factors.",
    )
    _collapse(report, seed)
    _xor(report, range(seed, seed + seeds), steps, tell)
    _dynamics(report, seed)
    tell(Step(seeds, seeds, "done"))
    return report


def collapsed(net: MLP) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The one matrix and the one bias that a net without activations comes to."""
    W, b = torch.eye(net.sizes[0], dtype=torch.float64), torch.zeros(net.sizes[0], dtype=torch.float64)
    for i in range(len(net.layers)):
        V, a = (net.get_parameter(f"layers.{i}.{part}").detach().double() for part in ("weight", "bias"))
        W, b = V @ W, V @ b + a
    return W, b


@torch.no_grad()
def _collapse(report: Report, seed: int) -> None:
    train, _ = standardized_digits()
    images = train.images.double()
    rows = []
    for sizes in (SIZES, NARROW):
        net = MLP(sizes, activation="identity", generator=torch.Generator().manual_seed(seed)).double()
        for layer in net.layers:
            layer.get_parameter("bias").normal_(generator=torch.Generator().manual_seed(seed + 1))
        W, b = collapsed(net)
        out, one = net(images), images.flatten(1) @ W.T + b
        apart = ((out - one).norm() / out.norm()).item()
        rank = int(torch.linalg.matrix_rank(W))
        bent = MLP(sizes, generator=torch.Generator().manual_seed(seed)).double()
        centred = bent(images) - bent(torch.zeros_like(images[:1]))
        best = torch.linalg.lstsq(images.flatten(1), centred).solution
        rest = ((centred - images.flatten(1) @ best).norm() / centred.norm()).item()
        rows.append(("-".join(map(str, sizes)), f"{apart:.1e}", rank, min(sizes), f"{rest:.2f}"))
        if sizes is SIZES:
            report.claim("2.12.Q5.c1", apart, high=1e-12, detail="relative difference of the outputs of four layers "
                         f"and of their product, {len(images):,} digits, float64; with ReLU between them even the best "
                         f"matrix leaves {rest:.0%}")  # fmt: skip
        else:
            report.claim("2.12.Q5.x1", rank, low=min(sizes), high=min(sizes), detail="rank of the collapsed "
                         f"{W.shape[0]} x {W.shape[1]} matrix of the net {rows[-1][0]}")  # fmt: skip
    report.table("collapse", ("layers", "four layers less one matrix", "rank of the matrix", "narrowest width",
                              "left by the best matrix, with ReLU"), rows,
                 "Layers without activations are one matrix; with ReLU they are far from any.")  # fmt: skip


def _xor(report: Report, seeds: Sequence[int], steps: int, tell: Tell) -> None:
    """XOR with three layers, bent or not; right where the output is nearer to the label than to the other."""
    right: dict[str, list[float]] = {"identity": [], "tanh": []}
    outputs = {}
    for done, seed in enumerate(seeds):
        tell(Step(done, len(seeds), "learning XOR"))
        for name, found in right.items():
            net = MLP([2, 8, 8, 1], activation=name, initialization="xavier",  # type: ignore[arg-type]
                      generator=torch.Generator().manual_seed(seed))  # fmt: skip
            optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
            best = 0.0
            for _ in range(steps):
                out = net(XOR)[:, 0]
                best = max(best, ((out - XOR_LABELS).abs() < 0.5 - TIE).double().mean().item())
                optimizer.zero_grad()
                (out - XOR_LABELS).square().mean().backward()
                optimizer.step()
            found.append(best)
            outputs[name] = out.detach().tolist()
    report.claim("2.12.Q5.c2", max(right["identity"]), high=0.75, detail="most points of XOR that a linear net "
                 f"2-8-8-1 ever had right, at any step, {len(seeds)} starts; with tanh at least "
                 f"{min(right['tanh']):.0%}")  # fmt: skip
    rows = [(f"{int(x)} xor {int(y)}", int(label), *(f"{abs(outputs[name][i]):.3f}" for name in outputs))
            for i, ((x, y), label) in enumerate(zip(XOR.tolist(), XOR_LABELS.tolist(), strict=True))]  # fmt: skip
    report.table("xor", ("input", "wanted", "three linear layers say", "with tanh between them"), rows,
                 "After training: the best that a plane can do is to say one half everywhere.")  # fmt: skip


def descend(layers: int, *, rate: float, seed: int) -> Float[Tensor, "t r"]:
    """The strengths (along the target's singular directions) of a product of square matrices while it learns a map.

    The loss is |W_L ... W_1 - A|^2 / 2: what is left of squared error where the inputs are white.
    """
    size = len(STRENGTHS)
    generator = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0] for _ in range(2))
    A = U @ torch.diag(torch.tensor(STRENGTHS).double()) @ V.T
    small = START ** (1 / layers)  # the same product at the start, whatever the depth
    one = torch.eye(size).double()
    W = [small * one for _ in range(layers)]
    W[0], W[-1] = W[0] @ V.T, U @ W[-1]
    found = []
    for _ in range(4000):
        below = list(accumulate(W, lambda done, w: w @ done, initial=one))  # 1, W_1, W_2 W_1, ...
        above = list(accumulate(W[::-1], lambda done, w: done @ w, initial=one))[::-1]  # ..., W_L W_L-1, W_L, 1
        found.append((U.T @ below[-1] @ V).diagonal())
        error = below[-1] - A
        if error.norm() < 1e-3 * A.norm():
            break
        slopes = [above[i + 1].T @ error @ below[i].T for i in range(layers)]
        W = [w - rate * slope for w, slope in zip(W, slopes, strict=True)]
    return torch.stack(found)


def _dynamics(report: Report, seed: int) -> None:
    """How long each strength takes, over how long the strongest takes: 1 for a single matrix."""
    figure, axes = drawing(1, 3, width=11, height=3.4, sharey=True)
    waits = {}
    for place, layers in zip(axes, (1, 2, 3), strict=True):
        path = descend(layers, rate=0.02, seed=seed)
        share = path / torch.tensor(STRENGTHS)
        waits[layers] = [int((share[:, i] >= LEARNT).int().argmax()) for i in range(len(STRENGTHS))]
        for i, strength in enumerate(STRENGTHS):
            place.plot(path[:, i], color=PALETTE[i], label=f"strength {strength:g}")
        place.set(title=f"{layers} layer" + "s" * (layers > 1), xlabel="step", xlim=(0, 1.15 * max(waits[layers])))
    axes[0].set_ylabel("strength learnt so far")
    axes[-1].legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.55))
    report.figure("dynamics", figure, "The same map, learnt by gradient descent from the same start with the same "
                  "rate: one matrix learns all directions at one speed; a product learns the strong ones first, each "
                  "after a plateau.")  # fmt: skip
    deep, alone = (waits[layers][-1] / waits[layers][0] for layers in (3, 1))
    report.claim("2.12.Q5.c3", deep / alone, low=0.8, high=1.25, unit="times",
                 detail=f"how much longer the weakest of {len(STRENGTHS)} directions takes than the strongest: "
                 f"{deep:.1f} times with three layers, {alone:.2f} with one; 1 if depth changes nothing")  # fmt: skip
