"""Ours against a peer in one process: alternating runs, medians, one ratio a row.

Each `bench_*.py` here has `rows() -> Iterator[Row]`; `python benchmarks/run.py` runs them all and writes README.md.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison: what was run, median seconds of each, how far the results are apart."""

    what: str
    peer: str
    ours_s: float
    peer_s: float
    agree: str = ""

    @property
    def ratio(self) -> float:
        return self.ours_s / self.peer_s


def compare(what: str, ours: Callable[[], Any], peer: Callable[[], Any], *, peer_name: str, repeats: int = 21,
            agree: Callable[[Any, Any], str] | None = None) -> Row:  # fmt: skip
    """Run both `repeats` times, taking turns (who begins alternates too), after one unmeasured run of each."""
    results = ours(), peer()
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for side in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            (ours, peer)[side]()
            times[side].append(time.perf_counter() - began)
    words = agree(*results) if agree else ""
    return Row(what, peer_name, statistics.median(times[0]), statistics.median(times[1]), words)
