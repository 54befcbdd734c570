"""Reading nuScenes table files into columns, in pieces, never holding a whole table as Python objects.

A table is a JSON array of flat records. The full `sample_data` and `ego_pose` tables have 2.6 million records
each; as Python objects they take several gigabytes, as the few columns of the key frames 100 MB.
"""

from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncl.data.json_stream import convert_records, find_flagged_records, find_records
from syncl.data.lenses import COEFFICIENTS
from syncl.errors import SynclError, shown

Record = dict[str, object]
Column = NDArray[np.generic]
Kind = Literal["text", "texts", "flag", "integer", "time", "vector3", "vector4", "intrinsics", "distortion"]
Converted = TypeVar("Converted")

UNKNOWN_INTEGER = np.iinfo(np.int64).min
"""Stands in integer columns for a value that is none."""


@dataclass(frozen=True)
class Field:
    """One field of a table and the kind of value it holds.

    Kinds: `text` (bytes column), `texts` (a list of texts, joined by spaces), `flag` (bool), `integer`
    (int64), `time` (int64, or float64 with fractions, nan or infinity), `vector3`, `vector4` (float64 rows;
    infinity is a number), `intrinsics` (3x3 finite float64, nan where the list is empty, as for sensors that
    are not cameras), `distortion` (rows of 14 finite float64, zeros where there is none; no record must have
    it).

    Attributes:
        name: of the field.
        kind: of its values.
        needed: whether every record must have it. Where not, a value that is missing or of another kind
            becomes "", False, `UNKNOWN_INTEGER` or nan, and whoever needs it complains. The official
            evaluation asks for little, and what it accepts must not be refused here.
        unknown: what such a value becomes instead, where "" is a sound one.
    """

    name: str
    kind: Kind
    needed: bool = True
    unknown: str | None = None


def table_path(folder: Path, table: str) -> Path:
    """Path of a table's file."""
    return folder / f"{table}.json"


def read_table(
    folder: Path,
    table: str,
    fields: Sequence[Field],
    keep: Callable[[Record], bool] | None = None,
    where: tuple[str, Collection[str]] | None = None,
    flag: str | None = None,
    records: list[Record] | None = None,
) -> dict[str, Column]:
    """Read the given fields of a table as columns, in table order.

    Args:
        folder: the version folder, for example `<dataroot>/v1.0-trainval`.
        table: table name without ".json".
        fields: what to read.
        keep: records for which this is false are left out; a `KeyError` it raises is reported as a missing
            field.
        where: a text field and the values of it that are asked for; far faster than `keep` where few records
            have one of them, because the others are not even parsed.
        flag: a field that says, true or false, which records are asked for, and as fast.
        records: the records that are asked for, where they are at hand; then nothing is read.

    Raises:
        SynclError: the file is missing, is not a JSON array of records, or a record lacks a needed field or
            holds a value of the wrong kind; the message names file, record token, field and value.
    """
    path = table_path(folder, table)
    if records is None and where is not None:
        records = find_records(existing_table(folder, table), *where)
    elif records is None and flag is not None:
        records = find_flagged_records(existing_table(folder, table), flag)
        keep = itemgetter(flag)
    if records is not None:
        return {field.name: _column(path, records, field) for field in fields}

    def columns(records: list[Record]) -> list[Column]:
        kept = records if keep is None else _filter(path, records, keep)
        return [_column(path, kept, field) for field in fields]

    pieces = read_records(path, columns)
    return {
        field.name: np.concatenate([piece[place] for piece in pieces]) if pieces else _column(path, [], field)
        for place, field in enumerate(fields)
    }


def read_records(path: Path, convert: Callable[[list[Record]], Converted]) -> list[Converted]:
    """What `convert` makes of the records of a table file, some thousands at a time.

    Raises:
        SynclError: the file is missing or is not a JSON array of records.
    """
    return convert_records(existing_table(path.parent, path.stem), convert)


def existing_table(folder: Path, table: str) -> Path:
    """Path of a table's file.

    Raises:
        SynclError: it is missing.
    """
    path = table_path(folder, table)
    if not path.exists():
        raise SynclError(
            f"{path}: this table is missing; is --data the folder that holds {path.parent.name}/ with its "
            "JSON tables?"
        )
    return path


def _filter(path: Path, records: list[Record], keep: Callable[[Record], bool]) -> list[Record]:
    try:
        return [record for record in records if keep(record)]
    except KeyError as error:
        field = str(error.args[0])
        record = next(record for record in records if field not in record)
        text = FieldError.missing(record, field).text
        raise SynclError(f"{path}: {text}; {MEND_TABLE}") from None


