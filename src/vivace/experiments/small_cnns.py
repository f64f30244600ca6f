"""Small convolutional networks, many of them trained in a row: of any width, on few pictures or on many."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from vivace.base.data import Labelled
from vivace.base.randomness import seeded
from vivace.experiments.classifier import logits_of, warm_then_cosine

BATCH = 64


def convnet(given: Labelled, width: int, *, seed: int) -> nn.Sequential:
    """Four convolutions of `width` to four times `width` maps, each normalised and bent; an average; one linear layer.

    The maps are halved until they are 4 x 4 or so: 8 x 8 digits once, 28 or 32 pixels three times.
    """
    channels, side = given.images.shape[1], given.images.shape[-1]
    with seeded(seed):
        layers: list[nn.Module] = []
        for i, outputs in enumerate((width, 2 * width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if side > 4 and i < 3 else []
            channels, side = outputs, side // 2
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(given.classes)))


Loss = Callable[[nn.Module, Float[Tensor, "b k"], Int[Tensor, " b"]], Float[Tensor, ""]]


def learn(net: nn.Module, given: Labelled, *, steps: int, rate: float = 5e-3, seed: int = 0, loss: Loss | None = None
          ) -> list[float]:  # fmt: skip
    """AdamW for so many steps of 64 pictures; the losses on the way. `loss` gets the net, its logits, their places."""
    optimizer = AdamW(net.parameters(), lr=rate, weight_decay=0.01, fused=True)
    schedule = warm_then_cosine(optimizer, steps)
    places = batches(len(given.labels), seed=seed)
    net.train()
    losses = []
    for _ in range(steps):
        some = next(places)
        logits = net(given.images[some])
        found = F.cross_entropy(logits, given.labels[some]) if loss is None else loss(net, logits, some)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        schedule.step()
        losses.append(found.item())
    net.eval()
    return losses


def batches(count: int, *, seed: int) -> Iterator[Int[Tensor, " b"]]:
    """Places of 64 pictures at a time, without end: all of them in a new order each time."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(BATCH)


def error(net: nn.Module, given: Labelled) -> float:
    """The share of the pictures, in %, that the net names wrongly."""
    return 100 * (logits_of(net, given.images).argmax(1) != given.labels).double().mean().item()
