"""Reading large JSON files piece by piece, so that memory stays small.

Files are cut at places that look like boundaries, and each piece is parsed by itself. That is safe without
understanding the text in between: JSON's grammar is unambiguous, so if every piece parses as a list of
members, the whole is exactly the concatenation of these members. Where a guess turns out wrong, the file
is parsed in one go instead.
"""

import gc
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson

from syncl.errors import SynclError

T = TypeVar("T")

Record = dict[str, Any]
"""One JSON object of a table, or one box of a results file."""

# Small enough for what is parsed from a piece to stay in the processor's cache.
_PIECE_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 14

# Between two members of "results": the end of a list, a comma, a key, the beginning of a list of objects.
_SAMPLE_LIST = re.compile(rb'"([^"\\]{1,128})"\s*:\s*\[\s*[\]{]')
# More than a sample's name and what stands between it and its first box.
_LONGEST_NAME = 256
_MEMBER_BOUNDARY = re.compile(rb'\]\s*(,)\s*(?="(?:[^"\\]|\\.)*"\s*:\s*\[\s*[{\]])')
_RECORD_BOUNDARY = re.compile(rb"\}\s*(,)\s*(?=\{)")
_RESULTS_BEGIN = re.compile(rb'"results"\s*:\s*\{\s*')
_RESULTS_END = re.compile(rb"[}\[]\s*\]\s*(?=\})")
_SAMPLE_BEGIN = re.compile(rb'"([^"\\]*)"\s*:\s*\[\s*\{')
_MARK = "\x00results"
_NO_TABLE = "not a nuScenes table: expected a JSON array of records"


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pauses the cyclic collector while millions of parsed JSON values come and go.

    Parsed JSON has no cycles; without the pause, the collector visits all of it again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _GuessError(Exception):
    """A piece did not parse: either the file is damaged or it was cut in the wrong place."""


def convert_records(path: Path, convert: Callable[[list[Record]], T]) -> list[T]:
    """Applies `convert` to the objects of a JSON array file (a nuScenes table), some thousands at a time.

    Raises:
        SynclError: if the file is missing, is not valid JSON or is not a list of objects.
    """
    try:
        return [
            convert(_checked_records(_parse(b"[" + piece + b"]"), path)) for piece in _record_pieces(path)
        ]
    except _GuessError:
        content = _read(path)
    if content.strip() and not content.lstrip().startswith(b"["):
        raise SynclError(f"{path}: {_NO_TABLE}")
    try:
        return [convert(_checked_records(_parse(content), path))]
    except _GuessError:
        raise SynclError(
            f"{path}: damaged or cut off: {_damage(content)}; copy or unpack this file again"
        ) from None


def find_records(path: Path, field: str, wanted: Collection[str]) -> list[Record]:
    """The records of a JSON array file whose string `field` has one of the `wanted` values, in file order.

    Only these records are parsed, for tables of which few are needed. That takes flat records and values that
    are found nowhere else in them; where the outcome shows otherwise, the whole file is parsed.

    Raises:
        SynclError: if the file is missing, is not valid JSON or is not a list of objects.
    """
    values = frozenset(value.encode() for value in wanted)

    try:
        return [record for piece in _record_pieces(path) for record in _matching(piece, field, values)]
    except _GuessError:
        pieces = convert_records(path, lambda rows: [row for row in rows if row.get(field) in wanted])
    return [record for piece in pieces for record in piece]


def find_flagged_records(path: Path, field: str) -> list[Record] | None:
    """The records of a JSON array file whose `field` is true, in file order, or None where not all say.

    Only these records are parsed. That takes flat records, all of which have the field, spelt alike, true or
    false; where they do not, nothing is said.

    Raises:
        SynclError: if the file is missing.
    """
    try:
        return [record for piece in _record_pieces(path) for record in _flagged(piece, field)]
    except _GuessError:
        return None


