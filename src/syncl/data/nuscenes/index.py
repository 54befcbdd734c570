"""Opening a nuScenes dataset: scenes, samples, cameras and annotations."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from syncl.data.dataset_file import check_categories, find_description
from syncl.data.dataset_sources import DatasetSource, find_source
from syncl.data.folder_listing import FolderListing
from syncl.data.lenses import Lens
from syncl.data.nuscenes.samples import CameraImage, FutureCentres, Sample, SampleAnnotations
from syncl.data.nuscenes.splits import check_version, split_scenes
from syncl.data.nuscenes.tables.build import build_camera_columns, build_scene_columns
from syncl.data.nuscenes.tables.cache import cache_path, cached_columns, fingerprint
from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL
from syncl.data.nuscenes.tables.index_columns import (
    CameraColumns,
    ImageColumns,
    Integers,
    NuScenesColumns,
    SceneColumns,
    SmallIntegers,
)
from syncl.data.nuscenes.tables.key_frames import KeyFrames
from syncl.data.nuscenes.tables.plausibility import check_cameras
from syncl.data.nuscenes.tables.rotations import check_lidar
from syncl.data.source_columns import checked_cameras, checked_scenes
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError, did_you_mean
from syncl.files import inside
from syncl.geometry.poses import (
    invert_pose,
    move_boxes,
    move_points,
    rigid_from_pose,
    rotation_from_quaternion,
)

_WHOLE = "all"
"""In the place of a version, where the data root is one."""

CAMERAS = "cameras"
"""Name of the part of the index that evaluation needs nothing of, in the cache."""

VehicleFrame = Literal["ego", "lidar"]

Array = NDArray[np.float64]

_SCENES_SHOWN = 8
# How much longer than a scene's usual step one is that forecasts must not learn from.
_GAP = 1.5


@dataclasses.dataclass(frozen=True)
class NuScenesIndex:
    """Key frames of one nuScenes version.

    Attributes:
        dataroot: folder that holds the version folder and `samples/`.
        version: "v1.0-mini", ...
        columns: everything the tables say of key frames, as arrays.
        vehicle_frame: what "vehicle" means in samples: "ego", the nuScenes ego frame, or "lidar", the frame
            of the LIDAR_TOP sensor, in which published weights were trained.
        cache: whether parts of the index that only some need are read from and written to the cache too.
        dataset: its classes, which labels number, and how they are scored.
        lenses: the lens of each calibration, where some are more than a pinhole's distortion; or empty.
    """

    dataroot: Path
    version: str
    columns: NuScenesColumns
    vehicle_frame: VehicleFrame = "ego"
    cache: bool = True
    dataset: DatasetDescription = NUSCENES
    lenses: tuple[Lens | None, ...] = ()

    def with_vehicle_frame(self, vehicle_frame: VehicleFrame) -> "NuScenesIndex":
        """The same data in another vehicle frame (the arrays are shared).

        Raises:
            SynclError: "lidar" is asked for and a sample has no LIDAR_TOP key frame, or it is tilted.
        """
        without = np.flatnonzero(self.columns.sample_lidars < 0)
        if vehicle_frame == "lidar" and without.size:
            token = self.columns.sample_tokens[without[0]].decode()
            raise SynclError(
                f"{self.dataroot / self.version}: sample '{token}' has no {LIDAR_CHANNEL} key frame "
                f"({without.size} such samples), so the vehicle frame cannot be 'lidar'; use 'ego'"
            )
        if vehicle_frame == "lidar":
            check_lidar(self.dataroot / self.version, self.columns)
        return dataclasses.replace(self, vehicle_frame=vehicle_frame)

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Names of all scenes in table order."""
        return tuple(name.decode() for name in self.columns.scene_names.tolist())

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of all cameras in the published order, others after them by name."""
        return tuple(name.decode() for name in self.columns.channels.tolist())

    @property
    def sample_count(self) -> int:
        """Number of samples (key frames)."""
        return len(self.columns.sample_tokens)

    @property
    def annotation_count(self) -> int:
        """Number of annotations."""
        return len(self.columns.annotation_tokens)

    def scene_samples(self, name: str) -> range:
        """Rows of a scene's samples in time order.

        Raises:
            SynclError: no scene of this name.
        """
        rows = np.flatnonzero(self.columns.scene_names == name.encode())
        if not rows.size:
            known = ", ".join(self.scene_names[:5])
            raise SynclError(
                f"{self.dataroot / self.version}: no scene '{name}'; there are "
                f"{len(self.scene_names)}: {known}{', ...' if len(self.scene_names) > 5 else ''}"
            )
        start, end = self.columns.scene_start[rows[0] : rows[0] + 2]
        return range(int(start), int(end))

    def split_scenes(self, split: str) -> tuple[str, ...]:
        """Scenes of a split that exist in the tables, in table order.

        Raises:
            SynclError: unknown split, a split of another version, or none of its scenes are in the tables.
        """
        wanted = set(split_scenes(split, self.version, self.dataroot))
        names = tuple(name for name in self.scene_names if name in wanted)
        if not names:
            raise SynclError(
                f"{self.dataroot / self.version}: none of the {len(wanted)} scenes of split '{split}' are in "
                f"scene.json (it has {len(self.scene_names)} scenes, the first is {self.scene_names[0]}); "
                "choose another split, or name one of your own in a splits.json beside the tables"
            )
        return names

    def choose_scenes(self, split: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Some scenes of a split, or all of them if none is named.

        Raises:
            SynclError: as `split_scenes`, or a name is not among them.
        """
        known = self.split_scenes(split)
        for name in names:
            if name not in known:
                more = "" if len(known) <= _SCENES_SHOWN else f", ... ({len(known)} in all)"
                raise SynclError(
                    f"scene {name!r} is not in split {split!r} of {self.dataroot / self.version}, which has "
                    f"{', '.join(known[:_SCENES_SHOWN])}{more}{did_you_mean(name, known)}"
                )
        return tuple(dict.fromkeys(names)) or known

    def sample_token(self, row: int) -> str:
        """Token of a sample."""
        return str(self.columns.sample_tokens[row].decode())

    def sample(self, row: int) -> Sample:
        """All the tables say of a sample.

        Args:
            row: sample row, as `scene_samples` gives them.
        """
        columns = self.columns
        scene = int(np.searchsorted(columns.scene_start, row, side="right")) - 1
        global_from_vehicle = self._global_from_vehicle(row)
        images = np.arange(columns.image_start[row], columns.image_start[row + 1])
        return Sample(
            token=self.sample_token(row),
            scene_name=columns.scene_names[scene].decode(),
            timestamp_us=int(columns.sample_timestamps_us[row]),
            global_from_vehicle=global_from_vehicle,
            global_from_ego=self._global_from_ego(row),
            cameras=self.camera_images(
                columns.images, columns.image_channels[images], images, global_from_vehicle
            ),
            annotations=self._annotations(row, invert_pose(global_from_vehicle)),
        )

    def _global_from_ego(self, row: int) -> Array:
        pose = self.columns.sample_poses[row]
        return rigid_from_pose(pose[:3], pose[3:])

    def _global_from_vehicle(self, row: int) -> Array:
        if self.vehicle_frame == "ego":
            return self._global_from_ego(row)
        lidar = self.columns.calibration_poses[self.columns.sample_lidars[row]]
        return self._global_from_ego(row) @ rigid_from_pose(lidar[:3], lidar[3:])

    def camera_images(
        self, images: ImageColumns, channels: SmallIntegers, rows: Integers, global_from_vehicle: Array
    ) -> tuple[CameraImage, ...]:
        """Images as seen from the vehicle at some moment.

        Args:
            images: where they are found.
            channels: [C] their cameras, index into `columns.channels`.
            rows: [C] their rows in `images`.
            global_from_vehicle: [4, 4] the vehicle at that moment.
        """
        calibrations = images.calibrations[rows]
        poses, sensors = images.poses[rows], self.columns.calibration_poses[calibrations]
        global_from_camera = rigid_from_pose(poses[:, :3], poses[:, 3:]) @ rigid_from_pose(
            sensors[:, :3], sensors[:, 3:]
        )
        camera_from_vehicle = invert_pose(global_from_camera) @ global_from_vehicle
        return tuple(
            CameraImage(
                channel=self.columns.channels[channel].decode(),
                path=inside(self.dataroot, images.files[image].decode()),
                width=int(images.sizes[image, 0]),
                height=int(images.sizes[image, 1]),
                file_intrinsics=self.columns.intrinsics[calibrations[number]],
                lens=self._lens(int(calibrations[number])),
                camera_from_vehicle=camera_from_vehicle[number],
                timestamp_us=int(images.timestamps_us[image]),
            )
            for number, (channel, image) in enumerate(zip(channels, rows, strict=True))
        )

    def _lens(self, calibration: int) -> Lens | None:
        if self.lenses and self.lenses[calibration] is not None:
            return self.lenses[calibration]
        coefficients = self.columns.distortions[calibration]
        return Lens("pinhole", tuple(coefficients.tolist())) if coefficients.any() else None

    def _annotations(self, row: int, vehicle_from_global: Array) -> SampleAnnotations:
        columns = self.columns
        rows = slice(columns.annotation_start[row], columns.annotation_start[row + 1])
        boxes = columns.annotation_boxes[rows]
        velocities = columns.annotation_velocities[rows]
        # Two annotations at the same moment give the official rule infinite ones.
        velocities = np.where(np.isfinite(velocities), velocities, np.nan)
        known = np.concatenate([boxes[:, :6], np.zeros((len(boxes), 1)), velocities], axis=1)
        points = np.maximum(columns.annotation_points[rows], -1).astype(np.int64)
        return SampleAnnotations(
            tokens=tuple(token.decode() for token in columns.annotation_tokens[rows].tolist()),
            boxes=move_boxes(vehicle_from_global, known, rotation_from_quaternion(boxes[:, 6:])),
            labels=columns.annotation_labels[rows].astype(np.int64),
            identities=columns.annotation_instances[rows].astype(np.int64),
            num_lidar_pts=points[:, 0],
            num_radar_pts=points[:, 1],
            visibility=columns.annotation_visibility[rows].astype(np.int64),
        )

    def future_centres(self, row: int, frames: int) -> FutureCentres:
        """Where a sample's annotated objects are at its next key frames, rows as in its annotations.

        Every annotation counts, however few points it has. Frames are told up to the first gap: one that is
        more than half as long again as frames of the scene lie apart in the median.

        Args:
            row: sample row, as `scene_samples` gives them.
            frames: F key frames on; those behind a gap, or the scene's end, are not valid.
        """
        columns = self.columns
        scene = int(np.searchsorted(columns.scene_start, row, side="right")) - 1
        first, end = (int(bound) for bound in columns.scene_start[scene : scene + 2])
        apart_us = np.diff(columns.sample_timestamps_us[first:end])
        usual_us = float(np.median(apart_us)) if apart_us.size else 0.0
        gaps = row + 1 + np.flatnonzero(apart_us[row - first :] > _GAP * usual_us)
        end = min([row + frames + 1, end, *gaps])
        starts = columns.annotation_start
        own = columns.annotation_instances[starts[row] : starts[row + 1]]
        centres = np.zeros((len(own), frames + 1, 3))
        valid = np.zeros((len(own), frames + 1), np.bool_)
        for step, later in enumerate(range(row, end)):
            rows = slice(starts[later], starts[later + 1])
            _, here, there = np.intersect1d(own, columns.annotation_instances[rows], return_indices=True)
            centres[here, step] = columns.annotation_boxes[rows][there, :3]
            valid[here, step] = True
        vehicle_from_global = invert_pose(self._global_from_vehicle(row))
        centres = move_points(vehicle_from_global, centres)
        return FutureCentres(np.where(valid[..., None], centres, 0.0), valid)

    def scene_images(self, name: str) -> list[Path]:
        """Image files of a scene's key frames, whether they exist or not."""
        samples = self.scene_samples(name)
        images = slice(self.columns.image_start[samples.start], self.columns.image_start[samples.stop])
        files = self.columns.image_files[images].tolist()
        return [inside(self.dataroot, file.decode(), links=False) for file in files]

    def missing_images(self, scenes: Iterable[str] | None = None) -> list[Path]:
        """Image files of the given scenes (all by default) that do not exist."""
        listing = FolderListing()
        names = self.scene_names if scenes is None else tuple(scenes)
        return [path for name in names for path in self.scene_images(name) if not listing.has(path)]

    def check_images(self, scenes: Iterable[str] | None = None) -> None:
        """Make sure the image files of the given scenes (all by default) exist.

        Raises:
            SynclError: naming the first missing file and how many there are.
        """
        missing = self.missing_images(scenes)
        if missing:
            raise SynclError(
                f"{missing[0]}: this image is missing ({len(missing)} missing in all); unpack the image "
                "archives into the data root or choose scenes that are complete"
            )


