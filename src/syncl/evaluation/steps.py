"""Telling a progress bar how far an evaluation has come."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with the name of each step as it begins: `STEPS`, then every class."""

STEPS = ("annotations", "results")


def no_progress(step: str) -> None:
    """Shows nothing."""
    del step
