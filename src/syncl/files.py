"""Writing files so that nothing is ever half written or lost, and reading what strangers wrote."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from syncl.errors import SynclError

if TYPE_CHECKING:
    import torch

_DEEPEST = 64


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


def inside(root: Path, name: str, source: str = "", links: bool = True) -> Path:
    """The path of a file that data name, which must not lead out of their folder.

    Args:
        root: the folder; it may be a link itself.
        name: as the data give it, relative to the folder.
        source: where the name is from, for messages.
        links: also look whether the file itself is a link; its folder always is looked at, once.

    Raises:
        SynclError: if the name is absolute or has `..` in it, or a symbolic link leads out.
    """
    if not name or name[0] in "/\\" or "\0" in name or (".." in name and ".." in re.split(r"[/\\]", name)):
        raise SynclError(
            f"{source or root}: the file name {name!r} leads out of the data; names are relative to {root}, "
            "without '..'"
        )
    path = root / name
    outside = _outside(root, name.rpartition("/")[0])
    if links and outside is None and path.is_symlink():
        outside = _outside.__wrapped__(root, name)
    if outside is not None:
        raise SynclError(
            f"{source or root}: {path} is a link to {outside}, out of the data; put a copy in its place, or "
            "name the folder that holds both"
        )
    return path


@lru_cache(maxsize=4096)
def _outside(root: Path, name: str) -> str | None:
    """Where a name leads by symbolic links, if that is not in the folder."""
    real = os.path.realpath(root / name)
    return None if Path(real).is_relative_to(os.path.realpath(root)) else real


def parse_json(content: Path | bytes | str, source: str = "", nan: bool = False) -> object:
    """JSON values, from a file or from text, nested at most 64 deep.

    Args:
        content: a file's path, or the text itself.
        source: where a text comes from, for messages.
        nan: also take NaN and Infinity, which are no JSON, and which the official metrics hold.

    Raises:
        SynclError: if it is missing, not JSON, nested too deep, or holds a number too large for a float.
    """
    import json

    import orjson

    source = source or str(content)
    value: object
    try:
        text = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise SynclError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(text if nan else "")
        except (ValueError, RecursionError):
            raise SynclError(f"{source}: not valid JSON ({error}); mend it or write it again") from error
    level = [value]
    for _ in range(_DEEPEST):
        lists = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [item for items in lists if isinstance(items, list) for item in items]
        if not level:
            return value
    raise SynclError(f"{source}: nested more than {_DEEPEST} deep; nothing of ours is")


def read_tensors(
    path: Path, kind: str, device: "torch.device | str" = "cpu"
) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Args:
        path: the file.
        kind: what it should be, for messages.
        device: where the tensors shall be.

    Raises:
        SynclError: if it is missing, truncated or another kind of file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SynclError(f"{path}: there is no such {kind}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SynclError(f"{path}: not a complete safetensors file ({error})") from error
