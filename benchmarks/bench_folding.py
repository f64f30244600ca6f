"""`for_inference` against the plain network: batch norms folded, ReLUs in place, channels last."""

from collections.abc import Iterator

import torch
from torch import nn

from bench_architectures import apart, predicting
from harness import Row, compare
from vivace.cnn import create_model, for_inference


def rows() -> Iterator[Row]:
    for name in ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0"):
        torch.manual_seed(0)
        model = seasoned(create_model(name)).eval()
        prepared = for_inference(model)
        for count, repeats in ((1, 21), (8, 7)):
            pictures = torch.rand(count, 3, 224, 224)
            sooner, plain = predicting(prepared, pictures), predicting(model, pictures)
            yield compare(f"{name} for inference, batch {count}", sooner, plain, peer_name="the same, plain",
                          repeats=repeats, agree=apart)  # fmt: skip


@torch.no_grad()
def seasoned(model: nn.Module) -> nn.Module:
    """With the statistics of some pictures, as after a training: with none, what goes through dies out."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(torch.rand(8, 3, 128, 128))
    return model
