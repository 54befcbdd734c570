"""How a process holds its memory."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next arrays of its size, in large pages.

    glibc hands arrays of megabytes back to the system as they are freed, and Linux gives memory page by page:
    a loop over frames, steps or pieces of a file pays for every page in every round, an eighth of a step of
    the shipped model. The process stays as large as it was at its largest. Other C libraries are left alone.

    Training's arrays are of ever other sizes, as many as there are tracks, and fit the freed ones badly.
    torch asks for pages of 2 MB, of which there are fewer, if it is told to before its first tensor.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_MMAP_MAX, 0)
        set_option(_TRIM_THRESHOLD, -1)
