"""Boxes and their encodings.

A box inside the library is nine numbers, called the box layout everywhere:

    index  0  1  2   3 4 5   6    7  8
           x  y  z   l w h  yaw  vx vy

centre in metres (the geometric centre, z included), length along the heading, width across, height, heading
in radians counter-clockwise from the frame's x axis, velocity in the ground plane in m/s. The frame is the
vehicle frame unless a name says otherwise.

    top view, yaw = 0            y (left)
         +-----------+           ^
       w |     o-->  | heading   |
         +-----------+           o--> x (forward)
               l

Networks regress ten numbers, the box code: x, y, z, log l, log w, log h, sin yaw, cos yaw, vx, vy.
"""

import torch
from torch import Tensor

CODE_SIZE = 10

# Unit corners: the first four are the front face, the last four the rear face, both clockwise from the
# bottom left as seen from behind the object.
_UNIT_CORNERS = (
    (1, 1, -1), (1, 1, 1), (1, -1, 1), (1, -1, -1),
    (-1, 1, -1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1),
)  # fmt: skip


def encode_boxes(boxes: Tensor) -> Tensor:
    """Box code [..., 10] of boxes [..., 9]; sizes must be positive (a zero size gives -inf)."""
    yaw = boxes[..., 6:7]
    return torch.cat([boxes[..., :3], boxes[..., 3:6].log(), yaw.sin(), yaw.cos(), boxes[..., 7:9]], dim=-1)


def decode_boxes(code: Tensor) -> Tensor:
    """Boxes [..., 9] of box codes [..., 10]; the inverse of `encode_boxes` up to the heading's period."""
    yaw = torch.atan2(code[..., 6:7], code[..., 7:8])
    return torch.cat([code[..., :3], code[..., 3:6].exp(), yaw, code[..., 8:10]], dim=-1)


def box_corners(boxes: Tensor) -> Tensor:
    """Corners [..., 8, 3] of boxes [..., 9] (or [..., 7]): front face first, then rear face."""
    unit = torch.tensor(_UNIT_CORNERS, dtype=boxes.dtype, device=boxes.device)
    local = unit * boxes[..., None, 3:6] / 2
    sin, cos = boxes[..., 6:7].sin(), boxes[..., 6:7].cos()
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return torch.stack([x, y, local[..., 2]], dim=-1) + boxes[..., None, :3]
