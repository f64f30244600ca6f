"""A step of each optimiser: ours against torch.optim's, as it is by default and with fused=True, same gradients."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from harness import Row, compare
from vivace import optimization

SHAPES = {
    "MLP 784-128-64-10": ((128, 784), (128,), (64, 128), (64,), (10, 64), (10,)),
    "25 M parameters": (*[(4096, 1024), (1024,), (1024, 1024), (1024,)] * 4, *[(1024, 1024)] * 4),
}
SETTINGS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "SGD": (("plain", {"lr": 0.01}), ("momentum 0.9", {"lr": 0.01, "momentum": 0.9})),
    "RMSprop": (("", {"lr": 1e-3}),),
    "Adagrad": (("", {"lr": 1e-2}),),
    "Adam": (("", {"lr": 1e-3}),),
    "AdamW": (("", {"lr": 1e-3, "weight_decay": 0.01}),),
}


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for model, shapes in SHAPES.items():
        count = 1 if model.startswith("25") else 100
        for name, settings in SETTINGS.items():
            for what, options in settings:
                for fused in (False, True)[: 1 if name == "RMSprop" else 2]:  # torch has no such kernel
                    ours = Steps(getattr(optimization, name), shapes, **options)
                    theirs = Steps(getattr(torch.optim, name), shapes, **options, **({"fused": True} if fused else {}))
                    yield compare(
                        f"{' '.join(filter(None, (name, what)))}, {model}, {count} step{'s' * (count > 1)}",
                        Several(ours, count), Several(theirs, count), repeats=41 if count > 1 else 11, agree=apart,
                        peer_name="torch.optim, fused=True" if fused else "torch.optim",
                    )  # fmt: skip
    torch.set_num_threads(threads)


class Steps:
    """An optimiser over parameters of these shapes, with gradients that stay."""

    def __init__(self, kind: Callable[..., Optimizer], shapes: Sequence[tuple[int, ...]], **options: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self.thetas = [torch.randn(shape, generator=generator) for shape in shapes]
        for theta in self.thetas:
            theta.grad = torch.randn(theta.shape, generator=generator)
        self.optimizer = kind(self.thetas, **options)


class Several:
    """Calls: that many steps; the result is the parameters, as they are when it is read."""

    def __init__(self, steps: Steps, count: int) -> None:
        self.steps, self.count = steps, count

    def __call__(self) -> list[Tensor]:
        for _ in range(self.count):
            self.steps.optimizer.step()
        return self.steps.thetas


def apart(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """All steps of the comparison are taken by both, so what is compared is where they end."""
    return f"max difference {max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)):.0e}"
