"""Walks of any optimiser over functions, and small nets on digits: what the experiments on descent share."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vivace.base.data import Labelled

Make = Callable[[Any], Optimizer]  # from parameters; `partial(SGD, lr=0.1)`
Function = Callable[[Tensor], Tensor]


def walk(make: Make, f: Function, start: float | Sequence[Any] | Tensor, *, steps: int, noise: float = 0.0,
         generator: torch.Generator | None = None) -> Float[Tensor, "t ..."]:  # fmt: skip
    """All places, the start first; f of several points at once is summed. `noise` is added to each gradient."""
    theta = torch.as_tensor(start, dtype=torch.float64).clone().requires_grad_()
    optimizer = make([theta])
    path = [theta.detach().clone()]
    for _ in range(steps):
        (theta.grad,) = torch.autograd.grad(f(theta).sum(), theta)
        if noise:
            theta.grad += noise * torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def steps_down(make: Make, hessian: Float[Tensor, "d d"] | Float[Tensor, " d"], *, tolerance: float = 1e-6,
               most: int = 1_000_000) -> float:  # fmt: skip
    """Steps from (1, ..., 1) on half theta^T H theta until the distance is below `tolerance`; infinite if never."""
    theta = torch.ones(len(hessian), dtype=torch.float64)
    optimizer = make([theta])
    for step in range(1, most + 1):
        theta.grad = hessian * theta if hessian.dim() == 1 else hessian @ theta
        optimizer.step()
        distance = theta.norm().item()
        if distance < tolerance:
            return step
        if not distance < 1e6:
            break
    return math.inf


def batches(train: Labelled, *, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (as rows of numbers) and labels of so many steps; each epoch has an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    count = len(train.labels)
    orders = [torch.randperm(count, generator=generator)[: count // size * size]
              for _ in range(-(-steps // (count // size)))]  # fmt: skip
    for places in torch.cat(orders).split(size)[:steps]:
        yield train.images[places].flatten(1), train.labels[places]


def train_on(model: nn.Module, optimizer: Optimizer, given: Iterator[tuple[Tensor, Tensor]], *,
             schedule: LRScheduler | None = None, scale: float = 1.0,
             clip_norm: float | None = None) -> Iterator[float]:  # fmt: skip
    """One step for each batch; yields the loss before it, which is cross-entropy times `scale`."""
    dtype = next(model.parameters()).dtype
    for x, labels in given:
        loss = scale * F.cross_entropy(model(x.to(dtype)), labels)
        optimizer.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        yield loss.item()


def weights_of(model: nn.Module) -> Float[Tensor, " n"]:
    """All parameters in one row, as they are now."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()
