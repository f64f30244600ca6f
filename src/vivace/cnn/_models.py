"""One call that makes any of the architectures, by name."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import unknown
from vivace.base.hooks import activations, find_layer

# the file of this room that has the function of the architecture's name
ARCHITECTURES = {
    "alexnet": "alexnet",
    **dict.fromkeys(("densenet121", "densenet169", "densenet201", "densenet40"), "densenet"),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), "vgg"),
    **dict.fromkeys((f"efficientnet_lite{scale}" for scale in range(5)), "efficientnet_lite"),
    "mobilenet_v2": "mobilenet",
    **dict.fromkeys((f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110)), "resnet"),
}


def create_model(name: str, *, classes: int = 1000, weights: str | None = None, features: Sequence[str] = (),
                 **options: Any) -> nn.Module:  # fmt: skip
    """The architecture `name` (a key of `ARCHITECTURES`), untrained or with published weights.

        create_model("resnet50", classes=10)                                # pictures (B, 3, H, W) -> logits (B, 10)
        create_model("resnet50", weights="imagenet", features=["layer2"])   # -> {"layer2": (B, 512, H / 8, W / 8)}

    classes: how many logits; with weights made for another number, the last layer is new and untrained
    features: the dotted names of layers; the model then gives their maps, and computes nothing beyond them
    options: what the architecture's own function takes besides
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    module = import_module(f"vivace.cnn.{ARCHITECTURES[name]}")
    model: nn.Module = getattr(module, name)(classes=classes, weights=weights, **options)
    return FeatureExtractor(model, features) if features else model


class FeatureExtractor(nn.Module):
    """A model that answers with the maps of some of its layers, by name, in one pass that ends at the last of them."""

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        for layer in layers:
            find_layer(model, layer)
        self.model = model
        self.layers = tuple(layers)
        self.train(model.training)

    def forward(self, images: Float[Tensor, "b c h w"]) -> dict[str, torch.Tensor]:
        return dict(zip(self.layers, activations(self.model, images, self.layers), strict=True))
