"""Which camera sees a box, and where in its image.

Letters: C cameras, D boxes, P pairs of a camera and a box it sees.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Signs of the eight corners along a box's length, height and width.
_CORNERS = torch.tensor(
    [
        (1, 1, 1),
        (1, 1, -1),
        (1, -1, 1),
        (1, -1, -1),
        (-1, 1, 1),
        (-1, 1, -1),
        (-1, -1, 1),
        (-1, -1, -1),
    ],
    device="cpu",
)
# A box may be so much farther away than its class is evaluated.
_BEYOND_M = 2.0


@dataclass(frozen=True)
class Sightings:
    """Pairs of a camera and a box it sees, camera after camera.

    Attributes:
        cameras: [P] int64.
        rows: [P] int64 row of the box.
        image_boxes: [P, 4] float32 x1 y1 x2 y2, pixels, inside the image.
    """

    cameras: Tensor
    rows: Tensor
    image_boxes: Tensor

    def pick(self, which: Tensor) -> "Sightings":
        """Those of a mask or of rows."""
        return Sightings(self.cameras[which], self.rows[which], self.image_boxes[which])


def sightings(
    boxes: Tensor,
    ranges_m: Tensor,
    camera_from_global: Tensor,
    image_from_camera: Tensor,
    sizes: Tensor,
) -> Sightings:
    """All pairs of a camera and a box that it sees; arguments as for `sighted`."""
    seen, image_boxes = sighted(boxes, ranges_m, camera_from_global, image_from_camera, sizes)
    cameras, rows = seen.nonzero().unbind(1)
    return Sightings(cameras, rows, image_boxes[seen])


def sighted(
    boxes: Tensor,
    ranges_m: Tensor,
    camera_from_global: Tensor,
    image_from_camera: Tensor,
    sizes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Which camera sees which box, [C, D] bool, and where in its image [C, D, 4] float32.

    A box is taken to stand upright in the camera's own axes. Corners behind the camera are projected all the
    same, as published: a box that reaches there is clipped to the image as it comes.

    Args:
        boxes: [D, 7] float64 x y z l w h yaw, global frame.
        ranges_m: [D] how far from a camera boxes of this class count.
        camera_from_global: [C, 4, 4] float64, each at its own image's time.
        image_from_camera: [C, 3, 3] float64.
        sizes: [C, 2] height and width of the images.
    """
    rotation, origin = camera_from_global[:, :3, :3], camera_from_global[:, :3, 3]
    centres = torch.einsum("cij,dj->cdi", rotation, boxes[:, :3]) + origin[:, None]
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    ahead = rotation[:, :, :2] @ torch.stack([cos, sin])
    turn = torch.atan2(-ahead[:, 2], ahead[:, 0])[..., None]
    corners = _CORNERS.to(boxes.device, boxes.dtype, non_blocking=True)
    local = corners / 2 * torch.stack([boxes[:, 3], boxes[:, 5], boxes[:, 4]], -1)[:, None]
    right = turn.cos() * local[..., 0] + turn.sin() * local[..., 2]
    depth = turn.cos() * local[..., 2] - turn.sin() * local[..., 0]
    corners = torch.stack([right, local[..., 1].expand_as(right), depth], -1) + centres[:, :, None]
    projected = corners @ image_from_camera[:, None].transpose(-1, -2)
    pixels = projected[..., :2] / corners[..., 2:]
    most = (sizes - 1).to(pixels.dtype).flip(-1)[:, None]
    low = torch.minimum(pixels.amin(2).clamp(min=0), most)
    high = torch.minimum(pixels.amax(2).clamp(min=0), most)
    area = (high - low).prod(-1)
    near = torch.hypot(centres[..., 0], centres[..., 2]) <= ranges_m + _BEYOND_M
    seen = (centres[..., 2] > 0) & (area > 0) & (area < most.prod(-1)) & near
    return seen, torch.cat([low, high], -1).float()


def largest(seen: Sightings, places: Tensor) -> Tensor:
    """[P] bool: the sighting with the largest image box among those of the same place.

    Boxes with exactly the same centre are one object: a query that was reported under two classes.

    Args:
        seen: the sightings.
        places: [D, 3] centres of the boxes as detected.
    """
    _, group = places.unique(dim=0, return_inverse=True)
    group = group[seen.rows]
    area = (seen.image_boxes[:, 2:] - seen.image_boxes[:, :2]).prod(-1)
    best = area.new_zeros(len(places)).scatter_reduce(0, group, area, "amax")
    return area >= best[group]
