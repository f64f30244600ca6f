"""A small problem for the tests of `fit`, with all that a resumed training has to bring back: dropout, batch
normalisation, Adam's moments, a schedule, an average of the weights, the best epoch.

As a script: `fit_problem.py FOLDER` trains on it and hangs in step 24; `torchrun ... fit_problem.py` trains and prints.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import TensorDataset

from vivace.base.fit import Fitted, fit

COUNT, STEPS = 53, 7  # examples, and steps an epoch at batches of 8: the last has 5


class Net(nn.Module):
    def __init__(self, *, dropout: float = 0.0, norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden, self.out = nn.Linear(6, 16), nn.Linear(16, 3)
        self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.norm(self.hidden(x))))


def examples(dtype: torch.dtype = torch.float32) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(COUNT, 6, generator=generator)
    return TensorDataset(x.to(dtype), (x @ torch.randn(6, 3, generator=generator)).argmax(1))


def loss(model: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, label = batch
    return F.cross_entropy(model.out(model.features(x)), label)  # not through `forward`


def evaluate(model: Net) -> Mapping[str, Tensor]:
    x, label = (tensor.to(next(model.parameters()).device) for tensor in examples().tensors)
    torch.rand(5)  # whatever an evaluation draws is its own business
    logits = model(x)
    return {"accuracy": (logits.argmax(1) == label).float().mean(), "val_loss": F.cross_entropy(logits, label)}


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> OneCycleLR:
    return OneCycleLR(optimizer, 0.05, total_steps=steps)


def train(**changes: Any) -> tuple[Net, Fitted]:
    """The problem with everything that is to be brought back."""
    settings: dict[str, Any] = {
        "model": Net(dropout=0.3, norm=True),
        "train": examples(),
        "loss": loss,
        "epochs": 6,
        "batch_size": 8,
        "optimizer": lambda weights: AdamW(weights, lr=0.05),
        "schedule": one_cycle,
        "evaluate": evaluate,
        "monitor": "val_loss",
        "accumulate": 2,
        "clip_norm": 1.0,
        "ema": 0.8,
        "device": "cpu",
    }
    settings |= changes
    return settings["model"], fit(**settings)


def main() -> None:
    assert "lightning_fabric" not in sys.modules, "importing fit is cheap"
    torch.set_num_threads(1)
    if torch.distributed.is_torchelastic_launched():
        ticks: list[int] = []
        model, fitted = train(accumulate=1, ema=None, monitor=None, tell=lambda step: ticks.append(step.done))
        checksum = sum(weight.sum().item() for weight in model.parameters())
        told = {"losses": [row["train_loss"] for row in fitted.history], "checksum": checksum, "told": len(ticks)}
        os.write(1, json.dumps(told).encode() + b"\n")  # in one piece: two processes write to the same place
        return
    calls = 0

    def hanging(model: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 * 24:  # two parts a batch
            time.sleep(600)
        return loss(model, batch)

    train(folder=Path(sys.argv[1]), save_every=5, loss=hanging)


if __name__ == "__main__":
    main()
