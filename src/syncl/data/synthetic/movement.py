"""How things move along paths, and where they are at any time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.streets import Path

Array = NDArray[np.float64]

STEP_S = 0.05
LEAD_S = 0.2
"""Motions begin this long before the first keyframe: cameras fire a little before their keyframe."""
ACCELERATION = 1.5
LATERAL_ACCELERATION = 2.2
CREEP = 0.12
AXLES = 0.3
"""Front and rear axle from the middle, as a share of the length."""


@dataclass(frozen=True)
class Motion:
    """Where something is at evenly spaced times, from -0.2 s on.

    Attributes:
        places: [N, 2] metres, scene frame.
        headings: [N] radians, unwrapped.
        travelled: [N] metres along its path.
    """

    places: Array
    headings: Array
    travelled: Array

    def speeds(self) -> Array:
        """Speed [N], m/s."""
        speeds: Array = np.gradient(self.travelled, STEP_S)
        return speeds


def clock(duration_s: float) -> Array:
    """Times [N] of the samples of motions that last `duration_s`."""
    count = round((duration_s + 2 * LEAD_S) / STEP_S) + 1
    return np.arange(count, dtype=np.float64) * STEP_S - LEAD_S


def advance(
    path: Path, start_m: float, top_speed: float, times: Array, stops: tuple[tuple[float, float], ...] = ()
) -> Array:
    """Distance along a path [N] at `times`, slowing for bends, with stops at (place in m, seconds).

    Starts at `start_m` at the first time with the speed the place allows and comes to rest at the path's end.
    """
    curvature = np.abs(np.gradient(path.headings(), path.lengths))
    limit = np.minimum(top_speed, np.sqrt(LATERAL_ACCELERATION / np.maximum(curvature, 1e-3)))
    wait = np.zeros(len(limit))
    for place, seconds in (*stops, (path.length, 1e6)) if path.length > start_m else stops:
        index = min(int(np.searchsorted(path.lengths, place)), len(limit) - 1)
        limit[index] = CREEP
        wait[index] += seconds
    square, gain = limit**2, 2 * ACCELERATION * path.lengths
    square = np.minimum.accumulate(square - gain) + gain
    square = (np.minimum.accumulate((square + gain)[::-1]))[::-1] - gain
    speed = np.sqrt(np.maximum(square, CREEP**2))
    step = np.diff(path.lengths) * 2 / (speed[1:] + speed[:-1])
    arrival = np.concatenate([[0.0], np.cumsum(step + wait[:-1])])
    # A wait shows as two times at one place.
    moments = np.stack([arrival, arrival + wait], -1).ravel()
    places = np.repeat(path.lengths, 2)
    begin = float(np.interp(start_m, path.lengths, arrival))
    along: Array = np.interp(times - times[0] + begin, moments, places)
    return along


def follow(path: Path, along: Array, length_m: float) -> Motion:
    """A vehicle whose axles run on the path; its middle is at arc lengths `along` [N]."""
    front, rear = path.at(along + AXLES * length_m), path.at(along - AXLES * length_m)
    return Motion((front + rear) / 2, _heading(front - rear), along)


def follow_rear_axle(path: Path, along: Array, wheelbase_m: float) -> Motion:
    """A vehicle whose rear axle (its origin) is at arc lengths `along` [N]."""
    rear, front = path.at(along), path.at(along + wheelbase_m)
    return Motion(rear, _heading(front - rear), along)


def stay(place: Array, heading: float, times: Array) -> Motion:
    """Something that does not move."""
    count = len(times)
    return Motion(np.tile(place, (count, 1)), np.full(count, heading), np.zeros(count))


def _heading(direction: Array) -> Array:
    return np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
