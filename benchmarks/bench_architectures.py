"""Architectures against torchvision's with the same weights: the forward pass, and for two a step of training.

And AlexNet's local response normalisation, forward and back, against torch's.
"""

from collections.abc import Callable, Iterator
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchvision_shim  # noqa: F401
from harness import Row, compare
from vivace.cnn import LocalResponseNormalization, create_model

BATCHES = {"resnet18": (1, 8), "mobilenet_v2": (1, 8), "densenet121": (1,), "alexnet": (1,)}
TRAINED = ("resnet18", "mobilenet_v2")


def rows() -> Iterator[Row]:
    torchvision = import_module("torchvision.models")  # only now: it needs the shim
    for name, batches in BATCHES.items():
        torch.manual_seed(0)
        ours, theirs = create_model(name), getattr(torchvision, name)()
        theirs.load_state_dict(ours.state_dict())
        peer = nn.Sequential(ours.normalization, theirs)  # theirs wants its pictures normalised; ours does that itself
        for count in batches:
            pictures = torch.rand(count, 3, 224, 224)
            yield compare(f"{name}, forward, batch {count}", predicting(ours, pictures), predicting(peer, pictures),
                          peer_name="torchvision", repeats=21 if count == 1 else 9, agree=apart)  # fmt: skip
        if name in TRAINED:
            for module in (*ours.modules(), *peer.modules()):
                if isinstance(module, nn.Dropout):  # it would differ
                    module.p = 0.0
            labels = torch.arange(count)
            steps = (training(model, pictures, labels) for model in (ours, peer))
            yield compare(
                f"{name}, step of SGD, batch {count}", *steps, peer_name="torchvision", repeats=9, agree=apart
            )
    maps = torch.rand(8, 96, 55, 55)  # after AlexNet's first convolution
    layers = LocalResponseNormalization(), nn.LocalResponseNorm(5, alpha=5 * 1e-4, k=2.0)  # torch's alpha: of the mean
    yield compare("local response normalisation, 8 x 96 x 55 x 55, forward and back",
                  *(forth_and_back(layer, maps) for layer in layers), peer_name="torch", agree=apart)  # fmt: skip


def forth_and_back(layer: nn.Module, maps: Tensor) -> Callable[[], Tensor]:
    def step() -> Tensor:
        given = maps.clone().requires_grad_()
        layer(given).sum().backward()
        assert given.grad is not None
        return given.grad

    return step


@torch.inference_mode()
def _predicted(model: nn.Module, pictures: Tensor) -> Tensor:
    return model(pictures)


def predicting(model: nn.Module, pictures: Tensor) -> Callable[[], Tensor]:
    model.eval()
    return lambda: _predicted(model, pictures)


def training(model: nn.Module, pictures: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    sgd = torch.optim.SGD(model.train().parameters(), lr=0.01)

    def step() -> Tensor:
        sgd.zero_grad()
        loss = F.cross_entropy(model(pictures), labels)
        loss.backward()
        sgd.step()
        return loss.detach()

    return step


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"max difference {float((ours - theirs).abs().max()):.0e}"
