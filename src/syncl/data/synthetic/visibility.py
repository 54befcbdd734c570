"""How much of each object can be seen, and how many lidar points would fall on it."""

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.camera import View
from syncl.data.synthetic.mounts import LIDAR_PLACE
from syncl.data.synthetic.shapes import Array

POINTS_PER_SQUARE_DEG = 1.6
"""32 beams 1.33 degrees apart, a third of a degree between firings, less what glass and paint lose."""
FEWEST_PIXELS = 4
SMALLEST_SHARE = 3e-4
"""An object of which fewer pixels are visible than these, in all cameras together, counts as hidden."""
LEAST_VISIBLE = 0.08
"""So does one of which a smaller part shows: a strip of a bumper tells nobody what stands there."""
LEVELS = (0.4, 0.6, 0.8)


class Visibility:
    """Pixel counts of every actor, summed over the cameras of one keyframe.

    Args:
        count: number of actors.
        pixels: pixels of one picture.
        lidar_range_m: objects beyond it get no lidar points.
    """

    def __init__(self, count: int, pixels: int, lidar_range_m: float = 70.0) -> None:
        self._visible: NDArray[np.int64] = np.zeros(count, np.int64)
        self._alone: NDArray[np.int64] = np.zeros(count, np.int64)
        self._lidar_range_m = lidar_range_m
        self._fewest = max(FEWEST_PIXELS, round(SMALLEST_SHARE * pixels))

    def add(self, view: View) -> None:
        """Count one camera's picture."""
        self._visible[view.actors] += view.visible
        self._alone[view.actors] += view.alone

    def share(self, actor: int) -> float:
        """Visible share of the pixels the actor would cover alone; 0 if it is in no picture or hidden."""
        if self._visible[actor] < self._fewest:
            return 0.0
        visible = float(self._visible[actor] / self._alone[actor])
        return visible if visible >= LEAST_VISIBLE else 0.0

    def level(self, actor: int) -> int:
        """nuScenes visibility token: 1 (up to 40 %) to 4 (80 to 100 %)."""
        return 1 + sum(self.share(actor) > level for level in LEVELS)

    def lidar_points(self, actor: int, place: Array, heading: float, size: Array, ego: Array) -> int:
        """Simulated points on the visible part of a box at `place` [2], `size` [3], scene frame, metres."""
        mount = ego[:2, :2] @ np.array(LIDAR_PLACE[:2]) + ego[:2, 3]
        offset = place - mount
        distance = max(float(np.linalg.norm(offset)), 1.0)
        if distance > self._lidar_range_m:
            return 0
        bearing = np.arctan2(offset[1], offset[0]) - heading
        across = abs(np.sin(bearing)) * size[0] + abs(np.cos(bearing)) * size[1]
        degrees = np.degrees(across / distance) * np.degrees(size[2] / distance)
        return int(self.share(actor) * degrees * POINTS_PER_SQUARE_DEG)
