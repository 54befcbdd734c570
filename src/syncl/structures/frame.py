"""What a tracker sees at one moment: images, calibration, pose and time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.geometry.transforms import invert_affine
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class CameraRig(TensorStructure):
    """Calibration of C cameras for B streams, valid for images of the size the network sees.

    Attributes:
        names: C camera names, in the order of every camera dimension.
        image_from_camera: [B, C, 3, 3] float64 pixel intrinsics, after resizing and cropping.
        camera_from_vehicle: [B, C, 4, 4] float64. Where images and pose have different times (nuScenes), the
            vehicle's own motion between them is included: vehicle means the vehicle at the frame's time.
            Rigid, but for training frames of a scaled world: there a factor of all lengths leaves depths in
            the camera's frame what they were.
    """

    names: tuple[str, ...]
    image_from_camera: Tensor
    camera_from_vehicle: Tensor

    @property
    def image_from_vehicle(self) -> Tensor:
        """[B, C, 4, 4] float64 pixel projections: (u d, v d, d, 1) = M (x, y, z, 1) with depth d in
        metres.
        """
        intrinsics = torch.zeros_like(self.camera_from_vehicle)
        intrinsics[..., :3, :3] = self.image_from_camera
        intrinsics[..., 3, 3].fill_(1)
        return intrinsics @ self.camera_from_vehicle

    @property
    def vehicle_from_image(self) -> Tensor:
        """[B, C, 4, 4] float64 the inverse of `image_from_vehicle`."""
        return invert_affine(self.image_from_vehicle)


@dataclass(frozen=True)
class Odometry(TensorStructure):
    """What is known of the vehicle's own motion at a frame, for detectors that are told of it (BEVFormer).

    Attributes:
        ego_from_vehicle: [B, 4, 4] float64 how the frame's vehicle frame is mounted on the vehicle itself:
            the lidar's place where that is the vehicle frame.
        ego_rotation: [B, 4] float64 quaternion (w, x, y, z), global from ego, for its sign: both signs mean
            the same rotation, but networks that are told the numbers have seen those of their data set.
        readings: [B, 9] float64 acceleration (m/s^2), rotation rate (rad/s) and velocity (m/s), three each
            along the ego vehicle's axes; 0 where nobody measured them.
    """

    ego_from_vehicle: Tensor
    ego_rotation: Tensor
    readings: Tensor


@dataclass(frozen=True)
class Frame(TensorStructure):
    """One synchronised set of images for each of B independent streams.

    Attributes:
        images: [B, C, 3, H, W] uint8, RGB; float32 numbers of the same scale where training changes colours.
        rig: calibration for these images.
        camera_valid: [B, C] bool; False where a camera delivered nothing (its image is then black).
        content_size: [B, C, 2] int64 (height, width): the part of each image that is not padding, from the
            top left corner.
        global_from_vehicle: [B, 4, 4] float64 ego pose at the frame's time.
        timestamp_s: [B] float64 seconds.
        scenes: B names; a change of name ends all tracks of that stream.
        samples: B sample tokens, under which results are reported.
        levels: what the model's own image encoder made of the images, computed before (`data.features`):
            [B, C, D, H / stride, W / stride] each, finest first; images are black then. None = the encoder
            looks at the images.
        past: images of the same cameras a while ago, for detectors that attend two moments (PETRv2); None =
            they remember the frames they have seen. It is calibrated to this frame's vehicle frame, so what
            the vehicle did in between is in `past.rig`, and its `timestamp_s` is this frame's less the mean
            over cameras of the time between their two images.
        odometry: for detectors that are told how the vehicle moves; None = the vehicle frame is the vehicle's
            own, and nothing but its pose is known.
    """

    images: Tensor
    rig: CameraRig
    camera_valid: Tensor
    content_size: Tensor
    global_from_vehicle: Tensor
    timestamp_s: Tensor
    scenes: tuple[str, ...]
    samples: tuple[str, ...]
    levels: tuple[Tensor, ...] | None = None
    past: "Frame | None" = None
    odometry: Odometry | None = None

    @property
    def batch_size(self) -> int:
        """Number of streams B."""
        return self.images.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images in pixels."""
        return self.images.shape[-2], self.images.shape[-1]


@dataclass(frozen=True)
class ToldFrame(Frame):
    """A frame whose pose is not one of a map: what a detector computes of that comes with it.

    Attributes:
        told: by name (`Detector.precomputed`).
    """

    told: Mapping[str, Tensor] = field(default_factory=dict)
