"""Experiment: signals and gradients through deep stacks and long sequences, before any training."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.data import Labelled
from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import own_randomness, seed_randomness
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.plain_training import gradient_norms, standardized_digits
from vivace.networks import ACTIVATIONS, MLP
from vivace.networks.initialization import gradients, he_, signals, xavier_

QUICK = {"width": 256, "nets": 5}

KEPT = 4.0  # times larger or smaller counts as kept; in layers this narrow chance alone makes it up to 2
LAYERS = 20  # hidden matrices in the stacks that the claims speak of
BATCH = 256
TANHS_GAIN = 5 / 3  # PyTorch's, for tanh
SLOPE_BOUND = 0.25  # the sigmoid's largest slope
HEAVY = 5.0  # times Xavier's weights
FORGET = 3.0  # added to the LSTM's forget bias
HIDDEN, INPUTS = 32, 16  # of the recurrent nets

Fill = Callable[[Tensor, torch.Generator], object]


def xavier(weight: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    xavier_(weight, gain=gain, distribution="normal", generator=generator)


def he(weight: Tensor, generator: torch.Generator, *, times: float = 1.0) -> None:
    he_(weight, generator=generator)
    weight *= times


def naive(weight: Tensor, generator: torch.Generator) -> None:
    """One size for all layers, as in the first networks: nothing but a small number."""
    weight.normal_(0, 0.02, generator=generator)


# label: activation, and how the weights are drawn
STACKS: dict[str, tuple[str, Fill]] = {
    "ReLU, He": ("relu", he),
    "ReLU, Xavier": ("relu", xavier),
    "tanh, Xavier": ("tanh", xavier),
    "sigmoid, Xavier": ("sigmoid", xavier),
    "ReLU, all N(0, 0.02²)": ("relu", naive),
    "ReLU, 1.5 times He": ("relu", lambda w, g: he(w, g, times=1.5)),
}


@checked
def run(*, width: Annotated[int, Ge(32), Le(2048)] = 512, depth: Annotated[int, Ge(20), Le(200)] = 50,
        length: Annotated[int, Ge(20), Le(500)] = 100, nets: Annotated[int, Ge(1), Le(20)] = 5, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """How much of a signal and of a gradient is left after many layers, and after many time steps.

    vivace run vanishing_gradients        15 s; 20 sigmoid layers leave 1e-13 of a gradient, ReLU layers a half

    width: units in each hidden layer
    depth: layers in the picture; the claims are about 20
    length: steps of the sequences
    nets: random nets of each kind, of which the median is taken
    seed: the first of the seeds
    """
    report = Report(
        "Vanishing and exploding gradients, before any training",
        "Untrained stacks of fully connected layers on digits (standardised), the gradient being that of "
        "cross-entropy; recurrent nets on random sequences. Dotted: what theory says for wide layers, "
        "$q \\leftarrow n\\,\\mathrm{Var}(w)\\,E f(z)^2$ and $g \\leftarrow n\\,\\mathrm{Var}(w)\\,E f'(z)^2$.",
    )
    data, _ = standardized_digits()
    data = Labelled(data.images[:BATCH].double(), data.labels[:BATCH], data.classes)
    seeds = range(seed, seed + nets)
    tell(Step(0, 3, f"{depth} layers"))
    _picture(report, data, width, depth, seed)
    tell(Step(1, 3, f"{LAYERS} layers"))
    _stacks(report, data, width, seeds)
    tell(Step(2, 3, "sequences"))
    _sequences(report, length, seeds)
    tell(Step(3, 3, "done"))
    return report


def stack(activation: str, fill: Fill, width: int, layers: int, seed: int) -> MLP:
    """An MLP for digits with so many matrices from hidden layer to hidden layer, its weights drawn by `fill`."""
    net = MLP([64, *[width] * (layers + 1), 10], activation=activation)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.layers:
            fill(layer.get_parameter("weight"), generator)
    return net.double()  # in float32 the squares of small gradients would be zero


def sizes_through(net: MLP, data: Labelled) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], list[float]]:
    """Root mean squares of the hidden outputs h and of dL/dh, layer by layer; and |dL/dW| of the hidden matrices."""
    stored = net.forward_stored(data.images)
    loss = F.cross_entropy(stored[-1], data.labels)
    hidden = stored[1:-1]
    weights = [net.get_parameter(f"layers.{i}.weight") for i in range(1, len(net.layers) - 1)]
    norms = gradient_norms(loss, [*hidden, *weights])
    of_outputs = torch.tensor([h.detach().double().square().mean().sqrt() for h in hidden])
    return of_outputs, torch.tensor(norms[: len(hidden)]).double(), norms[len(hidden) :]


def _picture(report: Report, data: Labelled, width: int, depth: int, seed: int) -> None:
    figure, (left, right) = drawing(1, 2, width=11, height=4.2)
    for color, (label, (name, fill)) in zip(PALETTE, STACKS.items(), strict=False):
        net = stack(name, fill, width, depth, seed)
        outputs, slopes, _ = sizes_through(net, data)
        matrix = net.get_parameter("layers.1.weight")
        scale = width * matrix.detach().square().mean().item()
        q = signals(ACTIVATIONS[name].f, depth + 1, scale=scale, start=_first(net, data))
        at = torch.arange(1, depth + 2)
        g = gradients(ACTIVATIONS[name].slope, q[:-1], scale=scale).sqrt()
        left.semilogy(at, outputs.clamp(min=1e-30), color=color, label=label, linewidth=1.8)
        left.semilogy(at, (q[1:] / scale).sqrt(), color=color, linestyle=":")
        right.semilogy(at, (slopes / slopes[-1]).clamp(min=1e-38), color=color, linewidth=1.8)
        right.semilogy(at, g, color=color, linestyle=":")
    left.set(xlabel="hidden layer", ylabel="root mean square of its outputs", ylim=(1e-22, 1e14))
    right.set(xlabel="hidden layer", ylabel="|dL/dh| over that of the last", ylim=(1e-34, 1e12))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    report.figure("depth", figure, f"{depth} layers of {width} units at the start. Left: the signal on its way up. "
                  "Right: the gradient on its way down, read from right to left. Dotted: theory.")  # fmt: skip


@torch.no_grad()
def _first(net: MLP, data: Labelled) -> float:
    """The mean square of the first z."""
    return net.layers[0](data.images.flatten(1)).square().mean().item()


def _stacks(report: Report, data: Labelled, width: int, seeds: Sequence[int]) -> None:
    def median(name: str, fill: Fill) -> tuple[float, float, float]:
        """First over last: |dL/dW|, |dL/dh|; and how many times the last layer's mean square is the first's."""
        found = []
        for seed in seeds:
            outputs, slopes, weights = sizes_through(stack(name, fill, width, LAYERS, seed), data)
            found.append((weights[0] / weights[-1], (slopes[0] / slopes[-1]).item(),
                          (outputs[-1] / outputs[0]).square().item()))  # fmt: skip
        by_weights, by_outputs, grown = torch.tensor(found).double().median(0).values.tolist()
        return by_weights, by_outputs, grown

    stacks = {**STACKS, "tanh, Xavier times 5/3": ("tanh", lambda w, g: xavier(w, g, gain=TANHS_GAIN)),
              "sigmoid, 5 times Xavier": ("sigmoid", lambda w, g: xavier(w, g, gain=HEAVY))}  # fmt: skip
    found = {label: median(*stack_) for label, stack_ in stacks.items()}
    report.table("stacks", ("20 layers", "|dL/dW|, first over last", "|dL/dh|, first over last",
                            "mean square of outputs, last over first"),
                 [(label, *(f"{value:.2g}" for value in values)) for label, values in found.items()],
                 f"Stacks of {LAYERS} matrices {width} x {width}; medians of {len(seeds)} nets.")  # fmt: skip
    kept = {label: max(_factor(found[label][2]), _factor(found[label][1] ** 2)) for label in found}
    by_he, by_xavier = kept["ReLU, He"], kept["tanh, Xavier"]
    report.claim("2.12.Q3.c1", max(by_he, by_xavier), high=KEPT, unit="times", detail="largest change of the mean "
                 f"square of outputs or gradients over {LAYERS} layers: ReLU with He {by_he:.2f}, tanh with Xavier "
                 f"{by_xavier:.1f}")  # fmt: skip
    report.claim("2.12.Q3.x1", by_he, high=KEPT, unit="times", detail="ReLU with He's weights, variance 2 / fan in")
    with_gain, without = (_factor(found[label][2]) for label in ("tanh, Xavier times 5/3", "tanh, Xavier"))
    report.claim("2.12.Q3.x2", with_gain, high=KEPT, unit="times", detail="change of the outputs' mean square, tanh "
                 f"with Xavier's weights times 5/3; without the factor {without:.1f}")  # fmt: skip
    ratios = {label: values[0] for label, values in found.items()}
    report.claim("2.12.Q1.c3", min(ratios["ReLU, He"], ratios["ReLU, Xavier"]), low=0.1, detail="|dL/dW|, first "
                 "matrix over last of 20, the smaller of He and Xavier; "
                 + ", ".join(f"{label} {ratios[label]:.2g}" for label in list(STACKS)[:4]))  # fmt: skip
    small = found["ReLU, all N(0, 0.02²)"][1]
    report.claim("3.2.x3", small, low=0.1, detail="|dL/dh|, first over last of 20 ReLU layers with weights "
                 f"N(0, 0.02²); with He's {found['ReLU, He'][1]:.2g}, with 1.5 times He's "
                 f"{found['ReLU, 1.5 times He'][1]:.2g}")  # fmt: skip
    for id_, label in (("2.12.Q4.c1", "sigmoid, Xavier"), ("2.12.Q4.x1", "sigmoid, 5 times Xavier")):
        ratio = found[label][1]
        report.claim(id_, ratio ** (1 / LAYERS), high=SLOPE_BOUND, detail=f"factor per layer of |dL/dh|, {label}: "
                     f"{ratio:.1e} over {LAYERS} layers, where 0.25 a layer is {SLOPE_BOUND**LAYERS:.1e}")  # fmt: skip


def _factor(ratio: float) -> float:
    """How many times larger or smaller; infinite where nothing is left."""
    return max(ratio, 1 / ratio) if ratio else math.inf


def recurrent(kind: Callable[..., nn.RNNBase], *, forget: float = 0.0, seed: int) -> nn.RNNBase:
    """A recurrent layer with PyTorch's default weights, uniform within 1 / sqrt(hidden); `forget` raises that bias."""
    net = kind(INPUTS, HIDDEN, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-1 / math.sqrt(HIDDEN), 1 / math.sqrt(HIDDEN), generator=generator)
        if forget:
            net.get_parameter("bias_ih_l0")[HIDDEN : 2 * HIDDEN] += forget  # gates: input, forget, cell, output
    return net


