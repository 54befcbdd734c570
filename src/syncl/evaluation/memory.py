"""Keeping the garbage collector out of the way."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pauses the cyclic collector while millions of parsed JSON values come and go.

    Parsed JSON has no cycles; without the pause, the collector visits all of it again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
