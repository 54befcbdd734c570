"""The index of a nuScenes version: what the tables say of key frames, as plain arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.dataset_description import DatasetDescription

Tokens = NDArray[np.bytes_]
Integers = NDArray[np.int64]
SmallIntegers = NDArray[np.int32]
Numbers = NDArray[np.float64]

UNKNOWN_POINTS = -(2**31)
"""In place of a number of points that is not a whole number."""

UNKNOWN_ATTRIBUTE, SEVERAL_ATTRIBUTES = -2, -3
"""In place of an attribute that attribute.json does not have, and where an annotation has more than one."""


@dataclass(frozen=True)
class ImageColumns:
    """What the tables say of I camera images.

    Attributes:
        calibrations: [I] row of the calibration.
        poses: [I, 7] pose at the time of the image, as in `CameraColumns`.
        timestamps_us: [I].
        files: [I] path below the data root.
        sizes: [I, 2] (width, height) pixels.
    """

    calibrations: SmallIntegers
    poses: Numbers
    timestamps_us: Integers
    files: Tokens
    sizes: SmallIntegers


@dataclass(frozen=True)
class AnnotationColumns:
    """The annotations of one version, sorted by sample and within a sample in table order.

    Values that the official evaluation reads of some annotations only are kept as they are, nan, -1 or
    `UNKNOWN_POINTS` where a record has none or nonsense. Labels tell which annotations are sound.

    Attributes:
        annotation_start: [N + 1] annotations of each sample.
        annotation_tokens: [A].
        annotation_boxes: [A, 10] (x, y, z, l, w, h, qw, qx, qy, qz) global frame, metres.
        annotation_velocities: [A, 2] global frame, m/s; nan where the official rule gives none.
        annotation_lost: [A] bool; True where prev or next names an annotation that does not exist.
        annotation_labels: [A] number of the class in the dataset's; -1 for other categories, and for
            boxes that are none.
        annotation_categories: [A] index into `category_names`.
        annotation_instances: [A] row of the instance table.
        annotation_attributes: [A] index into `attribute_names`, -1 without, `UNKNOWN_ATTRIBUTE`,
            `SEVERAL_ATTRIBUTES`.
        annotation_points: [A, 2] numbers of lidar and radar points; negative where unknown.
        annotation_visibility: [A] 1 to 4, 0 unknown.
        category_names: category table.
        attribute_names: attribute table.
    """

    annotation_start: Integers
    annotation_tokens: Tokens
    annotation_boxes: Numbers
    annotation_velocities: Numbers
    annotation_lost: NDArray[np.bool_]
    annotation_labels: SmallIntegers
    annotation_categories: SmallIntegers
    annotation_instances: SmallIntegers
    annotation_attributes: SmallIntegers
    annotation_points: SmallIntegers
    annotation_visibility: SmallIntegers
    category_names: Tokens
    attribute_names: Tokens


@dataclass(frozen=True)
class SceneColumns(AnnotationColumns):
    """Scenes, samples and annotations of one version: what evaluation needs, and nothing of cameras.

    Letters: S scenes, N samples, A annotations. Samples are sorted by scene (table order) and time.
    `*_start` are offsets: the rows of item i are `start[i]:start[i + 1]`. Texts are UTF-8 bytes.

    Attributes:
        scene_names: [S].
        scene_start: [S + 1] sample rows of each scene.
        sample_tokens: [N].
        sample_timestamps_us: [N]; float64 where the tables have fractions.
        sample_table_rows: [N] position in `sample.json`.
        sample_ego_xy: [N, 2] position of the ego vehicle when LIDAR_TOP's key frame was taken, from which
            class ranges are measured; nan where no such record leads to one.
    """

    scene_names: Tokens
    scene_start: Integers
    sample_tokens: Tokens
    sample_timestamps_us: Integers | Numbers
    sample_table_rows: Integers
    sample_ego_xy: Numbers

    def category_labels(self, dataset: DatasetDescription) -> Integers:
        """[category] number of the class of each category, -1 for those outside."""
        return np.array([dataset.label(name.decode()) for name in self.category_names.tolist()], np.int64)


@dataclass(frozen=True)
class CameraColumns:
    """Key-frame images and poses of one version, in the order of its `SceneColumns`.

    Letters: N samples, I images, K calibrated sensors. Poses are (x, y, z, qw, qx, qy, qz), global from ego,
    metres.

    Attributes:
        sample_poses: [N, 7] pose at the time of LIDAR_TOP, or of the first camera where there is no lidar.
        sample_lidars: [N] row of LIDAR_TOP's calibration, -1 without lidar.
        channels: camera names in the published order.
        image_start: [N + 1] images of each sample.
        image_channels: [I] index into `channels`, ascending within a sample.
        image_calibrations: [I] row of the calibration.
        image_poses: [I, 7] pose at the time of the image.
        image_timestamps_us: [I].
        image_files: [I] path below the data root.
        image_sizes: [I, 2] (width, height) pixels.
        calibration_poses: [K, 7] sensor pose, ego from sensor; nan for some sensors that are no cameras.
        intrinsics: [K, 3, 3] pixels; nan for sensors that are not cameras.
        distortions: [K, 14] OpenCV's coefficients, zeros where there is none, nan for some that nobody reads.
    """

    sample_poses: Numbers
    sample_lidars: SmallIntegers
    channels: Tokens
    image_start: Integers
    image_channels: SmallIntegers
    image_calibrations: SmallIntegers
    image_poses: Numbers
    image_timestamps_us: Integers
    image_files: Tokens
    image_sizes: SmallIntegers
    calibration_poses: Numbers
    intrinsics: Numbers
    distortions: Numbers

    @property
    def images(self) -> ImageColumns:
        """The images of all key frames."""
        return ImageColumns(
            self.image_calibrations,
            self.image_poses,
            self.image_timestamps_us,
            self.image_files,
            self.image_sizes,
        )


@dataclass(frozen=True)
class NuScenesColumns(SceneColumns, CameraColumns):
    """All of the index of one version."""

    @staticmethod
    def of(scenes: SceneColumns, cameras: CameraColumns) -> "NuScenesColumns":
        """Both parts as one; arrays are shared."""
        return NuScenesColumns(**vars(scenes), **vars(cameras))


def offsets(sorted_owners: Integers, count: int) -> Integers:
    """Offsets [count + 1] of the rows of each owner in a column of ascending owner numbers."""
    return np.searchsorted(sorted_owners, np.arange(count + 1)).astype(np.int64)
