"""ResNet: blocks that add what they compute to what they were given, so that more layers make training no worse.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (2015), eq. 1 and 2, table 1; section 4.2: CIFAR-10.
In: pictures (B, 3, H, W), RGB, [0, 1]; made for 224 x 224, or for 32 x 32 (`CifarResNet`). Out: logits (B, classes).
Departs from the paper: the 3 x 3 convolution of a bottleneck has its stride, not the first 1 x 1, as in torchvision,
whose parameter names these are; pictures are normalised inside the model, by channel, not by pixel.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built


class BasicBlock(nn.Module):
    """relu(F(x) + x) with two 3 x 3 convolutions in F; `downsample` gives x the shape of F(x) where they differ.

    Without `residual`, relu(F(x)): the same layers in a plain network.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int = 1, downsample: nn.Module | None = None,
                 residual: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample
        self.residual = residual

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class Bottleneck(nn.Module):
    """relu(F(x) + x) with F of 1 x 1, 3 x 3 and 1 x 1 convolutions: the 3 x 3 works on a quarter of the channels."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class PadShortcut(nn.Module):
    """The paper's option A: every second pixel of x, and channels of zeros up to the new number; no parameters."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.zeros, self.stride = outputs - inputs, stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.zeros))


def _stage(block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, count: int, *, stride: int
           ) -> nn.Sequential:  # fmt: skip
    """`count` blocks; the first has the stride, and a projection of its input (option B) where the shape changes."""
    outputs = width * block.expansion
    projection = None
    if stride != 1 or inputs != outputs:
        projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride=stride, downsample=projection)
    return nn.Sequential(first, *(block(outputs, width) for _ in range(count - 1)))


class ResNet(nn.Module):
    """`conv1`, `bn1`, `layer1` to `layer4`, global average, `fc`: 1 + (2 or 3) * blocks + 1 layers with weights.

    blocks: how many of them in each of the four stages
    zero_init_residual: each block begins as relu(x), its last normalisation's weights being zero; the paper's don't
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int], *, classes: int = 1000,
                 zero_init_residual: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.normalization = Normalization()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        one, two, three, four = blocks
        self.layer1 = _stage(block, 64, 64, one, stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, two, stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, three, stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, four, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, classes)
        _initialise(self, zero_init_residual=zero_init_residual)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalization(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _cifar_stage(inputs: int, outputs: int, count: int, *, residual: bool) -> nn.Sequential:
    """`count` blocks; the first halves the map and pads its input with zeros (option A) where channels are added."""
    stride = 1 if inputs == outputs else 2
    padding = PadShortcut(inputs, outputs, stride=stride) if residual and stride > 1 else None
    first = BasicBlock(inputs, outputs, stride=stride, downsample=padding, residual=residual)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, residual=residual) for _ in range(count - 1)))


class CifarResNet(nn.Module):
    """`conv1`, `bn1`, `layer1` to `layer3`, global average, `fc`: 6n + 2 layers with weights, 16, 32 and 64 maps.

    depth: 6n + 2: 20, 32, 44, 56, 110; 8 at least
    width: maps of the first stage
    residual: False gives the plain network of the same layers, with as many parameters
    zero_init_residual: each block begins as relu(x), its last normalisation's weights being zero; the paper's don't
    """

    def __init__(self, *, depth: int = 20, width: int = 16, classes: int = 10, residual: bool = True,
                 zero_init_residual: bool = False) -> None:  # fmt: skip
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"a CIFAR ResNet has 6n + 2 layers: 8, 14, 20, ...; got depth={depth}")
        self.normalization = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # CIFAR-10's
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        count = (depth - 2) // 6
        self.layer1 = _cifar_stage(width, width, count, residual=residual)
        self.layer2 = _cifar_stage(width, 2 * width, count, residual=residual)
        self.layer3 = _cifar_stage(2 * width, 4 * width, count, residual=residual)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)
        _initialise(self, zero_init_residual=residual and zero_init_residual)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        x = self.relu(self.bn1(self.conv1(self.normalization(images))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _initialise(model: nn.Module, *, zero_init_residual: bool) -> None:
    """He et al. (2015): a convolution's weights are as large as keeps the gradient's variance through ReLUs."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_init_residual and isinstance(module, BasicBlock | Bottleneck):
            last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
            nn.init.zeros_(last.weight)


