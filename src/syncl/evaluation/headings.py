"""How far off the headings of vehicles are, by how the vehicles stand to the ego vehicle.

Most vehicles drive along the ego vehicle's axis or against it, so a model that learned nothing of headings
may still have a small mean error. Apart from the aligned ones, the turned ones show it.
"""

from dataclasses import dataclass

import numpy as np

from syncl.evaluation.arrays import Bools, Floats
from syncl.evaluation.outcomes import Outcomes
from syncl.geometry.poses import yaw_from_quaternion

VEHICLES = ("car", "truck", "bus", "trailer")
TURNED_DEG = 30.0
"""Vehicles that stand farther than this from the ego vehicle's axis are turned."""
NEAR_DEG = 10.0
_HALF_TURN_DEG = 90.0


@dataclass(frozen=True)
class HeadingGroup:
    """Errors of some vehicles.

    Attributes:
        count: how many.
        median_deg: of all errors, half turns among them; nan of none.
        near_share: share within 10 degrees; nan of none.
        half_turns: errors above 90 degrees, where front and back are mistaken for each other.
    """

    count: int
    median_deg: float
    near_share: float
    half_turns: int


@dataclass(frozen=True)
class HeadingErrors:
    """N vehicles that were found.

    Attributes:
        relative_deg: [N] angle between the annotated heading and the ego vehicle's axis, 0 to 90.
        error_deg: [N] angle between the annotated and the reported heading, 0 to 180.
    """

    relative_deg: Floats
    error_deg: Floats

    @property
    def aligned(self) -> HeadingGroup:
        """Vehicles along the axis, at most 30 degrees off it."""
        return self._group(self.relative_deg <= TURNED_DEG)

    @property
    def turned(self) -> HeadingGroup:
        """All others."""
        return self._group(self.relative_deg > TURNED_DEG)

    def course(self, width_deg: float = 15.0) -> tuple[Floats, Floats]:
        """Middles of the relative headings' bins that have vehicles, and the median error in each."""
        last = int(np.ceil(90.0 / width_deg)) - 1
        bins = np.minimum(self.relative_deg // width_deg, last).astype(np.int64)
        there = np.unique(bins)
        medians = np.array([np.median(self.error_deg[bins == number]) for number in there], np.float64)
        middles: Floats = (there.astype(np.float64) + 0.5) * width_deg
        return middles, medians

    def _group(self, rows: Bools) -> HeadingGroup:
        errors = self.error_deg[rows]
        if not len(errors):
            return HeadingGroup(0, float("nan"), float("nan"), 0)
        near, half = errors <= NEAR_DEG, errors > _HALF_TURN_DEG
        return HeadingGroup(len(errors), float(np.median(errors)), float(near.mean()), int(half.sum()))


def heading_errors(outcomes: Outcomes, ego_yaw_rad: Floats) -> HeadingErrors:
    """Errors of the vehicles that the official matching gives a tracked box: same class, centres within 2 m.

    Boxes without a heading (a rotation of zeros) are left out. Of classes of one's own, all tracked ones
    that do not look the same from both sides count as vehicles.

    Args:
        outcomes: what became of every box.
        ego_yaw_rad: [S] heading of the ego vehicle in each of `outcomes.samples`, global frame.
    """
    dataset = outcomes.dataset
    vehicles = VEHICLES if dataset.official else set(dataset.tracked) - set(dataset.symmetric)
    labels = [dataset.classes.index(name) for name in vehicles]
    rows = np.flatnonzero((outcomes.partner >= 0) & np.isin(outcomes.objects.label, labels))
    true = yaw_from_quaternion(outcomes.objects.rotation[rows])
    found = yaw_from_quaternion(outcomes.found.rotation[outcomes.partner[rows]])
    known = np.isfinite(true) & np.isfinite(found)
    relative = _angle_deg(true - ego_yaw_rad[outcomes.objects.sample[rows]])[known]
    return HeadingErrors(np.minimum(relative, 180.0 - relative), _angle_deg(true - found)[known])


def _angle_deg(turn_rad: Floats) -> Floats:
    """Size of a turn, 0 to 180 degrees, whatever full turns are in it."""
    angle: Floats = np.degrees(np.abs((turn_rad + np.pi) % (2 * np.pi) - np.pi))
    return angle
