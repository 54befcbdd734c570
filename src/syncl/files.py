"""Writing files so that nothing is ever half written or lost, and reading what strangers wrote."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from syncl.errors import SynclError, system_error, system_errors_named
from syncl.locks import LOCK, held

if TYPE_CHECKING:
    import torch

_DEEPEST = 64
_PROBE_BYTES = 4096
_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends without an exception.

    Readers see the old file or the whole new one, never a part. If the block raises, `target` is untouched
    and the temporary file is removed; what a killed process left of the same file is removed too. Parent
    folders are created.

    Raises:
        SynclError: naming the target and the reason, where the system does not let it be written.
    """
    target = Path(target)
    with _unwritable_said(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        tidy(target)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}.partial-", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        with held(temporary):
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


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its place when the block ends without an exception.

    As `atomic_path`, for whole folders: killed at any moment, the next call finds the old or the new one
    complete.
    """
    target = Path(target)
    with _unwritable_said(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        tidy(target)
        building = Path(
            tempfile.mkdtemp(prefix=f".{target.stem}.partial-", suffix=target.suffix, dir=target.parent)
        )
        with held(building):
            try:
                yield building
                building.chmod(0o755)
                if target.exists():
                    target.rename(_place_of_old(target))
                building.rename(target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
                tidy(target)


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Yield a folder for files that nobody keeps: removed at the end, or after a kill by the next call."""
    target = Path(tempfile.gettempdir()) / f"syncl-{name}"
    tidy(target)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.stem}.partial-", dir=target.parent))
    with held(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def tidy(target: Path) -> None:
    """Remove what killed processes left of a file or folder, and give back what one was about to replace."""
    old = _place_of_old(target)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    if not target.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(target.stem)}\.partial-[a-z0-9_]{{8}}{re.escape(target.suffix)}")
    for left in list(target.parent.iterdir()):
        if name.fullmatch(left.name):
            with suppress(OSError), held(left, wait=False):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _place_of_old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


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
    occupied = target.is_file() or (target.is_dir() and any(item.name != LOCK for item in target.iterdir()))
    if occupied and not overwrite:
        kind = "folder" if target.is_dir() else "file"
        raise SynclError(f"{target}: this {kind} already exists; choose another or pass --overwrite")


def check_output(target: Path, overwrite: bool, kind: Literal["file", "folder"] = "file") -> None:
    """Make sure before the work that its result can be written; nothing is created.

    Args:
        target: what will be written.
        overwrite: it may replace an earlier one.
        kind: of the target.

    Raises:
        SynclError: there is one already, something of the other kind is in its place or above it, or the
            system does not let anything be written there; path and reason are named.
    """
    refuse_to_overwrite(target, overwrite)
    if kind == "folder" and target.is_file():
        raise SynclError(f"{target}: is a file, where a folder is to be written; choose another")
    if kind == "file" and target.is_dir():
        raise SynclError(f"{target}: is a folder, where a file is to be written; name a file in it")
    place = Path(target if kind == "folder" else target.parent).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise SynclError(f"{target}: {place} is a file, where a folder would have to be; choose another path")
    with system_errors_named(target), tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(_PROBE_BYTES))
        probe.flush()


def check_replaced(target: Path, overwrite: bool, marker: str) -> None:
    """`check_output` of a folder that is replaced whole: by nothing but its own kind, or where it is empty.

    Args:
        target: the folder.
        overwrite: it may replace an earlier one.
        marker: a file that every such folder has.

    Raises:
        SynclError: as `check_output`, or it holds something else, which would be lost.
    """
    check_output(target, overwrite, "folder")
    if target.is_dir() and not (target / marker).is_file() and any(target.iterdir()):
        raise SynclError(
            f"{target}: holds other things than what is to be written (it has no {marker}), and --overwrite "
            "would remove them all; move them away or choose another folder"
        )


@contextmanager
def _unwritable_said(target: Path) -> Iterator[None]:
    """Errors of writing name the target, not what stands in its place meanwhile."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else "?"
        if error.errno in _WRITING or ".partial-" in name or target.is_relative_to(name):
            raise system_error(error, target) from error
        raise


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
    if not text.strip():
        raise SynclError(f"{source}: is empty ({len(text)} bytes); write it again")
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


def refuse_what_is_no_file(path: Path, kind: str) -> None:
    """Refuse a path under which there is nothing, or a folder.

    Raises:
        SynclError: saying which; `kind` is what is wanted.
    """
    if (path / "manifest.json").is_file():
        raise SynclError(f"{path}: an exported folder, not a {kind}; take the model file it was made of")
    if path.is_dir():
        raise SynclError(f"{path}: a folder, not a {kind}")
    if not path.is_file():
        raise SynclError(f"{path}: there is no such {kind}")


def refuse_what_is_no_download(path: Path) -> None:
    """Refuse what often lies under a checkpoint's name: nothing, a web page, a pointer of Git LFS.

    Raises:
        SynclError: saying which.
    """
    with system_errors_named(path), path.open("rb") as file:
        begin = file.read(256).lstrip().lower()
    size = path.stat().st_size
    what = "an empty file" if not size else ""
    if begin.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        what = "a web page (HTML)"
    elif begin.startswith(b"version https://git-lfs"):
        what = "a pointer of Git LFS to the file"
    if what:
        raise SynclError(f"{path} ({size} bytes): {what}, not a checkpoint; download it again")


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

    refuse_what_is_no_file(path, kind)
    refuse_what_is_no_download(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SynclError(f"{path}: not a complete safetensors file ({error})") from error


def write_tensors(path: Path, tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one step (see `atomic_path`); the tensors may be anywhere and share memory.

    Raises:
        SynclError: naming the path and the reason, where it cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        with atomic_path(path) as temporary:
            save_file(own, temporary, dict(metadata))
    except SafetensorError as error:
        # "os error 27", or before safetensors 0.6 "Os { code: 27, ...".
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        known = OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))
        raise system_error(known, path) from error