def _matching(piece: bytes, field: str, values: frozenset[bytes]) -> list[Record]:
    """The flat records of a piece whose `field` has one of `values`."""
    parts, lead = _cut_at(piece, field, rb'\s*:\s*"')
    found = [part.partition(b'"')[0] for part in parts[1:]]
    rows = [row for row, value in enumerate(found) if value in values]
    records = _records_at(piece, parts, lead, rows)
    if [record.get(field) for record in records] != [found[row].decode() for row in rows]:
        raise _GuessError
    return records


def _flagged(piece: bytes, field: str) -> list[Record]:
    """The flat records of a piece whose `field` is true."""
    parts, lead = _cut_at(piece, field, rb"\s*:\s*(?=true|false)")
    rows = [row for row, part in enumerate(parts[1:]) if part.startswith(b"true")]
    denied = sum(part.startswith(b"false") for part in parts[1:])
    if not len(rows) + denied == len(parts) - 1 == piece.count(b"{"):
        raise _GuessError
    records = _records_at(piece, parts, lead, rows)
    if not all(record.get(field) is True for record in records):
        raise _GuessError
    return records


def _cut_at(piece: bytes, field: str, following: bytes) -> tuple[list[bytes], int]:
    """A piece cut where `field` stands with what follows it, and how long both are, the same everywhere."""
    text = piece.strip()
    if text and not (text.startswith(b"{") and text.endswith(b"}")):
        raise _GuessError
    key = b'"%s"' % field.encode()
    lead = re.search(re.escape(key) + following, piece)
    if lead is None:
        if key in piece:
            raise _GuessError
        return [piece], 0
    parts = piece.split(lead[0])
    # Elsewhere it is spelt otherwise, or holds something else.
    if piece.count(key) != len(parts) - 1:
        raise _GuessError
    return parts, len(lead[0])


def _records_at(piece: bytes, parts: list[bytes], lead: int, rows: list[int]) -> list[Record]:
    """The records around the cuts of these numbers."""
    if not rows:
        return []
    ends = list(itertools.accumulate(map(len, parts)))
    texts = []
    for row in rows:
        place = ends[row] + (row + 1) * lead
        texts.append(piece[piece.rfind(b"{", 0, place) : piece.find(b"}", place) + 1])
    records: list[Record] = _parse(b"[" + b",".join(texts) + b"]")
    if len(records) != len(rows):
        raise _GuessError
    return records


def convert_results(
    path: Path,
    convert: Callable[[dict[str, Any]], T],
    in_pieces: bool = True,
    convert_text: Callable[[bytes], T | None] = lambda _: None,
) -> tuple[dict[str, Any], list[T]]:
    """Applies `convert` to the object `results` of a results file, some dozen samples at a time.

    Args:
        path: the file.
        convert: receives an object from sample token to its value.
        in_pieces: False parses the file in one go. A sample token that occurs twice then has its last value
            only, as JSON readers do; in pieces, `convert` may see both.
        convert_text: tried first in pieces; receives the text of some members, and where it makes nothing of
            it, `convert` receives what it says.

    Returns:
        The other fields of the file (`meta`) and what `convert` returned for each piece.

    Raises:
        SynclError: if the file is missing, is not valid JSON or has no object `results`.
    """
    if in_pieces:
        header: dict[str, Any] = {}
        try:
            return header, [
                convert(_members(text)) if (found := convert_text(text)) is None else found
                for text in _member_pieces(path, header)
            ]
        except _GuessError:
            pass
    text = _read(path)
    try:
        content = _parse(text)
    except _GuessError:
        raise SynclError(f"{path}: {_damage(text)}; write or download the file again") from None
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise SynclError(f"{path}: field 'results' must be an object from sample token to a list of boxes")
    results = content.pop("results")
    return content, [convert(results)]


def repeated_sample(path: Path) -> str | None:
    """A sample that a results file lists more than once; None if there is none.

    JSON readers keep the last list and say nothing. Samples are told from a box's own fields by their values,
    lists that are empty or hold objects.

    Raises:
        SynclError: the file cannot be read.
    """
    seen: set[bytes] = set()
    with _open(path) as file:
        rest = b""
        while more := file.read(_PIECE_BYTES):
            text = rest + more
            end = 0
            for match in _SAMPLE_LIST.finditer(text):
                if match[1] in seen:
                    return match[1].decode("utf-8", "replace")
                seen.add(match[1])
                end = match.end()
            rest = text[max(end, len(text) - _LONGEST_NAME) :]
    return None


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise SynclError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        # Result files may hold bare NaN, which only the standard library reads.
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _GuessError from None


