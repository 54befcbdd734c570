"""What a model expects of its input, and how a rig's own images become it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from syncl.data.images import ImageTransform, ResizeMethod, RGBImage, fit_image
from syncl.data.lenses import Undistortion
from syncl.data.past_images import PastImages
from syncl.data.recording.moments import tipped_over
from syncl.data.recording.recording import Recording, open_recording, rig_frame, vehicle_from_body
from syncl.data.recording.rig_contents import Array, Moment, Rig, RigCamera
from syncl.data.views import cameras_by_view, view_deg
from syncl.detectors.base import Detector
from syncl.errors import SynclError, did_you_mean
from syncl.geometry.poses import invert_pose
from syncl.structures import CameraRig, Frame

Image = RGBImage | Tensor
"""uint8, RGB: [H, W, 3], or [3, H, W] of a tensor."""


@dataclass(frozen=True)
class InputConfig:
    """What the weights expect of their input.

    Attributes:
        image_size: (H, W) in pixels after resizing and cropping.
        cameras: camera names in the order the network sees them; None = the dataset's own order.
        vehicle_frame: body frame of boxes and references: nuScenes' ego frame, or its LIDAR_TOP frame as
            published weights use.
        exact_resize: resize as the original implementations do (slower), for published weights.
        past: which camera images of a while ago the detector sees beside the present ones; None = it
            remembers the frames it has seen. Data without images between key frames make do with that too.
        odometry: the detector is told how the vehicle itself moves (BEVFormer): pose, and readings of
            nuScenes' CAN-bus extension where it is there. Without, BEVFormer goes by the frame's own pose.
    """

    image_size: tuple[int, int]
    cameras: tuple[str, ...] | None = None
    vehicle_frame: Literal["ego", "lidar"] = "ego"
    exact_resize: bool = True
    past: PastImages | None = None
    odometry: bool = False


def recording_for(
    config: InputConfig,
    folder: Path,
    views: tuple[float, ...] | None = None,
    damaged: Literal["fail", "skip"] = "fail",
) -> Recording:
    """A recording as a model wants it.

    A model with weights for each camera gets the cameras that look where its own looked, in its order.
    For others, a rig whose camera names are those of the model's data set is read in the model's order, any
    other in the order of the rig file.

    Args:
        config: of the model.
        folder: the recording.
        views: where the model's cameras looked (`Detector.views`).
        damaged: see `open_recording`.
    """
    recording = open_recording(
        folder,
        quiet=True,
        image_size=config.image_size,
        resize=_method(config),
        vehicle_frame="lidar" if config.vehicle_frame == "lidar" else "vehicle",
        damaged=damaged,
    )
    return replace(recording, cameras=_order(config, recording.rig, recording.vehicle_from_body, views))


class SeesImages(nn.Module):
    """What trackers know of their input: recordings and images of any rig become frames for them.

    Attributes:
        detector: the detector whose queries it carries.
        input: what its weights expect of images, of trackers built from a `ModelConfig` (loaded ones are).
    """

    detector: Detector
    input: InputConfig | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images it sees, pixels."""
        return self._known_input().image_size

    def open(self, path: str | Path, *, damaged: Literal["fail", "skip"] = "fail") -> Recording:
        """A recording of any rig, read as this tracker wants it (docs/recordings.md).

            for frame in tracker.open("my_rig/"):
                objects, state = tracker.step(frame.to(device), state)

        Args:
            path: folder of the recording, or its `rig.yaml`.
            damaged: see `syncl.open_recording`.

        Raises:
            SynclError: see `syncl.open_recording`.
        """
        return recording_for(self._known_input(), Path(path), self.detector.views, damaged)

    def frame(
        self,
        images: Mapping[str, Image | None] | Sequence[Image | None],
        rig: Rig | CameraRig,
        timestamp_s: float,
        global_from_vehicle: Array | Tensor | None = None,
        *,
        scene: str = "live",
        name: str | None = None,
    ) -> Frame:
        """A frame of images as cameras deliver them: undistorted, scaled and cropped as for a recording.

        Args:
            images: uint8 RGB of the cameras' own sizes, by camera name or in the order of the rig: numpy
                [H, W, 3], or tensors [3, H, W] or [H, W, 3]. None, or left out by name: a camera that
                delivered nothing.
            rig: of a `rig.yaml` (`syncl.open_rig`), or calibration of undistorted images of that size.
            timestamp_s: seconds, later than the frame before.
            global_from_vehicle: [4, 4] the vehicle's pose; None = it stands still.
            scene: a change of name ends all tracks.
            name: of the frame, for messages; its time if None.

        Returns:
            The frame, B = 1, on the tracker's device.

        Raises:
            SynclError: an image of another type or size than its camera's, or of a camera that the rig does
                not have, or a vehicle on its side or roof; it says which.
        """
        config = self._known_input()
        if str(getattr(timestamp_s, "dtype", "")).endswith(("float32", "float16")):
            raise SynclError(
                f"timestamp_s: {timestamp_s} is a float32, which holds the seconds since 1970 to two "
                "minutes; give a float or float64"
            )
        names = rig.names if isinstance(rig, CameraRig) else tuple(camera.name for camera in rig.cameras)
        given = _by_name(images, names)
        arrays = {camera: None if image is None else _array(image, camera) for camera, image in given.items()}
        if isinstance(rig, CameraRig):
            rig = _rig_of(rig, arrays)
        if isinstance(global_from_vehicle, Tensor):
            global_from_vehicle = global_from_vehicle.detach().cpu().numpy()
        pose = np.eye(4) if global_from_vehicle is None else np.asarray(global_from_vehicle, np.float64)
        if pose.shape != (4, 4):
            raise SynclError(f"global_from_vehicle: shape {pose.shape}, expected a pose (4, 4)")
        if tipped := tipped_over(pose, "vehicle"):
            raise SynclError(f"global_from_vehicle: {tipped}; the global frame has z up")
        method = _method(config)

        def fitted(camera: RigCamera, transform: ImageTransform) -> RGBImage | None:
            image = arrays.get(camera.name)
            if image is None:
                return None
            if image.shape[:2] != (camera.height, camera.width):
                raise SynclError(
                    f"images: {camera.name} is {image.shape[1]}x{image.shape[0]} pixels, its calibration is "
                    f"for {camera.width}x{camera.height}; give the image as the camera delivers it, or "
                    "calibrate anew"
                )
            return fit_image(image, transform, method, Undistortion.of(camera.lens, camera.intrinsics))

        body = vehicle_from_body(rig, "lidar" if config.vehicle_frame == "lidar" else "vehicle")
        moment = Moment(f"{timestamp_s:.6f}" if name is None else name, float(timestamp_s), pose, {})
        rig = replace(rig, name=scene)
        order = _order(config, rig, body, self.detector.views)
        made = rig_frame(rig, order, moment, body, config.image_size, fitted)
        return made.to(next(self.parameters()).device)

    def _known_input(self) -> InputConfig:
        if self.input is None:
            raise SynclError(
                "this tracker does not know its input: load it (syncl.load), build it from a ModelConfig, or "
                "set tracker.input"
            )
        return self.input


