"""Reading and checking results in the nuScenes submission format."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from syncl.data.alike_records import alike_records
from syncl.data.json_stream import convert_results, repeated_sample
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError, did_you_mean, shown
from syncl.evaluation.arrays import EvaluationBoxes, Floats, Ints, Samples
from syncl.evaluation.constants import Task
from syncl.evaluation.strict_columns import ColumnError, fields_of, strict_scalars, strict_vectors
from syncl.wording import counted

_UNIT_TOLERANCE = 1e-3
_VECTORS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


@dataclass(frozen=True)
class Results:
    """A results file as arrays.

    Attributes:
        boxes: all boxes; samples follow each other in the file's order.
        meta: the file's field `meta`.
        remarks: oddities that were accepted and scored as the official code does, with their counts.
        identities: the tracking ids that `boxes.identity` numbers; empty for detections.
    """

    boxes: EvaluationBoxes
    meta: dict[str, object]
    remarks: tuple[str, ...]
    identities: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """Some samples of a results file."""

    tokens: list[str]
    counts: Ints
    boxes: EvaluationBoxes


def read_results(
    path: Path,
    samples: Samples,
    task: Task,
    dataset: DatasetDescription = NUSCENES,
    allow_other_samples: bool = False,
    allow_repeated: bool = True,
) -> Results:
    """Reads a results file and checks every box.

    Args:
        path: JSON file in the nuScenes submission format.
        samples: the samples it must cover.
        task: which fields boxes have: `detection_name`, ... or `tracking_name`, ...
        dataset: which classes and attributes they may have, and how many boxes a sample.
        allow_other_samples: whether samples that are not evaluated may occur (and are ignored), as the
            official code allows for custom splits; their number is among the remarks.
        allow_repeated: whether a sample may be listed twice; its last list counts then, as in the official
            code.

    Raises:
        SynclError: naming sample token and field, if the file is damaged, does not cover the samples, or a
            box cannot be scored.
    """
    path = Path(path)
    if not allow_repeated and (token := repeated_sample(path)) is not None:
        raise SynclError(f"{path}: field 'results' lists sample {token} more than once; merge its boxes")
    reader = _Reader(path, samples, task, dataset, allow_other_samples)
    header, pieces = convert_results(path, reader.piece, convert_text=reader.alike)
    tokens = [token for piece in pieces for token in piece.tokens]
    if len(set(tokens)) < len(tokens):
        reader = _Reader(path, samples, task, dataset, allow_other_samples)
        header, pieces = convert_results(path, reader.piece, in_pieces=False)
        tokens = [token for piece in pieces for token in piece.tokens]
    meta = header.get("meta")
    if not isinstance(meta, dict):
        raise SynclError(f"{path}: field 'meta' must be an object; the submission format requires it")
    if missing := set(samples.tokens) - set(tokens):
        first = next(token for token in samples.tokens if token in missing)
        raise SynclError(
            f"{path}: field 'results' misses sample {first} and {len(missing) - 1} others of {len(samples)}; "
            "write an empty list for samples without boxes, or name the scenes they are of (--scenes)"
        )
    boxes = EvaluationBoxes(
        **{
            field.name: np.concatenate([getattr(piece.boxes, field.name) for piece in pieces])
            for field in fields(EvaluationBoxes)
        }
    )
    identities = tuple(str(identity) for identity in reader.number_of_id)
    remarks = _remarks(boxes, samples, task, dataset)
    if reader.others:
        remarks = (
            f"{counted(reader.others, 'sample')} of other scenes than the evaluated ones (left out)",
            *remarks,
        )
    return Results(boxes, meta, remarks, identities)


def read_detections(
    path: Path, samples: Samples, dataset: DatasetDescription, allow_other_samples: bool = False
) -> EvaluationBoxes:
    """The boxes of a detector beside the tracks made of them, from a results file of detections.

    Raises:
        SynclError: as `read_results`, with what such a file is.
    """
    try:
        return read_results(path, samples, "detection", dataset, allow_other_samples).boxes
    except SynclError as error:
        raise SynclError(
            f"detections: {error}; they must be the detector's own boxes of the same samples, as syncl track "
            "--task detection writes them"
        ) from error


class _Reader:
    """Turns runs of samples into columns; remembers the numbers it gave to tracking ids."""

    def __init__(
        self,
        path: Path,
        samples: Samples,
        task: Task,
        dataset: DatasetDescription,
        allow_other_samples: bool,
    ) -> None:
        self.path = path
        self.task = task
        self.allow_other_samples = allow_other_samples
        self.index_of_sample = {token: index for index, token in enumerate(samples.tokens)}
        self.number_of_id: dict[str | int, int] = {}
        self.dataset = dataset
        names = dataset.classes if task == "detection" else dataset.listed_tracked
        self.names = {name: dataset.classes.index(name) for name in names}
        self.attributes = {"": -1, **{name: index for index, name in enumerate(dataset.attributes)}}
        own = "attribute_name" if task == "detection" else "tracking_id"
        self.scalars = ("sample_token", f"{task}_name", f"{task}_score", own)
        self.others = 0

    def piece(self, members: dict[str, Any]) -> _Piece:
        members = self._evaluated(members)
        boxes: list[dict[str, Any]] = list(chain.from_iterable(members.values()))
        try:
            piece = self._of_boxes(members, boxes)
        except (KeyError, TypeError, ValueError) as error:
            # Something is wrong somewhere: look at each box to say where.
            for token, listed in members.items():
                for number, box in enumerate(listed):
                    self._explain(token, number, box)
            raise SynclError(f"{self.path}: not in the nuScenes submission format ({error})") from error
        self._check_values(piece)
        return piece

    def alike(self, text: bytes) -> _Piece | None:
        """The piece of a text without looking at boxes one by one; None where something may be wrong."""
        records = alike_records(text)
        if records is None or max(records.counts) > self.dataset.measures.max_boxes:
            return None
        try:
            scalars = [records.scalars[name] for name in self.scalars]
            vectors = [_joined(records.vectors[field], width) for field, width in _VECTORS.items()]
            points = records.scalars["num_pts"] if "num_pts" in (records.scalars | records.vectors) else None
            piece = self._piece(records.names, records.counts, scalars, vectors, points)
        except (KeyError, TypeError, ValueError):
            return None
        self._check_values(piece)
        return piece

    def _evaluated(self, members: dict[str, Any]) -> dict[str, list[Any]]:
        if not members.keys() <= self.index_of_sample.keys():
            if not self.allow_other_samples:
                token = next(token for token in members if token not in self.index_of_sample)
                raise SynclError(
                    f"{self.path}: field 'results' names sample {token!r}, which the split does not hold; "
                    "check --version and --split"
                )
            evaluated = {token: listed for token, listed in members.items() if token in self.index_of_sample}
            self.others += len(members) - len(evaluated)
            members = evaluated
        for token, listed in members.items():
            if not isinstance(listed, list):
                raise SynclError(f"{self.path}: sample {token}: must be a list of boxes")
            if len(listed) > self.dataset.measures.max_boxes:
                raise SynclError(
                    f"{self.path}: sample {token}: field 'results' holds {len(listed)} boxes; at most "
                    f"{self.dataset.measures.max_boxes} are allowed, all classes together: keep the best"
                )
        return members

    def _of_boxes(self, members: dict[str, list[Any]], boxes: list[dict[str, Any]]) -> _Piece:
        values = fields_of(boxes, (*self.scalars, *_VECTORS))
        scalars, lists = values[: len(self.scalars)], values[len(self.scalars) :]
        vectors = [
            strict_vectors(column, width, nullable=field == "velocity")
            for column, (field, width) in zip(lists, _VECTORS.items(), strict=True)
        ]
        counts = [len(listed) for listed in members.values()]
        points = [box.get("num_pts", -1) for box in boxes]
        return self._piece(list(members), counts, scalars, vectors, points)

    def _piece(
        self,
        tokens: list[str],
        counts: list[int],
        scalars: list[list[Any]],
        vectors: list[Floats],
        points: list[Any] | None,
    ) -> _Piece:
        own_tokens, names, scores, own = scalars
        if set(map(type, own_tokens)) - {str}:
            raise ColumnError("sample_token")
        count = len(own_tokens)
        attribute = identity = none = np.full(count, -1, np.int64)
        if self.task == "detection":
            attribute = _integers(map(self.attributes.__getitem__, own), count)
        else:
            identity = self._identities(own)
        centre, size, rotation, velocity = vectors
        numbers = _integers(map(self.index_of_sample.__getitem__, tokens), len(tokens))
        boxes = EvaluationBoxes(
            sample=np.repeat(numbers, counts),
            centre=centre,
            size=size,
            rotation=rotation,
            velocity=velocity,
            score=strict_scalars(scores),
            label=_integers(map(self.names.__getitem__, names), count),
            points=none if points is None else _integers(map(int, points), count),
            attribute=attribute,
            identity=identity,
            matched_sample=_integers(map(self.index_of_sample.get, own_tokens, repeat(-1)), count),
        )
        return _Piece(tokens, np.array(counts, np.int64), boxes)

    def _identities(self, ids: list[Any]) -> Ints:
        if set(map(type, ids)) - {str, int}:
            raise ColumnError("tracking_id")
        numbers = self.number_of_id
        for name in ids:
            if name not in numbers:
                numbers[name] = len(numbers)
        return _integers(map(numbers.__getitem__, ids), len(ids))

    def _check_values(self, piece: _Piece) -> None:
        """Raises for values of the right form that cannot be scored."""
        boxes = piece.boxes
        zero = ~boxes.rotation.any(axis=1)
        rules: tuple[tuple[str, Any, str], ...] = (
            ("translation", np.isnan(boxes.centre), "is nan"),
            ("size", np.isnan(boxes.size), "is nan"),
            ("size", boxes.size <= 0, "must be positive (width, length, height in metres)"),
            ("rotation", np.isnan(boxes.rotation), "is nan"),
            ("rotation", zero, "is the zero quaternion; write (w, x, y, z)"),
            (f"{self.task}_score", ~np.isfinite(boxes.score), "must be a finite number"),
        )
        for field, bad, what in rules:
            if bad.any():
                row = int(np.nonzero(bad)[0][0])
                position = int(np.searchsorted(np.cumsum(piece.counts), row, side="right"))
                number = row - int(piece.counts[:position].sum())
                raise self._error(piece.tokens[position], number, field, what)

    def _error(self, token: str, number: int, field: str, what: str) -> SynclError:
        return SynclError(f"{self.path}: sample {token}, box {number}: field {field!r} {what}")

    def _explain(self, token: str, number: int, box: object) -> None:
        """Raises if this box is what keeps its piece from becoming columns."""
        if not isinstance(box, dict):
            raise SynclError(
                f"{self.path}: sample {token}, box {number}: must be an object with the box's fields"
            )
        name, score = f"{self.task}_name", f"{self.task}_score"
        for field in (*self.scalars, *_VECTORS):
            if field not in box:
                other = "tracking" if self.task == "detection" else "detection"
                taken = f", and {other}_name is there: these are results of --task {other}"
                swapped = field == name and f"{other}_name" in box
                raise self._error(token, number, field, "is missing" + (taken if swapped else ""))
        for field, width in _VECTORS.items():
            if not _is_vector(box[field], width, nullable=field == "velocity"):
                raise self._error(token, number, field, f"must be a list of {width} numbers")
        if type(box[score]) not in (int, float):
            raise self._error(token, number, score, f"must be a number, not {box[score]!r}")
        if not isinstance(box["sample_token"], str):
            raise self._error(token, number, "sample_token", "must be a string")
        if not isinstance(box[name], str) or box[name] not in self.names:
            what = f"is {box[name]!r}; known are {', '.join(self.names)}"
            raise self._error(token, number, name, what + did_you_mean(str(box[name]), self.names))
        if self.task == "detection" and box["attribute_name"] not in list(self.attributes):
            known = ", ".join(self.dataset.attributes) or "none"
            what = f"is {box['attribute_name']!r}; known are {known} and the empty string"
            raise self._error(token, number, "attribute_name", what)
        if self.task == "tracking" and type(box["tracking_id"]) not in (str, int):
            what = f"is {shown(box['tracking_id'])}; it must be a text or a whole number of at most 64 bits"
            raise self._error(token, number, "tracking_id", f"{what}: write larger ones as texts")
        if type(box.get("num_pts", -1)) not in (int, float):
            raise self._error(token, number, "num_pts", "must be an integer")


def _is_vector(value: object, width: int, nullable: bool) -> bool:
    kinds = (float, int, type(None)) if nullable else (float, int)
    return isinstance(value, list) and len(value) == width and all(type(number) in kinds for number in value)


def _joined(columns: list[list[Any]], width: int) -> Floats:
    """Columns of numbers beside each other, [N, width]."""
    if len(columns) != width:
        raise ColumnError
    return np.stack([strict_scalars(column) for column in columns], axis=1)


def _integers(values: Iterable[int], count: int) -> Ints:
    return np.fromiter(values, np.int64, count)


def _remarks(
    boxes: EvaluationBoxes, samples: Samples, task: Task, dataset: DatasetDescription
) -> tuple[str, ...]:
    """Sentences about what was accepted though it looks wrong, with counts."""
    squared_length = np.einsum("ij,ij->i", boxes.rotation, boxes.rotation)
    no_unit = np.abs(squared_length - 1) > 2 * _UNIT_TOLERANCE
    counts = {
        "boxes with a rotation that is not a unit quaternion (normalised)": no_unit,
        "boxes with a velocity that is nan or infinite": ~np.isfinite(boxes.velocity).all(axis=1),
        "boxes with an infinite centre (out of range, dropped)": np.isinf(boxes.centre).any(axis=1),
        "boxes with an infinite size": np.isinf(boxes.size).any(axis=1),
        "boxes with num_pts 0 (dropped, as annotations without points are)": boxes.points == 0,
        "boxes whose sample_token is not that of the list they are in": boxes.matched_sample != boxes.sample,
    }
    if task == "tracking" and len(boxes):
        identities = int(boxes.identity.max()) + 1
        track = samples.scene[boxes.sample] * identities + boxes.identity
        classes = np.unique(track * len(dataset.classes) + boxes.label) // len(dataset.classes)
        counts["tracks with several classes"] = np.unique(classes, return_counts=True)[1] > 1
        per_sample = np.unique(boxes.sample * identities + boxes.identity, return_counts=True)[1]
        counts["tracking ids that occur more than once in a sample"] = per_sample > 1
    return tuple(f"{int(bad.sum())} {what}" for what, bad in counts.items() if bad.any())
