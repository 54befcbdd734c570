"""Looking over tables that did not pass: every kind of problem in them once, with how often it occurs.

Building the index stops at the first problem. A user who mends a dataset wants the whole list, so the tables
are then read once more, slowly and tolerantly: a bad record is counted and set aside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.past.sweeps import calibrations_of_others, is_camera_sweep
from syncl.data.nuscenes.tables.schema import (
    ANNOTATION_FIELDS,
    CALIBRATION_FIELDS,
    CAMERA_FIELDS,
    SCHEMA,
    TOKEN,
    Reference,
    TableSchema,
    is_key_frame,
    may_lack,
)
from syncl.data.nuscenes.tables.table_files import (
    MEND_TABLE,
    Column,
    Field,
    FieldError,
    Record,
    check_field,
    read_records,
    read_table,
    table_path,
    try_column,
)
from syncl.errors import SynclError

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


_Table = dict[str, NDArray[np.bytes_]]
"""The usable key columns of a table."""


def survey_tables(folder: Path) -> list[Problem]:
    """Every kind of problem in the tables of a version folder, in the order of the tables."""
    problems: list[Problem] = []
    tables: dict[str, _Table] = {}
    for name, schema in SCHEMA.items():
        if may_lack(folder.name, name) and not table_path(folder, name).exists():
            continue
        try:
            keep = is_key_frame if schema.key_frames_only else None
            tables[name] = _read(folder, name, schema, problems, keep, _strict(folder, name))
        except SynclError as error:
            path = table_path(folder, name)
            problems.append(Problem(path, str(error).removeprefix(f"{path}: "), 1, MEND_TABLE))
    for name, table in tables.items():
        path = table_path(folder, name)
        problems += _doubles(path, "token", table["token"])
        if name == "scene":
            problems += _doubles(path, "name", table["name"])
        for reference in SCHEMA[name].references:
            if reference.target in tables:
                problems += _broken(path, table, reference, tables[reference.target]["token"])
    problems += _key_frames(folder, tables)
    return problems


def survey_sweeps(folder: Path) -> list[Problem]:
    """Every kind of problem with the camera images between key frames, in tables that are sound otherwise."""
    problems: list[Problem] = []
    others = calibrations_of_others(folder)
    name, schema = "sample_data", SCHEMA["sample_data"]
    path = table_path(folder, name)
    keep = partial(is_camera_sweep, other_calibrations=others)
    table = _read(folder, name, schema, problems, keep, lambda _: CAMERA_FIELDS)
    problems += _doubles(path, "token", table["token"])
    for reference in schema.references:
        targets = read_table(folder, reference.target, [TOKEN])["token"]
        problems += _broken(path, table, reference, cast(NDArray[np.bytes_], targets))
    return problems


class _Findings:
    """Errors by field and kind: the first of each, and how many there are."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[FieldError, int]] = {}

    def add(self, error: FieldError) -> None:
        first, count = self._found.get((error.field, error.kind), (error, 0))
        self._found[error.field, error.kind] = first, count + 1

    def merge(self, other: "_Findings") -> None:
        for key, (first, count) in other._found.items():
            earlier, before = self._found.get(key, (first, 0))
            self._found[key] = earlier, before + count

    def problems(self, path: Path) -> list[Problem]:
        return [Problem(path, first.text, count, MEND_TABLE) for first, count in self._found.values()]


Strict = Callable[[Record], tuple[Field, ...]]
"""What a record must have beyond what all records of its table must."""


def _read(
    folder: Path,
    name: str,
    schema: TableSchema,
    problems: list[Problem],
    keep: Callable[[Record], bool] | None,
    strict: Strict | None = None,
) -> _Table:
    path = table_path(folder, name)
    wanted = {"token", "name", *(reference.field for reference in schema.references)}
    fields = [field for field in schema.fields if field.name in wanted]

    def look(records: list[Record]) -> tuple[_Findings, list[Column | None]]:
        found = _Findings()
        if keep is not None:
            records = _kept_records(records, keep, found)
        if strict is not None or any(try_column(records, field) is None for field in schema.fields):
            records = [record for record in records if _is_sound(record, schema, strict, found)]
        return found, [try_column(records, field) for field in fields]

    pieces = read_records(path, look)
    every = _Findings()
    for found, _ in pieces:
        every.merge(found)
    problems += every.problems(path)
    empty = np.zeros(0, "S1")
    return {
        field.name: np.concatenate(
            [empty, *(column for _, columns in pieces if (column := columns[place]) is not None)]
        )
        for place, field in enumerate(fields)
    }


