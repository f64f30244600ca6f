"""EfficientNet-Lite: an ImageNet classifier of 4.7 million parameters that a laptop runs in real time.

Tan, Le, "EfficientNet: rethinking model scaling for convolutional neural networks" (2019), table 1 and section 3.3;
the Lite family: Liu, "Higher accuracy on vision models with EfficientNet-Lite" (TensorFlow blog, 2020).
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 32; best near 224. Out: logits (B, 1000).
Departs from the paper: as Lite does, ReLU6 for swish, no squeeze-and-excitation, stem and head not widened, first and
last stage not deepened; and no stochastic depth in training. Pictures are normalised inside the model.
"""

import math
from collections import OrderedDict
from functools import cache
from importlib.resources import files
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.images import check_image
from vivace.base.weights import load_weights

# the paper's table 1: (expansion t, channels c, blocks n, stride s, kernel k)
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: the output has ceil(n / stride) rows; an odd zero goes below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        (top, bottom), (left, right) = (self._pad(n) for n in x.shape[-2:])
        if top == bottom == left == right == self.kernel_size[0] // 2:
            return super().forward(x)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, None, self.stride, 0, 1, self.groups)

    def _pad(self, n: int) -> tuple[int, int]:
        """Zeros before and after a side of n pixels."""
        k, s = self.kernel_size[0], self.stride[0]
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        return total // 2, total - total // 2


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation and, unless it ends a block, ReLU6: layers `conv`, `norm`, `relu`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1,
                 relu: bool = True) -> None:  # fmt: skip
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups),
            norm=nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),  # TensorFlow's values
        )
        if relu:
            layers["relu"] = nn.ReLU6()  # not in place: a hook on `norm` must keep what it saw
        super().__init__(layers)


class Block(nn.Module):
    """Inverted residual: expand the channels, filter each alone, project back; add the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self.expand = ConvUnit(inputs, inner, 1)
        self.depthwise = ConvUnit(inner, inner, kernel, stride=stride, groups=inner)
        self.project = ConvUnit(inner, outputs, 1, relu=False)
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        inner = self.expand(x) if self.expands else x
        out = self.project(self.depthwise(inner))
        return x + out if self.residual else out


class EfficientNetLite(nn.Module):
    """`stem`, `blocks.0` to `blocks.15` (Lite0), `head`, global average pooling, `classifier`.

    For a layer before its activation ask for `stem.norm` or `blocks.5.expand.norm`, after it for `stem`, `head`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2, classes: int = 1000) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(127 / 255), persistent=False)
        self.register_buffer("std", torch.tensor(128 / 255), persistent=False)
        self.stem = ConvUnit(3, 32, 3, stride=2)
        blocks: list[Block] = []
        inputs = 32
        for index, (t, c, n, s, k) in enumerate(STAGES):
            outputs = _round_channels(c * width)
            repeats = n if index in (0, len(STAGES) - 1) else math.ceil(n * depth)
            for repeat in range(repeats):
                stride = s if repeat == 0 else 1
                blocks.append(Block(inputs, outputs, expansion=t, kernel=k, stride=stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvUnit(inputs, 1280, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, classes)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280 fh fw"]:
        """The last feature maps, a 32nd of the picture's size: what the classifier averages."""
        return self.head(self.blocks(self.stem((images - self.mean) / self.std)))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.dropout(self.features(images).mean((2, 3))))


def efficientnet_lite0(*, weights: Literal["imagenet"] | None = None) -> EfficientNetLite:
    """EfficientNet-Lite0: with ImageNet's weights in evaluation mode, or untrained."""
    model = EfficientNetLite()
    if weights == "imagenet":
        model.load_state_dict(_renamed(load_weights("efficientnet-lite0")))
        model.eval()
    elif weights is not None:
        raise unknown("weights for EfficientNet-Lite0", weights, ["imagenet"])
    return model


def efficientnet_lite1() -> EfficientNetLite:
    """EfficientNet-Lite1, untrained; made for 240 x 240."""
    return EfficientNetLite(width=1.0, depth=1.1)


def efficientnet_lite2() -> EfficientNetLite:
    """EfficientNet-Lite2, untrained; made for 260 x 260."""
    return EfficientNetLite(width=1.1, depth=1.2, dropout=0.3)


def efficientnet_lite3() -> EfficientNetLite:
    """EfficientNet-Lite3, untrained; made for 280 x 280."""
    return EfficientNetLite(width=1.2, depth=1.4, dropout=0.3)


def efficientnet_lite4() -> EfficientNetLite:
    """EfficientNet-Lite4, untrained; made for 300 x 300."""
    return EfficientNetLite(width=1.4, depth=1.8, dropout=0.3)


@cache
def class_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes in the order of the logits, each name once."""
    return tuple(files("vivace.cnn").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def class_index(name: str) -> int:
    """The logit of a class: class_index("tabby") is 281. InputError with the nearest names where there is none."""
    lower = [known.lower() for known in class_names()]
    if name.strip().lower() not in lower:
        raise unknown("ImageNet class", name, class_names())
    return lower.index(name.strip().lower())


@torch.no_grad()
def classify(model: nn.Module, images: Float[Tensor, "b 3 h w"], *, top: int = 5) -> list[list[tuple[str, float]]]:
    """For each picture the `top` likeliest classes with their probabilities, the likeliest first."""
    check_image(images)
    if min(images.shape[-2:]) < 32:
        raise InputError(f"a picture to classify has at least 32 x 32 pixels; this one has {tuple(images.shape[-2:])}")
    values, indices = model(images).softmax(1).topk(top)
    names = class_names()
    return [
        [(names[index], value) for index, value in zip(row.tolist(), chances.tolist(), strict=True)]
        for row, chances in zip(indices, values, strict=True)
    ]


def _round_channels(channels: float) -> int:
    """To a multiple of 8, never more than a tenth below (the paper's reference code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published names (`_blocks.1._bn0.weight`) as ours (`blocks.1.expand.norm.weight`)."""
    block = {
        "_expand_conv": "expand.conv", "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv", "_bn1": "depthwise.norm",
        "_project_conv": "project.conv", "_bn2": "project.norm",
    }  # fmt: skip
    outside = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm",
               "_fc": "classifier"}  # fmt: skip

    def ours(name: str) -> str:
        layer, _, parameter = name.rpartition(".")
        if layer.startswith("_blocks."):
            _, number, inside = layer.split(".")
            return f"blocks.{number}.{block[inside]}.{parameter}"
        return f"{outside[layer]}.{parameter}"

    return {ours(name): tensor for name, tensor in state.items()}
