"""`for_inference` against the plain network: batch norms folded, ReLUs in place, channels last."""

from collections.abc import Iterator

import torch

from bench_mobilenet import apart, predicting
from harness import Row, compare
from vivace.cnn import create_model, for_inference


def rows() -> Iterator[Row]:
    for name in ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0"):
        torch.manual_seed(0)
        model = create_model(name).eval()
        prepared = for_inference(model)
        for count, repeats in ((1, 21), (8, 7)):
            pictures = torch.rand(count, 3, 224, 224)
            yield compare(f"{name} for inference, batch {count}", predicting(prepared, pictures),
                          predicting(model, pictures), peer_name="the same, plain", repeats=repeats, agree=apart)  # fmt: skip
