"""Generated damage: files changed in their bytes, or in their values where they are JSON.

Everything is drawn from a seed, so that a failure can be had again by its number.
"""

import copy
import json
import random
import resource
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncl.errors import SynclError

MOST_MEMORY, MOST_SECONDS = 2 << 30, 20.0
"""What reading one damaged file may take at most: address space beyond what there is, and CPU time."""

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e308, -1e-320, float("nan"),
    float("inf"), "", " ", "nan", "x" * 5000, "../../etc/passwd", "/dev/zero", "\0", "\ud800", "\U0001f600",
    [], {}, [[]], [None], ["a", 1], {"a": 1}, {"type": "PetrConfig"}, [0.0] * 3, [float("nan")] * 4,
)  # fmt: skip

_INSERTED = b"{", b"]", b'"', b"\0", b"\0" * 64, b"1e999", b"NaN", b"9" * 5000
_LENGTHS = 0, 1, 2**31, 2**40, 2**63, 2**64 - 1


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes with one to three changes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        place, length = draw.randrange(len(changed) + 1), draw.choice((1, 1, 2, 8, 64, 1000))
        kind = draw.randrange(7)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            changed[place : place + length] = draw.randbytes(length)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place:place] = draw.choice(
                (b"{", b"]", b'"', b"\0" * length, b"1e999", b"NaN", b"9" * 5000)
            )
        elif kind == 5:
            changed[place : place + 8] = struct.pack(
                "<Q", draw.choice((0, 1, 2**31, 2**40, 2**63, 2**64 - 1))
            )
        elif changed:
            changed[min(place, len(changed) - 1)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with another value, another name, or something missing in one to three places."""
    value = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        owner, key = _somewhere(value, draw)
        if owner is None:
            value = copy.deepcopy(draw.choice(NASTY))
        elif draw.randrange(4) == 0:
            del owner[key]
        elif draw.randrange(4) == 0 and isinstance(owner, dict):
            owner[draw.choice(("type", "token", "x", ""))] = owner.pop(key)
        else:
            owner[key] = copy.deepcopy(draw.choice(NASTY))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def damaged_lines(content: bytes, draw: random.Random) -> bytes:
    """A line of JSON among others with something else in it."""
    lines = content.splitlines()
    number = draw.randrange(len(lines))
    lines[number] = damaged_json(lines[number] if lines[number][:1] in b"[{" else b"{}", draw)
    return b"".join(line + b"\n" for line in lines)


def _somewhere(value: Any, draw: random.Random) -> tuple[Any, Any]:
    """A list or object within a value, and one of its places; None for the value itself."""
    owner, key = None, None
    while isinstance(value, dict | list) and value and (owner is None or draw.randrange(5)):
        owner, key = (
            value,
            draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value)),
        )
        value = owner[key]
    return owner, key


def damaged_safetensors(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header, or the JSON in it, is damaged."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    texts = [name for name, text in metadata.items() if text[:1] in ("{", "[")]
    if texts and draw.randrange(3):
        name = draw.choice(texts)
        metadata[name] = damaged_json(metadata[name].encode(), draw).decode("utf-8", "replace")
        written = json.dumps(header).encode()
    else:
        written = damaged_json(json.dumps(header).encode(), draw)
    return len(written).to_bytes(8, "little") + written + content[8 + size :]


@dataclass(frozen=True)
class Reader:
    """Something that reads files.

    Attributes:
        files: that are damaged, one at a time.
        read: all of it.
        changes: kinds of damage beside that of bytes.
    """

    files: tuple[Path, ...]
    read: Callable[[], object]
    changes: tuple[Callable[[bytes, random.Random], bytes], ...] = ()


@dataclass(frozen=True)
class Finding:
    """A case that ended otherwise than with a result or a `SynclError`."""

    case: int
    file: str
    problem: str


def run(reader: Reader, cases: range) -> tuple[list[Finding], int]:
    """Damage a reader's files once for each case; what went wrong, and how often it was refused."""
    findings, refused = [], 0
    for case in cases:
        draw = random.Random(case)
        path = draw.choice(reader.files)
        whole = path.read_bytes()
        change = draw.choice((damaged, *reader.changes))
        path.write_bytes(change(whole, draw))
        begin = time.process_time()
        try:
            reader.read()
        except SynclError:
            refused += 1
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            findings.append(
                Finding(case, path.name, f"{type(error).__name__} at {place}: {str(error)[:100]}")
            )
        finally:
            path.write_bytes(whole)
        if (seconds := time.process_time() - begin) > MOST_SECONDS:
            findings.append(Finding(case, path.name, f"took {seconds:.0f} s"))
    return findings, refused


@contextmanager
def bounded_memory() -> Iterator[None]:
    """No more than `MOST_MEMORY` beyond what the process has; more is an error of whoever asks for it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
