"""Ground truth straight from the nuScenes tables, reading no more of them than the metrics need."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain, count, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from syncl.data.nuscenes.splits import split_scenes
from syncl.errors import SynclError
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Ints, Racks, Samples
from syncl.evaluation.constants import ATTRIBUTE_NAMES, DETECTION_NAMES, NAME_OF_CATEGORY, RACK_CATEGORY
from syncl.evaluation.json_stream import Record, convert_records, find_records
from syncl.evaluation.strict_columns import ColumnError, strict_vectors

T = TypeVar("T")

_MAX_ONE_SIDED_S = 1.5
_IGNORED, _RACK = -1, -2


def read_ground_truth(
    dataroot: Path,
    version: str,
    split: str,
    scenes: Collection[str] | None = None,
    velocities: bool = True,
) -> GroundTruth:
    """Reads samples, annotations and vehicle positions of a split.

    Args:
        dataroot: folder that holds the version folder.
        version: name of the table folder, such as "v1.0-mini".
        split: an official split of that version or one defined in its `splits.json`. Scenes of the split that
            the tables do not hold are left out.
        scenes: names of the scenes to keep, such as a few for validation while training; None keeps all.
        velocities: whether to estimate velocities, which only the detection metrics use; nan otherwise.

    Raises:
        SynclError: if a table is missing, damaged or inconsistent, or no sample is left.
    """
    tables = Path(dataroot) / version
    if not tables.is_dir():
        raise SynclError(f"{tables}: no such folder; check --data and --version")
    _refuse_test_version(tables)
    names = set(split_scenes(split, version, Path(dataroot)))
    if scenes is not None:
        if unknown := sorted(set(scenes) - names):
            raise SynclError(f"scene {unknown[0]!r} is not part of split {split!r}")
        names = set(scenes)
    samples = _read_samples(tables, names, split)
    boxes, racks = _read_annotations(tables, samples, velocities)
    return GroundTruth(samples, boxes, racks)


def _refuse_test_version(tables: Path) -> None:
    """A test version comes without annotations, as an absent or an empty table."""
    path = tables / "sample_annotation.json"
    without = not path.exists() or (path.stat().st_size < 64 and b"".join(path.read_bytes().split()) == b"[]")
    if tables.name.endswith("test") and without:
        raise SynclError(
            f"{path}: holds no annotations: those of the test split are not published, so nothing can be "
            "scored here; hand the results file to the nuScenes evaluation server, or evaluate on a "
            "validation split"
        )


def _converted(path: Path, convert: Callable[[list[Record]], T]) -> list[T]:
    try:
        return convert_records(path, convert)
    except KeyError as error:
        raise SynclError(f"{path}: a record lacks the field {error.args[0]!r}") from error


def _found(path: Path, field: str, wanted: Collection[str], *names: str) -> list[tuple[Any, ...]]:
    """Some fields of the rows of a table whose `field` is one of the `wanted` values."""
    try:
        return list(map(itemgetter(*names), find_records(path, field, wanted)))
    except KeyError as error:
        raise SynclError(f"{path}: a record lacks the field {error.args[0]!r}") from error


def _fields(path: Path, *names: str, where: Callable[[Record], bool] = lambda _: True) -> list[Any]:
    """Some fields of the rows of a table: tuples, or values where only one field is asked for."""
    pick = itemgetter(*names)
    return _joined(_converted(path, lambda rows: [pick(row) for row in rows if where(row)]))


def _read_samples(tables: Path, scene_names: set[str], split: str) -> Samples:
    scenes = [token for token, name in _fields(tables / "scene.json", "token", "name") if name in scene_names]
    number_of_scene = {token: number for number, token in enumerate(scenes)}
    rows = _fields(
        tables / "sample.json",
        "token",
        "scene_token",
        "timestamp",
        where=lambda r: r["scene_token"] in number_of_scene,
    )
    if not rows:
        raise SynclError(f"{tables}: holds no sample of split {split!r}; check --version and --split")
    tokens = tuple(row[0] for row in rows)
    scene = np.array([number_of_scene[row[1]] for row in rows], np.int64)
    timestamp_us = np.array([row[2] for row in rows], np.int64)
    return Samples(tokens, scene, timestamp_us, _ego_positions(tables, tokens))


def _ego_positions(tables: Path, tokens: tuple[str, ...]) -> Floats:
    """Vehicle positions [S, 2] at the key frames of LIDAR_TOP."""
    lidars = set(_fields(tables / "sensor.json", "token", where=lambda r: r["channel"] == "LIDAR_TOP"))
    calibrations = set(
        _fields(tables / "calibrated_sensor.json", "token", where=lambda r: r["sensor_token"] in lidars)
    )
    wanted = set(tokens)
    path = tables / "sample_data.json"
    sweeps = _found(
        path, "calibrated_sensor_token", calibrations, "sample_token", "ego_pose_token", "is_key_frame"
    )
    pose_of_sample: dict[str, str] = {
        sample: pose for sample, pose, is_key_frame in sweeps if is_key_frame and sample in wanted
    }
    for token in tokens:
        if token not in pose_of_sample:
            raise SynclError(
                f"{path}: sample {token} has no key frame of LIDAR_TOP, from whose "
                "vehicle pose distances are measured (camera-only data needs the record too)"
            )
    poses = set(pose_of_sample.values())
    position_of_pose: dict[str, list[float]] = dict(
        _found(tables / "ego_pose.json", "token", poses, "token", "translation")
    )
    try:
        positions = [position_of_pose[pose_of_sample[token]] for token in tokens]
    except KeyError as error:
        raise SynclError(
            f"{tables / 'ego_pose.json'}: no record {error.args[0]!r}, which sample_data names"
        ) from error
    try:
        return np.array(positions, np.float64).reshape(len(tokens), 3)[:, :2]
    except (TypeError, ValueError) as error:
        raise SynclError(
            f"{tables / 'ego_pose.json'}: translation must be a list of 3 numbers in every record"
        ) from error


@dataclass(frozen=True)
class _AnnotationPiece:
    """Columns of a run of annotation records of the evaluated samples."""

    tokens: list[str]
    previous: list[str]
    next: list[str]
    instances: list[str]
    attributes: list[list[str]]
    sample: list[int]
    points: list[int]
    centre: Floats
    size: Floats
    rotation: Floats


def _read_annotations(tables: Path, samples: Samples, velocities: bool) -> tuple[EvaluationBoxes, Racks]:
    path = tables / "sample_annotation.json"
    index_of_sample = {token: index for index, token in enumerate(samples.tokens)}

    def columns(records: list[Record]) -> _AnnotationPiece:
        rows = [row for row in records if row["sample_token"] in index_of_sample]
        try:
            centre, size, rotation = strict_vectors(rows, {"translation": 3, "size": 3, "rotation": 4})
        except ColumnError:
            raise SynclError(f"{path}: {_bad_vector(rows)}") from None
        return _AnnotationPiece(
            tokens=[row["token"] for row in rows],
            previous=[row["prev"] for row in rows] if velocities else [],
            next=[row["next"] for row in rows] if velocities else [],
            instances=[row["instance_token"] for row in rows],
            attributes=[row["attribute_tokens"] for row in rows],
            sample=[index_of_sample[row["sample_token"]] for row in rows],
            points=[row["num_lidar_pts"] + row["num_radar_pts"] for row in rows],
            centre=centre,
            size=size,
            rotation=rotation,
        )

    pieces = _converted(path, columns)
    tokens = _joined(piece.tokens for piece in pieces)
    instances = _joined(piece.instances for piece in pieces)
    sample = np.array(_joined(piece.sample for piece in pieces), np.int64)
    centre, size, rotation = (
        np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("centre", "size", "rotation")
    )
    kind_of_instance = _instance_kinds(tables)
    try:
        kind = np.fromiter(map(kind_of_instance.__getitem__, instances), np.int64, len(instances))
    except KeyError as error:
        raise SynclError(f"{path}: instance {error.args[0]!r} is not in instance.json") from error
    known = kind >= 0
    _check_boxes(path, tokens, known, {"translation": centre, "size": size, "rotation": rotation})
    number_of_instance = dict(zip(dict.fromkeys(instances), count()))
    velocity = np.full((len(tokens), 2), np.nan)
    if velocities:
        velocity = _velocities(path, pieces, centre, samples.timestamp_us[sample])
    boxes = EvaluationBoxes(
        sample=sample,
        label=kind,
        centre=centre,
        size=size,
        rotation=rotation,
        velocity=velocity,
        points=np.array(_joined(piece.points for piece in pieces), np.int64),
        score=np.full(len(tokens), -1.0),
        attribute=_attributes(tables, tokens, _joined(piece.attributes for piece in pieces), known),
        identity=np.fromiter(map(number_of_instance.__getitem__, instances), np.int64, len(instances)),
        matched_sample=sample,
    )
    rack = kind == _RACK
    racks = Racks(sample[rack], centre[rack], size[rack], rotation[rack])
    boxes = boxes.select(known)
    _check_instances(path, boxes, samples)
    return boxes, racks


def _bad_vector(rows: list[Record]) -> str:
    """Which annotation has a field that is not a list of the right number of numbers."""
    for row in rows:
        for name, width in {"translation": 3, "size": 3, "rotation": 4}.items():
            value = row[name]
            if (
                not isinstance(value, list)
                or len(value) != width
                or not all(type(v) in (int, float) for v in value)
            ):
                return f"annotation {row['token']}: {name} must be a list of {width} numbers"
    return "translation, size and rotation must be lists of numbers"


def _joined(lists: Iterable[list[T]]) -> list[T]:
    return list(chain.from_iterable(lists))


def _check_boxes(path: Path, tokens: list[str], known: Bools, columns: dict[str, Floats]) -> None:
    for name, column in columns.items():
        bad = known & np.isnan(column).any(axis=1)
        if bad.any():
            raise SynclError(f"{path}: annotation {tokens[int(bad.argmax())]} has nan in {name}")
    bad = known & (columns["size"] <= 0).any(axis=1)
    if bad.any():
        raise SynclError(f"{path}: annotation {tokens[int(bad.argmax())]} has a size that is not positive")


def _check_instances(path: Path, boxes: EvaluationBoxes, samples: Samples) -> None:
    order = np.lexsort((boxes.sample, boxes.identity))
    sample, identity = boxes.sample[order], boxes.identity[order]
    twice = (np.diff(sample) == 0) & (np.diff(identity) == 0)
    if twice.any():
        token = samples.tokens[int(sample[int(twice.argmax())])]
        raise SynclError(f"{path}: one instance is annotated twice in sample {token}")


def _instance_kinds(tables: Path) -> dict[str, int]:
    """Label of every instance token, or that it is ignored or a bicycle rack."""
    kind_of_category = {RACK_CATEGORY: _RACK}
    kind_of_category |= {category: DETECTION_NAMES.index(name) for category, name in NAME_OF_CATEGORY.items()}
    kind_of_token = {
        token: kind_of_category.get(name, _IGNORED)
        for token, name in _fields(tables / "category.json", "token", "name")
    }
    try:
        return {
            token: kind_of_token[category]
            for token, category in _fields(tables / "instance.json", "token", "category_token")
        }
    except KeyError as error:
        raise SynclError(
            f"{tables / 'instance.json'}: category {error.args[0]!r} is not in category.json"
        ) from error


def _attributes(tables: Path, tokens: list[str], attributes: list[list[str]], known: Bools) -> Ints:
    """Index of each annotation's only attribute [N], -1 for none."""
    index_of_token = {
        token: ATTRIBUTE_NAMES.index(name)
        for token, name in _fields(tables / "attribute.json", "token", "name")
        if name in ATTRIBUTE_NAMES
    }
    unknown = -2
    column = np.array(
        [index_of_token.get(names[0], unknown) if names else -1 for names in attributes], np.int64
    )
    several = np.array(list(map(len, attributes)), np.int64) > 1
    for bad, what in ((several, "more than one attribute"), (column == unknown, "an unknown attribute")):
        if (known & bad).any():
            token = tokens[int((known & bad).argmax())]
            raise SynclError(f"{tables / 'sample_annotation.json'}: annotation {token} has {what}")
    return column