def _name(record: Record) -> str:
    return shown(record.get("token", "without a token"))


_COEFFICIENTS = (4, 5, 8, 12, 14)


class _Values(NamedTuple):
    """Of a kind: the column of no values, what stands for a missing one, and what they are in words."""

    empty: Column
    unknown: object
    words: str


_VALUES: dict[Kind, _Values] = {
    "text": _Values(np.zeros(0, "S1"), "", "a text"),
    "texts": _Values(np.zeros(0, "S1"), [], "a list of texts"),
    "flag": _Values(np.zeros(0, np.bool_), False, "true or false"),
    "integer": _Values(np.zeros(0, np.int64), UNKNOWN_INTEGER, "a whole number"),
    "time": _Values(np.zeros(0, np.int64), UNKNOWN_INTEGER, "a number of microseconds"),
    "vector3": _Values(np.zeros((0, 3)), [np.nan] * 3, "a list of 3 numbers"),
    "vector4": _Values(np.zeros((0, 4)), [np.nan] * 4, "a list of 4 numbers"),
    "intrinsics": _Values(np.zeros((0, 3, 3)), [], "a 3x3 list of finite numbers or an empty list"),
    "distortion": _Values(
        np.zeros((0, 14)), [np.nan] * 14, "an empty list or 4, 5, 8, 12 or 14 finite numbers (OpenCV's)"
    ),
}


def empty_column(field: Field) -> Column:
    """The column of a table without records."""
    return _VALUES[field.kind].empty


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
    """What is wrong with a needed field of a record, or None."""
    if not field.needed:
        return None
    if field.name not in record:
        if field.kind == "distortion":
            return None
        return FieldError.missing(record, field.name)
    value = record[field.name]
    try:
        _convert([value], field.kind)
    except _WRONG_VALUE:
        expected = _VALUES[field.kind].words
        text = f"record {_name(record)}: field '{field.name}' is {shown(value)}, expected {expected}"
        return FieldError(field.name, "value", text)
    return None


def try_column(records: list[Record], field: Field) -> Column | None:
    """A field of some records as a column, None if a record lacks it or holds a wrong value."""
    if not records:
        return empty_column(field)
    try:
        return _convert([record[field.name] for record in records], field.kind)
    except _WRONG_VALUE:
        if field.needed:
            return None
    return _convert([_value_or_unknown(record, field) for record in records], field.kind)


def _value_or_unknown(record: Record, field: Field) -> object:
    value = record.get(field.name)
    try:
        _convert([value], field.kind)
    except _WRONG_VALUE:
        return _VALUES[field.kind].unknown if field.unknown is None else field.unknown
    return value


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
    if kind == "texts":
        if set(map(type, values)) - {list}:
            raise ValueError
        return np.array([" ".join(value).encode() for value in values])  # type: ignore[arg-type]
    if kind == "flag":
        return np.array([bool(value) for value in values])
    if kind in ("integer", "time"):
        whole = np.array(values)
        if whole.dtype.kind == "f" and np.all(whole == np.floor(whole)) and np.abs(whole).max() < 2**63:
            whole = whole.astype(np.int64)
        if whole.ndim != 1 or whole.dtype.kind not in ("iufb" if kind == "time" else "iub"):
            raise ValueError
        return whole.astype(np.float64 if whole.dtype.kind == "f" else np.int64)
    if kind == "intrinsics":
        unknown = [[np.nan] * 3] * 3
        rows = [value if value else unknown for value in values]
        matrices = np.array(rows, np.float64)
        known = np.array([bool(value) for value in values])
        if matrices.shape != (len(values), 3, 3) or not np.isfinite(matrices[known]).all():
            raise ValueError
        return matrices
    if kind == "distortion":
        return np.array([_coefficients(value) for value in values])
    width = 3 if kind == "vector3" else 4
    if set(map(len, values)) - {width} or set(map(type, values)) - {list}:  # type: ignore[arg-type]
        raise ValueError
    # Unlike numpy's, arrays of the standard library take numbers only: no null, no numerals in strings.
    flat = array("d", list(chain.from_iterable(values)))  # type: ignore[arg-type]
    return np.frombuffer(flat, np.float64).reshape(len(values), width)


def _coefficients(value: object) -> NDArray[np.float64]:
    """[14] OpenCV's distortion coefficients; zeros where there is none, nan stays for whoever needs them."""
    coefficients = np.zeros(14)
    if value is not None and value != []:
        if not isinstance(value, list) or len(value) not in COEFFICIENTS["pinhole"]:
            raise ValueError
        coefficients[: len(value)] = array("d", value)
    return coefficients
