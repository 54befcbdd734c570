"""The arrays that evaluation works on.

N boxes, S samples (key frames). Everything is in the global frame, metres, seconds and radians unless a name
says otherwise. Labels number the classes of the dataset (`syncl.dataset_description`) for both tasks.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from syncl.dataset_description import NUSCENES, DatasetDescription

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """The key frames of the evaluated scenes, in the order of the table `sample`.

    Attributes:
        tokens: S sample tokens.
        scene: [S] number of the scene of each sample.
        timestamp_us: [S] microseconds; float64 where the tables have fractions.
        ego_xy: [S, 2] position of the vehicle when the key frame's LIDAR_TOP sweep was taken.
    """

    tokens: tuple[str, ...]
    scene: Ints
    timestamp_us: Ints | Floats
    ego_xy: Floats

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Racks:
    """Bicycle racks: bicycles and motorcycles in them are not evaluated.

    Attributes:
        sample: [R] index into `Samples`.
        centre: [R, 3]. size: [R, 3] width, length, height. rotation: [R, 4] quaternions (w, x, y, z).
    """

    sample: Ints
    centre: Floats
    size: Floats
    rotation: Floats


@dataclass(frozen=True)
class EvaluationBoxes:
    """Ground truth or results as columns.

    Attributes:
        sample: [N] index into `Samples` of the sample the box is listed under.
        label: [N] number of the class.
        centre: [N, 3]. size: [N, 3] width, length, height.
        rotation: [N, 4] quaternions (w, x, y, z) of any positive length.
        velocity: [N, 2], nan where unknown.
        points: [N] lidar and radar points in an annotation; -1 for results. Boxes with 0 are not evaluated.
        score: [N]; -1 for ground truth.
        attribute: [N] index into the dataset's attributes, -1 for none.
        identity: [N] number of the object. Ground truth: one per instance; results: one per tracking id of
            the file (the same id in two scenes means two objects).
        matched_sample: [N] index of the sample whose ground truth a detection is compared with, -1 for none;
            equal to `sample` unless the box itself names another token.
    """

    sample: Ints
    label: Ints
    centre: Floats
    size: Floats
    rotation: Floats
    velocity: Floats
    points: Ints
    score: Floats
    attribute: Ints
    identity: Ints
    matched_sample: Ints

    def __len__(self) -> int:
        return len(self.sample)

    def select(self, index: Bools | Ints) -> "EvaluationBoxes":
        """The boxes of a mask [N] or an index array."""
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
        return EvaluationBoxes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class GroundTruth:
    """What results are compared with: the samples, their annotations (table order) and bicycle racks.

    Attributes:
        samples: the samples.
        boxes: N annotations.
        racks: bicycle racks.
        visibility: [N] how much of an annotated object the cameras see, 1 (less than 40 %) to 4 (more than
            80 %), 0 unknown; None if it is known of none.
        remarks: oddities in the tables that were accepted, as the official code does.
        dataset: classes, their ranges, and thresholds.
    """

    samples: Samples
    boxes: EvaluationBoxes
    racks: Racks
    visibility: Ints | None = None
    remarks: tuple[str, ...] = ()
    dataset: DatasetDescription = NUSCENES
