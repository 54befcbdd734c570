"""A recording as frames, ready for any tracker.

    for frame in syncl.open_recording("my_rig/"):
        objects, state = tracker.step(frame, state)

Letters: C cameras.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from syncl.data.images import (
    ImageTransform,
    ResizeMethod,
    RGBImage,
    fit_image,
    image_size,
    load_image,
    reduction,
    test_transform,
)
from syncl.data.lenses import Undistortion
from syncl.data.reading_ahead import read_ahead
from syncl.data.recording.moments import driven
from syncl.data.recording.rig_contents import Array, Moment, Rig, RigCamera
from syncl.data.recording.rig_file import read_rig
from syncl.data.recording.video import VideoFrame, open_video_file
from syncl.errors import SynclError
from syncl.files import inside
from syncl.geometry.poses import invert_pose, quaternion_from_rotation
from syncl.structures import CameraRig, Frame, Odometry

_AHEAD = 2
_HALF = 2
# How far up the lower edge of an image points at least, where its camera counts as upside down.
_UPSIDE_DOWN = 0.2


@dataclass(frozen=True)
class Recording:
    """A recording, read frame by frame; made by `open_recording`.

    Attributes:
        rig: what the rig file says.
        cameras: names of the C cameras to read, in this order.
        image_size: (H, W) that images are scaled and cropped to (see `images.test_transform`); None leaves
            them as they are, smaller ones padded at the right and below.
        resize: see `images.load_image`.
        vehicle_frame: what "vehicle" means in frames: the rig's vehicle, or its `vehicle_from_lidar` frame.
        damaged: whether a damaged image stops the run or is reported and counted as one not delivered.
    """

    rig: Rig
    cameras: tuple[str, ...]
    image_size: tuple[int, int] | None = None
    resize: ResizeMethod = "exact"
    vehicle_frame: Literal["vehicle", "lidar"] = "vehicle"
    damaged: Literal["fail", "skip"] = "fail"

    def __post_init__(self) -> None:
        known = [camera.name for camera in self.rig.cameras]
        unknown = [name for name in self.cameras if name not in known]
        if unknown or not self.cameras or len(set(self.cameras)) < len(self.cameras):
            problem = f"no camera '{unknown[0]}'" if unknown else "choose every camera once, at least one"
            raise SynclError(f"{self.rig.path}: {problem}; it has {', '.join(known)}")
        vehicle_from_body(self.rig, self.vehicle_frame)

    def __repr__(self) -> str:
        return f"<Recording {self.rig.name!r}: {len(self)} frames of {', '.join(self.cameras)}>"

    def __len__(self) -> int:
        return len(self.rig.moments)

    def __iter__(self) -> Iterator[Frame]:
        """All frames in time order, decoded ahead of their use."""
        return read_ahead(self.frame, range(len(self)), _AHEAD)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know: assumptions made, images not delivered."""
        found = list(self.rig.remarks)
        if not self.rig.has_poses:
            found.append("no ego poses: the vehicle is assumed to stand still")
        elif (how := driven(self.rig.moments)).always_backwards:
            found.append(
                f"by its poses (x ahead) the vehicle drives backwards in {how.backwards} of {how.steps} steps"
            )
        for name in self.cameras:
            if self.rig.camera(name).vehicle_from_camera[2, 1] > _UPSIDE_DOWN:
                found.append(f"{name}: hangs upside down by its vehicle_from_camera; look at syncl check-rig")
            absent = sum(name not in moment.images for moment in self.rig.moments)
            if absent:
                found.append(f"{name}: no image in {absent} of {len(self)} frames")
        return tuple(found)

    def check_images(self) -> None:
        """Make sure that all image files open and have their camera's size, without decoding them.

        Raises:
            SynclError: naming the first that does not.
        """
        for moment in self.rig.moments:
            for name in self.cameras:
                if name in moment.images:
                    self._check_image(moment, self.rig.camera(name))

    def _path(self, image: Path) -> Path:
        root = self.rig.path.parent
        return inside(root, image.relative_to(root).as_posix())

    def _check_image(self, moment: Moment, camera: RigCamera) -> None:
        image = moment.images[camera.name]
        path = image.path if isinstance(image, VideoFrame) else self._path(image)
        height, width = open_video_file(path).size if isinstance(image, VideoFrame) else image_size(path)
        if (height, width) != (camera.height, camera.width):
            raise SynclError(
                f"{path}: {width}x{height} pixels, but {self.rig.path} says cameras.{camera.name}."
                f"image_size: [{camera.width}, {camera.height}]; intrinsics hold for one size only, so give "
                "the images' size and intrinsics for it"
            )

    def frame(self, number: int) -> Frame:
        """The frame of a moment, counted from 0; B = 1.

        Raises:
            SynclError: an image is missing or damaged and `damaged` is "fail".
        """
        moment, body = self.rig.moments[number], self.vehicle_from_body

        def image(camera: RigCamera, transform: ImageTransform) -> RGBImage | None:
            return self.image(number, camera.name, transform)

        return rig_frame(self.rig, self.cameras, moment, body, self.image_size, image)

    @cached_property
    def vehicle_from_body(self) -> Array:
        """[4, 4] the rig's vehicle from what frames call vehicle."""
        return vehicle_from_body(self.rig, self.vehicle_frame)

    def image(self, number: int, camera: str, transform: ImageTransform) -> RGBImage | None:
        """One undistorted image of a moment; None where the camera delivered none.

        Raises:
            SynclError: as `frame`.
        """
        moment, source = self.rig.moments[number], self.rig.camera(camera)
        if camera not in moment.images:
            return None
        found, size = moment.images[camera], (source.height, source.width)
        undistort = Undistortion.of(source.lens, source.intrinsics)
        try:
            if isinstance(found, VideoFrame):
                fast = self.resize == "fast" and undistort is None
                reduced = reduction(size, transform) if fast else 1
                # Half of it is quicker to take afterwards.
                reduced = reduced if reduced > _HALF else 1
                pixels = open_video_file(found.path).frame(found.number, reduced)
                return fit_image(pixels, transform, self.resize, undistort, size)
            return load_image(self._path(found), transform, self.resize, size, undistort)
        except SynclError as error:
            if self.damaged == "fail":
                raise
            warnings.warn(f"{error} (camera left out of this frame)", stacklevel=2)
            return None


