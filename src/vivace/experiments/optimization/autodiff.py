"""Experiment: the chain rule, and what backpropagation makes of it."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint_sequential

from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.computation_graph import draw_graph
from vivace.experiments.timing import exponent_of
from vivace.optimization import Variable

QUICK = {"graphs": 40, "deepest": 64}

PIECES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {  # a function and its slope
    "sin": (math.sin, math.cos),
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    "exp(x/2)": (lambda x: math.exp(x / 2), lambda x: math.exp(x / 2) / 2),
    "x^2": (lambda x: x * x, lambda x: 2 * x),
    "log(1+x^2)": (lambda x: math.log1p(x * x), lambda x: 2 * x / (1 + x * x)),
}
STEPS: tuple[Callable[[Any, Any], Any], ...] = (  # written the same for our arrays and torch's
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b / (b * b + 2),
    lambda a, b: a @ b,
    lambda a, b: a.sigmoid() + b.mean(0),
    lambda a, b: (a - 0.1).relu() * b.exp(),
    lambda a, b: (a * a + 1).log() - b.sum(),
)
LENGTH = 30  # steps of a random graph
DIGIT_CLASSIFIER = (784, 128, 64, 10)


@checked
def run(*, graphs: Annotated[int, Ge(5), Le(10_000)] = 300, deepest: Annotated[int, Ge(16), Le(256)] = 256,
        width: Annotated[int, Ge(8), Le(256)] = 64, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The chain rule as a product, over a graph, with matrices, and what it costs in memory.

    vivace run autodiff        4 s on two cores; our engine's gradients are torch's to 2e-12

    graphs: how many random chains and random graphs are compared
    deepest: layers of the deepest net whose memory is counted
    width: units in each of its layers, and pictures in its batch
    seed: all that is random
    """
    generator = np.random.default_rng(seed)
    report = Report(
        "The chain rule, along chains, graphs and layers",
        "Along a chain $x \\to h_1 \\to h_2 \\to y$ the slopes multiply: $\\frac{dy}{dx} = \\frac{dy}{dh_2} "
        "\\frac{dh_2}{dh_1} \\frac{dh_1}{dx}$. Where ways meet, they add up; where values are vectors, the factors are "
        "Jacobian matrices, in a fixed order. Everything is checked against central differences or torch.",
    )
    _graph_of_a_chain(report)
    _chains(report, generator, graphs)
    tell(Step(1, 4, "random graphs"))
    _random_graphs(report, generator, graphs)
    tell(Step(2, 4, "the order of the factors"))
    _order(report, generator)
    _layers(report, generator)
    tell(Step(3, 4, "memory by depth"))
    _memory(report, width, deepest)
    tell(Step(4, 4, "done"))
    return report


def along_chain(names: Sequence[str], x: float) -> tuple[float, list[float]]:
    """A chain of PIECES at x: its value, and the slope of each piece at what was stored on the way."""
    stored = [x]
    for name in names:
        stored.append(PIECES[name][0](stored[-1]))
    return stored[-1], [PIECES[name][1](h) for name, h in zip(names, stored, strict=False)]


def random_plan(generator: np.random.Generator, reach: int) -> list[tuple[int, int, int]]:
    """For each step its operation and its two operands, out of the last `reach` results (three are given at first)."""
    return [(int(generator.integers(len(STEPS))), *generator.integers(max(0, k + 3 - reach), k + 3, size=2).tolist())
            for k in range(LENGTH)]  # fmt: skip


def random_graph(leaves: Sequence[Any], plan: Sequence[tuple[int, int, int]]) -> Any:
    """A computation as planned; the sum of its last five results.

    x / (1 + x^2) bounds each. tanh would saturate: the slope 1 - tanh^2 of a value next to 1 has no digits left, and
    two libraries that differ in a value's last bit differ in all of it.
    """
    made = list(leaves)
    for step, i, j in plan:
        value = STEPS[step](made[i], made[j])
        made.append(value / (value * value + 1))
    return sum(made[-4:], made[-5]).sum()


