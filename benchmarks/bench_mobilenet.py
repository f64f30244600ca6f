"""MobileNetV2 against torchvision's with the same weights: the forward pass, and a step of training."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchvision_shim  # noqa: F401
from harness import Row, compare
from vivace.cnn import mobilenet_v2

SIZES = ((1, 21), (16, 7))  # pictures at once, and how often


def rows() -> Iterator[Row]:
    from torchvision.models import MobileNetV2  # only now: it needs the shim

    torch.manual_seed(0)
    ours, theirs = mobilenet_v2(), MobileNetV2()
    theirs.load_state_dict(ours.state_dict())
    peer = nn.Sequential(ours.normalization, theirs)  # theirs wants its pictures normalised; ours does that itself
    for count, repeats in SIZES:
        pictures, labels = torch.rand(count, 3, 224, 224), torch.arange(count)
        yield compare(f"MobileNetV2, forward, batch {count}", predicting(ours, pictures), predicting(peer, pictures),
                      peer_name="torchvision", repeats=repeats, agree=apart)  # fmt: skip
    for model in (ours, peer):  # dropout would differ
        for module in model.modules():
            module.p = 0.0
    yield compare(f"MobileNetV2, step of SGD, batch {count}", training(ours, pictures, labels),
                  training(peer, pictures, labels), peer_name="torchvision", repeats=repeats, agree=apart)  # fmt: skip


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
