"""An experiment's parts, one after another."""

from collections.abc import Callable, Sequence

from threadpoolctl import threadpool_limits

from vivace.base.report import Step, Tell


def in_turn(parts: Sequence[tuple[str, Callable[[], None]]], tell: Tell) -> None:
    """Run each part on one thread (times then compare, and the tour runs experiments in parallel), telling its name."""
    with threadpool_limits(1):
        for i, (what, part) in enumerate(parts):
            tell(Step(i, len(parts), what))
            part()
    tell(Step(len(parts), len(parts), "done"))
