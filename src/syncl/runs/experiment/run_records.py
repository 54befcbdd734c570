"""What an experiment keeps of its runs: a file each as they end, and a table of the whole series.

    OUTPUT/results/ARM_seedN.json   a run's record
    OUTPUT/results.jsonl            all of them: a line with what they share, then a line a run with the rest

The table is made from both, so that a series is complete without the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from syncl.errors import SynclError
from syncl.files import atomic_write, parse_json

Record = Mapping[str, Any]
Records = dict[tuple[str, int], Record]
"""By arm and seed."""


def record_path(output: Path, arm: str, seed: int) -> Path:
    """Where a run's record is written when it ends."""
    return output / "results" / f"{arm}_seed{seed}.json"


def table_path(output: Path) -> Path:
    """Where the table of a series is."""
    return output / "results.jsonl"


def read_records(output: Path) -> Records:
    """All records of a series; a run's own file goes before its line of the table.

    Raises:
        SynclError: naming the file and line that cannot be read.
    """
    table = table_path(output)
    lines = table.read_bytes().splitlines() if table.is_file() else []
    contents = [_object(line, f"{table}, line {number}") for number, line in enumerate(lines, 1)]
    records: Records = {}
    for number, own in enumerate(contents[1:], 2):
        if not isinstance(own.get("arm"), str) or not isinstance(own.get("seed"), int):
            raise SynclError(f"{table}, line {number}: a run needs the fields arm and seed")
        records[own["arm"], own["seed"]] = _joined(contents[0], own)
    for path in sorted((output / "results").glob("*_seed*.json")):
        arm, _, seed = path.stem.rpartition("_seed")
        if seed.isdecimal():
            records[arm, int(seed)] = _object(path.read_bytes(), str(path))
    return records


def write_table(output: Path, records: Records) -> Path:
    """Write the table of a series; returns its path."""
    parts = [
        {name: value for name, value in record.items() if name not in ("arm", "seed")}
        for record in records.values()
    ]
    common = _common(parts)
    lines = [
        {"arm": arm, "seed": seed, **_rest(part, common)}
        for (arm, seed), part in zip(records, parts, strict=True)
    ]
    lines.sort(key=lambda line: (line["arm"], line["seed"]))
    # Sorted, so that a table that is read and written again is the same.
    texts = [orjson.dumps(common), *(orjson.dumps(line, option=orjson.OPT_SORT_KEYS) for line in lines)]
    atomic_write(table_path(output), b"\n".join(texts) + b"\n")
    return table_path(output)


def _common(records: Sequence[Record]) -> dict[str, Any]:
    """What is the same in all records, entry by entry of nested objects as well."""
    first, *others = records
    found: dict[str, Any] = {}
    for name, value in first.items():
        if not all(name in other for other in others):
            continue
        values = [value, *(other[name] for other in others)]
        if len({orjson.dumps(item) for item in values}) == 1:
            found[name] = value
        elif all(isinstance(item, dict) for item in values) and (inner := _common(values)):
            found[name] = inner
    return found


def _rest(record: Record, common: Record) -> dict[str, Any]:
    """What `common` does not say; `_joined` is the way back."""
    rest: dict[str, Any] = {}
    for name, value in record.items():
        if name not in common:
            rest[name] = value
        elif orjson.dumps(value) != orjson.dumps(common[name]):
            rest[name] = _rest(value, common[name])
    return rest


def _joined(common: Record, rest: Record) -> dict[str, Any]:
    both = dict(common)
    for name, value in rest.items():
        inner = both.get(name)
        both[name] = _joined(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


def _object(text: bytes, where: str) -> Record:
    content = parse_json(text, where)
    if not isinstance(content, dict):
        raise SynclError(f"{where}: not a JSON object")
    return content
