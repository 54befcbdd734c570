"""The index on disk: one file beside the tables, valid as long as they have not changed."""

import dataclasses
import warnings
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import orjson

from syncl.data.nuscenes.categories import CAMERA_ORDER, CLASS_OF_CATEGORY, VISIBILITY_LEVELS
from syncl.data.nuscenes.columns import NuScenesColumns
from syncl.data.nuscenes.schema import SCHEMA
from syncl.files import atomic_path

# Raise when the meaning of the columns changes: older caches are then rebuilt.
_FORMAT = 1


def cache_path(dataroot: Path, version: str) -> Path:
    """Where the index of a version is cached."""
    return dataroot / ".syncl" / f"{version}.npz"


def fingerprint(folder: Path) -> str:
    """Text that changes whenever a table file or the index format does."""
    files = {}
    for table in sorted(SCHEMA):
        path = folder / f"{table}.json"
        if path.exists():
            status = path.stat()
            files[table] = [status.st_size, status.st_mtime_ns]
    rules = [CAMERA_ORDER, CLASS_OF_CATEGORY, VISIBILITY_LEVELS]
    return orjson.dumps([_FORMAT, files, rules], option=orjson.OPT_SORT_KEYS).decode()


def load_columns(path: Path, expected_fingerprint: str) -> NuScenesColumns | None:
    """The cached index, or None if there is none for these tables (a damaged one counts as none)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if stored["fingerprint"].item() != expected_fingerprint:
                return None
            names = [field.name for field in dataclasses.fields(NuScenesColumns)]
            return NuScenesColumns(**{name: stored[name] for name in names})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        warnings.warn(f"{path}: damaged index cache ({error}); it is built again", stacklevel=2)
        return None


def save_columns(path: Path, columns: NuScenesColumns, current_fingerprint: str) -> None:
    """Cache the index; where the folder cannot be written, warn and go on without."""
    arrays = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, fingerprint=np.array(current_fingerprint), **arrays)
    except OSError as error:
        warnings.warn(
            f"{path}: the index cannot be cached ({error.strerror}); the tables will be read anew every time "
            "until this folder can be written",
            stacklevel=2,
        )
