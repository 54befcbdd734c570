"""Adding a kind of dataset: drives as folders of CSV files, opened by every command.

python examples/add_dataset.py DRIVES

DRIVES/NAME/frames.csv    frame, time_s, x, y, yaw: the vehicle, metres and radians, global frame
DRIVES/NAME/boxes.csv     frame, object, kind, x, y, z, length, width, height, yaw: global frame
DRIVES/NAME/cameras.csv   name, width, height, focal, x, y, z, yaw: pinholes that look level
DRIVES/NAME/CAMERA/FRAME.jpg
"""

# --8<-- [start:imports]
import csv
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from syncl.commands.prepare import prepare
from syncl.data.dataset_sources import FORMATS, DatasetFormat
from syncl.data.lenses import Lens
from syncl.data.nuscenes.tables.annotation_table import finite_velocities
from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns, offsets
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError
from syncl.geometry.poses import quaternion_from_rotation, quaternion_from_yaw

# --8<-- [end:imports]

# --8<-- [start:description]
DRIVES = DatasetDescription(
    name="drives",
    classes=("cart", "person"),
    tracked=("cart", "person"),
    ranges_m={"cart": 40.0, "person": 30.0},
    categories={"cart.loaded": "cart", "cart.empty": "cart", "person": "person"},
)
# --8<-- [end:description]


