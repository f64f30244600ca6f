"""One call that makes any of the architectures, by name."""

import json
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole
from vivace.base.hooks import activations, find_layer

# the file of this room that has the function of the architecture's name
ARCHITECTURES = {
    "alexnet": "alexnet",
    **dict.fromkeys(("densenet121", "densenet169", "densenet201", "densenet40"), "densenet"),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), "vgg"),
    **dict.fromkeys((f"efficientnet_lite{scale}" for scale in range(5)), "efficientnet_lite"),
    "mobilenet_v2": "mobilenet",
    **dict.fromkeys((f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110)), "resnet"),
    "lenet5": "lenet",
    **dict.fromkeys(("fcn8s", "fcn16s", "fcn32s"), "_fcn"),
    "unet": "unet",
}


def create_model(name: str, *, classes: int | None = None, weights: str | None = None, features: Sequence[str] = (),
                 **options: Any) -> nn.Module:  # fmt: skip
    """The architecture `name` (a key of `ARCHITECTURES`), untrained or with published weights.

        create_model("resnet50", classes=10)                                # pictures (B, 3, H, W) -> logits (B, 10)
        create_model("resnet50", weights="imagenet", features=["layer2"])   # -> {"layer2": (B, 512, H / 8, W / 8)}
        create_model("unet", classes=5, padded=True)                        # pictures -> logits (B, 5, H, W)

    Most classify photographs of 224 x 224 or so; LeNet-5 takes grey digits (B, 1, 28, 28), the smaller ResNets and
    DenseNet-40 are for 32 x 32, and U-Net and the FCNs give logits for each pixel.

    classes: how many logits, without it as many as the architecture was made for (1000; 10 for digits and CIFAR-10; 21
        and 2 for FCN and U-Net); with weights made for another number, the last layer is new and untrained
    weights: what it was trained on, "imagenet" or "cifar10"; of an FCN, what its VGG-16 was. None are published of
        LeNet-5 and U-Net
    features: the dotted names of layers; the model then gives their maps, and computes nothing beyond them
    options: what the architecture's own function takes besides

    InputError names what is wrong: a name, an option, weights that nobody published, a layer.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    module = import_module(f"vivace.cnn.{ARCHITECTURES[name]}")
    make = getattr(module, name)
    known = signature(make).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, ["features", *known])
    if classes is not None:
        options["classes"] = classes
    model: nn.Module = make(weights=weights, **options)
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


def save_model(path: str | Path, model: nn.Module, *, architecture: str, classes: Sequence[str], **options: Any
               ) -> None:  # fmt: skip
    """Write a model as one safetensors file that `load_model` opens: weights, architecture and the classes' names.

    options: what the architecture's own function was given besides
    """
    about = {"architecture": architecture, "classes": json.dumps(list(classes)), "options": json.dumps(options)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(Path(path).expanduser()) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, about))


def load_model(path: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
    """The model that `save_model` wrote, in evaluation mode, and the names of its classes.

    InputError where the file is missing, damaged, or not written by `save_model`.
    """
    path = Path(path).expanduser()
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        architecture, classes = about["architecture"], tuple(json.loads(about["classes"]))
        model = create_model(architecture, classes=len(classes), **json.loads(about["options"]))
        model.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"no file {path}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{path} holds weights, but no model that `save_model` wrote: {why}") from None
    return model.eval(), classes
