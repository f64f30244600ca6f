"""AlexNet: five convolutions and three fully connected layers, with which deep learning won ImageNet in 2012.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (2012), section 3 and
figure 2 (`columns=2, local_response=True`); Krizhevsky, "One weird trick for parallelizing convolutional neural
networks" (2014), the net of one column that torchvision has and that is the default: published weights fit it alone.
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 63; made for 224. Out: logits (B, classes).
Departs from the paper: maps of other sizes are averaged to 6 x 6 before the fully connected layers, as in torchvision,
whose parameter names these are; pictures are normalised inside the model with torchvision's mean and deviation, where
the paper's are bytes, 0 to 255, minus their mean; weights start as torch has them, not as N(0, 0.01) with biases of 1.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built, pictures_of
from vivace.cnn.local_response_normalization import LocalResponseNormalization

CHANNELS = {1: (64, 192, 384, 256, 256), 2: (96, 256, 384, 384, 256)}  # by the number of columns


class AlexNet(nn.Module):
    """`features`: convolutions, ReLUs and overlapping poolings in one row; `classifier`: dropout and three layers.

    `columns=2` is the paper's net for two GPUs: in the second, fourth and fifth convolution each half of the channels
    sees only its own half of the maps. `local_response=True` normalises after the first two ReLUs, as the paper does.
    """

    def __init__(self, *, columns: int = 1, local_response: bool = False, dropout: float = 0.5,
                 classes: int = 1000) -> None:  # fmt: skip
        super().__init__()
        if columns not in CHANNELS:
            raise InputError(f"AlexNet has 1 column or 2; got {columns}")
        one, two, three, four, five = CHANNELS[columns]
        self.normalization = Normalization()
        self.features = nn.Sequential(
            nn.Conv2d(3, one, 11, stride=4, padding=2), _bend(local_response), nn.MaxPool2d(3, 2),
            nn.Conv2d(one, two, 5, padding=2, groups=columns), _bend(local_response), nn.MaxPool2d(3, 2),
            nn.Conv2d(two, three, 3, padding=1), nn.ReLU(),
            nn.Conv2d(three, four, 3, padding=1, groups=columns), nn.ReLU(),
            nn.Conv2d(four, five, 3, padding=1, groups=columns), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(five * 6 * 6, 4096), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        with pictures_of(images, 63):
            maps = self.features(self.normalization(images))
        return self.classifier(self.avgpool(maps).flatten(1))


def _bend(local_response: bool) -> nn.Module:
    """A ReLU, and what follows it in the same place of the row, so that the layers behind keep their numbers."""
    return nn.Sequential(nn.ReLU(), LocalResponseNormalization()) if local_response else nn.ReLU()


def alexnet(*, classes: int = 1000, weights: Weights = None, columns: int = 1, local_response: bool = False,
            tell: Tell = ignore) -> AlexNet:  # fmt: skip
    """AlexNet: with ImageNet's weights (244 MB; one column, no local response) in evaluation mode, or untrained."""
    if weights is not None and (columns != 1 or local_response):
        raise InputError("AlexNet's published weights are those of one column without local response normalisation")
    build = partial(AlexNet, columns=columns, local_response=local_response)
    return built(build, "alexnet", classes=classes, weights=weights, tell=tell)