def vehicle_from_body(rig: Rig, vehicle_frame: Literal["vehicle", "lidar"]) -> Array:
    """[4, 4] a rig's vehicle from what frames call vehicle: that, or its `vehicle_from_lidar`.

    Raises:
        SynclError: the rig does not say where a lidar would be.
    """
    if vehicle_frame == "vehicle":
        return np.eye(4)
    if rig.vehicle_from_lidar is None:
        raise SynclError(
            f"{rig.path}: vehicle_from_lidar is missing: this model's boxes are in the frame of a "
            "roof lidar, as published weights' are; give the pose such a lidar would have (nuScenes: "
            "{translation_m: [0.94, 0, 1.84], rotation: [0.7071068, 0, 0, -0.7071068]})"
        )
    return rig.vehicle_from_lidar


def rig_frame(
    rig: Rig,
    names: Sequence[str],
    moment: Moment,
    body: Array,
    image_size: tuple[int, int] | None,
    image: Callable[[RigCamera, ImageTransform], RGBImage | None],
) -> Frame:
    """The frame of a moment of a rig; B = 1.

    Args:
        rig: whose cameras they are.
        names: of the C cameras, in the order that the frame has them in.
        moment: its pose, time and, where they differ, calibrations.
        body: `vehicle_from_body`.
        image_size: (H, W) of the frame's images; None leaves them as they are.
        image: a camera's image, undistorted and transformed; None where it delivered none.
    """
    cameras = [rig.camera(name) for name in names]
    shapes = [(camera.height, camera.width) for camera in cameras]
    horizons = [float(rig.intrinsics(moment, camera)[1, 2]) for camera in cameras]
    transforms = [test_transform(shape, image_size or shape, row) for shape, row in zip(shapes, horizons)]
    height = max(transform.output_size[0] for transform in transforms)
    width = max(transform.output_size[1] for transform in transforms)
    images = np.zeros((len(cameras), height, width, 3), np.uint8)
    valid = np.zeros(len(cameras), np.bool_)
    intrinsics = np.zeros((len(cameras), 3, 3))
    extrinsics = np.zeros((len(cameras), 4, 4))
    for row, (camera, transform) in enumerate(zip(cameras, transforms)):
        intrinsics[row] = transform.matrix() @ rig.intrinsics(moment, camera)
        extrinsics[row] = invert_pose(rig.vehicle_from_camera(moment, camera)) @ body
        seen = image(camera, transform)
        if seen is not None:
            images[row, : seen.shape[0], : seen.shape[1]], valid[row] = seen, True
    sizes = [transform.output_size for transform in transforms]
    return Frame(
        images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))[None],
        rig=CameraRig(
            names=tuple(names),
            image_from_camera=torch.from_numpy(intrinsics)[None],
            camera_from_vehicle=torch.from_numpy(extrinsics)[None],
        ),
        camera_valid=torch.from_numpy(valid)[None],
        content_size=torch.tensor(sizes, dtype=torch.int64)[None],
        global_from_vehicle=torch.from_numpy(moment.global_from_vehicle @ body)[None],
        timestamp_s=torch.tensor([moment.timestamp_s], dtype=torch.float64),
        scenes=(rig.name,),
        samples=(moment.name,),
        odometry=_odometry(moment, body) if body is rig.vehicle_from_lidar else None,
    )


