"""Records read as columns are what a JSON reader says, or are left to one."""

import json
from itertools import chain

import numpy as np
import pytest

from syncl.data.alike_records import AlikeRecords, alike_records

BOX = {"token": "a7", "size": [1.5, -2e-3, 3], "score": 0.25, "seen": True}
MEMBERS = {"s1": [BOX, BOX | {"token": "b"}], "s2": [BOX | {"size": [1, 2.0, 1e5], "seen": None}]}


def text_of(members: object) -> bytes:
    return json.dumps(members).encode()[1:-1]


def columns_of(members: dict[str, list[dict[str, object]]]) -> AlikeRecords:
    """What the columns of members are, made slowly."""
    records = list(chain.from_iterable(members.values()))
    columns = {name: [record[name] for record in records] for name in records[0]}
    vectors = {name: [*map(list, zip(*c))] for name, c in columns.items() if isinstance(c[0], list)}
    scalars = {name: column for name, column in columns.items() if name not in vectors}
    return AlikeRecords(list(members), [len(listed) for listed in members.values()], scalars, vectors)


def test_alike_records_are_read_as_columns() -> None:
    assert alike_records(text_of(MEMBERS)) == columns_of(MEMBERS)
    listed = {"s": [BOX | {"score": [0.25]}]}
    assert alike_records(text_of(listed)) == columns_of(listed)
    spaced = json.dumps(MEMBERS, indent=1).encode()[1:-1]
    assert alike_records(spaced) == columns_of(MEMBERS)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"s": []},
        {"s": [BOX], "t": []},
        {"s": [BOX, dict(reversed(BOX.items()))]},
        {"s": [BOX, BOX | {"size": [1, 2]}]},
        {"s": [BOX, BOX | {"score": "0.25"}]},
        {"s": [BOX, {"name" if key == "token" else key: value for key, value in BOX.items()}]},
        {"s": [BOX | {"token": "a:b"}] * 2},
        {"s": [BOX | {"token": 'a"b'}]},
        {"s": [BOX, BOX | {"token": "a,b"}]},
        {"s": [BOX | {"more": {"deep": 1}}]},
        {"s": [[1, 2]]},
        {"s": BOX},
    ],
)
def test_records_of_another_form_are_left_to_a_reader(members: object) -> None:
    assert alike_records(text_of(members)) is None


@pytest.mark.parametrize("record", [b'{"a": 5[1], "b": 1}', b'{"a": 1, "a": 1}', b'{"a": nan}'])
def test_text_that_is_no_json_or_doubles_a_field_is_left_to_a_reader(record: bytes) -> None:
    assert alike_records(b'"s": [' + record + b"]") is None


def test_changed_bytes_are_read_as_json_readers_do_or_not_at_all() -> None:
    text, rng = text_of(MEMBERS), np.random.default_rng(0)
    read = 0
    for place in rng.integers(len(text), size=4000):
        changed = bytearray(text)
        changed[place] = rng.choice(bytearray(b'{}[]:,"\\ 0123456789eE+-.nabstruef\xc3'))
        found = alike_records(bytes(changed))
        if found is not None:
            read += 1
            assert found == columns_of(json.loads(b"{" + changed + b"}"))
    assert read > 300
