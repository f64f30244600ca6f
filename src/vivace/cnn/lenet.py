"""LeNet-5: the network of 1998 that read the digits on cheques, and what people build under its name today.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition" (1998), section II.B, table I,
appendix A.
In: grey pictures (B, 1, 28, 28), which get a border of two pixels, or (B, 1, 32, 32), white on black, [0, 1].
Out: logits (B, classes).
Departs from the paper: the codes of the classes are digits in seven segments on 7 x 12 places, not the paper's drawn
ones, and random where there are more than ten classes; logits are the negative squared distances to them, so that
cross-entropy is the paper's eq. 9 without its rubbish class. `modern=True` is the form of today's textbooks.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built

# table I: the maps of S2 that each map of C3 sees; three neighbours, four, two pairs, all
TABLE = (
    *([(start + i) % 6 for i in range(3)] for start in range(6)),
    *([(start + i) % 6 for i in range(4)] for start in range(6)),
    [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5],
    range(6),
)  # fmt: skip
SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")  # of 0 to 9


class LeNet5(nn.Module):
    """Layers by the paper's names: `c1`, `s2`, `c3`, `s4`, `c5`, `f6`, `output`, each but the last bent by `bend`.

    The paper's: 60,000 parameters, subsampling with weights, C3 by table I, scaled tanh, distances to fixed codes. The
    modern form: 61,706 parameters, max pooling, all of S2 for C3, ReLU, a fully connected output.
    """

    def __init__(self, *, classes: int = 10, modern: bool = False) -> None:
        super().__init__()
        self.normalization = Normalization([0.1 / 1.275], [1 / 1.275])  # 0 to -0.1 and 1 to 1.175: mean 0, variance 1
        self.bend = nn.ReLU() if modern else ScaledTanh()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.MaxPool2d(2) if modern else Subsampling(6)
        self.c3 = nn.Conv2d(6, 16, 5) if modern else TableConv2d()
        self.s4 = nn.MaxPool2d(2) if modern else Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, classes) if modern else Distances(classes)
        if not modern:
            self._initialise()

    def _initialise(self) -> None:
        """Uniform within 2.4 over the inputs of a unit, biases too (appendix A)."""
        for layer, inputs in ((self.c1, 25), (self.s2, 4), (self.s4, 4), (self.c5, 400), (self.f6, 120)):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -2.4 / inputs, 2.4 / inputs)
        weights, biases = self.c3.parameters()
        with torch.no_grad():
            weights.uniform_(-1, 1).mul_(
                weights.new_tensor([2.4 / (25 * len(seen)) for seen in TABLE for _ in seen])[:, None, None]
            )
            biases.uniform_(-1, 1).mul_(biases.new_tensor([2.4 / (25 * len(seen)) for seen in TABLE]))

    def forward(self, images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b k"]:
        if images.shape[-2:] not in ((28, 28), (32, 32)):
            raise InputError(f"LeNet-5 takes pictures of 28 x 28 or 32 x 32; these are {tuple(images.shape[-2:])}")
        border = (32 - images.shape[-1]) // 2
        x = self.normalization(F.pad(images, [border] * 4))  # (b, 1, 32, 32)
        x = self.bend(self.c1(x))  # (b, 6, 28, 28)
        x = self.bend(self.s2(x))  # (b, 6, 14, 14)
        x = self.bend(self.c3(x))  # (b, 16, 10, 10)
        x = self.bend(self.s4(x))  # (b, 16, 5, 5)
        x = self.bend(self.c5(x))  # (b, 120, 1, 1)
        return self.output(self.bend(self.f6(x.flatten(1))))


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 a / 3): f(1) = 1 and f(-1) = -1, where it bends most (appendix A)."""

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return 1.7159 * torch.tanh(2 / 3 * a)


class Subsampling(nn.Module):
    """The sum of each 2 x 2 places times a weight, plus a bias: two numbers that are learned for each map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c oh ow"]:
        return 4 * F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class TableConv2d(nn.Module):
    """A 5 x 5 convolution of which each output sees only some inputs; only the kernels that exist are parameters."""

    outputs: Tensor
    inputs: Tensor

    def __init__(self, table: Sequence[Sequence[int]] = TABLE) -> None:
        super().__init__()
        pairs = torch.tensor([(k, c) for k, seen in enumerate(table) for c in seen], device="cpu")
        self.shape = len(table), max(map(max, table)) + 1, 5, 5
        self.register_buffer("outputs", pairs[:, 0], persistent=False)
        self.register_buffer("inputs", pairs[:, 1], persistent=False)
        self.weight = nn.Parameter(torch.empty(len(pairs), 5, 5))
        self.bias = nn.Parameter(torch.empty(len(table)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k oh ow"]:
        kernels = self.weight.new_zeros(self.shape).index_put((self.outputs, self.inputs), self.weight)
        return F.conv2d(x, kernels, self.bias)


class Distances(nn.Module):
    """The negative squared distance of F6 to each class's code of -1 and 1 (Euclidean RBF, eq. 7); nothing to learn."""

    codes: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", class_codes(classes), persistent=False)

    def forward(self, x: Float[Tensor, "b 84"]) -> Float[Tensor, "b k"]:
        return -(x[:, None] - self.codes).square().sum(2)


def lenet5(*, classes: int = 10, weights: Weights = None, modern: bool = False, tell: Tell = ignore) -> LeNet5:
    """LeNet-5, untrained (no weights of it are published): the paper's 60,000 parameters, or the modern 61,706."""
    return built(partial(LeNet5, modern=modern), "lenet5", classes=classes, weights=weights, tell=tell)


def class_codes(classes: int) -> Float[Tensor, "k 84"]:
    """A code of -1 and 1 for each class: the digits as drawn on 7 x 12 places, or random ones for more classes."""
    if classes > len(SEGMENTS):
        same = torch.Generator("cpu")  # always begins with the same seed
        return 2.0 * torch.randint(2, (classes, 84), generator=same, device="cpu") - 1
    whole, upper, lower = slice(None), slice(6), slice(6, None)
    bars = {"a": (0, whole), "g": (slice(5, 7), whole), "d": (-1, whole),
            "f": (upper, 0), "b": (upper, -1), "e": (lower, 0), "c": (lower, -1)}  # fmt: skip
    codes = -torch.ones(classes, 12, 7, device="cpu")
    for code, lit in zip(codes, SEGMENTS, strict=False):
        for segment in lit:
            code[bars[segment]] = 1
    return codes.flatten(1)