def open_nuscenes(
    dataroot: Path,
    version: str,
    *,
    cache: bool = True,
    vehicle_frame: VehicleFrame = "ego",
    dataset: DatasetDescription | Path | None = None,
) -> NuScenesIndex:
    """Open a nuScenes version, from the cached index where the tables have not changed since it was built.

    Args:
        dataroot: folder that holds the version folder and `samples/`.
        version: name of the version folder, such as "v1.0-mini".
        cache: read and write the index cache in `<dataroot>/.syncl`.
        vehicle_frame: see `NuScenesIndex`.
        dataset: classes and measures, or a file of them; None = `dataset.yaml` beside the tables where there
            is one, nuScenes' own otherwise.

    Raises:
        SynclError: no such version; a table is missing, damaged or inconsistent (file, record and field are
            named); times cannot be microseconds, or vehicles do not stand upright.
    """
    dataroot = Path(dataroot)
    source = find_source(dataroot, version)
    key_frames = KeyFrames(dataroot / version)
    scenes, current, description = _open_scenes(dataroot, version, source, cache, dataset, key_frames)
    build = partial(build_camera_columns, dataroot / version, scenes, key_frames)
    if source is not None:
        version, build = "", partial(_cameras_of, source, scenes)
    path = cache_path(dataroot, version or _WHOLE, CAMERAS)
    cameras = cached_columns(path, current, CameraColumns, build, cache and bool(current))
    lenses: tuple[Lens | None, ...] = ()
    if source is None:
        check_cameras(dataroot / version, scenes, cameras)
    else:
        lenses = source.lenses()
    columns = NuScenesColumns.of(scenes, cameras)
    index = NuScenesIndex(dataroot, version, columns, cache=cache, dataset=description, lenses=lenses)
    return index.with_vehicle_frame(vehicle_frame)


