"""The fully convolutional networks of the paper, on VGG-16."""

from collections.abc import Sequence

from torch import nn

from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Weights
from vivace.cnn.fully_convolutional import FullyConvolutional, fc_head
from vivace.cnn.vgg import vgg16


def fcn32s(*, classes: int = 21, weights: Weights = None, tell: Tell = ignore) -> FullyConvolutional:
    """FCN-32s on VGG-16, as the paper's but with scores untrained: the backbone with ImageNet's weights, or without."""
    return _on_vgg(["features.30"], classes, weights, tell)


def fcn16s(*, classes: int = 21, weights: Weights = None, tell: Tell = ignore) -> FullyConvolutional:
    """FCN-16s on VGG-16: FCN-32s with the scores of pool4 as well."""
    return _on_vgg(["features.23", "features.30"], classes, weights, tell)


def fcn8s(*, classes: int = 21, weights: Weights = None, tell: Tell = ignore) -> FullyConvolutional:
    """FCN-8s on VGG-16: FCN-16s with the scores of pool3 as well."""
    return _on_vgg(["features.16", "features.23", "features.30"], classes, weights, tell)


def _on_vgg(layers: Sequence[str], classes: int, weights: Weights, tell: Tell) -> FullyConvolutional:
    vgg = vgg16(weights=weights, tell=tell)
    head = fc_head(vgg.classifier)
    vgg.classifier = nn.Sequential()  # its weights are the head's now
    return FullyConvolutional(vgg, layers, classes=classes, head=head)
