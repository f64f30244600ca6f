"""Experiment: what the gradient costs, weight by weight and by backpropagation."""

import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch.utils.flop_counter import FlopCounterMode

from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.timing import exponent_of, quickest
from vivace.optimization import Variable, finite_differences, relative_error

QUICK = {"rounds": 1, "nets": 5}

WIDTHS = (8, 16, 32, 48)  # nets k-k-k-1: 153 to 4,753 weights
SAMPLES = 8
DIGIT_CLASSIFIER = (784, 128, 64, 10)
DEPTHS = (2, 4, 8, 16, 32)
BATCHES = (1, 4, 16, 64, 256)

Array = Float[np.ndarray, "..."]


@checked
def run(*, rounds: Annotated[int, Ge(1), Le(50)] = 3, nets: Annotated[int, Ge(1), Le(1000)] = 20,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """One weight at a time, or all at once: the gradient's cost in operations, time and memory, and its error.

    vivace run finite_differences        7 s on two cores; 4,753 weights: 1,898 times the operations of backpropagation

    rounds: how often each time is taken; the least counts
    nets: random nets whose gradients are compared
    seed: their weights and samples
    """
    generator = np.random.default_rng(seed)
    report = Report(
        "The gradient weight by weight, and by backpropagation",
        "Moving each of $n$ weights in turn takes $n + 1$ forward passes of $O(n)$ each: $O(n^2)$. Backpropagation "
        "takes one pass forward and one back, $O(n)$ in all: all weights share the stored values and the deltas.",
    )
    _cost_by_weights(report, generator, rounds)
    tell(Step(1, 5, "forward and backward"))
    _forward_and_backward(report, generator, rounds)
    tell(Step(2, 5, "how exact"))
    _errors(report, generator, nets)
    _two_layers(report, generator)
    tell(Step(3, 5, "what runs side by side"))
    _side_by_side(report, generator, rounds)
    tell(Step(4, 5, "memory"))
    _memory(report, generator)
    tell(Step(5, 5, "done"))
    return report


def loss(parameters: Sequence[Any], x: Any, target: Any) -> Any:
    """Half the squared error of a net with sigmoids and a linear output; for NumPy, torch and our engine alike."""
    h = x
    for i, (W, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        h = h @ W + b
        if i < len(parameters) // 2 - 1:
            h = h.sigmoid() if hasattr(h, "sigmoid") else 1 / (1 + np.exp(-h))
    return ((h - target) ** 2).sum() * 0.5


def random_net(sizes: Sequence[int], generator: np.random.Generator) -> list[Array]:
    """W and b of each layer, in turn."""
    return [array for n, m in pairwise(sizes)
            for array in (generator.normal(0, (2 / n) ** 0.5, (n, m)), 0.1 * generator.normal(size=m))]  # fmt: skip


def samples(sizes: Sequence[int], count: int, generator: np.random.Generator) -> tuple[Array, Array]:
    return generator.normal(size=(count, sizes[0])), generator.normal(size=(count, sizes[-1]))


def backpropagated(parameters: Sequence[Array], x: Array, target: Array) -> Array:
    """The gradient by all parameters, one after the other."""
    variables = [Variable(p) for p in parameters]
    loss(variables, x, target).backward()
    return np.concatenate([v.grad.ravel() for v in variables if v.grad is not None])


def flattened(parameters: Sequence[Any], x: Any, target: Any) -> tuple[Callable[[Any], Any], Array]:
    """The loss as a function of all weights in a row, and these; for NumPy and torch."""
    ends = np.cumsum([math.prod(p.shape) for p in parameters])
    places = [slice(start, end) for start, end in pairwise((0, *ends))]

    def of(w: Any) -> Any:
        return loss([w[place].reshape(p.shape) for place, p in zip(places, parameters, strict=True)], x, target)

    return of, np.concatenate([np.ravel(p) for p in parameters])


def operations(parameters: Sequence[Array], x: Array, target: Array) -> tuple[int, int]:
    """Multiply-adds of a forward pass, and of one with the backward pass, by torch's counter."""
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
    with FlopCounterMode(display=False) as counter:
        value = loss(tensors, torch.tensor(x), torch.tensor(target))
        forward = counter.get_total_flops()
        value.backward()
    return forward // 2, counter.get_total_flops() // 2


def _cost_by_weights(report: Report, generator: np.random.Generator, rounds: int) -> None:
    """Evaluations times operations, and seconds, for 153 to 4,753 weights."""
    counts, naive, backward, ratios, rows = [], [], [], [], []
    for k in WIDTHS:
        sizes = (k, k, k, 1)
        net, (x, target) = random_net(sizes, generator), samples(sizes, SAMPLES, generator)
        forward, both = operations(net, x, target)
        f, w = flattened([torch.from_numpy(p) for p in net], torch.from_numpy(x), torch.from_numpy(target))
        slow, evaluations = min(_one_by_one(f, w) for _ in range(rounds))
        tensors = [torch.tensor(p, requires_grad=True) for p in net]
        once = partial(_torch_gradient, tensors, torch.from_numpy(x), torch.from_numpy(target))
        (fast,) = quickest([once], rounds=9)
        counts.append(w.size)
        naive.append(evaluations * forward)
        backward.append(both)
        ratios.append(slow / fast)
        rows.append((f"{w.size:,}", f"{evaluations:,}", f"{naive[-1]:,}", f"{both:,}", f"{naive[-1] / both:,.0f}",
                     f"{1000 * slow:.1f}", f"{1000 * fast:.2f}", f"{slow / fast:,.0f}"))  # fmt: skip
    columns = ("weights", "evaluations", "multiply-adds, one by one", "backpropagation", "ratio", "ms, one by one",
               "ms, backpropagation", "ratio of times")  # fmt: skip
    report.table("cost", columns, rows, f"Nets $k$-$k$-$k$-1 with sigmoids, {SAMPLES} samples; forward differences and "
                 "backpropagation, both with torch on one thread.")  # fmt: skip
    counted = [a / b for a, b in zip(naive, backward, strict=True)]
    report.curve("ratio", {"operations": (counts, counted), "time": (counts, ratios)}, x="weights", log_x=True,
                 log_y=True, y="cost one by one / by backpropagation",
                 caption="What backpropagation saves grows in proportion to the number of weights.")  # fmt: skip
    report.claim("2.6.c1", exponent_of(counts, counted), low=0.9, high=1.1, detail="p in (operations one by one) / "
                 f"(backpropagation's) ~ n^p; ratios {', '.join(f'{ratio:,.0f}' for ratio in counted)}")  # fmt: skip
    report.claim("2.6.x1", ratios[-1], low=50, unit="x", detail=f"the ratio of processor times at {counts[-1]:,} "
                 f"weights; at {counts[0]} it was {ratios[0]:,.0f}")  # fmt: skip
    report.claim("2.6.x2", exponent_of(counts, naive), low=1.8, high=2.2, detail="p in multiply-adds ~ n^p, one by one")
    report.claim("2.6.x3", exponent_of(counts, backward), low=0.8, high=1.2, detail="the same, backpropagation")


def _one_by_one(f: Callable[[Any], Any], w: Array) -> tuple[float, int]:
    """Processor seconds of forward differences with torch, and how often they ask for the loss."""
    calls = []

    def counted(at: Array) -> float:
        calls.append(1)
        return f(torch.from_numpy(at)).item()

    began = time.process_time()
    finite_differences(counted, w, scheme="forward")
    return time.process_time() - began, len(calls)


def _forward_and_backward(report: Report, generator: np.random.Generator, rounds: int) -> None:
    """(forward + backward) / forward, counted and timed."""
    shapes = [(8, 8, 1), (48, 48, 48, 1), (8, *[32] * 16, 1), (100, 1000, 10), DIGIT_CLASSIFIER]
    rows, counted, timed = [], [], []
    for sizes in shapes:
        net, (x, target) = random_net(sizes, generator), samples(sizes, 128, generator)
        forward, both = operations(net, x, target)
        tensors = [torch.tensor(p, requires_grad=True) for p in net]
        x_, target_ = torch.tensor(x), torch.tensor(target)
        once, twice = quickest([partial(_torch_forward, tensors, x_, target_),
                                partial(_torch_gradient, tensors, x_, target_)], rounds=3 * rounds)  # fmt: skip
        counted.append(both / forward)
        timed.append(twice / once)
        name = (
            "-".join(map(str, sizes)) if len(sizes) < 6 else f"{sizes[0]}, {len(sizes) - 2} layers of 32, {sizes[-1]}"
        )
        rows.append((name, f"{forward:,}", f"{both:,}", f"{counted[-1]:.2f}", f"{timed[-1]:.2f}"))
    report.table("backward", ("net", "multiply-adds forward", "with backward", "ratio", "ratio of times"), rows,
                 "A batch of 128 samples, torch. A layer's backward pass is two products of the size of its forward "
                 "one; the first layer needs one only, as nobody asks for the input's gradient.")  # fmt: skip
    report.claim("2.6.c2", max(counted), high=5, unit="x", detail="largest (forward + backward) / forward of five "
                 f"nets, in multiply-adds; smallest {min(counted):.2f}")  # fmt: skip
    report.claim("2.6.x4", timed[-1], high=5, unit="x", detail="the digit classifier's ratio of processor times, torch")


@torch.no_grad()
def _torch_forward(tensors: Sequence[torch.Tensor], x: torch.Tensor, target: torch.Tensor) -> None:
    loss(tensors, x, target)


def _torch_gradient(tensors: Sequence[torch.Tensor], x: torch.Tensor, target: torch.Tensor) -> None:
    torch.autograd.grad(loss(tensors, x, target), tensors)


def _errors(report: Report, generator: np.random.Generator, nets: int) -> None:
    """Backpropagation against central differences (2.6.c3), and each scheme's error by its step (2.6.x8)."""
    worst = 0.0
    for _ in range(nets):
        sizes = tuple(int(n) for n in generator.integers(1, 9, size=generator.integers(2, 6)))
        net, (x, target) = random_net(sizes, generator), samples(sizes, SAMPLES, generator)
        f, w = flattened(net, x, target)
        worst = max(worst, relative_error(backpropagated(net, x, target), finite_differences(f, w)))
    report.claim("2.6.c3", worst, high=1e-5, detail=f"largest relative error against central differences, {nets} "
                 "random nets of 1 to 4 layers")  # fmt: skip
    sizes = (4, 4, 4, 1)
    net, (x, target) = random_net(sizes, generator), samples(sizes, SAMPLES, generator)
    f, w = flattened(net, x, target)
    truth, steps = backpropagated(net, x, target), 10.0 ** -np.arange(1, 16)
    found = {scheme: [max(relative_error(finite_differences(f, w, scheme=scheme, step=h), truth), 1e-17)
                      for h in steps] for scheme in ("forward", "central", "complex")}  # fmt: skip
    report.curve("error", {scheme: (steps, errors) for scheme, errors in found.items()}, x="step", y="relative error",
                 log_x=True, log_y=True, caption="From the right: the error falls with the step, or with "
                 "its square (central and complex alike), until the difference of two nearly equal losses drowns in "
                 "rounding. The complex step takes no difference.")  # fmt: skip
    report.claim("2.6.x8", min(found["central"]), low=1e-13, detail="smallest relative error that central differences "
                 f"reach with any step from 0.1 to 1e-15; forward differences {min(found['forward']):.0e}, the complex "
                 f"step {min(found['complex']):.0e}")  # fmt: skip


def _two_layers(report: Report, generator: np.random.Generator) -> None:
    """The whole backward pass of y = v h + c, h = sigmoid(w x + b), written out (2.6.x6), and without outer product."""
    W, b, v, c = random_net((4, 3, 3), generator)  # as many outputs as units, so that the wrong product has a shape
    x, target = samples((4, 3), 1, generator)
    h = 1 / (1 + np.exp(-(x @ W + b)))
    dy = h @ v + c - target  # dL/dy (1, 3); rows, so that the course's h v is v^T h here
    dz = dy @ v.T * h * (1 - h)
    written = np.concatenate([(x.T @ dz).ravel(), dz.ravel(), (h.T @ dy).ravel(), dy.ravel()])
    truth = backpropagated((W, b, v, c), x, target)
    report.claim("2.6.x6", relative_error(written, truth), high=1e-10, detail="of dL/dw, dL/db, dL/dv, dL/dc against "
                 "our engine; net 4-3-3")  # fmt: skip
    plain = np.broadcast_to(dy * h, v.shape).ravel()
    report.claim("2.6.x7", relative_error(plain, truth[15:24]), high=1e-5, detail="relative error of the product "
                 "element by element, as dL/dv of the net 4-3-3")  # fmt: skip


def longest_chain(result: Variable) -> int:
    """How many steps of a computation have to wait for one another."""
    nodes, edges = result.graph()
    steps = [0] * len(nodes)
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        steps[end] = max(steps[end], steps[start] + 1)
    return steps[-1]


def _side_by_side(report: Report, generator: np.random.Generator, rounds: int) -> None:
    """Layers wait for each other (2.6.c4); the samples of a batch do not (2.6.x5)."""
    chains, deep = [], []
    for depth in DEPTHS:
        sizes = (32, *[32] * depth, 1)
        net, (x, target) = random_net(sizes, generator), samples(sizes, 32, generator)
        chains.append(longest_chain(loss([Variable(p) for p in net], x, target)))
        deep.append(partial(backpropagated, net, x, target))
    net = random_net(DIGIT_CLASSIFIER, generator)
    wide = [partial(backpropagated, net, *samples(DIGIT_CLASSIFIER, batch, generator)) for batch in BATCHES]
    times = [1000 * seconds for seconds in quickest([*deep, *wide], rounds=2 * rounds)]
    by_depth, by_batch = times[: len(DEPTHS)], times[len(DEPTHS) :]
    each = [milliseconds / batch for milliseconds, batch in zip(by_batch, BATCHES, strict=True)]
    rows = [(depth, chain, f"{ms:.2f}") for depth, chain, ms in zip(DEPTHS, chains, by_depth, strict=True)]
    report.table("depth", ("hidden layers of 32 units", "steps forward, each waiting for the last", "ms, a gradient"),
                 rows, "More layers, more steps one after the other; more processors do not help.")  # fmt: skip
    report.curve("batch", {"gradient": (BATCHES, each)}, x="samples in a batch", y="ms a sample", log_x=True,
                 caption="The more samples at once, the less time for each; net 784-128-64-10.")  # fmt: skip
    report.claim("2.6.c4", exponent_of(DEPTHS, chains), high=0.1, detail="p in (steps that wait for one another) ~ "
                 f"depth^p; {chains[0]} steps forward with {DEPTHS[0]} hidden layers, {chains[-1]} with {DEPTHS[-1]}, "
                 "and as many back")  # fmt: skip
    report.claim("2.6.x5", each[0] / each[3], low=2, unit="x", detail="a sample's time alone, as a multiple of its "
                 f"time in a batch of {BATCHES[3]}; net 784-128-64-10")  # fmt: skip


def _memory(report: Report, generator: np.random.Generator) -> None:
    """The most memory in use at a time, seen by Python's own tracing (2.6.c5)."""
    depths, peaks = (1, 2, 4, 8), []
    for depth in depths:
        sizes = (12, *[12] * depth, 1)
        net, (x, target) = random_net(sizes, generator), samples(sizes, 256, generator)
        f, w = flattened(net, x, target)
        peaks.append([_peak(partial(backpropagated, net, x, target)), _peak(partial(finite_differences, f, w))])
    back, naive = np.transpose(peaks) / 1024
    report.curve("memory", {"backpropagation": (depths, back), "one by one": (depths, naive)},
                 x="hidden layers of 12 units", y="most in use, KiB",
                 caption="A batch of 256. Backpropagation keeps what every layer has put out; moving the weights one "
                 "by one forgets it at once.")  # fmt: skip
    report.claim("2.6.c5", back[-1] / naive[-1], high=1, unit="x", detail="backpropagation's largest use of memory, as "
                 f"a multiple of the other's; {back[-1]:.0f} and {naive[-1]:.0f} KiB, {depths[-1]} layers")  # fmt: skip


def _peak(task: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
