"""Reading nuScenes table files into columns, in pieces, never holding a whole table as Python objects.

A table is a JSON array of flat records. The full `sample_data` and `ego_pose` tables have 2.6 million records
each; as Python objects they take several gigabytes, as the few columns of the key frames 100 MB.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from syncl.errors import SynclError

Record = dict[str, object]
Column = NDArray[np.generic]
Kind = Literal["text", "first_text", "integer", "number", "vector3", "vector4", "intrinsics"]

_PIECE_BYTES = 32 * 2**20
_RECORD_BREAK = re.compile(rb"\}\s*,\s*\{")


@dataclass(frozen=True)
class Field:
    """One field of a table and the kind of value it must hold.

    Kinds: `text` (bytes column), `first_text` (a list of texts of which the first is kept, "" if empty),
    `integer` (int64), `number` (finite float64), `vector3`, `vector4` (finite float64 rows), `intrinsics`
    (3x3 finite float64, nan where the list is empty, as for sensors that are not cameras).
    """

    name: str
    kind: Kind


def table_path(folder: Path, table: str) -> Path:
    """Path of a table's file."""
    return folder / f"{table}.json"


def read_table(
    folder: Path,
    table: str,
    fields: Sequence[Field],
    keep: Callable[[Record], bool] | None = None,
) -> dict[str, Column]:
    """Read the given fields of a table as columns, in table order.

    Args:
        folder: the version folder, for example `<dataroot>/v1.0-trainval`.
        table: table name without ".json".
        fields: what to read; every record must have all of them.
        keep: records for which this is false are left out; a `KeyError` it raises is reported as a missing
            field.

    Raises:
        SynclError: the file is missing, is not a JSON array of records, or a record lacks a field or holds a
            value of the wrong kind; the message names file, record token, field and value.
    """
    path = table_path(folder, table)
    pieces: dict[str, list[Column]] = {field.name: [] for field in fields}
    for records in read_records(path):
        kept = records if keep is None else _filter(path, records, keep)
        for field in fields:
            pieces[field.name].append(_column(path, kept, field))
    return {
        field.name: np.concatenate(pieces[field.name]) if pieces[field.name] else _column(path, [], field)
        for field in fields
    }


def read_records(path: Path) -> Iterator[list[Record]]:
    """The records of a table file in lists of bounded size.

    Raises:
        SynclError: the file is missing or is not a JSON array of records.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise SynclError(
            f"{path}: this table is missing; is --data the folder that holds {path.parent.name}/ with its "
            "JSON tables?"
        ) from None
    except OSError as error:
        raise SynclError(f"{path}: cannot be read: {error.strerror}") from error
    with handle:
        pending = handle.read(_PIECE_BYTES)
        if not pending.lstrip().startswith(b"["):
            raise SynclError(f"{path}: not a nuScenes table: expected a JSON array of records")
        while more := handle.read(_PIECE_BYTES):
            piece, pending = _split(pending)
            if piece:
                yield _parse(path, piece)
            pending += more
    yield _parse(path, pending)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Cut before the last record; both parts are JSON arrays on their own (the second once completed)."""
    end = len(data)
    start = max(0, end - 2**16)
    breaks = list(_RECORD_BREAK.finditer(data, start))
    if not breaks:
        return b"", data
    cut = breaks[-1]
    return data[: cut.start() + 1] + b"]", b"[" + data[cut.end() - 1 :]


def _parse(path: Path, data: bytes) -> list[Record]:
    try:
        records = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SynclError(
            f"{path}: damaged or cut off: not valid JSON ({error}); copy or unpack this file again"
        ) from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SynclError(f"{path}: not a nuScenes table: expected a JSON array of records")
    return records


def _filter(path: Path, records: list[Record], keep: Callable[[Record], bool]) -> list[Record]:
    kept = []
    for record in records:
        try:
            if keep(record):
                kept.append(record)
        except KeyError as error:
            text = FieldError.missing(record, str(error.args[0])).text
            raise SynclError(f"{path}: {text}; {MEND_TABLE}") from None
    return kept


def _name(record: Record) -> str:
    return repr(record.get("token", "without a token"))


