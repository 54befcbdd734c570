"""Reading in pieces gives what reading at once gives, whatever the layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from syncl.data import json_stream
from syncl.data.json_stream import convert_records, convert_results, find_flagged_records, find_records
from syncl.errors import SynclError

BOX = {
    "translation": [1.5, 2, 3],
    "name": 'a "quoted", ], "x": [{ name',
    "extra": [],
    "more": [{"deep": [1]}],
}
CONTENT: dict[str, Any] = {
    "meta": {"use": [1], "results": {}, "list": [{"a": 1}, {"b": [2]}]},
    "results": {f"token {n}": [dict(BOX, number=n)] * (n % 4) for n in range(60)},
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE_BYTES", 700)
    monkeypatch.setattr(json_stream, "_WINDOW_BYTES", 64)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    header, pieces = convert_results(path, dict)
    return header, {token: boxes for piece in pieces for token, boxes in piece.items()}, len(pieces)


@pytest.mark.parametrize("meta_first", [True, False])
@pytest.mark.parametrize(
    "layout", [{}, {"indent": 2}, {"separators": (",", ":")}, {"separators": (" , ", " : "), "indent": "\t"}]
)
def test_layouts(tmp_path: Path, layout: dict[str, Any], meta_first: bool):
    content = dict(CONTENT if meta_first else reversed(CONTENT.items()))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content, **layout))
    header, results, _ = read(path)
    assert header == {"meta": CONTENT["meta"]}
    assert results == CONTENT["results"]
    assert list(results) == list(CONTENT["results"])


def test_plain_files_are_read_in_many_pieces(tmp_path: Path):
    path = tmp_path / "results.json"
    results = {f"t{n}": [{"size": [1, 2, float("nan")], "name": "car"}] * 3 for n in range(60)}
    path.write_text(json.dumps({"meta": {}, "results": results}))
    _, found, pieces = read(path)
    assert pieces > 5
    assert json.dumps(found) == json.dumps(results)


@pytest.mark.parametrize("results", [{}, {"t": []}, {"t": [], "u": []}, {"t": [{}]}])
def test_hardly_any_boxes(tmp_path: Path, results: dict[str, Any]):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": results, "meta": {}}))
    assert read(path)[:2] == ({"meta": {}}, results)


def test_every_truncation_is_noticed(tmp_path: Path):
    path = tmp_path / "results.json"
    text = json.dumps(
        {"meta": {}, "results": {f"t{n}": [{"size": [1, 2], "name": "car"}] for n in range(30)}}
    )
    for end in range(1, len(text), 7):
        path.write_text(text[:end])
        with pytest.raises(SynclError, match="truncated JSON"):
            read(path)


@pytest.mark.parametrize("indent", [None, 1])
def test_tables(tmp_path: Path, indent: int | None):
    rows = [{"token": f"{n}", "list": [1, 2], "text": "}, {"} for n in range(100)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows, indent=indent))
    assert [row for piece in convert_records(path, list) for row in piece] == rows
    path.write_text(json.dumps([]))
    assert convert_records(path, list) == [[]]
    nested = [{"parts": [{"a": 1}, {"b": 2}], "n": n} for n in range(100)]
    path.write_text(json.dumps(nested, indent=indent))
    assert [row for piece in convert_records(path, list) for row in piece] == nested
    path.write_text(json.dumps(nested)[:-10])
    with pytest.raises(SynclError, match=r"table\.json: damaged or cut off: truncated JSON"):
        convert_records(path, list)


def test_of_a_repeated_sample_the_last_list_counts(tmp_path: Path):
    path = tmp_path / "results.json"
    path.write_text('{"meta": {}, "results": {"t": [{"a": 1}], "t": [{"a": 2}]}}')
    assert convert_results(path, dict, in_pieces=False)[1] == [{"t": [{"a": 2}]}]


@pytest.mark.parametrize("indent", [None, 1])
def test_finding_records_equals_reading_all(tmp_path: Path, indent: int | None):
    tables = {
        "flat": [{"token": f"t{n}", "kind": f"k{n % 7}", "list": [n, 2.5]} for n in range(200)],
        "linked": [{"token": f"t{n}", "next": f"t{n + 1}", "kind": f"k{n % 7}"} for n in range(200)],
        "nested": [{"part": {"a": n}, "token": f"t{n}", "more": [{"kind": "k3"}]} for n in range(200)],
        "odd": [{"token": f"t{n}", "kind": 'a "token": "t5" {'} for n in range(200)] + [{"other": 1}],
        "accents": [{"token": f"t{n}", "kind": "é"} for n in range(200)],
    }
    wanted = {"t5", "t6", "t77", "t199", "k3"}
    for name, rows in tables.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
        # Fields of nested objects are not told from the record's own: nuScenes has none.
        for field in ("token",) if name == "nested" else ("token", "kind"):
            expected = [row for row in rows if row.get(field) in wanted]
            assert find_records(path, field, wanted) == expected, (name, field)
    path.write_text(json.dumps(tables["flat"])[:-20])
    with pytest.raises(SynclError, match="truncated JSON"):
        find_records(path, "token", wanted)


@pytest.mark.parametrize("indent", [None, 1])
def test_finding_flagged_records_equals_reading_all_or_says_that_it_cannot(
    tmp_path: Path, indent: int | None
):
    rows = [{"token": f"t{n}", "key": n % 3 == 0, "text": "true"} for n in range(200)]
    path = tmp_path / "table.json"

    def found(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        path.write_text(json.dumps(rows, indent=indent))
        return find_flagged_records(path, "key")

    assert found(rows) == rows[::3]
    assert found([]) == [] and found([{"key": False}]) == []
    without = {"token": "t", "text": "x"}
    for other in (without, {"key": 1}, {"key": True, "part": {"a": 1}}, {"text": "{", "key": True}):
        assert found([*rows, other]) is None, other
    path.write_text('[{"key": true}, {"key" : true}]')
    assert find_flagged_records(path, "key") is None
    path.write_text('[{"key": true}')
    assert find_flagged_records(path, "key") is None