def _is_sound(record: Record, schema: TableSchema, strict: Strict | None, found: _Findings) -> bool:
    errors = [error for field in schema.fields if (error := check_field(record, field)) is not None]
    if strict is not None and not errors:
        errors = [error for field in strict(record) if (error := check_field(record, field)) is not None]
    for error in errors:
        found.add(error)
    return not errors


def _strict(folder: Path, table: str) -> Strict | None:
    """What annotations of evaluated classes, and cameras where it is known which sensors are none, need."""
    if table == "sample_annotation":
        return lambda _: ANNOTATION_FIELDS
    if table not in _OF_CAMERAS:
        return None
    try:
        others = calibrations_of_others(folder)
    except SynclError:
        return None
    key, fields = _OF_CAMERAS[table]
    return lambda record: () if record[key] in others else fields


_OF_CAMERAS = {
    "sample_data": ("calibrated_sensor_token", CAMERA_FIELDS),
    "calibrated_sensor": ("token", CALIBRATION_FIELDS),
}


def _kept_records(records: list[Record], keep: Callable[[Record], bool], found: _Findings) -> list[Record]:
    kept = []
    for record in records:
        try:
            if keep(record):
                kept.append(record)
        except KeyError as error:
            found.add(FieldError.missing(record, str(error.args[0])))
    return kept


def _doubles(path: Path, field: str, values: NDArray[np.bytes_]) -> list[Problem]:
    distinct, counts = np.unique(values, return_counts=True)
    repeated = counts > 1
    if not repeated.any():
        return []
    example = distinct[repeated][0].decode(errors="replace")
    return [Problem(path, f"duplicate {field} '{example}'", int((counts[repeated] - 1).sum()), _MEND_DOUBLE)]


def _broken(path: Path, table: _Table, reference: Reference, targets: NDArray[np.bytes_]) -> list[Problem]:
    values = table[reference.field]
    lost = ~np.isin(values, targets)
    if not lost.any():
        return []
    row = int(np.argmax(lost))
    owner, value = table["token"][row].decode(), values[row].decode(errors="replace")
    what = f"record '{owner}': {reference.field} '{value}' is not in {reference.target}.json"
    return [Problem(path, what, int(lost.sum()), _MEND_REFERENCE)]


def _key_frames(folder: Path, tables: dict[str, _Table]) -> list[Problem]:
    """Samples that no sensor recorded, and sensors that recorded a sample twice."""
    if not {"sample", "sample_data"} <= tables.keys():
        return []
    path = table_path(folder, "sample_data")
    data, samples = tables["sample_data"], tables["sample"]["token"]
    problems = []
    if not len(samples):
        what = "no samples; this version of the data is empty"
        problems.append(Problem(table_path(folder, "sample"), what, 1, MEND_TABLE))
    blind = ~np.isin(samples, data["sample_token"])
    if blind.any():
        token = samples[int(np.argmax(blind))].decode()
        what = f"sample '{token}' has no key frame of any sensor"
        problems.append(Problem(path, what, int(blind.sum()), _MEND_REFERENCE))
    pairs = np.stack([data["sample_token"], data["calibrated_sensor_token"]], axis=-1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    same = (pairs[order][1:] == pairs[order][:-1]).all(axis=-1)
    if same.any():
        token = data["token"][order][1:][same][0].decode()
        what = f"record '{token}': its sample already has a key frame of this sensor"
        problems.append(Problem(path, what, int(same.sum()), _MEND_DOUBLE))
    return problems
