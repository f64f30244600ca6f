"""EfficientNet-Lite: an ImageNet classifier of 4.7 million parameters that a laptop runs in real time.

Tan, Le, "EfficientNet: rethinking model scaling for convolutional neural networks" (2019), table 1 and section 3.3;
the Lite family: Liu, "Higher accuracy on vision models with EfficientNet-Lite" (TensorFlow blog, 2020).
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 32; best near 224. Out: logits (B, 1000).
Departs from the paper: as Lite does, ReLU6 for swish, no squeeze-and-excitation, stem and head not widened, first and
last stage not deepened; and no stochastic depth in training. Pictures are normalised inside the model.
"""

import math
from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built, round_channels

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

SCALES = ((1.0, 1.0, 0.2), (1.0, 1.1, 0.2), (1.1, 1.2, 0.3), (1.2, 1.4, 0.3), (1.4, 1.8, 0.3))  # width, depth, dropout

# the published names of layers, inside a block and outside, as ours
INSIDE = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv", "_bn1": "depthwise.norm",
    "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip
OUTSIDE = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm",
           "_fc": "classifier"}  # fmt: skip


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: the output has ceil(n / stride) rows; an odd zero goes below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        (top, bottom), (left, right) = (self._pad(n) for n in x.shape[-2:])
        if top == bottom == left == right == self.kernel_size[0] // 2:
            return super().forward(x)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, 0, 1, self.groups)

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

    def __init__(self, *, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2, classes: int = 1000) -> None:
        super().__init__()
        self.normalization = Normalization((127 / 255,) * 3, (128 / 255,) * 3)
        self.stem = ConvUnit(3, 32, 3, stride=2)
        blocks: list[Block] = []
        inputs = 32
        for index, (t, c, n, s, k) in enumerate(STAGES):
            outputs = round_channels(c * width)
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
        return self.head(self.blocks(self.stem(self.normalization(images))))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.dropout(self.features(images).mean((2, 3))))


def efficientnet_lite0(*, classes: int = 1000, weights: Weights = None, tell: Tell = ignore) -> EfficientNetLite:
    """EfficientNet-Lite0: with ImageNet's weights in evaluation mode, or untrained."""
    return _lite(0, classes, weights, tell)


def efficientnet_lite1(*, classes: int = 1000, weights: Weights = None, tell: Tell = ignore) -> EfficientNetLite:
    """EfficientNet-Lite1, untrained (no weights of it are published as tensors); made for 240 x 240."""
    return _lite(1, classes, weights, tell)


def efficientnet_lite2(*, classes: int = 1000, weights: Weights = None, tell: Tell = ignore) -> EfficientNetLite:
    """EfficientNet-Lite2, untrained (no weights of it are published as tensors); made for 260 x 260."""
    return _lite(2, classes, weights, tell)


def efficientnet_lite3(*, classes: int = 1000, weights: Weights = None, tell: Tell = ignore) -> EfficientNetLite:
    """EfficientNet-Lite3, untrained (no weights of it are published as tensors); made for 280 x 280."""
    return _lite(3, classes, weights, tell)


def efficientnet_lite4(*, classes: int = 1000, weights: Weights = None, tell: Tell = ignore) -> EfficientNetLite:
    """EfficientNet-Lite4, untrained (no weights of it are published as tensors); made for 300 x 300."""
    return _lite(4, classes, weights, tell)


def _lite(scale: int, classes: int, weights: Weights, tell: Tell) -> EfficientNetLite:
    width, depth, dropout = SCALES[scale]
    build = partial(EfficientNetLite, width=width, depth=depth, dropout=dropout)
    return built(build, f"efficientnet-lite{scale}", classes=classes, weights=weights, tell=tell, rename=_renamed)


def _renamed(name: str) -> str:
    """A published parameter's name (`_blocks.1._bn0.weight`) as ours (`blocks.1.expand.norm.weight`)."""
    layer, _, parameter = name.rpartition(".")
    if layer.startswith("_blocks."):
        _, number, inside = layer.split(".")
        return f"blocks.{number}.{INSIDE[inside]}.{parameter}"
    return f"{OUTSIDE[layer]}.{parameter}"
