"""Which annotations are ground truth in training, how many there are, and why the others are not."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.classes import DETECTION_CLASSES
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError, did_you_mean
from syncl.wording import counted

# Share of velocities. In nuScenes few objects are annotated only once.
_MOST_UNKNOWN = 0.1


@dataclass(frozen=True)
class AnnotationOptions:
    """Which annotations are ground truth, and how their classes are numbered.

    Attributes:
        classes: the model's classes; others are dropped.
        point_range: (x0, y0, z0, x1, y1, z1) metres, vehicle frame; objects whose centre lies outside x or y
            are dropped (the height does not matter, as in the originals). None keeps all.
        min_points: fewest lidar and radar points together; where their number is unknown, the object is kept,
            as in the official evaluation.
        min_visibility: lowest visibility level, 1 to 4; 0 keeps all.
        future_frames: key frames over which the objects' trajectories are read; 0 leaves them out.
        depth_stride: side in pixels of the cells of which the lidar's depths are read; 0 leaves them out.
        depth_pixel_centres: whether the detector's rays go through the middles of these cells.
    """

    classes: tuple[str, ...] = DETECTION_CLASSES
    point_range: tuple[float, float, float, float, float, float] | None = None
    min_points: int = 1
    min_visibility: int = 0
    future_frames: int = 0
    depth_stride: int = 0
    depth_pixel_centres: bool = False

    def check(self, dataset: DatasetDescription) -> None:
        """Refuse classes that the data do not have.

        Raises:
            SynclError: naming the first of them and the dataset's.
        """
        unknown = [name for name in self.classes if name not in dataset.classes]
        if unknown:
            raise SynclError(
                f"unknown class '{unknown[0]}'; the classes of {dataset.name} are "
                f"{', '.join(dataset.classes)}{did_you_mean(unknown[0], dataset.classes)}"
            )

    def enough_points(self, points: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which annotations [N] with numbers of lidar and radar points [N, 2] count; -1 is unknown."""
        enough: NDArray[np.bool_] = (points.sum(axis=1) >= self.min_points) | (points < 0).any(axis=1)
        return enough


@dataclass(frozen=True)
class LearnableCounts:
    """Annotations of some scenes, each counted once: learnable, or under the first reason why not.

    Attributes:
        learnable: what is left, wherever it is.
        other_category: of no class of the model.
        no_box: whose size, position or heading is none.
        few_points: hit by too few lidar and radar points; unknown numbers (-1) are enough.
        hardly_visible: below the lowest visibility.
        unknown_velocity: of the learnable, those whose velocity the official rule leaves open; 0 is learned.
    """

    learnable: int
    other_category: int
    no_box: int
    few_points: int
    hardly_visible: int
    unknown_velocity: int

    @property
    def remark(self) -> str | None:
        """What is said where so many velocities are unknown that a model learns that nothing moves."""
        if self.unknown_velocity <= _MOST_UNKNOWN * self.learnable:
            return None
        return (
            f"velocities: {self.unknown_velocity:,} of {self.learnable:,} are unknown, as boxes of a track "
            "lie more than 1.5 s apart or alone, and learned as 0; annotate frames in between"
        )

    def __str__(self) -> str:
        reasons = {
            "of categories that are none of the classes": self.other_category,
            "without a proper box": self.no_box,
            "with too few lidar and radar points": self.few_points,
            "hardly visible": self.hardly_visible,
        }
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        return f"{counted(self.learnable, 'annotation')} to learn from{listed and f' ({listed})'}"


def count_learnable(
    index: NuScenesIndex, scenes: Iterable[str], options: AnnotationOptions
) -> LearnableCounts:
    """Counts the annotations of some scenes.

    Args:
        index: the dataset.
        scenes: scene names.
        options: classes and filters of the training; the range is left out, as it goes with the vehicle.

    Raises:
        SynclError: unknown scenes or classes.
    """
    options.check(index.dataset)
    columns = index.columns
    starts = columns.annotation_start
    samples = [index.scene_samples(scene) for scene in scenes]
    parts = [np.arange(starts[rows.start], starts[rows.stop]) for rows in samples]
    rows = np.concatenate(parts or [np.zeros(0, np.int64)])
    wanted = np.array([*(name in options.classes for name in index.dataset.classes), False])
    category = wanted[columns.category_labels(index.dataset)[columns.annotation_categories[rows]]]
    box = columns.annotation_labels[rows] >= 0
    hit = options.enough_points(columns.annotation_points[rows])
    seen = columns.annotation_visibility[rows] >= options.min_visibility
    learnable = category & box & hit & seen
    known = np.isfinite(columns.annotation_velocities[rows]).all(axis=1)
    return LearnableCounts(
        learnable=int(learnable.sum()),
        other_category=int((~category).sum()),
        no_box=int((category & ~box).sum()),
        few_points=int((category & box & ~hit).sum()),
        hardly_visible=int((category & box & hit & ~seen).sum()),
        unknown_velocity=int((learnable & ~known).sum()),
    )
