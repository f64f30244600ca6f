"""VGG: nothing but 3x3 convolutions and pooling, deep; the network whose features style transfer is made of.

Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition" (2014), table 1 (A, B, D, E).
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 32; made for 224. Out: logits (B, classes).
Departs from the paper: maps of other sizes are averaged to 7 x 7 before the fully connected layers, as in torchvision,
whose parameter names these are; pictures are normalised inside the model with torchvision's mean and deviation; weights
start as He et al. (2015) have it, not as N(0, 0.01).
"""

from functools import partial
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built, pictures_of

# convolutions in each of the five stages; every stage ends in a pooling that halves the map
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)

Pooling = Literal["max", "average"]


class VGG(nn.Module):
    """`features`: convolutions, ReLUs and poolings in one row; `classifier`: three fully connected layers.

    `pooling="average"` is what Gatys et al. take for style transfer. `layer` gives the papers' names for layers.
    """

    def __init__(self, *, depth: Literal[11, 13, 16, 19] = 19, pooling: Pooling = "max", classes: int = 1000) -> None:
        super().__init__()
        if depth not in STAGES:
            raise InputError(f"a VGG has {', '.join(map(str, STAGES))} layers with weights; got depth={depth}")
        if pooling not in get_args(Pooling):
            raise unknown("pooling", pooling, get_args(Pooling))
        self.normalization = Normalization()
        layers: list[nn.Module] = []
        self.names: dict[str, str] = {}
        inputs = 3
        for stage, (count, outputs) in enumerate(zip(STAGES[depth], CHANNELS, strict=True), start=1):
            for number in range(1, count + 1):
                self.names[f"conv{stage}_{number}"] = f"features.{len(layers)}"
                self.names[f"relu{stage}_{number}"] = f"features.{len(layers) + 1}"
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            self.names[f"pool{stage}"] = f"features.{len(layers)}"
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )  # fmt: skip
        for name, index in (("fc6", 0), ("relu6", 1), ("fc7", 3), ("relu7", 4), ("fc8", 6)):
            self.names[name] = f"classifier.{index}"
        self._initialise()

    def _initialise(self) -> None:
        """He's way, from which every depth trains at once; the paper trained A first and grew E from it."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)

    def layer(self, name: str) -> str:
        """The dotted name of a layer that papers call conv4_2, relu4_2, pool4, fc7: "features.22" in VGG-19."""
        if name not in self.names:
            raise unknown("VGG layer", name, self.names)
        return self.names[name]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        with pictures_of(images, 32):
            maps = self.features(self.normalization(images))
        return self.classifier(self.avgpool(maps).flatten(1))


def vgg11(*, classes: int = 1000, weights: Weights = None, pooling: Pooling = "max", tell: Tell = ignore) -> VGG:
    """VGG-11 (the paper's A): with ImageNet's weights (531 MB) in evaluation mode, or untrained."""
    return built(partial(VGG, depth=11, pooling=pooling), "vgg11", classes=classes, weights=weights, tell=tell)


def vgg13(*, classes: int = 1000, weights: Weights = None, pooling: Pooling = "max", tell: Tell = ignore) -> VGG:
    """VGG-13 (the paper's B): with ImageNet's weights (532 MB) in evaluation mode, or untrained."""
    return built(partial(VGG, depth=13, pooling=pooling), "vgg13", classes=classes, weights=weights, tell=tell)


def vgg16(*, classes: int = 1000, weights: Weights = None, pooling: Pooling = "max", tell: Tell = ignore) -> VGG:
    """VGG-16 (the paper's D): with ImageNet's weights (553 MB) in evaluation mode, or untrained."""
    return built(partial(VGG, depth=16, pooling=pooling), "vgg16", classes=classes, weights=weights, tell=tell)


def vgg19(*, classes: int = 1000, weights: Weights = None, pooling: Pooling = "max", tell: Tell = ignore) -> VGG:
    """VGG-19 (the paper's E): with ImageNet's weights (575 MB) in evaluation mode, or untrained."""
    return built(partial(VGG, depth=19, pooling=pooling), "vgg19", classes=classes, weights=weights, tell=tell)
