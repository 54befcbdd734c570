"""Looking over tables that did not pass: every kind of problem in them once, with how often it occurs.

Building the index stops at the first problem. A user who mends a dataset wants the whole list, so the tables
are then read once more, slowly and tolerantly: a bad record is counted and set aside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.schema import SCHEMA, Reference, TableSchema, is_key_frame, may_lack
from syncl.data.nuscenes.tables import FieldError, Record, check_field, read_records, table_path
from syncl.errors import SynclError

_MEND_TABLE = "copy or unpack the tables again"
_MEND_REFERENCE = "the tables do not belong together or one is incomplete"
_MEND_DOUBLE = "were two versions of the tables merged?"


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        place: the file.
        what: what is wrong there, with the first record, field and value.
        count: how many records or files have it.
        remedy: what to do.
    """

    place: Path
    what: str
    count: int
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} ({self.count:,} in all); {self.remedy}"


@dataclass
class _Table:
    """The usable key columns of a table."""

    texts: dict[str, NDArray[np.bytes_]]

    @property
    def tokens(self) -> NDArray[np.bytes_]:
        return self.texts["token"]


def survey_tables(folder: Path) -> list[Problem]:
    """Every kind of problem in the tables of a version folder, in the order of the tables."""
    problems: list[Problem] = []
    tables: dict[str, _Table] = {}
    for name, schema in SCHEMA.items():
        if may_lack(folder.name, name) and not table_path(folder, name).exists():
            continue
        try:
            tables[name] = _read(folder, name, schema, problems)
        except SynclError as error:
            path = table_path(folder, name)
            problems.append(Problem(path, str(error).removeprefix(f"{path}: "), 1, _MEND_TABLE))
    for name, table in tables.items():
        path = table_path(folder, name)
        problems += _doubles(path, "token", table.tokens)
        if name == "scene":
            problems += _doubles(path, "name", table.texts["name"])
        for reference in SCHEMA[name].references:
            if reference.target in tables:
                problems += _broken(path, table, reference, tables[reference.target].tokens)
    problems += _key_frames(folder, tables)
    return problems


def _read(folder: Path, name: str, schema: TableSchema, problems: list[Problem]) -> _Table:
    path = table_path(folder, name)
    wanted = {"token", "name", *(reference.field for reference in schema.references)}
    texts: dict[str, list[bytes]] = {field.name: [] for field in schema.fields if field.name in wanted}
    found: dict[tuple[str, str], tuple[FieldError, int]] = {}
    for record in _records(path, schema, found):
        errors = [error for field in schema.fields if (error := check_field(record, field)) is not None]
        for error in errors:
            first, count = found.get((error.field, error.kind), (error, 0))
            found[error.field, error.kind] = first, count + 1
        if not errors:
            for field, column in texts.items():
                column.append(_text(record[field]))
    problems += [Problem(path, error.text, count, _MEND_TABLE) for error, count in found.values()]
    return _Table({field: np.array(column, np.bytes_) for field, column in texts.items()})


def _records(
    path: Path, schema: TableSchema, found: dict[tuple[str, str], tuple[FieldError, int]]
) -> Iterator[Record]:
    for records in read_records(path):
        for record in records:
            try:
                if not schema.key_frames_only or is_key_frame(record):
                    yield record
            except KeyError:
                error = FieldError.missing(record, "is_key_frame")
                first, count = found.get((error.field, error.kind), (error, 0))
                found[error.field, error.kind] = first, count + 1


def _text(value: object) -> bytes:
    first = (value[0] if value else "") if isinstance(value, list) else value
    return str(first).encode()


def _doubles(path: Path, field: str, values: NDArray[np.bytes_]) -> list[Problem]:
    distinct, counts = np.unique(values, return_counts=True)
    repeated = counts > 1
    if not repeated.any():
        return []
    example = distinct[repeated][0].decode(errors="replace")
    return [Problem(path, f"duplicate {field} '{example}'", int((counts[repeated] - 1).sum()), _MEND_DOUBLE)]


def _broken(path: Path, table: _Table, reference: Reference, targets: NDArray[np.bytes_]) -> list[Problem]:
    values = table.texts[reference.field]
    lost = ~np.isin(values, targets)
    if reference.optional:
        lost &= values != b""
    if not lost.any():
        return []
    row = int(np.argmax(lost))
    owner, value = table.tokens[row].decode(), values[row].decode(errors="replace")
    what = f"record '{owner}': {reference.field} '{value}' is not in {reference.target}.json"
    return [Problem(path, what, int(lost.sum()), _MEND_REFERENCE)]


def _key_frames(folder: Path, tables: dict[str, _Table]) -> list[Problem]:
    """Samples that no sensor recorded, and sensors that recorded a sample twice."""
    if not {"sample", "sample_data"} <= tables.keys():
        return []
    path = table_path(folder, "sample_data")
    data, samples = tables["sample_data"], tables["sample"].tokens
    problems = []
    if not len(samples):
        what = "no samples; this version of the data is empty"
        problems.append(Problem(table_path(folder, "sample"), what, 1, _MEND_TABLE))
    blind = ~np.isin(samples, data.texts["sample_token"])
    if blind.any():
        token = samples[int(np.argmax(blind))].decode()
        what = f"sample '{token}' has no key frame of any sensor"
        problems.append(Problem(path, what, int(blind.sum()), _MEND_REFERENCE))
    pairs = np.stack([data.texts["sample_token"], data.texts["calibrated_sensor_token"]], axis=-1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    same = (pairs[order][1:] == pairs[order][:-1]).all(axis=-1)
    if same.any():
        token = data.tokens[order][1:][same][0].decode()
        what = f"record '{token}': its sample already has a key frame of this sensor"
        problems.append(Problem(path, what, int(same.sum()), _MEND_DOUBLE))
    return problems
