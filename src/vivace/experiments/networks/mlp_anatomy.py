"""Experiment: what a multi-layer perceptron is made of: shapes, parameters, multiply-adds, memory, and its deltas."""

import time
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vivace.base.hooks import activations
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.networks import MLP, count_parameters, deltas, layer_costs

QUICK = {"seconds": 0.05}

DIGIT_CLASSIFIER = (784, 128, 64, 10)
FLOAT32 = 4  # bytes
TIMED = 20_000_000  # parameters; larger nets are only counted

Units = Annotated[int, Ge(1), Le(200_000)]


@checked
def run(*, inputs: Units = 784, first: Units = 128, second: Units = 64, classes: Units = 10,
        seconds: Annotated[float, Ge(0.01), Le(60)] = 0.5, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What the digit classifier, or a net of yours, costs; and the gradient of a hidden layer, checked.

    vivace run mlp_anatomy        4 s on two cores; 109,386 parameters, 109,184 multiply-adds, 437,544 bytes

    inputs: values in one picture of a net of your own, to be counted besides the digit classifier
    first: units in its first hidden layer
    second: units in its second hidden layer
    classes: units in its output layer
    seconds: how long each batch size is timed
    seed: the random weights and inputs of the nets
    """
    generator = torch.Generator().manual_seed(seed)
    own = (inputs, first, second, classes)
    report = Report(
        f"An MLP {'-'.join(map(str, own))} has {count_parameters(own):,} parameters",
        "A fully connected layer from $n$ to $m$ units has $n m$ weights and $m$ biases, and needs $n m$ multiply-adds "
        "for a picture. A small net 3-4-2 with sigmoids shows the gradient of its hidden layer as "
        "backpropagation has it, $\\delta_1 = V^T (\\frac{\\partial L}{\\partial y} \\odot g'(z_2)) \\odot f'(z_1)$.",
    )
    _costs(report, "layers", DIGIT_CLASSIFIER)
    if own != DIGIT_CLASSIFIER:
        _costs(report, "layers-of-yours", own)
    _count_claims(report, generator)
    _hidden_delta(report, generator)
    _softmax_gradient(report, generator)
    if count_parameters(own) <= TIMED:
        _batch_sizes(report, own, seconds, tell)
    return report


def _costs(report: Report, name: str, sizes: Sequence[int]) -> None:
    layers = layer_costs(sizes)
    weights, parameters = sum(layer.weights for layer in layers), count_parameters(sizes)
    rows: list[tuple[object, ...]] = [
        (f"{layer.inputs} to {layer.outputs}", layer.weights, layer.outputs, layer.parameters, layer.multiply_adds,
         f"{layer.weights / weights:.1%}", FLOAT32 * layer.parameters) for layer in layers
    ]  # fmt: skip
    rows.append(("all", weights, sum(sizes[1:]), parameters, weights, "100 %", FLOAT32 * parameters))
    columns = ("layer", "weights", "biases", "parameters", "multiply-adds", "share of weights", "bytes, float32")
    report.table(name, columns, rows,
                 f"The net {'-'.join(map(str, sizes))}. Training with Adam needs {4 * FLOAT32 * parameters:,} bytes: "
                 "parameters, gradients and two moments.")  # fmt: skip


def _count_claims(report: Report, generator: torch.Generator) -> None:
    """The digit classifier counted on the net itself, not by the formulas (3.4.c1, 3.4.Q4)."""
    model = MLP(DIGIT_CLASSIFIER, generator=generator)
    image = torch.rand(1, 1, 28, 28, generator=generator)
    shapes = [z.shape[1] for z in activations(model, image, ["layers.0", "layers.1", "layers.2"])]
    report.claim("3.4.c1", sum(a == b for a, b in zip(shapes, (128, 64, 10), strict=True)), low=3, unit="layers",
                 detail=f"of 3 whose output, seen by hooks, is as stated: {shapes}")  # fmt: skip
    tensors = dict(model.named_parameters())
    weights = [tensor.numel() for name, tensor in tensors.items() if name.endswith("weight")]
    parameters = sum(tensor.numel() for tensor in tensors.values())
    report.claim("3.4.Q4.c1", sum(a == b for a, b in zip(weights, (100_352, 8_192, 640), strict=True)), low=3,
                 unit="layers", detail=f"of 3 whose weights number as stated: {weights}")  # fmt: skip
    report.claim("3.4.Q4.c2", parameters, low=108_500, high=109_500,
                 detail=f"with the {parameters - sum(weights)} biases; {sum(weights):,} without")  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        model(image)
    report.claim("3.4.Q4.c3", counter.get_total_flops() / 2, low=109_184, high=109_184,
                 detail="torch's FLOP counter on one picture, divided by 2")  # fmt: skip
    report.claim("3.4.Q4.c4", weights[0] / sum(weights), low=0.5, detail="the first layer's share of the weights")
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    report.claim("3.4.Q4.c5", size / 1e6, low=0.435, high=0.445, unit="MB", detail=f"{size:,} bytes of tensors")


def _hidden_delta(report: Report, generator: torch.Generator) -> None:
    """The hidden layer's delta as often printed, and as it is, against autograd (3.4.c3, 3.4.x1)."""
    model = MLP((3, 4, 2), activation="sigmoid", generator=generator).double()
    x = torch.rand(1, 3, generator=generator, dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    stored = model.forward_stored(x)
    y = torch.sigmoid(stored[-1])
    loss = 0.5 * (y - target).square().sum()
    (truth,) = torch.autograd.grad(loss, model.get_parameter("layers.0.bias"))  # z1's slope is that of its bias
    printed = deltas(model, stored, y - target)[0][0]
    whole = deltas(model, stored, (y - target) * y * (1 - y))[0][0]
    rows = [[f"h{i + 1}", *(f"{value:.6f}" for value in row)]
            for i, row in enumerate(torch.stack([truth, whole, printed], 1).tolist())]  # fmt: skip
    report.table("hidden-delta", ("unit", "autograd", "with g'(z2)", "without g'(z2)"), rows,
                 "The loss's gradient by each hidden unit's $z_1$: net 3-4-2, sigmoids, squared loss.")  # fmt: skip
    report.claim("3.4.c3", _apart(printed, truth), high=1e-6, detail="largest difference from autograd, as a share of "
                 "the largest gradient; net 3-4-2, sigmoid, squared loss")  # fmt: skip
    report.claim("3.4.x1", _apart(whole, truth), high=1e-6, detail="the same, with the factor g'(z2)")


def _softmax_gradient(report: Report, generator: torch.Generator) -> None:
    """Softmax and cross-entropy together: the gradient at the logits (3.4.x2)."""
    logits = (5 * torch.randn(100, 10, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(10, (100,), generator=generator)
    (truth,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
    report.claim("3.4.x2", _apart(logits.softmax(1) - F.one_hot(labels, 10), truth), high=1e-6,
                 detail="largest difference of p - onehot from autograd, 100 random cases of 10 classes")  # fmt: skip


def _apart(ours: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]) -> Tensor:
    return ((ours - truth).abs().max() / truth.abs().max()).detach()


def _batch_sizes(report: Report, sizes: Sequence[int], seconds: float, tell: Tell) -> None:
    """What a batch size costs in memory and brings in speed."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(sizes, generator=generator)
    rows = []
    batches = (1, 8, 64, 512, 4096)
    for i, batch in enumerate(batches):
        tell(Step(i, len(batches), f"timing batches of {batch}"))
        images, labels = torch.rand(batch, sizes[0], generator=generator), torch.zeros(batch, dtype=torch.int64)
        began, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - began < seconds:
            F.cross_entropy(model(images), labels).backward()
            steps += 1
        speed = round(steps * batch / (time.perf_counter() - began))
        rows.append((batch, FLOAT32 * batch * sum(sizes) / 1e6, speed, -(-60_000 // batch)))
    tell(Step(len(batches), len(batches), "done"))
    columns = ("batch size", "stored activations, MB", "pictures a second", "updates in an epoch of 60,000")
    report.table("batch-size", columns, rows, f"Forward and backward through {'-'.join(map(str, sizes))} on the CPU: "
                 "a larger batch reads the weights once for more pictures, but takes fewer steps.")  # fmt: skip