# --8<-- [start:source]
class CsvDrives:
    """See `syncl.data.dataset_sources.DatasetSource`."""

    def __init__(self, dataroot: Path) -> None:
        self.folder = dataroot

    def describe(self) -> DatasetDescription:
        """The classes, unless a dataset.yaml says otherwise."""
        return DRIVES

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """All drives but the last are for training."""
        return {"train": self._names[:-1], "val": self._names[-1:]}

    def fingerprint(self) -> None:
        """Columns are not kept."""

    def lenses(self) -> tuple[Lens | None, ...]:
        """None."""
        return ()

    def scenes(self, dataset: DatasetDescription) -> SceneColumns:
        """Frames and boxes."""
        frames, boxes = self._rows("frames.csv"), self._rows("boxes.csv")
        row_of = {(drive, frame["frame"]): row for row, (drive, frame) in enumerate(frames)}
        categories = sorted({box["kind"] for _, box in boxes} | set(dataset.categories))
        objects = sorted({(drive, box["object"]) for drive, box in boxes})
        for drive, box in boxes:
            if (drive, box["frame"]) not in row_of:
                raise SynclError(
                    f"{self.folder / drive / 'boxes.csv'}: no frame {box['frame']!r} in frames.csv"
                )
        sample = np.array([row_of[drive, box["frame"]] for drive, box in boxes], np.int64)
        instance = np.array([objects.index((drive, box["object"])) for drive, box in boxes], np.int64)
        kind = np.array([categories.index(box["kind"]) for _, box in boxes], np.int64)
        numbers = _numbers(boxes, "x", "y", "z", "length", "width", "height", "yaw")
        rotations = quaternion_from_yaw(numbers[:, 6])
        times_s = _numbers(frames, "time_s")[:, 0]
        # Where the same object is one frame earlier and later.
        pairs = list(zip(instance.tolist(), sample.tolist(), strict=True))
        place = {pair: row for row, pair in enumerate(pairs)}
        before, after = (
            np.array([place.get((one, row + step), -1) for one, row in pairs], np.int64) for step in (-1, 1)
        )
        velocities = finite_velocities(numbers[:, :3], times_s[sample], before, after)
        order = np.argsort(sample, kind="stable")
        count = len(order)
        owners = np.array([self._names.index(drive) for drive, _ in frames], np.int64)
        return SceneColumns(
            annotation_start=offsets(sample[order], len(frames)),
            annotation_tokens=_texts([str(row) for row in order.tolist()]),
            annotation_boxes=np.concatenate([numbers[:, :6], rotations], axis=1)[order],
            annotation_velocities=velocities[order],
            annotation_lost=np.zeros(count, np.bool_),
            annotation_labels=np.array([dataset.label(name) for name in categories], np.int32)[kind][order],
            annotation_categories=kind[order].astype(np.int32),
            annotation_instances=instance[order].astype(np.int32),
            annotation_attributes=np.full(count, -1, np.int32),
            annotation_points=np.full((count, 2), -1, np.int32),
            annotation_visibility=np.zeros(count, np.int32),
            category_names=_texts(categories),
            attribute_names=_texts([]),
            scene_names=_texts(list(self._names)),
            scene_start=offsets(owners, len(self._names)),
            sample_tokens=_texts([f"{drive}/{frame['frame']}" for drive, frame in frames]),
            sample_timestamps_us=np.rint(times_s * 1e6).astype(np.int64),
            sample_table_rows=np.arange(len(frames)),
            sample_ego_xy=_numbers(frames, "x", "y"),
        )

    def cameras(self, scenes: SceneColumns) -> CameraColumns:
        """Images, of each camera of each frame."""
        frames, cameras = self._rows("frames.csv"), self._rows("cameras.csv")
        views = [
            (row, n)
            for row, (drive, _) in enumerate(frames)
            for n, (of, _) in enumerate(cameras)
            if of == drive
        ]
        rows, of_view = np.array([row for row, _ in views]), np.array([n for _, n in views])
        names = list(dict.fromkeys(camera["name"] for _, camera in cameras))
        poses = _numbers(frames, "x", "y", "yaw")
        sample_poses = np.concatenate(
            [poses[:, :2], np.zeros((len(frames), 1)), quaternion_from_yaw(poses[:, 2])], axis=1
        )
        sizes, lens = _numbers(cameras, "width", "height"), _numbers(cameras, "focal", "x", "y", "z", "yaw")
        sin, cos, none, one = np.sin(lens[:, 4]), np.cos(lens[:, 4]), np.zeros(len(lens)), np.ones(len(lens))
        # A camera's axes in the vehicle: x right, y down, z ahead.
        looking = np.array([[sin, none, cos], [-cos, none, sin], [none, -one, none]]).transpose(2, 0, 1)
        focal, middle = lens[:, 0], sizes / 2
        matrices = np.array([[focal, none, middle[:, 0]], [none, focal, middle[:, 1]], [none, none, one]])
        files = [
            f"{frames[row][0]}/{cameras[n][1]['name']}/{frames[row][1]['frame']}.jpg" for row, n in views
        ]
        return CameraColumns(
            sample_poses=sample_poses,
            sample_lidars=np.full(len(frames), -1, np.int32),
            channels=_texts(names),
            image_start=offsets(rows, len(frames)),
            image_channels=np.array([names.index(cameras[n][1]["name"]) for n in of_view], np.int32),
            image_calibrations=of_view.astype(np.int32),
            image_poses=sample_poses[rows],
            image_timestamps_us=np.asarray(scenes.sample_timestamps_us, np.int64)[rows],
            image_files=_texts(files),
            image_sizes=sizes[of_view].astype(np.int32),
            calibration_poses=np.concatenate([lens[:, 1:4], quaternion_from_rotation(looking)], axis=1),
            intrinsics=matrices.transpose(2, 0, 1),
            distortions=np.zeros((len(cameras), 14)),
        )

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(path.parent.name for path in sorted(self.folder.glob("*/frames.csv")))

    def _rows(self, file: str) -> list[tuple[str, dict[str, str]]]:
        """Every row of a file of all drives, with the drive's name."""
        found = []
        for name in self._names:
            with (self.folder / name / file).open(newline="") as opened:
                found += [(name, row) for row in csv.DictReader(opened)]
        return found


# --8<-- [end:source]


# --8<-- [start:columns]
def _numbers(rows: list[tuple[str, dict[str, str]]], *names: str) -> np.ndarray:
    """Columns [N, len(names)] of numbers."""
    try:
        values = np.array([[float(row[name]) for name in names] for _, row in rows], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise SynclError(f"columns {', '.join(names)}: one is missing or holds no number ({error})") from None
    if not np.isfinite(values).all():
        raise SynclError(f"columns {', '.join(names)}: hold numbers that are not finite")
    return values.reshape(-1, len(names))


def _texts(values: list[str]) -> np.ndarray:
    return np.array([value.encode() for value in values] or np.zeros(0, "S1"))


# --8<-- [end:columns]


# --8<-- [start:register]
def is_csv_drives(dataroot: Path) -> bool:
    """A look at names of files, no more."""
    return next(dataroot.glob("*/frames.csv"), None) is not None


def register() -> None:
    """Inside syncl, this is an entry of `FORMATS`."""
    FORMATS.append(DatasetFormat("drives of CSV files", is_csv_drives, f"{__name__}:CsvDrives"))


# --8<-- [end:register]


def main(arguments: list[str]) -> None:
    """Open drives as any command does."""
    register()
    prepare(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
