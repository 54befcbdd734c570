"""What is read of the official tables: fields, the kind of their values, and the references between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from syncl.data.nuscenes.tables.table_files import Field

TOKEN = Field("token", "text")


@dataclass(frozen=True)
class Reference:
    """A foreign key.

    Attributes:
        field: the referring field.
        target: the table its tokens are in.
        optional: whether "" (or an empty list) is allowed.
    """

    field: str
    target: str
    optional: bool = False


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes:
        fields: what is read; every record must have all of them.
        references: the foreign keys among the fields.
        of_annotations: whether the test version, which has no annotations, may lack the table.
        key_frames_only: whether records between key frames are left out.
    """

    fields: tuple[Field, ...]
    references: tuple[Reference, ...] = ()
    of_annotations: bool = False
    key_frames_only: bool = False


SCHEMA: Mapping[str, TableSchema] = {
    "scene": TableSchema((TOKEN, Field("name", "text"))),
    "sample": TableSchema(
        (TOKEN, Field("timestamp", "integer"), Field("scene_token", "text")),
        (Reference("scene_token", "scene"),),
    ),
    "sensor": TableSchema((TOKEN, Field("channel", "text"), Field("modality", "text"))),
    "calibrated_sensor": TableSchema(
        (
            TOKEN,
            Field("sensor_token", "text"),
            Field("translation", "vector3"),
            Field("rotation", "vector4"),
            Field("camera_intrinsic", "intrinsics"),
        ),
        (Reference("sensor_token", "sensor"),),
    ),
    "ego_pose": TableSchema((TOKEN, Field("translation", "vector3"), Field("rotation", "vector4"))),
    "sample_data": TableSchema(
        (
            TOKEN,
            Field("sample_token", "text"),
            Field("ego_pose_token", "text"),
            Field("calibrated_sensor_token", "text"),
            Field("timestamp", "integer"),
            Field("filename", "text"),
            Field("width", "integer"),
            Field("height", "integer"),
        ),
        (
            Reference("sample_token", "sample"),
            Reference("ego_pose_token", "ego_pose"),
            Reference("calibrated_sensor_token", "calibrated_sensor"),
        ),
        key_frames_only=True,
    ),
    "category": TableSchema((TOKEN, Field("name", "text")), of_annotations=True),
    "attribute": TableSchema((TOKEN, Field("name", "text")), of_annotations=True),
    "visibility": TableSchema((TOKEN, Field("level", "text")), of_annotations=True),
    "instance": TableSchema(
        (TOKEN, Field("category_token", "text")),
        (Reference("category_token", "category"),),
        of_annotations=True,
    ),
    "sample_annotation": TableSchema(
        (
            TOKEN,
            Field("sample_token", "text"),
            Field("instance_token", "text"),
            Field("visibility_token", "text"),
            Field("attribute_tokens", "first_text"),
            Field("translation", "vector3"),
            Field("size", "vector3"),
            Field("rotation", "vector4"),
            Field("prev", "text"),
            Field("next", "text"),
            Field("num_lidar_pts", "integer"),
            Field("num_radar_pts", "integer"),
        ),
        (
            Reference("sample_token", "sample"),
            Reference("instance_token", "instance"),
            Reference("visibility_token", "visibility", optional=True),
            Reference("attribute_tokens", "attribute", optional=True),
            Reference("prev", "sample_annotation", optional=True),
            Reference("next", "sample_annotation", optional=True),
        ),
        of_annotations=True,
    ),
}


def is_key_frame(record: Mapping[str, object]) -> bool:
    """Whether a sample_data record is one of a key frame; `KeyError` if it does not say."""
    return bool(record["is_key_frame"])


def may_lack(version: str, table: str) -> bool:
    """Whether a version may come without a table: annotations of the test split are not published."""
    return version.endswith("test") and SCHEMA[table].of_annotations
