"""What training varies: the images' scale and crop, and the world seen from above. One draw for all cameras.

The world is turned, scaled and mirrored so that everything stays consistent. Let A be the change of vehicle
coordinates: mirror, then turn, then scale by s. Pixels do not change under a common scale, so

    camera_from_vehicle' = M_c C A^-1        global_from_vehicle' = M_g S G A^-1

with M a mirror where A mirrors: of the camera's x axis, of the map's y axis, and S the scaling of the map.
The pose stays rigid; no code that inverts poses has to know of the augmentation. The camera's transform is a
similarity: depths along its axis keep the unit they had before, as in the originals, so that points sampled
along a ray at fixed depths are scaled with the world. The camera's mirror is undone in the intrinsics; the
picture itself is mirrored by the image transform.

Where every frame of a clip or stream has a draw of its own (StreamPETR), all frames must share one map, which
then stays as it is:

    global_from_vehicle' = G A^-1

is a similarity, whose inverse knows the scale. Memories that hold global places stay consistent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.errors import SynclError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """Ranges the augmentations of a clip are drawn from. The defaults are PF-Track's.

    Attributes:
        resize_range: image scale relative to the test-time scale; (0.94, 1.25) is the originals' 0.47 to
            0.625 (800x320 from 1600x900), (0.864, 1.25) StreamPETR's 0.38 to 0.55 (704x256).
        flip_probability: how often images are mirrored (geometry follows in the intrinsics).
        rotation_rad: the world is turned about the vertical axis by up to this either way; PETR and
            StreamPETR use 0.3925.
        scale_range: factor of the world's size; PETR and StreamPETR use (0.95, 1.05).
        mirror_probability: how often the world is mirrored (left becomes right).
        each_frame: every frame has a draw of its own (StreamPETR), not only every clip.
        photometric: change brightness, contrast, saturation, hue and channel order of every image by itself
            (DETR3D).
    """

    resize_range: tuple[float, float] = (0.94, 1.25)
    flip_probability: float = 0.0
    rotation_rad: float = 0.0
    scale_range: tuple[float, float] = (1.0, 1.0)
    mirror_probability: float = 0.0
    each_frame: bool = False
    photometric: bool = False

    def __post_init__(self) -> None:
        for name in ("resize_range", "scale_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise SynclError(f"augmentation {name}: ({low}, {high}) must be positive and ascending")
        for name in ("flip_probability", "mirror_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise SynclError(f"augmentation {name}: {getattr(self, name)} must be between 0 and 1")
        if self.each_frame and self.mirror_probability:
            raise SynclError(
                "augmentation mirror_probability: must be 0 with each_frame, since frames share one map"
            )


@dataclass(frozen=True)
class WorldTransform:
    """A change of the vehicle's coordinates: mirror left and right, turn, scale.

    Attributes:
        rotation_rad: counter-clockwise.
        scale: factor of all lengths.
        mirror: left becomes right.
        map_fixed: whether the map keeps its size, so that poses carry the scale.
    """

    rotation_rad: float = 0.0
    scale: float = 1.0
    mirror: bool = False
    map_fixed: bool = False

    def vehicle_matrix(self) -> Array:
        """[4, 4] new from old vehicle coordinates (a similarity, mirrored or not)."""
        sin, cos = np.sin(self.rotation_rad), np.cos(self.rotation_rad)
        matrix = np.eye(4)
        matrix[:2, :2] = [[cos, -sin], [sin, cos]]
        matrix[:3, :3] *= self.scale
        if self.mirror:
            matrix[:3, 1] *= -1
        return matrix

    def move_rig(self, image_from_camera: Array, camera_from_vehicle: Array) -> tuple[Array, Array]:
        """Intrinsics [..., 3, 3] and extrinsics [..., 4, 4] that project moved points to the same pixels, at
        the depths they had before.
        """
        intrinsics = image_from_camera.copy()
        mirrored = np.eye(4)
        if self.mirror:
            intrinsics[..., :, 0] *= -1
            mirrored[0, 0] = -1
        return intrinsics, np.asarray(mirrored @ camera_from_vehicle @ np.linalg.inv(self.vehicle_matrix()))

    def move_pose(self, global_from_vehicle: Array) -> Array:
        """Pose [..., 4, 4] of the moved vehicle in an equally scaled (and mirrored) map, or the fixed one."""
        target = np.eye(4)
        if not self.map_fixed:
            target[:3, :3] *= self.scale
            if self.mirror:
                target[1, 1] *= -1
        return np.asarray(target @ global_from_vehicle @ np.linalg.inv(self.vehicle_matrix()))

    def move_points(self, points: Array) -> Array:
        """Points [..., 3], vehicle frame, after the change."""
        return np.asarray(points @ self.vehicle_matrix()[:3, :3].T)

    def move_readings(self, readings: Array) -> Array:
        """Acceleration, rotation rate and velocity [..., 9] along the vehicle's axes, after the change."""
        linear = self.vehicle_matrix()[:3, :3]
        acceleration, rate, velocity = np.split(readings, 3, axis=-1)
        # Rotations keep their speed in a larger world, and turn the other way round in a mirror.
        turned = rate @ linear.T / self.scale * (-1 if self.mirror else 1)
        return np.concatenate([acceleration @ linear.T, turned, velocity @ linear.T], axis=-1)

    def move_boxes(self, boxes: Array) -> Array:
        """Boxes [N, 9] in the box layout, vehicle frame, after the change."""
        matrix = self.vehicle_matrix()
        moved = boxes.copy()
        moved[:, :3] = self.move_points(boxes[:, :3])
        moved[:, 3:6] *= self.scale
        yaw = (-boxes[:, 6] if self.mirror else boxes[:, 6]) + self.rotation_rad
        moved[:, 6] = np.arctan2(np.sin(yaw), np.cos(yaw))
        moved[:, 7:9] = boxes[:, 7:9] @ matrix[:2, :2].T
        return moved


def draw_world_transform(rng: np.random.Generator, augmentation: Augmentation) -> WorldTransform:
    """Draw a change of the world; always takes three numbers from `rng`."""
    turn, scale, coin = rng.uniform(-1, 1), rng.uniform(*augmentation.scale_range), rng.uniform()
    return WorldTransform(
        rotation_rad=float(turn * augmentation.rotation_rad),
        scale=float(scale),
        mirror=bool(coin < augmentation.mirror_probability),
        map_fixed=augmentation.each_frame,
    )
