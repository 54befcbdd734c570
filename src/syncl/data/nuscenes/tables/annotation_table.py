"""Annotations as columns, with velocities by the official finite differences."""

import warnings
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.tables.categories import VISIBILITY_LEVELS
from syncl.data.nuscenes.tables.index_columns import (
    SEVERAL_ATTRIBUTES,
    UNKNOWN_ATTRIBUTE,
    UNKNOWN_POINTS,
    AnnotationColumns,
    Integers,
    Numbers,
    SmallIntegers,
    Tokens,
    offsets,
)
from syncl.data.nuscenes.tables.keys import Keys
from syncl.data.nuscenes.tables.schema import SCHEMA, may_lack
from syncl.data.nuscenes.tables.table_files import Column, empty_column, read_table, table_path
from syncl.dataset_description import DatasetDescription

# Longest time over which the official evaluation differentiates positions, one-sided (twice that if centred).
_MAX_TIME_DIFFERENCE_S = 1.5


def read_annotations(
    folder: Path, sample_keys: Keys, sample_timestamps_us: Integers | Numbers, dataset: DatasetDescription
) -> AnnotationColumns:
    """Read the annotations of a version; the test version may lack the files or have them empty.

    Args:
        folder: version folder.
        sample_keys: keys of the samples, in the order of `sample_timestamps_us`.
        sample_timestamps_us: [N] times of the samples.
        dataset: which category is which class.

    Raises:
        SynclError: as `build_scene_columns`.
    """
    categories, attributes = _read(folder, "category"), _last_of_each(_read(folder, "attribute"))
    instances, table = _read(folder, "instance"), _read(folder, "sample_annotation")
    tokens = table["token"]
    sample_rows = sample_keys.rows(table["sample_token"], "sample_annotation", "sample_token", tokens)
    instance_rows = Keys(folder, "instance", instances["token"]).rows(
        table["instance_token"], "sample_annotation", "instance_token", tokens
    )
    category_of_instance = Keys(folder, "category", categories["token"]).rows(
        instances["category_token"], "instance", "category_token", instances["token"]
    )
    category_rows = category_of_instance[instance_rows]
    keys = Keys(folder, "sample_annotation", tokens)
    previous, following = keys.find(table["prev"]), keys.find(table["next"])
    lost = ((previous < 0) & (table["prev"] != b"")) | ((following < 0) & (table["next"] != b""))
    times_s = np.multiply(1e-6, sample_timestamps_us, dtype=np.float64)[sample_rows]
    velocities = finite_velocities(cast(Numbers, table["translation"]), times_s, previous, following)
    velocities[lost] = np.nan

    class_indices = [dataset.label(name.decode()) for name in categories["name"].tolist()]
    labels = np.array([*class_indices, -1], np.int32)[category_rows]
    labels[(labels >= 0) & ~_usable(folder, table, labels)] = -1
    size_lwh = cast(Numbers, table["size"])[:, [1, 0, 2]]
    boxes = [cast(Numbers, table["translation"]), size_lwh, cast(Numbers, table["rotation"])]
    points = np.stack([table["num_lidar_pts"], table["num_radar_pts"]], axis=-1)
    order = np.argsort(sample_rows, kind="stable")
    return AnnotationColumns(
        annotation_start=offsets(sample_rows[order], len(sample_timestamps_us)),
        annotation_tokens=cast(Tokens, tokens[order]),
        annotation_boxes=np.concatenate(boxes, axis=1)[order],
        annotation_velocities=velocities[order],
        annotation_lost=lost[order],
        annotation_labels=labels[order],
        annotation_categories=category_rows[order].astype(np.int32),
        annotation_instances=instance_rows[order].astype(np.int32),
        annotation_attributes=_attributes(folder, table, attributes)[order],
        annotation_points=np.clip(points[order], UNKNOWN_POINTS, 2**31 - 1).astype(np.int32),
        annotation_visibility=_visibility(folder, table)[order],
        category_names=cast(Tokens, categories["name"]),
        attribute_names=cast(Tokens, attributes["name"]),
    )


