"""What a synthetic world is made of: its size, seed and difficulty, checked before any work starts."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from syncl.data.synthetic import own_data
from syncl.errors import SynclError

Difficulty = Literal["easy", "default", "hard"]
Layout = Literal["nuscenes", "argoverse2", "own"]

KEYFRAME_PERIOD_S: dict[Layout, float] = {"nuscenes": 0.5, "argoverse2": 0.1, "own": 0.1}
MINI_SCENES = (8, 2)
TRAINVAL_SCENES = (700, 150)


@dataclass(frozen=True)
class WorldConfig:
    """Options of a generated data set; the same options give the same bytes.

    Attributes:
        train_scenes: scenes of the training split.
        val_scenes: scenes of the validation split.
        keyframes: annotated frames of a scene, two a second, ten in other layouts than nuScenes'.
        width: image width in pixels.
        height: image height in pixels.
        seed: chooses the world; scene k of a split is the same however many scenes there are.
        difficulty: how dense, far, fast and hidden the objects are.
        rigs: every scene has a rig of its own (`mounts.random_rig`) instead of nuScenes' six cameras; image
            heights are the rigs'. What happens in a scene is the same.
        layout: nuScenes' tables and cameras, or Argoverse 2's: seven ring cameras, the front one upright,
            images 4:3 whatever `height` says, sweeps ten times a second. Or somebody's own data: tables with
            other categories and a `dataset.yaml`, seven cameras of three lenses, ten frames a second.
    """

    train_scenes: int = 8
    val_scenes: int = 2
    keyframes: int = 40
    width: int = 352
    height: int = 128
    seed: int = 0
    difficulty: Difficulty = "default"
    rigs: bool = False
    layout: Layout = "nuscenes"

    def __post_init__(self) -> None:
        _check("train_scenes", self.train_scenes, 0, TRAINVAL_SCENES[0])
        _check("val_scenes", self.val_scenes, 0, TRAINVAL_SCENES[1])
        _check("keyframes", self.keyframes, 2, 400)
        _check("width", self.width, 32, 4096)
        _check("height", self.height, 16, 4096)
        _check("seed", self.seed, 0, 2**63 - 1)
        if self.train_scenes + self.val_scenes == 0:
            raise SynclError("train_scenes and val_scenes are both 0; ask for at least one scene")
        if self.difficulty not in get_args(Difficulty):
            known = ", ".join(get_args(Difficulty))
            raise SynclError(f"difficulty: unknown value {self.difficulty!r}; choose one of {known}")
        if self.layout not in get_args(Layout):
            raise SynclError(
                f"layout: unknown value {self.layout!r}; choose one of {', '.join(get_args(Layout))}"
            )
        if self.rigs and self.layout != "nuscenes":
            raise SynclError(f"rigs: layout {self.layout} has its own seven cameras; leave one out")

    @property
    def version(self) -> str:
        """The nuScenes version whose split names are enough for the scenes: mini, else trainval."""
        if self.layout == "own":
            return own_data.VERSION
        fits = self.train_scenes <= MINI_SCENES[0] and self.val_scenes <= MINI_SCENES[1]
        return "v1.0-mini" if fits else "v1.0-trainval"

    @property
    def duration_s(self) -> float:
        """Time from the first to the last keyframe of a scene."""
        return (self.keyframes - 1) * self.period_s

    @property
    def period_s(self) -> float:
        """Time between keyframes."""
        return KEYFRAME_PERIOD_S[self.layout]


@dataclass(frozen=True)
class Population:
    """How many instances of what a scene of 20 seconds holds, how fast and how near they are.

    Counts grow with the length of longer scenes. `parked` and `moving` are counts by class. Objects farther
    than `lidar_range_m` get no lidar points and so are not ground truth to the official metrics.
    """

    parked: dict[str, int] = field(
        default_factory=lambda: {
            "car": 5, "truck": 1, "bus": 1, "trailer": 1,
            "construction_vehicle": 1, "motorcycle": 1, "bicycle": 1,
        }
    )  # fmt: skip
    moving: dict[str, int] = field(
        default_factory=lambda: {"car": 3, "truck": 1, "bus": 1, "trailer": 1, "motorcycle": 2, "bicycle": 2}
    )
    standing_pedestrians: int = 3
    walking_pedestrians: int = 5
    cones: int = 3
    barriers: int = 2
    speed: float = 1.0
    reach_m: float = 24.0
    occluders: float = 0.6
    through_streets: float = 0.25
    lidar_range_m: float = 30.0


POPULATIONS: dict[Difficulty, Population] = {
    "easy": Population(
        parked={
            "car": 3, "truck": 1, "bus": 1, "trailer": 1,
            "construction_vehicle": 1, "motorcycle": 1, "bicycle": 1,
        },
        moving={
            "car": 2, "truck": 1,
            "bus": 1, "trailer": 1, "motorcycle": 1, "bicycle": 1,
        },
        standing_pedestrians=2,
        walking_pedestrians=3,
        cones=2,
        barriers=1,
        speed=0.8,
        reach_m=20.0,
        occluders=0.4,
        through_streets=0.2,
        lidar_range_m=25.0,
    ),
    "default": Population(),
    "hard": Population(
        parked={
            "car": 18, "truck": 3, "bus": 2, "trailer": 3,
            "construction_vehicle": 2, "motorcycle": 4, "bicycle": 5,
        },
        moving={
            "car": 10, "truck": 3,
            "bus": 2, "trailer": 2, "motorcycle": 5, "bicycle": 6,
        },
        standing_pedestrians=9,
        walking_pedestrians=20,
        cones=12,
        barriers=8,
        speed=1.4,
        reach_m=45.0,
        occluders=1.5,
        through_streets=0.7,
        lidar_range_m=70.0,
    ),
}  # fmt: skip


def _check(field: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SynclError(f"{field}: expected a whole number, got {value!r}")
    if not low <= value <= high:
        raise SynclError(f"{field}: {value} is outside {low} to {high}")
