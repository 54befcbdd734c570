"""What is read of the official tables: fields, the kind of their values, and the references between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from syncl.data.nuscenes.tables.table_files import Field

TOKEN = Field("token", "text")
_POSE = Field("translation", "vector3", needed=False), Field("rotation", "vector4", needed=False)


@dataclass(frozen=True)
class Reference:
    """A foreign key.

    Attributes:
        field: the referring field.
        target: the table its tokens are in.
    """

    field: str
    target: str


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes:
        fields: what is read.
        references: the foreign keys among the fields that must lead somewhere.
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
        (TOKEN, Field("timestamp", "time"), Field("scene_token", "text")),
        (Reference("scene_token", "scene"),),
    ),
    "sensor": TableSchema((TOKEN, Field("channel", "text"), Field("modality", "text", needed=False))),
    "calibrated_sensor": TableSchema(
        (
            TOKEN,
            Field("sensor_token", "text"),
            *_POSE,
            Field("camera_intrinsic", "intrinsics", needed=False),
            Field("camera_distortion", "distortion", needed=False),
        ),
        (Reference("sensor_token", "sensor"),),
    ),
    "ego_pose": TableSchema((TOKEN, *_POSE)),
    "sample_data": TableSchema(
        (
            TOKEN,
            Field("sample_token", "text"),
            Field("ego_pose_token", "text"),
            Field("calibrated_sensor_token", "text"),
            Field("timestamp", "time", needed=False),
            Field("filename", "text", needed=False),
            Field("width", "integer", needed=False),
            Field("height", "integer", needed=False),
        ),
        (
            Reference("sample_token", "sample"),
            Reference("ego_pose_token", "ego_pose"),
            Reference("calibrated_sensor_token", "calibrated_sensor"),
        ),
        key_frames_only=True,
    ),
    "category": TableSchema((TOKEN, Field("name", "text", needed=False)), of_annotations=True),
    # Detection needs them. A name of "" is one, of no attribute.
    "attribute": TableSchema(
        (Field("token", "text", needed=False), Field("name", "text", needed=False, unknown="?")),
        of_annotations=True,
    ),
    "visibility": TableSchema(
        (Field("token", "text", needed=False), Field("level", "text", needed=False)), of_annotations=True
    ),
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
            Field("visibility_token", "text", needed=False),
            Field("attribute_tokens", "texts", needed=False),
            Field("translation", "vector3", needed=False),
            Field("size", "vector3", needed=False),
            Field("rotation", "vector4", needed=False),
            Field("prev", "text", needed=False),
            Field("next", "text", needed=False),
            Field("num_lidar_pts", "integer", needed=False),
            Field("num_radar_pts", "integer", needed=False),
        ),
        (Reference("sample_token", "sample"), Reference("instance_token", "instance")),
        of_annotations=True,
    ),
}

CAMERA_FIELDS = tuple(
    Field(field.name, field.kind) for field in SCHEMA["sample_data"].fields if not field.needed
)
"""What records of cameras must have besides: of other sensors nobody reads it."""

POSE_FIELDS = (Field("translation", "vector3"), Field("rotation", "vector4"))
CALIBRATION_FIELDS = (
    *POSE_FIELDS,
    Field("camera_intrinsic", "intrinsics"),
    Field("camera_distortion", "distortion"),
)
"""What poses and calibrations of cameras and LIDAR_TOP must have besides."""

ANNOTATION_FIELDS = (
    Field("translation", "vector3"),
    Field("size", "vector3"),
    Field("rotation", "vector4"),
    Field("num_lidar_pts", "integer"),
    Field("num_radar_pts", "integer"),
)
"""What annotations of evaluated classes must have besides, where their split is evaluated."""


KEY_FRAME = "is_key_frame"
"""The field of sample_data that says whether a record is of a key frame."""


def is_key_frame(record: Mapping[str, object]) -> bool:
    """Whether a sample_data record is one of a key frame; `KeyError` if it does not say."""
    return bool(record[KEY_FRAME])


def may_lack(version: str, table: str) -> bool:
    """Whether a version may come without a table: annotations of the test split are not published."""
    return version.endswith("test") and SCHEMA[table].of_annotations
