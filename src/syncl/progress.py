"""What commands say while they work and when they are done: lines, tables and progress bars."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

# Columns; wider than any table.
_BOUNDLESS = 100_000


def plain_console(stderr: bool = False, quiet: bool = False) -> "Console":
    """A console that prints text as it is, however long: paths and names may hold `[old]` or `:car:`.

    Args:
        stderr: print to standard error.
        quiet: print nothing.
    """
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_whole(console: "Console", table: "Table") -> None:
    """Print a table as wide as its figures need: where the console is narrower, lines run over."""
    from rich.measure import Measurement

    boundless = console.options.update(max_width=_BOUNDLESS)
    least = Measurement.get(console, boundless, table).minimum
    if least > console.width:
        table.width = least
    console.print(table)


def progress_bar(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` behind a progress bar on standard error (silent where that is not a terminal)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = plain_console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=description)
