"""Grad-CAM at 224 px on EfficientNet-Lite0: ours against captum and pytorch-grad-cam, same model, layer and classes."""

from collections.abc import Iterator
from functools import partial

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

import torchvision_shim  # noqa: F401
from harness import Row, compare
from vivace.base.images import read_image, resize
from vivace.cnn import class_index, efficientnet_lite0
from vivace.explain import grad_cam


def rows() -> Iterator[Row]:
    model = efficientnet_lite0(weights="imagenet")
    pictures = torch.stack([resize(read_image(name), (224, 224)) for name in ("chelsea", "coffee")])
    classes = [class_index("tabby"), class_index("espresso")]
    yield from against_both(model, pictures[:1], classes[:1], repeats=31)
    yield from against_both(model, pictures.repeat(4, 1, 1, 1), classes * 4, repeats=11)


def against_both(model: nn.Module, images: Tensor, target: list[int], *, repeats: int) -> Iterator[Row]:
    from pytorch_grad_cam import GradCAM  # only now: it imports torchvision, which needs the shim
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    batch = f"Grad-CAM, batch {len(images)}"
    plain = partial(grad_cam, model, images, target, layer="head")
    shown = partial(plain, normalize=True, enlarge=True)  # what pytorch-grad-cam always does

    captum = partial(LayerGradCam(model, model.head).attribute, images, target, relu_attributions=True)
    yield compare(batch, plain, captum, peer_name="captum", repeats=repeats, agree=apart)

    with GradCAM(model=model, target_layers=[model.head]) as peer:
        theirs = partial(peer, images, [ClassifierOutputTarget(index) for index in target])
        with_peer = partial(
            compare, peer=theirs, peer_name="pytorch-grad-cam", repeats=repeats, agree=apart_above_least
        )
        yield with_peer(f"{batch}, [0, 1], enlarged", shown)
        yield with_peer(f"{batch}, [0, 1], enlarged, layer not given", partial(shown, layer=None))


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"max difference {float((ours - theirs.detach().reshape(ours.shape)).abs().max()):.0e}"


def apart_above_least(ours: Tensor, theirs: object) -> str:
    """pytorch-grad-cam takes away each map's least value before it divides; in ours 0 stays "no evidence"."""
    above = ours - ours.amin((1, 2), keepdim=True)
    return apart(above / above.amax((1, 2), keepdim=True), torch.as_tensor(theirs))
