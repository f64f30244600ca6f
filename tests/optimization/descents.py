"""A descent that asks much of an optimiser, for the tests of all of them: ours and torch's walk down the same way."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

STEPS = 200
SHAPES = ((3, 4), (), (50,), (2, 3, 4, 5))  # the third is cut into parts, the last lies in memory as channels_last

Make = Callable[[Iterable[Any]], Optimizer]


def path(make: Make, *, dtype: torch.dtype = torch.float64, then: Make | None = None) -> Tensor:
    """Where the parameters are every 20 steps; `then` takes over half-way, with the state of the first one.

    Two groups, the second with half the rate; a schedule; one parameter that never has a gradient.
    """
    thetas = [torch.linspace(-1, 1, max(1, torch.Size(shape).numel()), dtype=dtype).reshape(shape) for shape in SHAPES]
    thetas[-1] = thetas[-1].to(memory_format=torch.channels_last)
    idle = torch.ones(3, dtype=dtype)
    for theta in (*thetas, idle):
        theta.requires_grad_()
    optimizer = make([{"params": thetas[:2]}, {"params": [*thetas[2:], idle]}])
    optimizer.param_groups[1]["lr"] /= 2
    schedule = CosineAnnealingLR(optimizer, STEPS)
    found = []
    for t in range(STEPS):
        if t == STEPS // 2 and then is not None:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = schedule.optimizer = then([{"params": thetas[:2]}, {"params": [*thetas[2:], idle]}])
            optimizer.load_state_dict(state)
        optimizer.step(lambda: _slope(thetas))
        schedule.step()
        if t % 20 == 19:
            found.append(torch.cat([theta.detach().flatten() for theta in thetas]))
    assert idle.tolist() == [1, 1, 1]
    return torch.stack(found)


def apart(make: Make, other: Make) -> float:
    """The largest distance between the paths of two optimisers."""
    return float((path(make) - path(other)).abs().max())


def follows(ours: type, theirs: type, *, dtype: torch.dtype, **options: Any) -> bool:
    """Whether ours goes torch's way to 1e-6: by torch's kernel, and by the formula that is written in the file."""
    expected = path(partial(theirs, **options), dtype=dtype)
    found = [path(partial(kind, **options), dtype=dtype) for kind in (ours, by_formula(ours))]
    return all(float((each - expected).abs().max()) < 1e-6 for each in found)


def hands_over(ours: type, theirs: type, **options: Any) -> bool:
    """Whether a descent goes on as before when half-way a new optimiser takes the state over: ours, or torch's."""
    mine, peer = partial(ours, **options), partial(theirs, **options)
    expected = path(peer)
    found = [path(first, then=second) for first, second in ((mine, mine), (mine, peer), (peer, mine))]
    return all(float((each - expected).abs().max()) < 1e-6 for each in found)


def by_formula(kind: type) -> type:
    """The same optimiser, never by torch's kernel."""
    return type(f"{kind.__name__}ByFormula", (kind,), {"fused": lambda *_: False, "part": 16})


def first_steps(optimizer: Optimizer, gradients: Iterable[float]) -> list[float]:
    """How far the only parameter, a number, moves for each of these gradients."""
    (theta,) = optimizer.param_groups[0]["params"]
    found = []
    for gradient in gradients:
        before = theta.item()
        theta.grad = torch.full_like(theta, gradient)
        optimizer.step()
        found.append(before - theta.item())
    return found


def number() -> list[Tensor]:
    """One parameter, zero."""
    return [torch.zeros((), dtype=torch.float64)]


def _slope(thetas: list[Tensor]) -> Tensor:
    """A loss with a valley in each parameter, some steep and some flat, and its gradient."""
    for theta in thetas:
        theta.grad = None
    losses = []
    for theta in thetas:
        steep = torch.linspace(0.1, 3, theta.numel(), dtype=theta.dtype).reshape(theta.shape)
        losses.append((steep * (theta - 0.3).square() + torch.sin(2 * theta)).sum())
    loss = torch.stack(losses).sum()
    loss.backward()
    return loss
