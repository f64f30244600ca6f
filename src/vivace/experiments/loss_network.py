"""The network whose features stand for what people see: in style transfer, textures and perceptual losses."""

from typing import Literal

from torch import nn

from vivace.cnn import efficientnet_lite0, fold_batch_norms, vgg19
from vivace.style import LITE0, VGG19, Gaze

Backbone = Literal["efficientnet-lite0", "vgg19"]


def loss_network(name: Backbone = "efficientnet-lite0") -> tuple[nn.Module, Gaze]:
    """A pretrained network without gradients for its weights, and where to look in it.

    EfficientNet-Lite0 is at hand offline, its batch norms folded: a fifth faster. VGG-19 is the papers' and needs its
    published weights; its pooling averages, as Gatys'.
    """
    if name == "vgg19":
        return vgg19(weights="imagenet", pooling="average").requires_grad_(False), VGG19
    return fold_batch_norms(efficientnet_lite0(weights="imagenet")).requires_grad_(False), LITE0
