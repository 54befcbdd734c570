"""Which boxes count: the protocol's three filters, in its order."""

import numpy as np

from syncl.dataset_description import DatasetDescription
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Racks
from syncl.geometry.poses import rotation_from_quaternion


def evaluated_boxes(boxes: EvaluationBoxes, truth: GroundTruth) -> EvaluationBoxes:
    """The boxes that are within their class's range, have points in them and are not parked in a rack.

    The same for annotations and results. The distance is taken in the xy plane from the vehicle; a box in a
    rack is a bicycle or motorcycle whose 3D centre lies in an annotated bicycle rack of its sample.

    Args:
        boxes: annotations or results.
        truth: whose samples, racks and class ranges count.
    """
    dataset = truth.dataset
    reach_m = np.array([dataset.ranges_m[name] for name in dataset.classes], np.float64)
    offset = boxes.centre[:, :2] - truth.samples.ego_xy[boxes.sample]
    near = np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2) < reach_m[boxes.label]
    kept = near & (boxes.points != 0)
    return boxes.select(kept & ~_parked(boxes, truth.racks, dataset))


def _parked(boxes: EvaluationBoxes, racks: Racks, dataset: DatasetDescription) -> Bools:
    parked = np.zeros(len(boxes), bool)
    labels = [dataset.classes.index(name) for name in dataset.racked]
    cycles = np.flatnonzero(np.isin(boxes.label, labels))
    cycles = cycles[np.argsort(boxes.sample[cycles], kind="stable")]
    samples = boxes.sample[cycles]
    begins, ends = (np.searchsorted(samples, racks.sample, side) for side in ("left", "right"))
    axes = rotation_from_quaternion(racks.rotation)
    # To the official code, whose rotation matrix is zero then, such a rack holds all there is.
    axes[~racks.rotation.any(axis=1)] = 0
    for number in np.flatnonzero(ends > begins):
        rows = cycles[begins[number] : ends[number]]
        parked[rows] |= _inside(boxes.centre[rows], racks.centre[number], racks.size[number], axes[number])
    return parked


def _inside(points: Floats, centre: Floats, size: Floats, axes: Floats) -> Bools:
    """Which of `points` [N, 3] lie in a box with the given rotation matrix, faces included."""
    width, length, height = size
    half = np.array([length / 2, width / 2, height / 2])
    # A corner and the three edges from it, as the official code measures (which rounds at the faces).
    signs = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]], np.float64)
    corners = axes @ (signs * half).T + centre[:, None]
    edges = corners[:, 1:] - corners[:, :1]
    along = (points - corners[:, 0]) @ edges
    inside: Bools = ((along >= 0) & (along <= (edges**2).sum(axis=0))).all(axis=1)
    return inside
