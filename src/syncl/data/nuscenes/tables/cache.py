"""Indices on disk: files beside the tables, valid as long as those have not changed."""

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zipfile import BadZipFile

import numpy as np
import orjson

from syncl.data.nuscenes.tables.categories import CAMERA_ORDER, VISIBILITY_LEVELS
from syncl.data.nuscenes.tables.schema import SCHEMA
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    Columns = TypeVar("Columns", bound=DataclassInstance)

# Raise when the meaning of the columns changes: older caches are then rebuilt.
_FORMAT = 3


def cache_path(dataroot: Path, version: str, part: str = "") -> Path:
    """Where the index of a version is cached, or a part of it that only some need."""
    return dataroot / ".syncl" / f"{version}{part and '-'}{part}.npz"


def fingerprint(folder: Path, dataset: DatasetDescription = NUSCENES) -> str:
    """Text that changes whenever a table file, the classes or the index format do."""
    files = {}
    for table in sorted(SCHEMA):
        path = folder / f"{table}.json"
        if path.exists():
            status = path.stat()
            files[table] = [status.st_size, status.st_mtime_ns]
    rules: list[object] = [CAMERA_ORDER, dataset.categories, VISIBILITY_LEVELS]
    if dataset.classes != NUSCENES.classes:
        rules.append(dataset.classes)
    return orjson.dumps([_FORMAT, files, rules], option=orjson.OPT_SORT_KEYS).decode()


def load_columns(path: Path, expected_fingerprint: str, kind: "type[Columns]") -> "Columns | None":
    """The cached columns, or None if there are none for these tables (a damaged file counts as none).

    Args:
        path: the file.
        expected_fingerprint: of the tables as they are now.
        kind: dataclass of arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if stored["fingerprint"].item() != expected_fingerprint:
                return None
            return kind(**{field.name: stored[field.name] for field in dataclasses.fields(kind)})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        warnings.warn(f"{path}: damaged index cache ({error}); it is built again", stacklevel=2)
        return None


def save_columns(path: Path, columns: "DataclassInstance", current_fingerprint: str) -> None:
    """Cache a dataclass of arrays; where the folder cannot be written, warn and go on without."""
    arrays = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, fingerprint=np.array(current_fingerprint), **arrays)
    except SynclError as error:
        warnings.warn(
            f"the index cannot be cached ({error}); the tables will be read anew every time "
            "until this folder can be written",
            stacklevel=2,
        )


def cached_columns(
    path: Path, current: str, kind: "type[Columns]", build: "Callable[[], Columns]", cache: bool
) -> "Columns":
    """The columns cached for these tables, otherwise as they are built, and then cached.

    Args:
        path: the file.
        current: fingerprint of the tables.
        kind: dataclass of arrays.
        build: makes them from the tables.
        cache: False neither reads nor writes the file.
    """
    columns = load_columns(path, current, kind) if cache else None
    if columns is None:
        columns = build()
        if cache:
            save_columns(path, columns, current)
    return columns
