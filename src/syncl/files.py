"""Writing files so that nothing is ever half written or lost."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncl.errors import SynclError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends without an exception.

    Readers see the old file or the whole new one, never a part. If the block raises, `target` is untouched
    and the temporary file is removed. Parent folders are created.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(target: Path, content: bytes) -> None:
    """Write `content` to `target` in one step (see `atomic_path`)."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def refuse_to_overwrite(target: Path, overwrite: bool) -> None:
    """Raise if `target` is an existing file or a folder that is not empty, unless `overwrite` is set.

    Raises:
        SynclError: naming the path and the option that allows overwriting.
    """
    target = Path(target)
    occupied = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if occupied and not overwrite:
        kind = "folder" if target.is_dir() else "file"
        raise SynclError(f"{target}: this {kind} already exists; choose another or pass --overwrite")
