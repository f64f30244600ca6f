"""MobileNetV2: an ImageNet classifier for telephones, made of convolutions that filter each channel alone.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear bottlenecks" (2018), table 2; the
depthwise separable convolution: Howard et al., "MobileNets" (2017), section 3.1.
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 32; made for 224. Out: logits (B, classes).
Departs from the paper: pictures are normalised inside the model with torchvision's mean and deviation, dropout is 0.2,
weights start as in torchvision, whose parameter names these are; `reduction` below 32 is for pictures below 100 pixels.
"""

from functools import partial
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built, round_channels

# the paper's table 2: (expansion t, channels c, blocks n, stride s)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

Reduction = Literal[2, 4, 8, 16, 32]


class DepthwiseSeparable(nn.Sequential):
    """A convolution in two: `depthwise` filters each of C channels alone, `pointwise` mixes them at each place to D.

    k^2 C + C D weights stand for the k^2 C D of a full convolution, 1 / D + 1 / k^2 of them; and so do multiplications.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, kernel, stride=stride, padding=kernel // 2, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation and ReLU6: layers 0, 1 and 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),  # a third less time; `base.hooks` keeps what a hook on 1 saw
        )


class InvertedResidual(nn.Module):
    """Expand the channels, filter each alone, project back without an activation; add the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv = nn.Sequential(
            *([ConvUnit(inputs, inner, 1)] if expansion > 1 else []),
            ConvUnit(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """`features.0` to `features.18`, global average pooling, `classifier`.

    width: the paper's multiplier of all channels (the last layer's, only above 1)
    reduction: how many times smaller than the picture the last maps are; below 32 the first strides of 2 are left out
    """

    def __init__(self, *, width: float = 1.0, reduction: Reduction = 32, classes: int = 1000) -> None:
        super().__init__()
        if not 0.05 <= width <= 10:
            raise InputError(f"the width multiplies the channels by 0.05 to 10; got {width:g}")
        if reduction not in get_args(Reduction):
            raise InputError(f"maps are {', '.join(map(str, get_args(Reduction)))} times smaller; got {reduction}")
        self.normalization = Normalization()
        halve_from = 32 // reduction  # a stride of 2 that takes the reduction to this or less is left out
        reached = 2
        inputs = round_channels(32 * width)
        layers: list[nn.Module] = [ConvUnit(3, inputs, 3, stride=2 if reached > halve_from else 1)]
        for t, c, n, s in STAGES:
            outputs = round_channels(c * width)
            reached *= s
            for repeat in range(n):
                stride = s if repeat == 0 and reached > halve_from else 1
                layers.append(InvertedResidual(inputs, outputs, expansion=t, stride=stride))
                inputs = outputs
        last = round_channels(1280 * max(1.0, width))
        self.features = nn.Sequential(*layers, ConvUnit(inputs, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        self._initialise()

    def _initialise(self) -> None:
        """He's way, by outputs; batch normalisations begin as the identity, as they always do."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out")
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.01)
        nn.init.zeros_(self.get_parameter("classifier.1.bias"))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.features(self.normalization(images)).mean((2, 3)))


def mobilenet_v2(*, width: float = 1.0, reduction: Reduction = 32, classes: int = 1000, weights: Weights = None,
                 tell: Tell = ignore) -> MobileNetV2:  # fmt: skip
    """MobileNetV2: with ImageNet's weights (14 MB) in evaluation mode, or untrained."""
    if weights is not None and width != 1:
        raise InputError(f"ImageNet's weights are published for width 1; got {width:g}")
    build = partial(MobileNetV2, width=width, reduction=reduction)
    return built(build, "mobilenet_v2", classes=classes, weights=weights, tell=tell)