def _read(folder: Path, table: str) -> dict[str, Column]:
    """Read a table; missing files of the test version, which has no annotations, count as empty."""
    fields = SCHEMA[table].fields
    if may_lack(folder.name, table) and not table_path(folder, table).exists():
        return {field.name: empty_column(field) for field in fields}
    return read_table(folder, table, fields)


def _last_of_each(table: dict[str, Column]) -> dict[str, Column]:
    """The rows that have a token; of several with the same one the last, as the official code reads them."""
    tokens, from_end = np.unique(table["token"][::-1], return_index=True)
    rows = np.sort(len(table["token"]) - 1 - from_end[tokens != b""])
    return {name: column[rows] for name, column in table.items()}


def _attributes(folder: Path, table: dict[str, Column], attributes: dict[str, Column]) -> SmallIntegers:
    """The only attribute of each annotation, as `SceneColumns` has it."""
    texts = table["attribute_tokens"]
    rows = Keys(folder, "attribute", attributes["token"]).find(texts)
    several = np.char.find(cast(Tokens, texts), b" ") >= 0
    unknown = (rows < 0) & (texts != b"")
    found: SmallIntegers = np.where(several, SEVERAL_ATTRIBUTES, np.where(unknown, UNKNOWN_ATTRIBUTE, rows))
    return found.astype(np.int32)


def _visibility(folder: Path, table: dict[str, Column]) -> SmallIntegers:
    """The level of each annotation, 0 where the tables do not say."""
    fields = SCHEMA["visibility"].fields
    levels = {field.name: empty_column(field) for field in fields}
    if table_path(folder, "visibility").exists():
        levels = read_table(folder, "visibility", fields)
    named = levels["token"] != b""
    levels = {name: column[named] for name, column in levels.items()}
    rows = Keys(folder, "visibility", levels["token"]).find(table["visibility_token"])
    known = [VISIBILITY_LEVELS.get(name.decode(), 0) for name in levels["level"].tolist()]
    # The last entry is what row -1 (no visibility) refers to.
    return np.array([*known, 0], np.int32)[rows]


def finite_velocities(centres: Numbers, times_s: Numbers, previous: Integers, following: Integers) -> Numbers:
    """Velocities [A, 2] in the ground plane, global frame, as the official devkit derives them.

    The difference of the neighbours' centres over their time difference; one-sided at the ends of a track,
    nan for lone annotations and where the neighbours are more than 1.5 s (one-sided) or 3 s (centred) apart.
    """
    rows = np.arange(len(centres))
    has_previous, has_next = previous >= 0, following >= 0
    first, last = np.where(has_previous, previous, rows), np.where(has_next, following, rows)
    # Seconds first, difference second: bit for bit what the official code does.
    elapsed_s = times_s[last] - times_s[first]
    allowed_s = np.where(has_previous & has_next, 2 * _MAX_TIME_DIFFERENCE_S, _MAX_TIME_DIFFERENCE_S)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocities: Numbers = (centres[last, :2] - centres[first, :2]) / elapsed_s[:, None]
    velocities[(elapsed_s > allowed_s) | ~(has_previous | has_next)] = np.nan
    return velocities


def _usable(folder: Path, table: dict[str, Column], labels: SmallIntegers) -> NDArray[np.bool_]:
    """[A] which annotations are boxes at all; warns of the others that have a class."""
    centres, sizes, rotations = (cast(Numbers, table[name]) for name in ("translation", "size", "rotation"))
    usable: NDArray[np.bool_] = np.isfinite(np.concatenate([centres, sizes, rotations], axis=1)).all(axis=1)
    usable &= (sizes > 0).all(axis=1) & (rotations != 0).any(axis=1)
    lost = np.flatnonzero((labels >= 0) & ~usable)
    if lost.size:
        token = table["token"][lost[0]].decode()
        warnings.warn(
            f"{table_path(folder, 'sample_annotation')}: record '{token}' is no box: translation, size and "
            f"rotation must be numbers, sizes positive ({lost.size} such records); nothing is learned from "
            "these annotations, and evaluation of their split is refused",
            stacklevel=2,
        )
    return usable
