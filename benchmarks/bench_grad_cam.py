"""Grad-CAM and its relatives at 224 px: ours against captum and pytorch-grad-cam, same model, layer and classes."""

import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from io import StringIO

import torch
from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam
from torch import Tensor, nn

import torchvision_shim  # noqa: F401
from harness import Row, compare
from vivace.base.images import read_image, resize
from vivace.cnn import class_index, efficientnet_lite0
from vivace.explain import (
    grad_cam,
    grad_cam_plus_plus,
    guided_backpropagation,
    guided_grad_cam,
    layer_cam,
    score_cam,
)


def rows() -> Iterator[Row]:
    model = efficientnet_lite0(weights="imagenet")
    pictures = torch.stack([resize(read_image(name), (224, 224)) for name in ("chelsea", "coffee")])
    classes = [class_index("tabby"), class_index("espresso")]
    yield from against_both(model, pictures[:1], classes[:1], repeats=31)
    yield from against_both(model, pictures.repeat(4, 1, 1, 1), classes * 4, repeats=11)
    yield from variants(model, pictures[:1], classes[:1])
    yield from guided(pictures[:1])


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


def variants(model: nn.Module, images: Tensor, target: list[int]) -> Iterator[Row]:
    """Score-CAM at an early layer of 24 maps: at the last it would run the network 1,280 times."""
    import pytorch_grad_cam as peers
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for name, ours, theirs, layer, repeats in (
        ("Grad-CAM++", grad_cam_plus_plus, peers.GradCAMPlusPlus, "head", 21),
        ("Layer-CAM", layer_cam, peers.LayerCAM, "head", 21),
        ("Score-CAM of 24 maps", score_cam, peers.ScoreCAM, "blocks.2", 5),
    ):
        with theirs(model=model, target_layers=[model.get_submodule(layer)]) as peer, redirect_stderr(StringIO()):
            yield compare(
                f"{name}, batch 1, [0, 1], enlarged",
                partial(ours, model, images, target, layer=layer, normalize=True, enlarge=True),
                partial(peer, images, [ClassifierOutputTarget(index) for index in target]),
                peer_name="pytorch-grad-cam", repeats=repeats, agree=alike,
            )  # fmt: skip


def guided(images: Tensor) -> Iterator[Row]:
    """On a plain stack of convolutions: captum knows nn.ReLU alone, not EfficientNet-Lite's ReLU6."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    images = images.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield compare("guided backpropagation, batch 1", partial(guided_backpropagation, model, images, 3),
                      partial(GuidedBackprop(model).attribute, images, 3),
                      peer_name="captum", repeats=31, agree=apart)  # fmt: skip
        yield compare("guided Grad-CAM, batch 1", partial(guided_grad_cam, model, images, 3, layer="6"),
                      partial(GuidedGradCam(model, model[6]).attribute, images, 3, interpolate_mode="bilinear"),
                      peer_name="captum", repeats=31, agree=apart)  # fmt: skip


def alike(ours: Tensor, theirs: object) -> str:
    """pytorch-grad-cam adds 1e-6 to Grad-CAM++'s divisors, whatever their size; its Score-CAM enlarges masks with their
    corners aligned, and would be ours to 1e-6 without.
    """
    pair = torch.stack([ours.flatten(), torch.as_tensor(theirs).flatten()])
    return f"{apart_above_least(ours, theirs)}, correlation {float(torch.corrcoef(pair)[0, 1]):.4f}"


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"max difference {float((ours - theirs.detach().reshape(ours.shape)).abs().max()):.0e}"


def apart_above_least(ours: Tensor, theirs: object) -> str:
    """pytorch-grad-cam takes away each map's least value before it divides; in ours 0 stays "no evidence"."""
    above = ours - ours.amin((1, 2), keepdim=True)
    return apart(above / above.amax((1, 2), keepdim=True), torch.as_tensor(theirs))
