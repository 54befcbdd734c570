"""The one exception users are meant to see."""


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
