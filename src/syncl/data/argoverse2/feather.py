"""Feather tables as arrays, and back. pyarrow is an extra, imported when the first table is read."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncl.errors import SynclError, system_errors_named
from syncl.files import atomic_path

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]

POSE = ("tx_m", "ty_m", "tz_m", "qw", "qx", "qy", "qz")
"""Columns of a pose, in the order that poses have in the index."""

SIZE = ("length_m", "width_m", "height_m")

# A log's largest table has tens of thousands of rows, results of a split have millions.
_MOST_BYTES = 1 << 31
_UNPACK = "copy or unpack this log again"


def arrow() -> ModuleType:
    """pyarrow, with its parts that read files.

    Raises:
        SynclError: it is not installed, with the extra that brings it.
    """
    try:
        importlib.import_module("pyarrow.feather")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise SynclError(
            "Argoverse 2's tables are feather files, which pyarrow reads, and it cannot be imported "
            f"({error}): pip install 'syncl[argoverse2]'"
        ) from error


class Table:
    """A feather file, whose columns are checked as they are taken.

    Args:
        path: of the file.
        remedy: what to do where something is wrong with it, for messages.

    Raises:
        SynclError: there is no such file, or it is cut off or otherwise damaged.
    """

    def __init__(self, path: Path, remedy: str = _UNPACK) -> None:
        pa = arrow()
        self.path = path
        self._remedy = remedy
        if not path.is_file():
            raise self.error("there is no such file")
        with system_errors_named(path):
            size = path.stat().st_size
            content = path.read_bytes() if size <= _MOST_BYTES else b""
        if size > _MOST_BYTES:
            raise self.error("more than 2 GiB are no table of Argoverse 2")
        try:
            self._table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
            # Damaged offsets would otherwise be followed to wherever they lead.
            self._table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise self.error(f"no feather table, or a damaged one ({reason})") from error

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def error(self, problem: str) -> SynclError:
        """What is wrong, with the file's name and what to do."""
        return SynclError(f"{self.path}: {problem}; {self._remedy}")

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._table.column_names

    def integers(self, name: str) -> Integers:
        """[N] whole numbers.

        Raises:
            SynclError: the column is missing, of another kind, or has holes; the same of the other kinds.
        """
        pa = arrow()
        column = self._column(name, "whole numbers", pa.types.is_integer)
        try:
            return np.array(column.cast(pa.int64()).to_numpy(), np.int64)
        except pa.ArrowInvalid as error:
            raise self.error(f"column '{name}' has a number beyond 63 bits") from error

    def numbers(self, name: str) -> Numbers:
        """[N] finite numbers, whatever their precision in the file."""
        types = arrow().types
        column = self._column(name, "numbers", lambda kind: types.is_floating(kind) or types.is_integer(kind))
        values = np.array(column.cast(arrow().float64()).to_numpy(), np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise self.error(
                f"column '{name}', row {bad[0]}: {values[bad[0]]} is no number of metres or pixels"
            )
        return values

    def matrix(self, names: Sequence[str]) -> Numbers:
        """[N, columns] finite numbers of several columns."""
        return np.stack([self.numbers(name) for name in names], axis=-1)

    def poses(self) -> Numbers:
        """[N, 7] the columns `POSE`; a quaternion may have any length but zero."""
        found = self.matrix(POSE)
        zero = np.flatnonzero(~found[:, 3:].any(axis=1))
        if zero.size:
            raise self.error(f"row {zero[0]}: qw, qx, qy, qz are zero, which is no rotation")
        return found

    def texts(self, name: str) -> tuple[Integers, tuple[str, ...]]:
        """[N] places of the texts in a list of different ones, and this list."""
        pa = arrow()
        types = pa.types

        def textual(kind: Any) -> bool:
            inner = kind.value_type if types.is_dictionary(kind) else kind
            return bool(types.is_string(inner) or types.is_large_string(inner))

        column = self._column(name, "texts", textual)
        encoded = pa.concat_arrays(column.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
        encoded = encoded.dictionary_encode()
        places = np.array(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
        return places, tuple(encoded.dictionary.to_pylist())

    def _column(self, name: str, what: str, fits: Callable[[Any], bool]) -> Any:
        names = self._table.column_names
        if names.count(name) != 1:
            problem = f"there is no column '{name}'" if name not in names else f"column '{name}' comes twice"
            raise self.error(f"{problem}; there are {', '.join(map(str, names)) or 'none'}")
        column = self._table.column(name)
        # Without a row, some writers name no kind.
        if len(self) and not fits(column.type):
            raise self.error(f"column '{name}' holds {column.type}, expected {what}")
        if column.null_count:
            raise self.error(f"column '{name}' has {column.null_count} holes, expected {what} everywhere")
        return column


def write_table(path: Path, columns: Mapping[str, Sequence[str] | NDArray[np.generic]]) -> None:
    """Write columns, in this order, as a feather file; what is no array are texts."""
    pa = arrow()
    arrays = {
        name: pa.array(values, None if isinstance(values, np.ndarray) else pa.string())
        for name, values in columns.items()
    }
    with atomic_path(path) as temporary:
        pa.feather.write_feather(pa.table(arrays), str(temporary))
