"""Flags that mean something only while a network is trained."""

from pathlib import Path

from vivace.base.errors import InputError


def need_training(training: int | None, flag: str, **given: str | Path | None) -> None:
    """InputError where one of the folders is given, but no training that would use it.

    training: how many steps, None or 0 for none; `flag` is the flag that says so
    """
    for name, value in given.items():
        if value is not None and not training:
            raise InputError(f"--{name} {value} is for a training: give {flag}, too")
