"""What `rig.yaml` says: cameras, where they sit, and the moments they recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncl.data.folder_listing import FolderListing
from syncl.data.lenses import Lens
from syncl.data.recording.video import VideoFrame

Array = NDArray[np.float64]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class RigCamera:
    """One camera of a rig.

    Attributes:
        name: free.
        width: of its image files, pixels.
        height: of its image files, pixels.
        intrinsics: [3, 3] float64 pixels, of the image files.
        vehicle_from_camera: [4, 4] float64 pose; a camera looks along +z, x is right and y down in its image.
        lens: None = a pinhole without distortion.
        folder: where its images are.
        video: its video file, instead of images.
        times: a file of the times of its video's frames, instead of the video's own.
        offset_s: added to the times of its video: when the first frame was taken, and how much later than the
            others this camera exposes.
    """

    name: str
    width: int
    height: int
    intrinsics: Array
    vehicle_from_camera: Array
    lens: Lens | None
    folder: Path
    video: Path | None = None
    times: Path | None = None
    offset_s: float = 0.0

    @property
    def undistorted_intrinsics(self) -> Array:
        """[3, 3] intrinsics of the image after its distortion is removed."""
        return self.intrinsics if self.lens is None else self.lens.undistorted(self.intrinsics)


@dataclass(frozen=True)
class Calibration:
    """A camera's calibration where it differs in one moment; None = the rig's."""

    intrinsics: Array | None = None
    vehicle_from_camera: Array | None = None


@dataclass(frozen=True)
class Moment:
    """One moment of a recording.

    Attributes:
        name: unique; results are reported under it.
        timestamp_s: seconds.
        global_from_vehicle: [4, 4] float64 pose; the identity where the recording has no poses.
        images: image file, or frame of a video, of each camera that delivered one.
        calibrations: of cameras whose calibration differs in this moment.
    """

    name: str
    timestamp_s: float
    global_from_vehicle: Array
    images: Mapping[str, Path | VideoFrame]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)


@dataclass(frozen=True)
class Rig:
    """All that `rig.yaml` says.

    Attributes:
        path: the file.
        name: of the recording.
        cameras: in the order of the file.
        moments: in time order.
        vehicle_from_lidar: [4, 4] pose of a lidar frame, for models in whose weights "vehicle" means that.
        has_poses: whether the moments have poses; if not, the vehicle is assumed to stand still.
        remarks: what was left out in reading it.
    """

    path: Path
    name: str
    cameras: tuple[RigCamera, ...]
    moments: tuple[Moment, ...]
    vehicle_from_lidar: Array | None
    has_poses: bool
    remarks: tuple[str, ...] = ()

    def camera(self, name: str) -> RigCamera:
        """The camera of this name."""
        return next(camera for camera in self.cameras if camera.name == name)

    def intrinsics(self, moment: Moment, camera: RigCamera) -> Array:
        """[3, 3] intrinsics of an undistorted image."""
        own = moment.calibrations.get(camera.name, Calibration()).intrinsics
        return camera.undistorted_intrinsics if own is None else own

    def vehicle_from_camera(self, moment: Moment, camera: RigCamera) -> Array:
        """[4, 4] pose of a camera in a moment."""
        own = moment.calibrations.get(camera.name, Calibration()).vehicle_from_camera
        return camera.vehicle_from_camera if own is None else own


def is_image(name: str) -> bool:
    """Whether a file name is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def find_images(listing: FolderListing, folder: Path) -> dict[str, Path]:
    """Image files of a folder by their names without suffix."""
    names = sorted(name for name in listing.files(folder) if is_image(name))
    return {name.rpartition(".")[0]: folder / name for name in names}
