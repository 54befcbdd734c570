"""Ground truth from the index: the columns of some scenes, checked as strictly as the official code does."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from syncl.data.dataset_sources import find_source
from syncl.data.nuscenes.index import open_scene_columns
from syncl.data.nuscenes.splits import check_version, split_scenes
from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL
from syncl.data.nuscenes.tables.index_columns import SEVERAL_ATTRIBUTES, UNKNOWN_POINTS, SceneColumns
from syncl.data.nuscenes.tables.plausibility import time_problem
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError, did_you_mean
from syncl.evaluation.arrays import Bools, EvaluationBoxes, GroundTruth, Ints, Racks, Samples
from syncl.wording import counted

_IGNORED, _RACK = -1, -2


def read_ground_truth(
    dataroot: Path,
    version: str,
    split: str,
    scenes: Collection[str] | None = None,
    velocities: bool = True,
    dataset: DatasetDescription | Path | None = None,
) -> GroundTruth:
    """Samples, annotations and vehicle positions of a split, from the index of the tables.

    The index is read from `<dataroot>/.syncl`, where it is written if it is not there or the tables have
    changed since. Nothing of cameras is looked at.

    Args:
        dataroot: folder that holds the version folder.
        version: name of the table folder, such as "v1.0-mini".
        split: an official split of that version or one defined in its `splits.json`. Scenes of the split that
            the tables do not hold are left out.
        scenes: names of the scenes to keep, such as a few for validation while training; None keeps all.
        velocities: whether velocities and attributes, which only the detection metrics use, must be known;
            nan and -1 otherwise.
        dataset: file of classes and measures; see `open_nuscenes`.

    Raises:
        SynclError: if a table is missing, damaged or inconsistent, or no sample is left.
    """
    dataroot = Path(dataroot)
    source = find_source(dataroot, version)
    tables = dataroot / version if source is None else source.folder
    if source is None:
        check_version(dataroot, version)
    names = set(split_scenes(split, version, dataroot))
    if scenes is not None:
        if unknown := sorted(set(scenes) - names):
            raise SynclError(
                f"scene {unknown[0]!r} is not part of split {split!r}{did_you_mean(unknown[0], names)}"
            )
        names = set(scenes)
    columns, description = open_scene_columns(dataroot, version, dataset=dataset)
    if version.endswith("test") and not len(columns.annotation_tokens):
        raise SynclError(
            f"{tables / 'sample_annotation.json'}: holds no annotations: those of the test split are not "
            "published, so nothing can be scored here; hand the results file to the nuScenes evaluation "
            "server, or evaluate on a validation split"
        )
    rows, samples = _samples(tables, columns, names, split)
    problems = time_problem(tables, columns), _simultaneous(tables, samples)
    return GroundTruth(
        samples,
        *_annotations(tables, columns, rows, samples, velocities, description),
        remarks=tuple(problem for problem in problems if problem is not None),
        dataset=description,
    )


def _simultaneous(tables: Path, samples: Samples) -> str | None:
    """What is to be said of samples of a scene that have one time: which of them tracks are scored on."""
    moments = np.stack([samples.scene, samples.timestamp_us], axis=1)
    doubled = len(moments) - len(np.unique(moments, axis=0))
    if not doubled:
        return None
    return (
        f"{tables / 'sample.json'}: {counted(doubled, 'sample')} with the timestamp of another one of "
        "their scene; tracks are scored on all of them here, on the last by the official code"
    )


def _samples(tables: Path, columns: SceneColumns, scene_names: set[str], split: str) -> tuple[Ints, Samples]:
    """Rows [S] of the evaluated samples, in the order of the table, and what evaluation knows of them."""
    chosen = np.array([name.decode() in scene_names for name in columns.scene_names.tolist()], np.bool_)
    lengths = np.diff(columns.scene_start)
    rows = np.flatnonzero(np.repeat(chosen, lengths))
    if not len(rows):
        raise SynclError(f"{tables}: holds no sample of split {split!r}; check --version and --split")
    rows = rows[np.argsort(columns.sample_table_rows[rows])]
    number_of_scene = np.cumsum(chosen) - 1
    tokens = tuple(token.decode() for token in columns.sample_tokens[rows].tolist())
    ego_xy = columns.sample_ego_xy[rows]
    lost = np.isnan(ego_xy).any(axis=1)
    if lost.any():
        raise SynclError(
            f"{tables / 'sample_data.json'}: sample {tokens[int(lost.argmax())]} has no key frame of "
            f"{LIDAR_CHANNEL} that leads to a translation in ego_pose.json, from which distances are "
            f"measured ({int(lost.sum())} such samples; camera-only data need these records too)"
        )
    scene = np.repeat(number_of_scene, lengths)[rows]
    return rows, Samples(tokens, scene, columns.sample_timestamps_us[rows], ego_xy)


def _annotations(
    tables: Path,
    columns: SceneColumns,
    sample_rows: Ints,
    samples: Samples,
    velocities: bool,
    dataset: DatasetDescription,
) -> tuple[EvaluationBoxes, Racks, Ints]:
    path = tables / "sample_annotation.json"
    begin = columns.annotation_start[sample_rows]
    counts = columns.annotation_start[sample_rows + 1] - begin
    sample = np.repeat(np.arange(len(sample_rows)), counts)
    rows = np.arange(counts.sum()) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
    racks_there = columns.category_names == (dataset.rack_category or "").encode()
    kind_of_category = np.where(racks_there, _RACK, columns.category_labels(dataset))
    kind = kind_of_category[columns.annotation_categories[rows]] if len(rows) else np.zeros(0, np.int64)
    rows, sample, kind = (column[kind != _IGNORED] for column in (rows, sample, kind))
    centre, size_lwh, rotation = np.split(columns.annotation_boxes[rows], [3, 6], axis=1)
    size = size_lwh[:, [1, 0, 2]]
    points = columns.annotation_points[rows].astype(np.int64)
    known = kind >= 0

    def refuse(bad: Bools, what: str) -> None:
        if bad.any():
            token = columns.annotation_tokens[rows[int(bad.argmax())]].decode()
            raise SynclError(f"{path}: annotation {token} {what} ({int(bad.sum())} such annotations)")

    for name, column, width in (("translation", centre, 3), ("size", size, 3), ("rotation", rotation, 4)):
        refuse(np.isnan(column).any(axis=1), f"has no {name} that is a list of {width} numbers")
    refuse(known & (size <= 0).any(axis=1), "has a size that is not positive")
    refuse(known & (points == UNKNOWN_POINTS).any(axis=1), "lacks num_lidar_pts or num_radar_pts")
    attribute, velocity = np.full(len(rows), -1), np.full((len(rows), 2), np.nan)
    if velocities and dataset.attributes:
        attribute = columns.annotation_attributes[rows].astype(np.int64)
        refuse(known & (attribute == SEVERAL_ATTRIBUTES), "has more than one attribute")
        # The official code takes an attribute without a name for none.
        known_names = {b"": -1, **{name.encode(): index for index, name in enumerate(dataset.attributes)}}
        official = [known_names.get(name, -2) for name in columns.attribute_names.tolist()]
        # The last two entries are what -2 (unknown) and -1 (none) refer to.
        attribute = np.array([*official, -2, -1])[np.maximum(attribute, -2)]
        refuse(known & (attribute == -2), "has an unknown attribute")
    if velocities:
        refuse(known & columns.annotation_lost[rows], "names a neighbour (prev, next) that does not exist")
        velocity = columns.annotation_velocities[rows]
    boxes = EvaluationBoxes(
        sample=sample,
        label=kind,
        centre=centre,
        size=size,
        rotation=rotation,
        velocity=velocity,
        points=points.sum(axis=1),
        score=np.full(len(rows), -1.0),
        attribute=attribute,
        identity=columns.annotation_instances[rows].astype(np.int64),
        matched_sample=sample,
    )
    racks = Racks(sample[~known], centre[~known], size[~known], rotation[~known])
    boxes = boxes.select(known)
    _refuse_doubles(path, boxes, samples)
    return boxes, racks, columns.annotation_visibility[rows[known]].astype(np.int64)


def _refuse_doubles(path: Path, boxes: EvaluationBoxes, samples: Samples) -> None:
    order = np.lexsort((boxes.sample, boxes.identity))
    sample, identity = boxes.sample[order], boxes.identity[order]
    twice = (np.diff(sample) == 0) & (np.diff(identity) == 0)
    if twice.any():
        token = samples.tokens[int(sample[int(twice.argmax())])]
        raise SynclError(f"{path}: one instance is annotated twice in sample {token}")
