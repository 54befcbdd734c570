"""Boxes as edges in an image: corners, projection and clipping.

Clipping happens in homogeneous image coordinates (u d, v d, d, 1), where the near plane and the four sides of
the image are all flat, so that an edge that passes behind the camera is cut where it leaves the picture
instead of being mirrored.
"""

import numpy as np
from numpy.typing import NDArray

from syncl.rendering.frame_view import Floats

NEAR_M = 0.2
_SHORTEST_MARK_M, _LONGEST_MARK_M = 0.5, 1.5

# Front face first, then rear face, both counted round the same way: the order of `geometry.boxes`.
_UNIT_CORNERS = np.array(
    [
        (1, 1, -1), (1, 1, 1), (1, -1, 1), (1, -1, -1),
        (-1, 1, -1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1),
    ],
    np.float64,
)  # fmt: skip
_RING = ((0, 1), (1, 2), (2, 3), (3, 0))
EDGES = np.array([*_RING, *((a + 4, b + 4) for a, b in _RING), *((a, a + 4) for a in range(4))])
FRONT_FACE = np.array([0, 1, 2, 3])


def corners_of(boxes: Floats) -> Floats:
    """Corners [N, 8, 3] of boxes [N, 9], front face first."""
    local = _UNIT_CORNERS * boxes[:, None, 3:6] / 2
    sin, cos = np.sin(boxes[:, 6:7]), np.cos(boxes[:, 6:7])
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return np.stack([x, y, local[..., 2]], axis=-1) + boxes[:, None, :3]


def heading_marks(boxes: Floats) -> Floats:
    """For every box [N, 9] a line [N, 2, 3] on its floor, from the middle of its front edge ahead."""
    ahead = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1)
    half = boxes[:, 3:4] / 2
    reach = half + np.clip(half, _SHORTEST_MARK_M, _LONGEST_MARK_M)
    ends = boxes[:, None, :2] + np.stack([half, reach], axis=1) * ahead[:, None]
    floor = boxes[:, 2] - boxes[:, 5] / 2
    return np.concatenate([ends, np.repeat(floor[:, None, None], 2, axis=1)], axis=2)


def projection_of(intrinsics: Floats, camera_from_vehicle: Floats) -> Floats:
    """The projection [4, 4] (`RenderFrame.image_from_vehicle`) of intrinsics [3, 3] and extrinsics [4, 4]."""
    image_from_camera = np.eye(4)
    image_from_camera[:3, :3] = intrinsics
    return image_from_camera @ camera_from_vehicle


def to_homogeneous(image_from_vehicle: Floats, points: Floats) -> Floats:
    """Homogeneous image coordinates [..., 4] of vehicle-frame points [..., 3]."""
    return points @ image_from_vehicle[:, :3].T + image_from_vehicle[:, 3]


def to_pixels(homogeneous: Floats) -> Floats:
    """Pixels [..., 2] of homogeneous image coordinates in front of the camera."""
    return homogeneous[..., :2] / homogeneous[..., 2:3]


def _planes(size: tuple[int, int], margin: float) -> Floats:
    """Half-spaces [5, 4] whose inside is what the image of (height, width) shows, with a margin in pixels."""
    height, width = size
    return np.array(
        [
            (0, 0, 1, -NEAR_M),
            (1, 0, margin, 0),
            (-1, 0, width + margin, 0),
            (0, 1, margin, 0),
            (0, -1, height + margin, 0),
        ],
        np.float64,
    )


def clip_segments(
    segments: Floats, size: tuple[int, int], margin: float = 4.0
) -> tuple[Floats, NDArray[np.bool_]]:
    """Cut segments [..., 2, 4] in homogeneous image coordinates to the visible part of an image.

    Returns:
        Pixels [..., 2, 2], and visible [...]; pixels of invisible segments are meaningless but finite.
    """
    start, end = segments[..., 0, :], segments[..., 1, :]
    planes = _planes(size, margin)
    a, b = start @ planes.T, end @ planes.T
    step = a - b
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = a / step
    enter = np.where((a < 0) & (b >= 0), crossing, 0.0).max(axis=-1)
    leave = np.where((a >= 0) & (b < 0), crossing, 1.0).min(axis=-1)
    visible = (enter < leave) & ~((a < 0) & (b < 0)).any(axis=-1)
    share = np.stack([enter, leave], axis=-1)[..., None]
    cut = start[..., None, :] + share * (end - start)[..., None, :]
    cut[~visible] = 1.0
    return to_pixels(cut), visible


def clip_polygon(polygon: Floats, size: tuple[int, int], margin: float = 4.0) -> Floats:
    """Cut a convex polygon [K, 4] in homogeneous image coordinates to the visible part: pixels [J, 2]."""
    inside = polygon
    for plane in _planes(size, margin):
        if len(inside) == 0:
            break
        height = inside @ plane
        kept: list[Floats] = []
        for row in range(len(inside)):
            previous, current = inside[row - 1], inside[row]
            before, after = height[row - 1], height[row]
            if (before >= 0) != (after >= 0):
                kept.append(previous + (current - previous) * (before / (before - after)))
            if after >= 0:
                kept.append(current)
        inside = np.array(kept).reshape(-1, 4)
    return to_pixels(inside)
