"""What a dataset calls things, and by what measure it is scored: one value for every room.

`NUSCENES` is what holds without a description; `syncl.data.dataset_file` reads others. Wherever a class is a
number, it is an index into `DatasetDescription.classes` of the data at hand, but for a model's own outputs,
which index its own `classes`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from syncl.classes import CLASS_RANGE_M, DETECTION_CLASSES, MAX_BOXES_PER_SAMPLE, TRACKING_CLASSES
from syncl.errors import SynclError, did_you_mean

ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
"""The official errors of true positives: centre, size, heading, velocity, attribute."""


@dataclass(frozen=True)
class Measures:
    """Thresholds of the two nuScenes protocols; the defaults are the official ones.

    Attributes:
        match_distances_m: centre distances at which average precision is computed.
        error_distance_m: that of the matches which true-positive errors are taken from; one of the above.
        track_distance_m: centre distance below which a track can be matched.
        min_recall: recalls up to this are not averaged over.
        min_precision: precision up to this counts as none.
        max_boxes: most boxes a sample may have in a results file, all classes together.
        frame_period_s: key frame period that TID and LGD assume, whatever the timestamps say.
    """

    match_distances_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    error_distance_m: float = 2.0
    track_distance_m: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes: int = MAX_BOXES_PER_SAMPLE
    frame_period_s: float = 0.5

    def __post_init__(self) -> None:
        distances = self.match_distances_m
        if not distances or list(distances) != sorted(set(distances)):
            raise SynclError(f"match_distances_m: {list(distances)}; must be ascending, at least one")
        for name in ("error_distance_m", "track_distance_m", "frame_period_s"):
            _positive(name, getattr(self, name))
        for distance in distances:
            _positive("match_distances_m", distance)
        if self.error_distance_m not in distances:
            raise SynclError(
                f"error_distance_m: {self.error_distance_m:g}; must be one of match_distances_m "
                f"({', '.join(f'{distance:g}' for distance in distances)})"
            )
        for name in ("min_recall", "min_precision"):
            if not 0 <= getattr(self, name) < 1:
                raise SynclError(f"{name}: {getattr(self, name)}; must be at least 0 and below 1")
        if self.max_boxes < 1:
            raise SynclError(f"max_boxes: {self.max_boxes}; must be at least 1")


@dataclass(frozen=True)
class DatasetDescription:
    """Classes of a dataset, what they are called in its tables, and how they are scored.

    Attributes:
        name: what people call it.
        classes: all classes; their order numbers them.
        tracked: the classes whose tracks are scored.
        ranges_m: class -> distance; boxes there or farther from the ego vehicle (ground plane) are not
            evaluated.
        categories: category name of the tables -> class.
        left_out: categories that are no class on purpose; whatever is named nowhere is none either.
        like: class -> the class of other models, such as nuScenes' "car", whose weights a training of this
            dataset may start from, where they have none of the same name.
        detection_order: the classes as detection summaries list them and sum over them; empty = `classes`.
        tracking_order: the same of tracking; empty = `tracked`.
        measures: thresholds of the metrics.
        undefined_errors: class -> those of `ERROR_NAMES` that mean nothing for it.
        symmetric: classes that look the same from both sides: half a turn is no error of heading.
        attributes: names of attributes that are reported and scored; empty = none are.
        rack_category: objects of `racked` classes inside a box of this category are not evaluated.
        racked: see there.
    """

    name: str
    classes: tuple[str, ...]
    tracked: tuple[str, ...]
    ranges_m: Mapping[str, float]
    categories: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    like: Mapping[str, str] = field(default_factory=dict)
    detection_order: tuple[str, ...] = ()
    tracking_order: tuple[str, ...] = ()
    measures: Measures = field(default_factory=Measures)
    undefined_errors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    symmetric: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    rack_category: str | None = None
    racked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes or not self.tracked:
            raise SynclError(
                f"{self.name}: no {'tracked ' if self.classes else ''}classes; name at least one"
            )
        for names in (self.classes, self.tracked):
            if twice := [name for place, name in enumerate(names) if name in names[:place]]:
                raise SynclError(f"{self.name}: class {twice[0]!r} is named twice; leave one out")
        for name in self.classes:
            if name not in self.ranges_m:
                raise SynclError(
                    f"{self.name}: class {name!r} has no range; say to how many metres it is evaluated"
                )
            _positive(f"{self.name}: range of class {name!r}", self.ranges_m[name])
        named: dict[str, Collection[str]] = {
            "tracked": self.tracked,
            "ranges_m": self.ranges_m,
            "categories": self.categories.values(),
            "like": self.like,
            "undefined_errors": self.undefined_errors,
            "symmetric": self.symmetric,
            "racked": self.racked,
        }
        for what, mentioned in named.items():
            for name in mentioned:
                if name not in self.classes:
                    raise SynclError(
                        f"{self.name}: {what}: {name!r} is none of the classes {', '.join(self.classes)}"
                        f"{did_you_mean(name, self.classes)}"
                    )
        for category in self.left_out:
            if category in self.categories:
                raise SynclError(
                    f"{self.name}: category {category!r} is class {self.categories[category]!r} and left "
                    "out; decide for one"
                )

    @property
    def official(self) -> bool:
        """Whether this is nuScenes itself, whose figures are the official ones."""
        return self == NUSCENES

    @property
    def listed(self) -> tuple[str, ...]:
        """All classes in the order of detection summaries."""
        return self.detection_order or self.classes

    @property
    def listed_tracked(self) -> tuple[str, ...]:
        """Tracked classes in the order of tracking summaries."""
        return self.tracking_order or self.tracked

    def label(self, category: str) -> int:
        """Number of the class of a category; -1 for categories that are none."""
        name = self.categories.get(category)
        return -1 if name is None else self.classes.index(name)

    def undefined(self, name: str) -> tuple[str, ...]:
        """Those of `ERROR_NAMES` that mean nothing for a class."""
        undefined = self.undefined_errors.get(name, ())
        return undefined if self.attributes or "attr_err" in undefined else (*undefined, "attr_err")


def _positive(what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SynclError(f"{what}: {value}; must be a positive, finite number")


NUSCENES = DatasetDescription(
    name="nuScenes",
    classes=DETECTION_CLASSES,
    tracked=TRACKING_CLASSES,
    ranges_m=CLASS_RANGE_M,
    categories={
        "human.pedestrian.adult": "pedestrian",
        "human.pedestrian.child": "pedestrian",
        "human.pedestrian.construction_worker": "pedestrian",
        "human.pedestrian.police_officer": "pedestrian",
        "movable_object.barrier": "barrier",
        "movable_object.trafficcone": "traffic_cone",
        "vehicle.bicycle": "bicycle",
        "vehicle.bus.bendy": "bus",
        "vehicle.bus.rigid": "bus",
        "vehicle.car": "car",
        "vehicle.construction": "construction_vehicle",
        "vehicle.motorcycle": "motorcycle",
        "vehicle.trailer": "trailer",
        "vehicle.truck": "truck",
    },
    detection_order=(
        "car",
        "truck",
        "bus",
        "trailer",
        "construction_vehicle",
        "pedestrian",
        "motorcycle",
        "bicycle",
        "traffic_cone",
        "barrier",
    ),
    tracking_order=("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck"),
    undefined_errors={
        "traffic_cone": ("orient_err", "vel_err", "attr_err"),
        "barrier": ("vel_err", "attr_err"),
    },
    symmetric=("barrier",),
    attributes=(
        "pedestrian.moving",
        "pedestrian.sitting_lying_down",
        "pedestrian.standing",
        "cycle.with_rider",
        "cycle.without_rider",
        "vehicle.moving",
        "vehicle.parked",
        "vehicle.stopped",
    ),
    rack_category="static_object.bicycle_rack",
    racked=("bicycle", "motorcycle"),
)
"""nuScenes as its official tasks take it; all other categories are ignored."""