_EMPTY: dict[Kind, Column] = {
    "text": np.zeros(0, "S1"),
    "first_text": np.zeros(0, "S1"),
    "integer": np.zeros(0, np.int64),
    "number": np.zeros(0, np.float64),
    "vector3": np.zeros((0, 3), np.float64),
    "vector4": np.zeros((0, 4), np.float64),
    "intrinsics": np.zeros((0, 3, 3), np.float64),
}

_DESCRIPTION: dict[Kind, str] = {
    "text": "a text",
    "first_text": "a list of texts",
    "integer": "a whole number",
    "number": "a finite number",
    "vector3": "a list of 3 finite numbers",
    "vector4": "a list of 4 finite numbers",
    "intrinsics": "a 3x3 list of finite numbers or an empty list",
}


def empty_column(field: Field) -> Column:
    """The column of a table without records."""
    return _EMPTY[field.kind]


MEND_TABLE = "copy or unpack the tables again"
"""What to do about a record that cannot be read."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a record.

    Attributes:
        field: its name.
        kind: "missing" or "value".
        text: record, field and value in words.
    """

    field: str
    kind: Literal["missing", "value"]
    text: str

    @staticmethod
    def missing(record: Record, field: str) -> "FieldError":
        """The record lacks the field."""
        return FieldError(field, "missing", f"record {_name(record)} has no field '{field}'")


def check_field(record: Record, field: Field) -> FieldError | None:
    """What is wrong with a field of a record, or None."""
    if field.name not in record:
        return FieldError.missing(record, field.name)
    value = record[field.name]
    try:
        _convert([value], field.kind)
    except _WRONG_VALUE:
        shown = repr(value)
        shown = shown if len(shown) < 80 else f"{shown[:77]}..."
        text = f"record {_name(record)}: field '{field.name}' is {shown}, expected {_DESCRIPTION[field.kind]}"
        return FieldError(field.name, "value", text)
    return None


def try_column(records: list[Record], field: Field) -> Column | None:
    """A field of some records as a column, None if a record lacks it or holds a wrong value."""
    if not records:
        return empty_column(field)
    try:
        return _convert([record[field.name] for record in records], field.kind)
    except _WRONG_VALUE:
        return None


def _column(path: Path, records: list[Record], field: Field) -> Column:
    column = try_column(records, field)
    if column is None:
        errors = (check_field(record, field) for record in records)
        # Values that convert one by one but not together differ in type, such as 1 and 1.5.
        first = next((error.text for error in errors if error), f"field '{field.name}' mixes kinds of values")
        raise SynclError(f"{path}: {first}; {MEND_TABLE}")
    return column


_WRONG_VALUE = (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError)


def _convert(values: Sequence[object], kind: Kind) -> Column:
    """A list of field values as a column.

    Raises:
        TypeError, ValueError, AttributeError or OverflowError if a value is not of the kind.
    """
    if kind == "text":
        return np.array([value.encode() for value in values])  # type: ignore[attr-defined]
    if kind == "first_text":
        firsts = [value[0] if len(value) else "" for value in values]  # type: ignore[index, arg-type]
        return np.array([value.encode() for value in firsts])
    if kind == "integer":
        whole = np.array(values)
        if whole.dtype.kind == "f" and np.all(whole == np.floor(whole)):
            whole = whole.astype(np.int64)
        if whole.dtype.kind not in "iu" or whole.ndim != 1:
            raise ValueError
        return whole.astype(np.int64)
    if kind == "intrinsics":
        unknown = [[np.nan] * 3] * 3
        rows = [value if value else unknown for value in values]
        matrices = np.array(rows, np.float64)
        known = np.array([bool(value) for value in values])
        if matrices.shape != (len(values), 3, 3) or not np.isfinite(matrices[known]).all():
            raise ValueError
        return matrices
    numbers = np.array(values, np.float64)
    expected: dict[Kind, tuple[int, ...]] = {"number": (), "vector3": (3,), "vector4": (4,)}
    if numbers.shape != (len(values), *expected[kind]) or not np.isfinite(numbers).all():
        raise ValueError
    return numbers