def _method(config: InputConfig) -> ResizeMethod:
    return "exact" if config.exact_resize else "fast"


def _order(config: InputConfig, rig: Rig, body: Array, views: tuple[float, ...] | None) -> tuple[str, ...]:
    """The cameras of a rig that a model sees, in its order; `body` is `vehicle_from_body`."""
    order = tuple(camera.name for camera in rig.cameras)
    if config.cameras is not None and set(config.cameras) == set(order):
        order = config.cameras
    if views is None:
        return order
    found = {
        camera.name: float(view_deg(invert_pose(camera.vehicle_from_camera) @ body)) for camera in rig.cameras
    }
    return cameras_by_view(views, found, order, str(rig.path))


def _by_name(
    images: Mapping[str, Image | None] | Sequence[Image | None], names: tuple[str, ...]
) -> Mapping[str, Image | None]:
    if not isinstance(images, Mapping):
        if len(images) != len(names):
            raise SynclError(
                f"images: {len(images)} of them for {len(names)} cameras ({', '.join(names)}); give one for "
                "each, None where a camera delivered nothing, or name them: {camera: image}"
            )
        return dict(zip(names, images))
    for name in images:
        if name not in names:
            raise SynclError(
                f"images: the rig has {', '.join(names)}, no camera {name!r}{did_you_mean(name, names)}"
            )
    return images


def _array(image: Image, camera: str) -> RGBImage:
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and array.ndim == 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise SynclError(
            f"images: {camera} is {array.dtype} {array.shape}; expected uint8 RGB [height, width, 3], or "
            "[3, height, width] of a tensor"
        )
    return np.ascontiguousarray(array)


def _rig_of(rig: CameraRig, images: Mapping[str, RGBImage | None]) -> Rig:
    """Calibration alone as a rig whose images are of the sizes they have; those of a stream B = 1."""
    if rig.image_from_camera.shape[0] != 1:
        raise SynclError(f"rig: is of {rig.image_from_camera.shape[0]} streams; a frame is made of one")
    numbers = rig.image_from_camera[0].cpu().numpy(), rig.camera_from_vehicle[0].cpu().numpy()
    shapes = [None if image is None else image.shape for image in map(images.get, rig.names)]
    fallback = next((shape for shape in shapes if shape is not None), (1, 1, 3))
    cameras = []
    for name, shape, intrinsics, camera_from_vehicle in zip(rig.names, shapes, *numbers):
        height, width = (shape or fallback)[:2]
        pose = invert_pose(camera_from_vehicle.astype(np.float64))
        cameras.append(RigCamera(name, width, height, intrinsics.astype(np.float64), pose, None, Path()))
    return Rig(Path("rig"), "live", tuple(cameras), (), None, True)