def _read(path: Path) -> bytes:
    with _open(path) as file:
        return file.read()


def _damage(content: bytes) -> str:
    """What is wrong with text that is not JSON, and where."""
    if not content.strip():
        return f"an empty file ({len(content)} bytes)"
    try:
        json.loads(content)
    except UnicodeDecodeError as error:
        return f"not valid JSON (byte {error.start} is not UTF-8)"
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(content.rstrip()) - 1 and error.msg != "Extra data"
        incomplete = at_end or error.msg.startswith("Unterminated")
        kind = "truncated JSON" if incomplete else "not valid JSON"
        token = ""
        for match in _SAMPLE_BEGIN.finditer(content, max(0, error.pos - (1 << 20)), error.pos + 1):
            token = match.group(1).decode("utf-8", "replace")
        where = f" in sample {token!r}" if token else ""
        return f"{kind}{where} (line {error.lineno} column {error.colno}: {error.msg})"
    except (ValueError, RecursionError) as error:
        return f"a number has too many digits, or lists are nested too deep ({error})"
    return "not valid JSON"


def _checked_records(records: Any, path: Path) -> list[Record]:
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise SynclError(f"{path}: {_NO_TABLE}")
    return records


def _last_boundary(text: bytes, boundary: re.Pattern[bytes]) -> int:
    """Position of the comma of the last boundary in `text`, or -1."""
    window = _WINDOW_BYTES
    while True:
        begin = max(0, len(text) - window)
        found = -1
        for match in boundary.finditer(text, begin):
            found = match.start(1)
        if found >= 0 or begin == 0:
            return found
        window *= 4


def _record_pieces(path: Path) -> Iterator[bytes]:
    """The text between the brackets of an array, cut into runs of whole records."""
    with _open(path) as file:
        text = file.read(_PIECE_BYTES).lstrip()
        if not text.startswith(b"["):
            raise _GuessError
        text = text[1:]
        while more := file.read(_PIECE_BYTES):
            cut = _last_boundary(text, _RECORD_BOUNDARY)
            if cut >= 0:
                yield text[:cut]
                text = text[cut + 1 :]
            text += more
    text = text.rstrip()
    if not text.endswith(b"]"):
        raise _GuessError
    yield text[:-1]


def _member_pieces(path: Path, header: dict[str, Any]) -> Iterator[bytes]:
    """The text of the members of `results`, some dozen at a time; `header` receives the other fields."""
    with _open(path) as file:
        text = file.read(_PIECE_BYTES)
        begin = _RESULTS_BEGIN.search(text)
        if begin is None:
            raise _GuessError
        head, text = text[: begin.end()], text[begin.end() :]
        while more := file.read(_PIECE_BYTES):
            cut = _last_boundary(text, _MEMBER_BOUNDARY)
            if cut >= 0:
                yield text[:cut]
                text = text[cut + 1 :]
            text += more
    members, tail = _split_tail(text)
    # The mark proves that the object that was read in pieces is the field `results` of the whole.
    frame = _parse(head + orjson.dumps(_MARK) + b":0" + tail)
    if not isinstance(frame, dict) or frame.pop("results", None) != {_MARK: 0}:
        raise _GuessError
    header.update(frame)
    yield members


def _members(text: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = _parse(b"{" + text + b"}")
    return parsed


def _split_tail(text: bytes) -> tuple[bytes, bytes]:
    """Separates the last members from what follows `results`."""
    if text.startswith(b"}"):
        return b"", text
    for attempt, match in enumerate(_RESULTS_END.finditer(text)):
        if attempt == 50:
            break
        try:
            _members(text[: match.end()])
        except _GuessError:
            continue
        return text[: match.end()], text[match.end() :]
    raise _GuessError
