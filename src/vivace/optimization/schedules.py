"""Learning-rate schedules: the rate as a function of time; and how it follows the batch size, which is not a schedule.

Warm-up and the linear rule: Goyal et al., "Accurate, large minibatch SGD" (2017), section 2; the square root:
Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014), section 5; cosine: Loshchilov,
Hutter, "SGDR" (2017), eq. 5; one cycle: Smith, Topin, "Super-convergence" (2018), section 3.
In: an optimizer, whose rate is the highest, and the number of steps in all. Out: torch's schedulers, moving each step.
Departs from the paper: no restarts; one cycle is torch's, two arcs of a cosine, where the paper has straight lines.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vivace.base.errors import InputError, unknown

Rule = Literal["linear", "sqrt"]


def scaled_rate(base_rate: float, batch: int, base_batch: int, *, rule: Rule = "linear") -> float:
    """The rate for another batch size, once and for all: in proportion (SGD), or to its square root (Adam and kin)."""
    if rule not in get_args(Rule):
        raise unknown("rule", rule, get_args(Rule))
    if min(batch, base_batch) < 1:
        raise InputError(f"a batch has at least 1 example, but the sizes given are {batch} and {base_batch}")
    ratio = batch / base_batch
    return base_rate * (ratio if rule == "linear" else math.sqrt(ratio))


def warm_up(optimizer: Optimizer, steps: int, *, warmup: float = 0.1) -> LambdaLR:
    """The rate rises along a line over the first share `warmup` of the steps, then stays."""
    warm = _warm(steps, warmup)
    return LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / warm) if warm else 1.0)


def step_decay(optimizer: Optimizer, steps: int, *, drops: int = 2, factor: float = 0.1) -> LambdaLR:
    """The rate falls to `factor` of what it was, `drops` times, at equal distances: StepLR."""
    _check(steps)
    if drops < 0 or not factor > 0:
        raise InputError(f"drops is {drops} and factor {factor}, but must be at least 0 and above 0")
    every = max(1, steps // (drops + 1))
    return LambdaLR(optimizer, lambda t: factor ** min(t // every, drops))


def cosine(optimizer: Optimizer, steps: int, *, warmup: float = 0.0, floor: float = 0.0) -> LambdaLR:
    """The rate falls to the share `floor` along half a cosine: CosineAnnealingLR; it may rise along a line before."""
    warm = _warm(steps, warmup)
    if not 0 <= floor <= 1:
        raise InputError(f"floor is {floor}, but must be 0 to 1: a share of the highest rate")

    def share(t: int) -> float:
        if t < warm:
            return (t + 1) / warm
        return _arc(1.0, floor, min(1.0, (t - warm) / (steps - warm)))

    return LambdaLR(optimizer, share)


def one_cycle(optimizer: Optimizer, steps: int, *, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4,
              momentum: tuple[float, float] = (0.85, 0.95)) -> LambdaLR:  # fmt: skip
    """The rate rises from a share `start` over the share `rise` of the steps, then falls to `end`: OneCycleLR.

    The momentum (beta 1 in Adam) goes the other way, between these two, if the optimizer has one.
    """
    _check(steps)
    if not 0 < rise < 1 or rise * steps <= 1:
        raise InputError(f"rise is {rise} of {steps} steps, but must be below 1 and more than one step")
    top, last = rise * steps - 1, steps - 1

    def between(low: float, high: float, after: float) -> Callable[[int], float]:
        """Along an arc from low up to high at the top, then to `after`."""
        return lambda t: _arc(low, high, t / top) if t <= top else _arc(high, after, min(1, (t - top) / (last - top)))

    least, most = momentum
    return _Cycle(optimizer, between(start, 1.0, end), between(most, least, most))


class _Cycle(LambdaLR):
    """A rate, and with it a momentum, as functions of the step."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[int], float], momentum: Callable[[int], float]) -> None:
        self.momentum = momentum
        super().__init__(optimizer, rate)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch's may hold tensors
        for group in self.optimizer.param_groups:
            m = self.momentum(self.last_epoch)
            if "betas" in group:
                group["betas"] = (m, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = m
        return super().get_lr()  # type: ignore[return-value]

    def state_dict(self) -> dict[str, object]:  # functions are made anew, as LambdaLR's are
        return {name: value for name, value in super().state_dict().items() if name != "momentum"}


def _arc(begin: float, end: float, share: float) -> float:
    """From one value to another along half a cosine: level at both ends."""
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


def _check(steps: int) -> None:
    if steps < 1:
        raise InputError(f"a schedule needs at least 1 step, not {steps}")


def _warm(steps: int, warmup: float) -> int:
    """The steps of a warm-up that takes that share of all."""
    _check(steps)
    if not 0 <= warmup < 1:
        raise InputError(f"warmup is {warmup}, but must be from 0 to below 1: a share of the steps")
    return round(warmup * steps)