def open_scene_columns(
    dataroot: Path, version: str, *, cache: bool = True, dataset: DatasetDescription | Path | None = None
) -> tuple[SceneColumns, DatasetDescription]:
    """Scenes, samples and annotations of a nuScenes version, and its classes; cameras are not looked at.

    Args:
        dataroot: as `open_nuscenes`.
        version: as `open_nuscenes`.
        cache: as `open_nuscenes`.
        dataset: as `open_nuscenes`.

    Raises:
        SynclError: as `open_nuscenes`.
    """
    dataroot = Path(dataroot)
    source = find_source(dataroot, version)
    scenes, _, description = _open_scenes(dataroot, version, source, cache, dataset)
    return scenes, description


def _scenes_of(source: DatasetSource, description: DatasetDescription) -> SceneColumns:
    reader = f"{source.folder}: {type(source).__name__}.scenes"
    return checked_scenes(source.scenes(description), len(description.classes), reader)


def _cameras_of(source: DatasetSource, scenes: SceneColumns) -> CameraColumns:
    return checked_cameras(
        source.cameras(scenes), scenes, f"{source.folder}: {type(source).__name__}.cameras"
    )


def _open_scenes(
    dataroot: Path,
    version: str,
    source: DatasetSource | None,
    cache: bool,
    dataset: DatasetDescription | Path | None,
    key_frames: KeyFrames | None = None,
) -> tuple[SceneColumns, str, DatasetDescription]:
    """The part without cameras, the fingerprint of the files (empty: none), and the classes."""
    if source is not None:
        description = find_description(dataroot, version, dataset)
        files = source.fingerprint()
        current = "" if files is None else f"{files}\n{sorted(description.categories.items())}"
        build = partial(_scenes_of, source, description)
        path = cache_path(dataroot, _WHOLE)
        return (
            cached_columns(path, current, SceneColumns, build, cache and bool(current)),
            current,
            description,
        )
    folder = dataroot / version
    check_version(dataroot, version)
    description = find_description(dataroot, version, dataset)
    current = fingerprint(folder, description)
    build = partial(build_scene_columns, folder, description, key_frames)
    scenes = cached_columns(cache_path(dataroot, version), current, SceneColumns, build, cache)
    names = {name.decode() for name in scenes.category_names.tolist()}
    check_categories(folder / "category.json", names, description)
    return scenes, current, description
