"""What the index says of one sample (key frame)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncl.data.lenses import Lens, Undistortion


@dataclass(frozen=True)
class CameraImage:
    """One camera's image of a sample.

    Attributes:
        channel: camera name, "CAM_FRONT".
        path: the image file.
        width: pixels, as the tables say.
        height: pixels, as the tables say.
        file_intrinsics: [3, 3] float64 pixels, of the image file.
        lens: how the image file departs from a pinhole; None = not at all.
        camera_from_vehicle: [4, 4] float64; vehicle means the vehicle at the sample's (lidar) time, so the
            motion up to the moment of the image is included.
        timestamp_us: when the image was taken, microseconds.
    """

    channel: str
    path: Path
    width: int
    height: int
    file_intrinsics: NDArray[np.float64]
    lens: Lens | None
    camera_from_vehicle: NDArray[np.float64]
    timestamp_us: int

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """[3, 3] float64 pixels, of the image as a pinhole would see it."""
        return self.file_intrinsics if self.lens is None else self.lens.undistorted(self.file_intrinsics)

    @property
    def undistortion(self) -> Undistortion | None:
        """What makes the file's image a pinhole's."""
        return Undistortion.of(self.lens, self.file_intrinsics)


@dataclass(frozen=True)
class SampleAnnotations:
    """Annotated objects of one sample, N rows in the order of the annotation table.

    Attributes:
        tokens: N annotation tokens.
        boxes: [N, 9] float64 in the box layout, vehicle frame; unknown velocities are nan.
        labels: [N] int64 number of the class in the dataset's; -1 for other categories.
        identities: [N] int64 row of the instance table.
        num_lidar_pts: [N] int64; -1 unknown.
        num_radar_pts: [N] int64; -1 unknown.
        visibility: [N] int64, 1 (0-40 % visible) to 4 (80-100 %), 0 unknown.
    """

    tokens: tuple[str, ...]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    identities: NDArray[np.int64]
    num_lidar_pts: NDArray[np.int64]
    num_radar_pts: NDArray[np.int64]
    visibility: NDArray[np.int64]


@dataclass(frozen=True)
class FutureCentres:
    """Where the annotated objects of a sample are now and at the next F key frames of the scene.

    Attributes:
        centres: [N, F + 1, 3] float64 metres, vehicle frame of the sample; 0 where not annotated.
        valid: [N, F + 1] bool.
    """

    centres: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One key frame: pose, cameras and annotations.

    Attributes:
        token: sample token.
        scene_name: "scene-0061".
        timestamp_us: microseconds.
        global_from_vehicle: [4, 4] float64 pose of the vehicle frame (of the index) at the lidar's time.
        global_from_ego: [4, 4] float64 pose of the ego frame; the same unless the vehicle frame is "lidar".
            The official class ranges are measured from its origin.
        cameras: in the published order, others after them by name.
        annotations: empty where the tables have none.
    """

    token: str
    scene_name: str
    timestamp_us: int
    global_from_vehicle: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    cameras: tuple[CameraImage, ...]
    annotations: SampleAnnotations