def _velocities(path: Path, pieces: list[_AnnotationPiece], centre: Floats, timestamp_us: Ints) -> Floats:
    """Velocities [N, 2] by differences of neighbouring annotations, nan where missing or too far apart."""
    row_of_token = dict(zip(_joined(piece.tokens for piece in pieces), count()))
    own = np.arange(len(timestamp_us))
    neighbours: list[Ints] = []
    for column in (_joined(piece.previous for piece in pieces), _joined(piece.next for piece in pieces)):
        rows = np.fromiter(map(row_of_token.get, column, repeat(-1)), np.int64, len(column))
        if int((rows < 0).sum()) > column.count(""):
            missing = next(token for token in column if token and token not in row_of_token)
            raise SynclError(f"{path}: no annotation {missing!r}, which a neighbour in the same scene names")
        neighbours.append(rows)
    has_previous, has_next = (rows >= 0 for rows in neighbours)
    first, last = (np.where(rows >= 0, rows, own) for rows in neighbours)
    # Seconds first, difference second: bit for bit what the official code does.
    seconds = 1e-6 * timestamp_us
    elapsed = seconds[last] - seconds[first]
    allowed = np.where(has_previous & has_next, 2 * _MAX_ONE_SIDED_S, _MAX_ONE_SIDED_S)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity: Floats = (centre[last, :2] - centre[first, :2]) / elapsed[:, None]
    velocity[(elapsed > allowed) | ~(has_previous | has_next)] = np.nan
    return velocity