def _odometry(moment: Moment, body: Array) -> Odometry:
    """Where the frames' vehicle frame is, if it is not the vehicle's own; nothing else is known."""
    rotation = quaternion_from_rotation(moment.global_from_vehicle[:3, :3])
    return Odometry(
        *(torch.tensor(part, dtype=torch.float64)[None] for part in (body, rotation, np.zeros(9)))
    )


def open_recording(
    path: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    cameras: Sequence[str] | None = None,
    resize: ResizeMethod = "exact",
    vehicle_frame: Literal["vehicle", "lidar"] = "vehicle",
    damaged: Literal["fail", "skip"] = "fail",
    quiet: bool = False,
) -> Recording:
    """Open a recording of any rig: a folder with images and a `rig.yaml` (docs/recordings.md).

    Warns of what it assumes (a vehicle that stands still, where there are no poses) and of images that
    cameras did not deliver.

    Args:
        path: the folder.
        image_size: (H, W) the network sees, such as (320, 800); None keeps the images as they are.
        cameras: which, in this order; None takes all in the order of the file.
        resize: "exact" as the original implementations, "fast" several times as fast.
        vehicle_frame: what "vehicle" means: "lidar" for models whose weights say so.
        damaged: "skip" reports a damaged image and goes on as if the camera had delivered none.
        quiet: leave what there is to warn of to the recording's `remarks`.

    Raises:
        SynclError: anything in the rig file or the folders is missing or wrong; names file, field, value.
    """
    rig = read_rig(Path(path))
    names = tuple(camera.name for camera in rig.cameras) if cameras is None else tuple(cameras)
    recording = Recording(rig, names, image_size, resize, vehicle_frame, damaged)
    for name in names:
        first = next((moment for moment in rig.moments if name in moment.images), None)
        if damaged == "fail" and first is not None:
            recording._check_image(first, rig.camera(name))
    for remark in () if quiet else recording.remarks:
        warnings.warn(f"{rig.path}: {remark}", stacklevel=2)
    return recording
