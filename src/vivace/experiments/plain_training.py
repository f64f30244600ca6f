"""Short trainings of small nets, many of them in a row: no checkpoints and no devices, just the steps."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vivace.base.data import Labelled, digits


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return AdamW(parameters, lr=1e-3, weight_decay=0, fused=True)


def train(model: nn.Module, data: Labelled, *, epochs: int, batch_size: int = 64, seed: int = 0,
          optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = adam,
          change: Callable[[nn.Module], object] | None = None) -> list[float]:  # fmt: skip
    """Train in place on cross-entropy; `change` may do something to the gradients. Returns each epoch's mean loss."""
    generator = torch.Generator().manual_seed(seed)
    steps = optimizer(model.parameters())
    model.train()
    losses = []
    for _ in range(epochs):
        total = 0.0
        for places in torch.randperm(len(data.labels), generator=generator).split(batch_size):
            loss = F.cross_entropy(model(data.images[places]), data.labels[places])
            steps.zero_grad()
            loss.backward()
            if change is not None:
                change(model)
            steps.step()
            total += loss.item() * len(places)
        losses.append(total / len(data.labels))
    model.eval()
    return losses


def standardized_digits() -> tuple[Labelled, Labelled]:
    """scikit-learn's digits with mean 0 and variance 1 over the training pictures' pixels: training and test part."""
    train, test = digits("train"), digits("test")
    mean, spread = train.images.mean(), train.images.std()
    first, second = (Labelled((part.images - mean) / spread, part.labels, part.classes) for part in (train, test))
    return first, second


def gradient_norms(loss: Tensor, tensors: Iterable[Tensor]) -> list[float]:
    """The length of the loss's gradient with respect to each of the tensors."""
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, list(tensors))]
