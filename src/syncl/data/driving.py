"""Whether vehicles drive the way they head, and whether their quaternions are w, x, y, z.

Read as w, x, y, z, what heads east and was written as x, y, z, w is turned round and tilted by its heading.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.geometry.poses import Array, rotation_from_quaternion

STEEPEST = 0.85
"""Cosine of the steepest tilt of a vehicle, 32 degrees."""

# Between frames, of a vehicle that drives; how many such steps, and the share of them that go backwards.
_DRIVES_M, _FEWEST, _MOST_BACKWARDS = 0.5, 3, 0.9
# Mean of 1 - cosine over headings against motion and over tilts; 1.3 degrees.
_MISFIT = 2.5e-4


@dataclass(frozen=True)
class Driving:
    """How vehicles drive.

    Attributes:
        steps: between frames, in which they move.
        backwards: of these, those against their x axis.
        forwards_if_swapped: by quaternions taken as x, y, z, w they stand upright and drive forwards.
        swapped: and these fit their motion, and the ground, better, beyond rounding.
    """

    steps: int
    backwards: int
    forwards_if_swapped: bool
    swapped: bool

    @property
    def always_backwards(self) -> bool:
        """Whether there are steps enough, and hardly one is forwards."""
        return self.steps >= _FEWEST and self.backwards > _MOST_BACKWARDS * self.steps


def how_driven(poses: Array, goes_on: NDArray[np.bool_]) -> Driving:
    """How vehicles drive.

    Args:
        poses: [N, 7] positions in metres and quaternions (w, x, y, z) to a frame with z up, in time order.
        goes_on: [N - 1] whether a pose and the next are of one drive.
    """
    moved = np.diff(poses[:, :2], axis=0)
    drives = goes_on & (np.hypot(*moved.T) > _DRIVES_M)
    if not drives.any():
        return Driving(0, 0, False, False)
    along, up = _along(poses[:-1][drives], moved[drives]), tilts(poses)
    other = swapped(poses)
    other_along, other_up = _along(other[:-1][drives], moved[drives]), tilts(other)
    forwards = bool((other_up > STEEPEST).all() and (other_along > 0).mean() > _MOST_BACKWARDS)
    misfit, other_misfit = (
        np.mean(1 - abs(cosines)) + np.mean(1 - standing)
        for cosines, standing in ((along, up), (other_along, other_up))
    )
    better = bool(misfit > _MISFIT and other_misfit < misfit / 2)
    return Driving(int(drives.sum()), int((along < 0).sum()), forwards, forwards and better)


def tilts(poses: Array) -> Array:
    """[N] cosine between z and up of what has poses [N, 7]; nan for what has none."""
    cosines: Array = rotation_from_quaternion(poses[:, 3:])[:, 2, 2]
    return cosines


def swapped(poses: Array) -> Array:
    """Poses [N, 7] whose quaternions were written as x, y, z, w."""
    return np.concatenate([poses[:, :3], np.roll(poses[:, 3:], 1, axis=1)], axis=1)


def _along(poses: Array, moved: Array) -> Array:
    """[N] cosine between where x points to, seen from above, and a motion [N, 2]."""
    ahead = rotation_from_quaternion(poses[:, 3:])[:, :2, 0]
    cosines: Array = (ahead * moved).sum(axis=1) / (np.hypot(*ahead.T) * np.hypot(*moved.T))
    return cosines
