"""What BEVFormer is told of the vehicle's motion: eighteen numbers, as the original gathers them.

    0..2    place of the vehicle in the map, metres
    3..6    its rotation, a quaternion (w, x, y, z)
    7..15   acceleration, rotation rate, velocity, three each (CAN bus; 0 where nobody measured them)
    16, 17  its heading, 0 to 360 degrees, in radians and in degrees

The network sees place and heading in degrees (17) as changes since the frame before, 0 in a first frame, and
all else as it is: the map's orientation reaches it. As published, a heading that passes 360 degrees changes
by nearly as much the other way; the turn of the last view is the same, and weights were trained with it.

Letters: B streams.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.geometry.transforms import invert_rigid, quaternion_from_rotation
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure

NUMBERS = 18
# Of these the first three and the last are changes.
_PLACE, _HEADING_DEG = slice(0, 3), slice(17, 18)


@dataclass(frozen=True)
class VehicleMotion(TensorStructure):
    """The vehicle at a frame of B streams.

    Attributes:
        numbers: [B, 18] float64 as in the module's docstring, before changes are taken.
        mounting_rad: [B] float64 heading of the frame's vehicle frame as seen from the vehicle itself. As in
            the original a whole number of quarter turns: the lidar's x axis counts as exactly to the right.
        metre: [B] float64 length of a metre of the vehicle frame in the map, 1 but in a scaled world.
    """

    numbers: Tensor
    mounting_rad: Tensor
    metre: Tensor

    @classmethod
    def of(cls, frame: Frame) -> "VehicleMotion":
        """What a frame's pose and odometry say."""
        pose, odometry = frame.global_from_vehicle, frame.odometry
        metre = pose[:, :3, 0].norm(dim=-1)
        readings, mounting_rad = pose.new_zeros(len(pose), 9), torch.zeros_like(metre)
        if odometry is not None:
            pose, readings = pose @ invert_rigid(odometry.ego_from_vehicle), odometry.readings
            mounted = odometry.ego_from_vehicle
            quarter = math.pi / 2
            mounting_rad = (torch.atan2(mounted[:, 1, 0], mounted[:, 0, 0]) / quarter).round() * quarter
        rotation = pose[:, :3, :3] / metre[:, None, None]
        quaternion = quaternion_from_rotation(rotation)
        if odometry is not None:
            opposite = (quaternion * odometry.ego_rotation).sum(-1, keepdim=True) < 0
            quaternion = torch.where(opposite, -quaternion, quaternion)
        heading = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0]).rad2deg()
        heading = torch.where(heading < 0, heading + 360, heading)[:, None]
        numbers = torch.cat([pose[:, :3, 3], quaternion, readings, heading.deg2rad(), heading], dim=-1)
        return cls(numbers, mounting_rad, metre)

    @property
    def place(self) -> Tensor:
        """[B, 4] what the next frame takes its changes from: place in the map, and heading in degrees."""
        return torch.cat([self.numbers[:, _PLACE], self.numbers[:, _HEADING_DEG]], dim=-1)

    def since(self, place: Tensor, known: Tensor) -> Tensor:
        """[B, 18] the numbers as the network sees them.

        Args:
            place: [B, 4] of the frame before.
            known: [B] bool; False = the stream has no frame before.
        """
        changes = (self.place - place) * known[:, None]
        return torch.cat([changes[:, :3], self.numbers[:, 3:17], changes[:, 3:]], dim=-1)

    def shift(self, numbers: Tensor, extent_m: tuple[float, float]) -> Tensor:
        """[B, 2] how far the vehicle went along its present axes, in units of the view's extent in x and y.

        Height, pitch, roll and the lever arm of the mounting are left out, as published.

        Args:
            numbers: [B, 18] as the network sees them.
            extent_m: metres that the view spans in x and y.
        """
        length: Tensor = numbers[:, :2].norm(dim=-1) / self.metre
        direction = torch.atan2(numbers[:, 1], numbers[:, 0]) - numbers[:, 16] - self.mounting_rad
        ahead = torch.stack([direction.cos(), direction.sin()], dim=-1)
        metres = length[:, None] * ahead
        return torch.stack([metres[:, 0] / extent_m[0], metres[:, 1] / extent_m[1]], dim=-1)