def _sequences(report: Report, length: int, seeds: Sequence[int]) -> None:
    """The gradient of a random weighting of the last output with respect to each step's input."""
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "plain RNN": lambda seed: recurrent(nn.RNN, seed=seed),
        "LSTM": lambda seed: recurrent(nn.LSTM, seed=seed),
        "GRU": lambda seed: recurrent(nn.GRU, seed=seed),
        "LSTM, forget bias +1": lambda seed: recurrent(nn.LSTM, forget=1.0, seed=seed),
        "LSTM, forget bias +3": lambda seed: recurrent(nn.LSTM, forget=FORGET, seed=seed),
        "Transformer layer": _transformer,
    }
    paths = {}
    for label, made in kinds.items():
        each = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(8, length, INPUTS, generator=generator, dtype=torch.float64).requires_grad_()
            out = made(seed).double()(x)
            last = (out[0] if isinstance(out, tuple) else out)[:, -1]
            (slope,) = torch.autograd.grad((last * torch.randn(last.shape[1], generator=generator)).sum(), x)
            each.append(slope.norm(dim=2).mean(0))
        paths[label] = torch.stack(each).median(0).values
    report.curve("sequence", {k: (range(length), v.clamp(min=1e-40)) for k, v in paths.items()},
                 x="step of the input", y="|d last output / d input|", log_y=True,
                 caption=f"{length} steps, untrained: how much the last output feels each earlier input. Attention "
                 "reaches every step at once; a gated net remembers only as its forget gates stay open.")  # fmt: skip
    ratio = {label: (path[0] / path[-1]).item() for label, path in paths.items()}
    rows = [(label, f"{path[0]:.1e}", f"{path[-1]:.1e}", f"{ratio[label]:.1e}") for label, path in paths.items()]
    report.table("sequence-ends", ("net", "at the first step", "at the last", "first over last"), rows,
                 f"Gradients over {length} steps, medians of {len(seeds)} nets.")  # fmt: skip
    everything = ", ".join(f"{label} {r:.1e}" for label, r in ratio.items())
    for id_, label in (("2.12.Q4.c2", "LSTM"), ("2.12.Q4.x2", "LSTM, forget bias +3")):
        report.claim(id_, ratio[label], low=1e-3, detail=f"{label}: gradient at step 0 over that at step {length - 1}; "
                     + everything)  # fmt: skip


def _transformer(seed: int) -> nn.Module:
    with own_randomness(torch.device("cpu")):
        seed_randomness(torch.device("cpu"), seed)
        return nn.TransformerEncoderLayer(INPUTS, 2, 2 * INPUTS, dropout=0.0, batch_first=True)
