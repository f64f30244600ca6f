"""What a computation costs, measured so that a busy machine disturbs it least; for claims about cost."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np


def quickest(tasks: Sequence[Callable[[], object]], *, rounds: int = 3) -> list[float]:
    """Processor seconds of each task, run twice in each round, the least: what a busy machine disturbs least."""
    best = [math.inf] * len(tasks)
    for _ in range(rounds):
        for i, task in enumerate(tasks):
            for _ in range(2):
                began = time.process_time()
                task()
                best[i] = min(best[i], time.process_time() - began)
    return best


def exponent_of(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost over log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
