"""What our optimisers share: torch's manners around an update rule that is written once, for one tensor.

Such a rule treats every number alike, so it may be applied in any way that is fast: by torch's fused kernel where one
does the same, else as it is written, to parts that stay in the processor's cache. Memory has torch's names: a
`state_dict` goes from torch's optimiser of the same name to ours and back.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from vivace.base.errors import InputError

Group = dict[str, Any]  # parameters that share settings, and these
Tensors = list[Tensor]


class Elementwise(Optimizer):
    """Abstract: a subclass says what it remembers, gives the rule, and calls a kernel if there is one."""

    fixed: ClassVar[Group] = {}  # settings that torch's optimiser has besides ours, at the value that ours stands for
    part: ClassVar[int] = 2**16  # numbers that a thread works on at a time, where there is no kernel

    # What is kept for each parameter: tensors like it, zero at first; "step", where it is there, counts and comes last.
    memory: Callable[[Group], tuple[str, ...]]

    update: Callable[..., None]  # update(group, theta, g, *memory): the rule, in place

    # fused(group, thetas, grads, *memory), all lists: the same by a kernel of torch's; False where it has none.
    fused: Callable[..., bool]

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, settings | self.fixed)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; the loss, where a closure computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for name, value in self.fixed.items():
                if group[name] != value:  # from a state of torch's, or a schedule
                    raise InputError(f"{type(self).__name__} can't do {name}={group[name]}, only {value}")
            names = self.memory(group)
            thetas = [theta for theta in group["params"] if theta.grad is not None]
            if not thetas:
                continue
            grads = [theta.grad for theta in thetas]
            columns = [thetas, grads, *self._remembered(thetas, names)]
            if names[-1:] == ("step",):
                torch._foreach_add_(columns[-1], 1)
            if not (self._alike(columns) and self.fused(group, *columns)):
                for row in zip(*columns, strict=True):
                    for part in self._parts(row):
                        self.update(group, *part)
        return loss

    def __setstate__(self, state: Group) -> None:
        """As torch does when a state is loaded; settings that the state of torch's optimiser lacks are the default."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        for theta, memory in self.state.items():
            if "step" in memory:  # torch's default keeps it on the CPU
                memory["step"] = torch.as_tensor(memory["step"], dtype=torch.float32, device=theta.device)

    def _remembered(self, thetas: Tensors, names: tuple[str, ...]) -> list[Tensors]:
        """What is remembered, a list for each name; it begins as zero."""
        if not names:
            return []
        states = [self.state[theta] for theta in thetas]
        for theta, state in zip(thetas, states, strict=True):
            if state.get(names[-1]) is None:
                zeros = partial(torch.zeros_like, theta, memory_format=torch.preserve_format)
                state.update({name: torch.zeros((), device=theta.device) if name == "step" else zeros()
                              for name in names})  # fmt: skip
        return [[state[name] for state in states] for name in names]

    def _alike(self, columns: Sequence[Tensors]) -> bool:
        """Whether a kernel may walk through them: one device, one kind of number, each row in one order in memory."""
        thetas, grads, *memory = columns
        device, dtype = thetas[0].device, thetas[0].dtype
        for theta, g in zip(thetas, grads, strict=True):
            if g.is_sparse or dtype.is_complex:
                raise InputError(f"{type(self).__name__} takes dense, real gradients; got {g.layout}, {g.dtype}")
            if theta.dtype != dtype or g.dtype != dtype or theta.device != device:
                return False
        if device.type not in ("cpu", "cuda"):
            return False
        if all(tensor.is_contiguous() for tensor in chain(thetas, grads, *memory)):
            return True
        strides = [[tensor.stride() for tensor in column if tensor.dim()] for column in columns]
        return all(column in (strides[0], []) for column in strides)

    def _parts(self, row: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
        """A row cut alike into parts that stay in the processor's cache from one line of the rule to the next."""
        theta, size = row[0], self.part * torch.get_num_threads()
        if theta.device.type != "cpu" or theta.numel() <= size or not all(tensor.is_contiguous() for tensor in row):
            yield row
            return
        for start in range(0, theta.numel(), size):
            yield [tensor.view(-1)[start : start + size] if tensor.dim() else tensor for tensor in row]


def within(name: str, value: float, low: float = 0.0, below: float = math.inf) -> None:
    """InputError unless low <= value < below."""
    if not low <= value < below:
        raise InputError(f"{name} is {value}, but must be at least {low:g}" + f" and below {below:g}" * (below < 9e9))