def resnet18(*, classes: int = 1000, weights: Weights = None, zero_init_residual: bool = False,
             tell: Tell = ignore) -> ResNet:  # fmt: skip
    """ResNet-18: with ImageNet's weights (47 MB) in evaluation mode, or untrained."""
    build = partial(ResNet, BasicBlock, (2, 2, 2, 2), zero_init_residual=zero_init_residual)
    return built(build, "resnet18", classes=classes, weights=weights, tell=tell)


def resnet34(*, classes: int = 1000, weights: Weights = None, zero_init_residual: bool = False,
             tell: Tell = ignore) -> ResNet:  # fmt: skip
    """ResNet-34: with ImageNet's weights (87 MB) in evaluation mode, or untrained."""
    build = partial(ResNet, BasicBlock, (3, 4, 6, 3), zero_init_residual=zero_init_residual)
    return built(build, "resnet34", classes=classes, weights=weights, tell=tell)


def resnet50(*, classes: int = 1000, weights: Weights = None, zero_init_residual: bool = False,
             tell: Tell = ignore) -> ResNet:  # fmt: skip
    """ResNet-50: with ImageNet's weights (103 MB) in evaluation mode, or untrained."""
    build = partial(ResNet, Bottleneck, (3, 4, 6, 3), zero_init_residual=zero_init_residual)
    return built(build, "resnet50", classes=classes, weights=weights, tell=tell)


def resnet101(*, classes: int = 1000, weights: Weights = None, zero_init_residual: bool = False,
              tell: Tell = ignore) -> ResNet:  # fmt: skip
    """ResNet-101: with ImageNet's weights (179 MB) in evaluation mode, or untrained."""
    build = partial(ResNet, Bottleneck, (3, 4, 23, 3), zero_init_residual=zero_init_residual)
    return built(build, "resnet101", classes=classes, weights=weights, tell=tell)


def resnet152(*, classes: int = 1000, weights: Weights = None, zero_init_residual: bool = False,
              tell: Tell = ignore) -> ResNet:  # fmt: skip
    """ResNet-152: with ImageNet's weights (242 MB) in evaluation mode, or untrained."""
    build = partial(ResNet, Bottleneck, (3, 8, 36, 3), zero_init_residual=zero_init_residual)
    return built(build, "resnet152", classes=classes, weights=weights, tell=tell)


def resnet20(*, classes: int = 10, weights: Weights = None, residual: bool = True, zero_init_residual: bool = False,
             tell: Tell = ignore) -> CifarResNet:  # fmt: skip
    """ResNet-20 for 32 x 32 pictures: with CIFAR-10's weights ("cifar10") in evaluation mode, or untrained."""
    return _cifar(20, classes, weights, residual, zero_init_residual, tell)


def resnet32(*, classes: int = 10, weights: Weights = None, residual: bool = True, zero_init_residual: bool = False
             ) -> CifarResNet:  # fmt: skip
    """ResNet-32 for 32 x 32 pictures, untrained."""
    return _cifar(32, classes, weights, residual, zero_init_residual)


def resnet44(*, classes: int = 10, weights: Weights = None, residual: bool = True, zero_init_residual: bool = False
             ) -> CifarResNet:  # fmt: skip
    """ResNet-44 for 32 x 32 pictures, untrained."""
    return _cifar(44, classes, weights, residual, zero_init_residual)


def resnet56(*, classes: int = 10, weights: Weights = None, residual: bool = True, zero_init_residual: bool = False
             ) -> CifarResNet:  # fmt: skip
    """ResNet-56 for 32 x 32 pictures, untrained."""
    return _cifar(56, classes, weights, residual, zero_init_residual)


def resnet110(*, classes: int = 10, weights: Weights = None, residual: bool = True, zero_init_residual: bool = False
              ) -> CifarResNet:  # fmt: skip
    """ResNet-110 for 32 x 32 pictures, untrained."""
    return _cifar(110, classes, weights, residual, zero_init_residual)


def _cifar(depth: int, classes: int, weights: Weights, residual: bool, zero: bool, tell: Tell = ignore) -> CifarResNet:
    if weights is not None and not residual:
        raise InputError(f"trained weights are of the residual network; residual=False is untrained, not {weights!r}")
    build = partial(CifarResNet, depth=depth, residual=residual, zero_init_residual=zero)
    return built(build, f"resnet{depth}", classes=classes, weights=weights, tell=tell)
