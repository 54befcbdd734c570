"""Annotations as columns, with velocities by the official finite differences."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.tables.categories import VISIBILITY_LEVELS, class_index
from syncl.data.nuscenes.tables.index_columns import Integers, Numbers, SmallIntegers, Tokens
from syncl.data.nuscenes.tables.keys import Keys
from syncl.data.nuscenes.tables.schema import SCHEMA, may_lack
from syncl.data.nuscenes.tables.table_files import Column, empty_column, read_table, table_path

# Longest time over which the official evaluation differentiates positions, one-sided (twice that if centred).
_MAX_TIME_DIFFERENCE_S = 1.5


@dataclass(frozen=True)
class AnnotationTable:
    """The annotation columns of `NuScenesColumns`, sorted by sample row."""

    sample_rows: Integers
    tokens: Tokens
    boxes: Numbers
    velocities: Numbers
    labels: SmallIntegers
    categories: SmallIntegers
    instances: SmallIntegers
    attributes: SmallIntegers
    points: SmallIntegers
    visibility: SmallIntegers
    category_names: Tokens
    attribute_names: Tokens
    instance_tokens: Tokens


def read_annotations(folder: Path, sample_keys: Keys, sample_timestamps_us: Integers) -> AnnotationTable:
    """Read the annotations of a version; the test version may lack the files or have them empty.

    Args:
        folder: version folder.
        sample_keys: keys of the samples, in the order of `sample_timestamps_us`.
        sample_timestamps_us: [N] times of the samples.

    Raises:
        SynclError: as `build_columns`.
    """
    categories = _read(folder, "category")
    attributes = _read(folder, "attribute")
    visibilities = _read(folder, "visibility")
    instances = _read(folder, "instance")
    table = _read(folder, "sample_annotation")
    tokens = table["token"]

    def resolve(keys: Keys, field: str, optional: bool = False) -> Integers:
        return keys.rows(table[field], "sample_annotation", field, tokens, optional=optional)

    sample_rows = resolve(sample_keys, "sample_token")
    instance_rows = resolve(Keys(folder, "instance", instances["token"]), "instance_token")
    category_of_instance = Keys(folder, "category", categories["token"]).rows(
        instances["category_token"], "instance", "category_token", instances["token"]
    )
    category_rows = category_of_instance[instance_rows]
    attribute_rows = resolve(Keys(folder, "attribute", attributes["token"]), "attribute_tokens", True)
    visibility_rows = resolve(Keys(folder, "visibility", visibilities["token"]), "visibility_token", True)
    keys = Keys(folder, "sample_annotation", tokens)
    velocities = _velocities(
        cast(Numbers, table["translation"]),
        np.multiply(1e-6, sample_timestamps_us, dtype=np.float64)[sample_rows],
        resolve(keys, "prev", True),
        resolve(keys, "next", True),
    )

    class_indices = [class_index(name.decode()) for name in categories["name"].tolist()]
    label_of_category = np.array(class_indices, np.int32)
    labels = np.where(_usable(folder, table), label_of_category[category_rows], np.int32(-1))
    levels = [VISIBILITY_LEVELS.get(name.decode(), 0) for name in visibilities["level"].tolist()]
    # The last entry is what row -1 (no visibility) refers to.
    level_of_visibility = np.array([*levels, 0], np.int32)
    size_lwh = cast(Numbers, table["size"])[:, [1, 0, 2]]
    boxes = [cast(Numbers, table["translation"]), size_lwh, cast(Numbers, table["rotation"])]
    order = np.argsort(sample_rows, kind="stable")
    return AnnotationTable(
        sample_rows=sample_rows[order],
        tokens=cast(Tokens, tokens[order]),
        boxes=np.concatenate(boxes, axis=1)[order],
        velocities=velocities[order],
        labels=labels[order],
        categories=category_rows[order].astype(np.int32),
        instances=instance_rows[order].astype(np.int32),
        attributes=attribute_rows[order].astype(np.int32),
        points=np.stack([table["num_lidar_pts"], table["num_radar_pts"]], axis=-1)[order].astype(np.int32),
        visibility=level_of_visibility[visibility_rows][order],
        category_names=cast(Tokens, categories["name"]),
        attribute_names=cast(Tokens, attributes["name"]),
        instance_tokens=cast(Tokens, instances["token"]),
    )


def _read(folder: Path, table: str) -> dict[str, Column]:
    """Read a table; missing files of the test version, which has no annotations, count as empty."""
    fields = SCHEMA[table].fields
    if may_lack(folder.name, table) and not table_path(folder, table).exists():
        return {field.name: empty_column(field) for field in fields}
    return read_table(folder, table, fields)


def _velocities(centres: Numbers, times_s: Numbers, previous: Integers, following: Integers) -> Numbers:
    """Velocities [A, 2] in the ground plane, global frame, as the official devkit derives them.

    The difference of the neighbours' centres over their time difference; one-sided at the ends of a track,
    nan for lone annotations and where the neighbours are more than 1.5 s (one-sided) or 3 s (centred) apart.
    """
    rows = np.arange(len(centres))
    first = np.where(previous >= 0, previous, rows)
    last = np.where(following >= 0, following, rows)
    elapsed_s = times_s[last] - times_s[first]
    sides = (previous >= 0).astype(int) + (following >= 0)
    usable = (elapsed_s > 0) & (elapsed_s <= _MAX_TIME_DIFFERENCE_S * sides)
    velocities = np.full((len(centres), 2), np.nan)
    difference = centres[last, :2] - centres[first, :2]
    velocities[usable] = difference[usable] / elapsed_s[usable, None]
    return velocities


def _usable(folder: Path, table: dict[str, Column]) -> NDArray[np.bool_]:
    """[A] which annotations are boxes at all; warns of the others."""
    sizes, rotations = cast(Numbers, table["size"]), cast(Numbers, table["rotation"])
    usable: NDArray[np.bool_] = (sizes > 0).all(axis=1) & (rotations != 0).any(axis=1)
    if not usable.all():
        token = table["token"][np.flatnonzero(~usable)[0]].decode()
        warnings.warn(
            f"{table_path(folder, 'sample_annotation')}: record '{token}' has a size that is not positive or "
            f"a zero rotation ({int((~usable).sum())} such records); these annotations are ignored",
            stacklevel=2,
        )
    return usable
