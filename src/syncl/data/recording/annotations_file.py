"""Reading `annotations.json`: what stands where in a recording's frames; docs/own-data.md describes it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from syncl.data.recording.rig_contents import Array, Rig
from syncl.errors import SynclError, did_you_mean, shown
from syncl.files import parse_json

ANNOTATIONS_FILE = "annotations.json"
FORMAT = "syncl-annotations-1"

_KNOWN, _NEEDED = ("format", "frames", "annotations", "comment"), ("format", "annotations")
_FIELDS = ("frame", "track", "class", "box")
_BOX = 7
# Ships are shorter; in millimetres a car is longer.
_LARGEST_M = 500


@dataclass(frozen=True)
class RecordingAnnotations:
    """N annotated boxes of a recording.

    Attributes:
        frames: names of the annotated frames, in time order; what stands in no other is known.
        frame: [N] place in `frames`.
        tracks: N names of objects, each of one class.
        classes: N names of classes, as the file has them.
        boxes: [N, 7] x, y, z, length, width, height (metres), yaw (radians): vehicle frame of the frame.
    """

    frames: tuple[str, ...]
    frame: tuple[int, ...]
    tracks: tuple[str, ...]
    classes: tuple[str, ...]
    boxes: Array


def read_annotations_file(path: Path, rig: Rig) -> RecordingAnnotations:
    """Read the annotations of a recording.

    Args:
        path: the file.
        rig: of the recording, whose frames they are of.

    Raises:
        SynclError: not JSON, an unknown or missing field, a frame that the recording does not have, numbers
            that are none, a size that is not positive, a track twice in a frame or of two classes; file,
            entry, field and value are named.
    """
    content = parse_json(path)
    if not isinstance(content, dict):
        _fail(path, "", f"must hold an object with the fields {', '.join(_NEEDED)}")
    _check_fields(path, "", content, _NEEDED, _KNOWN)
    if content["format"] != FORMAT:
        _fail(path, "format", f"is {shown(content['format'])}, expected {FORMAT!r}")
    known = {moment.name: place for place, moment in enumerate(rig.moments)}
    frames = _frames(path, content["frames"], known) if "frames" in content else tuple(known)
    place_of = {name: place for place, name in enumerate(frames)}
    entries = content["annotations"]
    if not isinstance(entries, list):
        _fail(path, "annotations", f"is {shown(entries)}, expected a list")
    frame: list[int] = []
    tracks: list[str] = []
    classes: list[str] = []
    boxes: list[list[float]] = []
    class_of: dict[str, tuple[str, int]] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(entries):
        where = f"annotations[{number}]"
        if not isinstance(entry, dict):
            _fail(path, where, f"is {shown(entry)}, expected an object with the fields {', '.join(_FIELDS)}")
        _check_fields(path, where, entry, _FIELDS, _FIELDS)
        name = entry["frame"]
        if not isinstance(name, str) or name not in known:
            _fail(path, f"{where}.frame", f"the recording has no frame {_guess(name, known)}")
        if name not in place_of:
            _fail(path, f"{where}.frame", f"{name!r} is not among the annotated ones, field 'frames'; add it")
        track = entry["track"]
        if isinstance(track, bool) or not isinstance(track, str | int) or track == "":
            _fail(path, f"{where}.track", f"is {shown(track)}, expected a text or a whole number")
        track = str(track)
        label = entry["class"]
        if not isinstance(label, str) or not label:
            _fail(path, f"{where}.class", f"is {shown(label)}, expected the name of a class")
        before, first = class_of.setdefault(track, (label, number))
        if before != label:
            _fail(
                path,
                f"{where}.class",
                f"track {track!r} is {label!r} here and {before!r} in annotations[{first}]; an object has "
                "one class: mend it, or give it two tracks",
            )
        if (name, track) in seen:
            _fail(
                path,
                where,
                f"track {track!r} has a box in frame {name!r} already, annotations[{seen[name, track]}]",
            )
        seen[name, track] = number
        boxes.append(_box(path, f"{where}.box", entry["box"]))
        frame.append(place_of[name])
        tracks.append(track)
        classes.append(label)
    return RecordingAnnotations(
        frames, tuple(frame), tuple(tracks), tuple(classes), np.array(boxes, np.float64).reshape(-1, _BOX)
    )


def _frames(path: Path, value: object, known: dict[str, int]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        _fail(path, "frames", f"is {shown(value)}, expected a list of the annotated frames' names")
    for number, name in enumerate(value):
        if not isinstance(name, str) or name not in known:
            _fail(path, f"frames[{number}]", f"the recording has no frame {_guess(name, known)}")
        if name in value[:number]:
            _fail(path, f"frames[{number}]", f"{name!r} is named twice")
    return tuple(sorted(value, key=known.__getitem__))


def _guess(name: object, known: dict[str, int]) -> str:
    if not isinstance(name, str):
        return f"{shown(name)}; frames are named by texts, such as {next(iter(known), '000000')!r}"
    return f"{name!r}{did_you_mean(name, known)}; it has {len(known)}, from {min(known)!r} on"


def _box(path: Path, where: str, value: object) -> list[float]:
    if not isinstance(value, list) or len(value) != _BOX:
        _fail(path, where, f"is {shown(value)}, expected [x, y, z, length, width, height, yaw]")
    for number in value:
        kind = isinstance(number, int | float) and not isinstance(number, bool)
        if not kind or not abs(number) < 1e9 or not math.isfinite(number):
            _fail(path, where, f"holds {shown(number)}; metres and radians are finite numbers")
    if not 0 < min(value[3:6]) <= max(value[3:6]) <= _LARGEST_M:
        _fail(path, where, f"has size {value[3:6]}; length, width and height must be positive metres")
    if abs(value[6]) > 2 * math.pi:
        _fail(path, where, f"has yaw {value[6]}; it is in radians, and this more than a whole turn")
    return [float(number) for number in value]


def _check_fields(
    path: Path, where: str, entry: dict[str, object], needed: tuple[str, ...], known: tuple[str, ...]
) -> None:
    for name in entry:
        if name not in known:
            hint = did_you_mean(name, known)
            _fail(path, where, f"unknown field {shown(name)}; known are {', '.join(known)}{hint}")
    for name in needed:
        if name not in entry:
            _fail(path, where, f"field {name!r} is missing")


def _fail(path: Path, where: str, problem: str) -> NoReturn:
    raise SynclError(f"{path}: {where + ': ' if where else ''}{problem}")
