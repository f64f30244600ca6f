"""What long work tells while it runs. Needs no torch, so that a method in NumPy can tell, too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One tick of long work: `done` of `total`, what is going on, numbers and perhaps the picture so far."""

    done: int
    total: int
    text: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    image: Any = None  # (3, H, W) in [0, 1]


Tell = Callable[[Step], None]


def ignore(step: Step) -> None:
    """The listener that doesn't listen."""


def part_of(tell: Tell, start: int, total: int) -> Tell:
    """A listener for one part of longer work, whose own steps begin at `start` of the whole `total`."""
    return lambda step: tell(Step(start + step.done, total, step.text, step.values, step.image))