def count_paths(plan: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """A plan's edges, each step being a node, and the ways along them from the three leaves to the result."""
    ways = [1, 1, 1]
    for _, i, j in plan:
        ways.append(ways[i] + ways[j])
    return 2 * len(plan) + 5, sum(ways[-5:])


def saved_bytes(net: nn.Sequential, x: Float[Tensor, "b n"], segments: int = 0) -> int:
    """What the forward pass keeps for the backward pass, without the weights; with checkpoints if in segments."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        y = checkpoint_sequential(net, segments, x, use_reentrant=False) if segments else net(x)
    del y  # only now: while it lives, no storage is given to another tensor
    return sum(size for place, size in kept.items() if place not in weights)


def _graph_of_a_chain(report: Report) -> None:
    x, target = Variable(0.5, "x"), Variable(1.0, "target")
    w = [Variable(value, f"w{i + 1}") for i, value in enumerate((0.8, -1.2, 1.5))]
    h1 = (w[0] * x).tanh()
    h2 = (w[1] * h1).tanh()
    y = w[2] * h2
    h1.name, h2.name, y.name = "h1 = tanh", "h2 = tanh", "y = *"
    loss = (y - target) ** 2
    loss.name = "loss = ^2"
    loss.backward(keep=True)
    report.figure("graph", draw_graph(loss), "The chain $x \\to h_1 \\to h_2 \\to y$ as our engine has noted it: "
                  "values (blue) from left to right, then the loss's gradients (orange) back to the left.")  # fmt: skip


def _chains(report: Report, generator: np.random.Generator, count: int) -> None:
    """The product of slopes against central differences (2.3.c1)."""
    worst, rows = 0.0, []
    step = 1e-5
    for i in range(count):
        names = [str(name) for name in generator.choice(list(PIECES), size=3)]
        x = float(generator.uniform(-1.5, 1.5))
        _, slopes = along_chain(names, x)
        product = math.prod(slopes)
        central = (along_chain(names, x + step)[0] - along_chain(names, x - step)[0]) / (2 * step)
        apart = abs(product - central) / max(1, abs(central))
        worst = max(worst, apart)
        if i < 6:
            factors = " · ".join(f"{slope:.5f}" for slope in reversed(slopes))
            rows.append((", then ".join(names), f"{x:.3f}", factors, f"{product:.9f}", f"{central:.9f}"))
    report.table("chains", ("chain", "x", "dy/dh2 · dh2/dh1 · dh1/dx", "product", "central difference"), rows,
                 "Each slope is taken at the value that the forward pass has stored.")  # fmt: skip
    report.claim("2.3.c1", worst, high=1e-6, detail=f"largest difference from central differences over {count} random "
                 "chains of three functions, relative where the slope is above 1")  # fmt: skip


def _random_graphs(report: Report, generator: np.random.Generator, count: int) -> None:
    """One sweep of our engine against torch's (2.3.c2), and the paths that it need not follow one by one (2.3.x5)."""
    worst, compared, rows = 0.0, 0, []
    near, far = [], []
    for i in range(count):
        leaves, plan = generator.normal(size=(3, 4, 4)), random_plan(generator, reach=3)
        ours, theirs = [Variable(leaf) for leaf in leaves], [torch.tensor(leaf).requires_grad_() for leaf in leaves]
        random_graph(ours, plan).backward()
        truth = torch.autograd.grad(random_graph(theirs, plan), theirs, allow_unused=True)
        found = [_apart(v.grad, g) for v, g in zip(ours, truth, strict=True)]
        worst, compared = max(worst, *found), compared + sum(g is not None for g in truth)
        edges, paths = count_paths(plan)
        near.append(paths / edges)
        far.append(count_paths(random_plan(generator, reach=LENGTH + 3))[1] / edges)
        if i < 6:
            rows.append((i + 1, edges, paths, f"{max(found):.0e}"))
    report.table("random-graphs", ("graph", "edges", "paths from a leaf to the result", "difference from torch"), rows,
                 f"Random computations on 4 x 4 matrices: each of {LENGTH} steps takes two of the last three "
                 "results. The sweep crosses each edge once.")  # fmt: skip
    report.claim("2.3.c2", worst, high=1e-8, detail=f"largest relative difference from torch.autograd of {compared} "
                 f"gradients, however small: one sweep for each of {count} random graphs")  # fmt: skip
    report.claim("2.3.x5", float(np.median(near)), low=100, unit="x", detail=f"median over {count} random graphs of "
                 f"{LENGTH} steps: paths, as a multiple of edges. Where each step takes any two earlier results, it is "
                 f"{np.median(far):.1f} x")  # fmt: skip


def _apart(ours: Float[np.ndarray, "..."] | None, theirs: Tensor | None) -> float:
    if ours is None or theirs is None:  # a leaf that the graph doesn't use
        return 0.0 if ours is None and theirs is None else math.inf
    truth = theirs.numpy()
    difference = np.abs(ours - truth).max()
    return float(difference / np.abs(truth).max()) if difference else 0.0


def _order(report: Report, generator: np.random.Generator) -> None:
    """Jacobians in another order (2.3.c3), and multiplied out from either end (2.3.x3)."""
    jacobians = _jacobians((4, 4, 4, 4), generator)  # square, so that any order can be multiplied
    truth = jacobians[2] @ jacobians[1] @ jacobians[0]
    others = [a @ b @ c for a, b, c in list(permutations(jacobians[::-1]))[1:]]
    apart = [float(np.abs(other - truth).max() / np.abs(truth).max()) for other in others]
    fitting = sum(a.shape[1] == b.shape[0] and b.shape[1] == c.shape[0]
                  for a, b, c in permutations(_jacobians((5, 4, 3, 2), generator)))  # fmt: skip
    report.claim("2.3.c3", min(apart), high=1e-6, detail="smallest relative difference that another order of three "
                 f"4 x 4 Jacobians makes; for a net 5-4-3-2, {fitting} of the 6 orders fits at all")  # fmt: skip
    sizes = (*DIGIT_CLASSIFIER, 1)
    backward = sum(a * b for a, b in pairwise(sizes))
    forward = sum(sizes[0] * a * b for a, b in pairwise(sizes[1:]))
    report.table("association", ("multiplied out from", "multiply-adds"),
                 [("the loss: a row times a matrix each time (reverse mode)", f"{backward:,}"),
                  ("the input: a matrix times a matrix each time (forward mode)", f"{forward:,}")],
                 "The Jacobians of 784-128-64-10 and its loss: same order, same product, other brackets.")  # fmt: skip
    report.claim("2.3.x3", forward / backward, low=10, unit="x", detail=f"{forward:,} against {backward:,}")


def _jacobians(sizes: Sequence[int], generator: np.random.Generator) -> list[Float[np.ndarray, "_ _"]]:
    """dh(l+1)/dh(l) = diag(f'(z)) W of each layer of a random sigmoid net."""
    h, found = generator.normal(size=sizes[0]), []
    for n, m in pairwise(sizes):
        W = generator.normal(size=(m, n))
        h = 1 / (1 + np.exp(-W @ h))
        found.append((h * (1 - h))[:, None] * W)
    return found


def _layers(report: Report, generator: np.random.Generator) -> None:
    """The vector form of the chain rule (2.3.x1); the backward pass moves no weight (2.3.x2)."""
    sizes = (6, 5, 4, 3)
    W = [Variable(generator.normal(size=(m, n)), f"W{i}") for i, (n, m) in enumerate(pairwise(sizes))]
    before = [w.value.copy() for w in W]
    a = [Variable(generator.normal(size=(sizes[0], 1)))]
    for w in W:
        a.append((w @ a[-1]).sigmoid())
    target = generator.normal(size=(sizes[-1], 1))
    slope = [h.value * (1 - h.value) for h in a]
    (((a[-1] - target) ** 2).sum() * 0.5).backward()
    moved = sum(int((w.value != old).sum()) for w, old in zip(W, before, strict=True))
    delta, apart = (a[-1].value - target) * slope[-1], 0.0
    for layer in (2, 1, 0):
        apart = max(apart, _apart(delta @ a[layer].value.T, torch.from_numpy(W[layer].grad)))
        delta = W[layer].value.T @ delta * slope[layer]
    report.claim("2.3.x1", apart, high=1e-10, detail="largest relative difference of delta a^T from our engine's "
                 "gradient of the weights, in any of the layers of a net 6-5-4-3")  # fmt: skip
    report.claim("2.3.x2", moved, low=1, unit="weights", detail=f"of {sum(w.value.size for w in W)} that are another "
                 "number after the backward pass; an optimiser has to apply the gradients")  # fmt: skip


def _memory(report: Report, width: int, deepest: int) -> None:
    """Bytes kept for the backward pass by depth (2.3.c4), with checkpoints (2.3.x4)."""
    depths = [4**k for k in range(1, 10) if 4**k <= deepest]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(width, width, generator=generator, requires_grad=True)
    plain, checkpointed, ours = [], [], []
    for depth in depths:
        net = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth)))
        plain.append(saved_bytes(net, x))
        checkpointed.append(saved_bytes(net, x, segments=math.isqrt(depth)))
        h = Variable(x.detach().numpy())
        for _ in range(depth):
            h = (h @ net[0][0].weight.detach().numpy()).tanh()  # type: ignore[index]
        ours.append(sum(node.value.nbytes for node in h.ancestors()))
    kib = {"torch": plain, "torch, checkpoints": checkpointed, "our engine": ours}
    report.curve("memory", {label: (depths, [size / 1024 for size in sizes]) for label, sizes in kib.items()},
                 x="layers", y="kept for the backward pass, KiB", log_x=True, log_y=True,
                 caption=f"Layers of {width} tanh units, a batch of {width}. With a checkpoint every √depth layers, "
                 "only those are kept, and one segment at a time is computed again.")  # fmt: skip
    report.claim("2.3.c4", exponent_of(depths, plain), low=0.8, high=1.2, detail="p in bytes ~ depth^p, counted by "
                 f"torch's hooks, {depths[0]} to {depths[-1]} layers; {plain[-1] / 2**20:.2f} MiB at last")  # fmt: skip
    report.claim("2.3.x4", exponent_of(depths, checkpointed), low=0.3, high=0.7, detail="the same, with as many "
                 f"segments as the root of the depth; {checkpointed[-1] / 2**20:.2f} MiB at last")  # fmt: skip
