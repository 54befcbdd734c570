"""Boxes of mmdetection3d before 1.0, in which the goldens hold them (see `syncl.geometry.mmdet3d`)."""

import math

import torch
from torch import Tensor


def boxes_from_mmdet3d_0(boxes: Tensor, bottom_centre: bool = False) -> Tensor:
    """Boxes [..., 9] of mmdetection3d before 1.0 in the library's box layout.

    Args:
        boxes: x, y, z, w, l, h, y', vx, vy.
        bottom_centre: whether z is that of the bottom face, as in the box classes there; networks regress
            the centre's (MUTR3D's excepted).
    """
    x, y, z, width, length, height, heading, vx, vy = boxes.unbind(-1)
    if bottom_centre:
        z = z + height / 2
    yaw = wrap_angle(-heading - math.pi / 2)
    return torch.stack([x, y, z, length, width, height, yaw, vx, vy], dim=-1)


def boxes_to_mmdet3d_0(boxes: Tensor, bottom_centre: bool = False) -> Tensor:
    """The inverse of `boxes_from_mmdet3d_0`, with headings in [-pi, pi]."""
    x, y, z, length, width, height, yaw, vx, vy = boxes.unbind(-1)
    if bottom_centre:
        z = z - height / 2
    heading = wrap_angle(-yaw - math.pi / 2)
    return torch.stack([x, y, z, width, length, height, heading, vx, vy], dim=-1)


def wrap_angle(angle_rad: Tensor) -> Tensor:
    """The same angles in [-pi, pi]."""
    return torch.atan2(angle_rad.sin(), angle_rad.cos())
