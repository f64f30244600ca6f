"""One line that says what was wrong, what was found and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """The user's input can't be used; the message is complete in itself: the front doors show it, and no traceback."""


class WeightsMissing(InputError):
    """Trained weights are neither on disk nor to be fetched; the message names the file and where to put it."""


def unknown(kind: str, name: object, known: Iterable[object]) -> InputError:
    """The error for a name that doesn't exist, with the nearest ones that do: `raise unknown("layer", name, names)`."""
    names = [str(item) for item in known]
    lower = {item.lower(): item for item in reversed(names)}
    inside = [item for item in names if str(name).lower() in item.lower()] if len(str(name)) > 1 else []
    near = [lower[match] for match in get_close_matches(str(name).lower(), lower, n=5, cutoff=0.5)]
    nearest = list(dict.fromkeys([*inside, *near]))[:5]
    shown = list(dict.fromkeys([*nearest, *names])) if len(names) <= 6 else nearest or names[:8]
    more = f" (of {len(names)})" if len(names) > len(shown) else ""
    return InputError(f"no {kind} named '{name}'" + (f"; try {', '.join(shown)}{more}" if names else ""))
