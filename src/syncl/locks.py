"""One process at a time in a folder, by locks that end with whoever holds them, however that ends."""

import errno
import fcntl
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from syncl.errors import SynclError, system_errors_named

LOCK = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}
_descriptors: set[int] = set()


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a file or folder for as long as the block lasts and this process lives.

    Args:
        path: what exists.
        wait: for another holder to let go; a file system without locks then does without.

    Raises:
        OSError: another holds it, or there are no locks, and `wait` is False.
    """
    descriptor = os.open(path, os.O_RDONLY)
    _descriptors.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not wait or error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        _release(descriptor)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is created where it is missing, until the block ends.

    A lock whose holder is gone does not bind. Where a file system has no locks, that is a warning.

    Raises:
        SynclError: another process is at work there, which is named; or the folder cannot be written.
    """
    path, created = folder / LOCK, not folder.exists()
    with system_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path)
        program = Path(sys.argv[0]).name.replace("__main__.py", "syncl")
        command = " ".join((program, *sys.argv[1:3]))
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} ({command}, since {started})")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
            if created:
                folder.rmdir()  # where nothing came into it
        _release(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        _descriptors.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _release(descriptor)
            holder = path.read_text() if path.exists() else ""
            raise SynclError(
                f"{path.parent}: {holder or 'another process'} is at work in it; wait for it, stop it, or "
                "choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                _release(descriptor)
                raise
            warnings.warn(
                f"{path.parent}: no locks on this file system; keep others out yourself", stacklevel=4
            )
        # Whoever held it before may have removed the file that was opened here.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        _release(descriptor)


def _release(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _let_go() -> None:
    """In a process that was forked: its copies would keep locks whose holder is gone."""
    for descriptor in tuple(_descriptors):
        _release(descriptor)


os.register_at_fork(after_in_child=_let_go)
