"""Records that are all written alike, without a Python object a record.

A results file of `val` has a million boxes, and a dict and four lists of each take most of its reading.
Programs write every box with the same fields in the same order; then punctuation tells where values stand.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson

_PUNCTUATION = b'{}[]:,"'
_NO_PUNCTUATION = bytes(set(range(256)) - set(_PUNCTUATION))
_FLAT = bytes.maketrans(b"{}[]:", b"    ,")


@dataclass(frozen=True)
class AlikeRecords:
    """The members of an object, lists of N records in all, as columns.

    Attributes:
        names: of the members.
        counts: how many records each has.
        scalars: field -> its N values.
        vectors: field that holds lists of W values -> W columns of N.
    """

    names: list[str]
    counts: list[int]
    scalars: dict[str, list[Any]]
    vectors: dict[str, list[list[Any]]]


def alike_records(text: bytes) -> AlikeRecords | None:
    """The members in a text `"name": [{...}, ...], ...`, if all records are written like the first.

    They are if the same punctuation comes in the same order, no text holds any, and fields have the same
    names. None says nothing: the text may be damaged, have an empty list, a name twice, or another form.
    """
    begin, end = text.find(b"{"), text.find(b"}") + 1
    if begin < 0 or end <= begin or b"\\" in text:
        return None
    first = _parsed(text[begin:end])
    if not isinstance(first, dict):
        return None
    record = text[begin:end].translate(None, _NO_PUNCTUATION)
    structure = text.translate(None, _NO_PUNCTUATION).replace(record, b"r") + b","
    # Each list is `r,r,r],` now.
    counts = [(len(part) - 1) // 2 for part in structure.split(b'"":[')[1:]]
    if structure != b"".join(b'"":[' + b",".join([b"r"] * count) + b"]," for count in counts):
        return None
    values = _parsed(b"[" + text.translate(_FLAT) + b"]")
    if values is None:
        return None
    keys = [[name, *(value if isinstance(value, list) else [value])] for name, value in first.items()]
    size = sum(map(len, keys))
    places = accumulate(counts[:-1], lambda place, count: place + count * size, initial=0)
    names = [values.pop(place) for place in places]
    # Where a text of the first record holds punctuation, its values are not those that were parsed of it.
    if values[:size] != [value for key in keys for value in key] or len(set(names)) < len(names):
        return None
    found = AlikeRecords(names, counts, {}, {})
    for (name, *members), place in zip(keys, accumulate(map(len, keys), initial=0)):
        if values[place::size].count(name) != sum(counts):
            return None
        columns = [values[place + 1 + number :: size] for number in range(len(members))]
        if isinstance(first[name], list):
            found.vectors[name] = columns
        else:
            found.scalars[name] = columns[0]
    return found


def _parsed(text: bytes) -> Any:
    """What a text says, None if orjson cannot read it."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
