"""The one exception users are meant to see."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "make room there or name another place",
    errno.EDQUOT: "make room within the quota or name another place",
    errno.EFBIG: "allow larger files there or name another place",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "allow it or name another place",
    errno.EPERM: "allow it or name another place",
}


class SynclError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible combination of options.

    The message says what is wrong, where (file, field, value) and what to do. The command line prints it
    without a traceback and exits with status 2.
    """


def shown(value: object, length: int = 80) -> str:
    """A value as messages show it: as Python writes it, cut short."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Nested deeper than Python follows, or with more digits than it writes.
        return f"too large to show ({type(value).__name__})"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is spelt like this name; otherwise nothing."""
    from difflib import get_close_matches

    written = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), tuple(written), 1)
    return f"; did you mean {written[close[0]]!r}?" if close else ""


def alike(name: str, known: Iterable[str], most: int = 8) -> str:
    """As `did_you_mean`; where nothing is spelt like this name, the first that hold it."""
    known = tuple(known)
    holding = ", ".join([one for one in known if name in one][:most])
    return did_you_mean(name, known) or (f"; did you mean one of {holding}?" if holding else "")


def system_error(error: OSError, path: Path | str | None = None) -> SynclError:
    """What the operating system refused, as users are told: path, reason and what to do."""
    places = [str(place) for place in ((path,) if path else (error.filename, error.filename2)) if place]
    reason = (error.strerror or str(error) or type(error).__name__).partition("\n")[0]
    remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    return SynclError(": ".join((*places, f"{reason[0].lower()}{reason[1:]}{remedy}")))


@contextmanager
def system_errors_named(path: Path) -> Iterator[None]:
    """What the operating system refuses in this block is said of a path.

    Raises:
        SynclError: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise system_error(error, path) from error
