"""The annotated objects of a scene: where they are put and how they move, without ever meeting.

Every motion is known in full before the next is chosen: candidates that would touch anything already placed,
at any time, are drawn again.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.class_shapes import palette_of, shape_of
from syncl.data.synthetic.movement import Motion, advance, clock, follow, follow_rear_axle, stay
from syncl.data.synthetic.spacing import Occupancy
from syncl.data.synthetic.streets import (
    CYCLE_LANE_M,
    LANE_M,
    PARKING_M,
    PAVEMENT_M,
    Node,
    Path,
    StreetMap,
    right_of,
    step,
)
from syncl.data.synthetic.world import Population

Array = NDArray[np.float64]

EGO_SIZE = (4.6, 1.9, 1.6)
EGO_MIDDLE_M = 1.35
EGO_WHEELBASE_M = 2.7
EGO_START_M = 22.0
KERB_CLEAR_M = 10.5
TOWBAR_M = 1.2
PLAIN_SCENE_S = 19.5

LONGEST_FIRST = ("trailer", "bus", "truck", "bicycle", "motorcycle", "car")
TOP_SPEED = {
    "car": (4.5, 8.0),
    "truck": (4.0, 6.5),
    "bus": (4.0, 6.5),
    "motorcycle": (4.0, 7.5),
    "bicycle": (2.2, 4.0),
}
LENGTH_SCALE = {"bus": (0.85, 1.0), "trailer": (0.72, 0.95), "truck": (0.85, 1.08), "car": (0.93, 1.06)}


@dataclass(frozen=True)
class Actor:
    """An annotated object.

    Attributes:
        name: detection class.
        look: shape name (see `class_shapes`).
        size: length, width, height, metres.
        palette: [3, 3] colours.
        motion: where it is.
        posture: "parked", "driving", "walking", "standing", "sitting" or "fixed".
    """

    name: str
    look: str
    size: Array
    palette: Array
    motion: Motion
    posture: str

    @property
    def moves(self) -> bool:
        """Whether it is ever anywhere else."""
        return self.posture in ("driving", "walking")


@dataclass(frozen=True)
class Cast:
    """The ego vehicle's motion (rear axle) and all actors."""

    ego: Motion
    actors: tuple[Actor, ...]


def cast_scene(rng: np.random.Generator, streets: StreetMap, people: Population, duration_s: float) -> Cast:
    """Place and move everything that a scene of `duration_s` holds."""
    return _Casting(rng, streets, people, duration_s).run()


class _Casting:
    """The state of filling one scene."""

    def __init__(
        self, rng: np.random.Generator, streets: StreetMap, people: Population, duration_s: float
    ) -> None:
        self.rng, self.streets, self.people = rng, streets, people
        self.times = clock(duration_s)
        self.scale = max(1.0, duration_s / PLAIN_SCENE_S)
        self.actors: list[Actor] = []
        self.ground = Occupancy()
        self.kerbs: dict[tuple[Node, Node], list[tuple[float, float]]] = {}
        self.lanes: dict[tuple[bool, float], Path] = {}

    def run(self) -> Cast:
        route = self.streets.lane(list(self.streets.route), LANE_M)
        self.ego = self._drive_ego(route)
        middle = self.ego.places + EGO_MIDDLE_M * np.stack(
            [np.cos(self.ego.headings), np.sin(self.ego.headings)], -1
        )
        self.near = middle
        self.ground.add(Motion(middle, self.ego.headings, self.ego.travelled), np.array(EGO_SIZE))
        passed = self._streets_passed()
        self._park(passed)
        for name in LONGEST_FIRST:
            for _ in range(self._count(self.people.moving.get(name, 0))):
                self._add_driver(name)
        for _ in range(self._count(self.people.walking_pedestrians)):
            self._add_walker()
        for _ in range(self._count(self.people.standing_pedestrians)):
            self._add_bystander(passed)
        return Cast(self.ego, tuple(self.actors))

    def _count(self, count: int) -> int:
        return round(count * self.scale)

    def _drive_ego(self, route: Path) -> Motion:
        speed = self.rng.uniform(4.2, 6.0) * min(1.0, self.people.speed)
        stops = self._stops(0.35, EGO_START_M, (15, 50), (2, 4))
        along = advance(route, EGO_START_M, speed, self.times, stops)
        return follow_rear_axle(route, along, EGO_WHEELBASE_M)

    def _stops(
        self, share: float, start_m: float, ahead_m: tuple[float, float], wait_s: tuple[float, float]
    ) -> tuple[tuple[float, float], ...]:
        """A stop somewhere ahead, for a share of all that move."""
        if self.rng.random() >= share:
            return ()
        return ((start_m + float(self.rng.uniform(*ahead_m)), float(self.rng.uniform(*wait_s))),)

    def _streets_passed(self) -> list[tuple[Node, Node]]:
        """Streets of the route that the ego vehicle drives, then the next and the side streets beside it."""
        route = self.streets.route
        lengths = [self.streets.run(a, b)[2] for a, b in pairwise(route)]
        driven = int(np.searchsorted(np.cumsum(lengths), self.ego.travelled[-1] + 8.0)) + 1
        return list(pairwise(route[: driven + 1]))

    # Parked and fixed objects -------------------------------------------------------------------------------

    def _park(self, passed: list[tuple[Node, Node]]) -> None:
        wanted = [name for name, count in self.people.parked.items() for _ in range(self._count(count))]
        rank = {"construction_vehicle": 0, "bus": 1, "trailer": 2, "truck": 3}
        for name in sorted(wanted, key=lambda name: rank.get(name, 4)):
            if name == "construction_vehicle":
                self._add_works(passed)
            elif name in ("motorcycle", "bicycle"):
                self._add_parked(passed, name, name, 1.3, angle=float(self.rng.uniform(0.9, 2.2)))
            else:
                look = "car.van" if name == "car" and self.rng.random() < 0.2 else name
                self._add_parked(passed, name, look, None, angle=0.0)
        for name, count in (("traffic_cone", self.people.cones), ("barrier", self.people.barriers)):
            for _ in range(self._count(count)):
                self._add_parked(passed, name, name, 1.0 if name == "traffic_cone" else 1.2, angle=0.0)

    def _add_parked(
        self, passed: list[tuple[Node, Node]], name: str, look: str, room_m: float | None, angle: float
    ) -> None:
        size = self._size(name, look)
        room = (size[0] if room_m is None else room_m) + 0.9
        spot = self._find_kerb(passed, room)
        if spot is None:
            return
        street, along = spot
        shift = float(self.rng.uniform(-0.12, 0.12))
        place, heading = self._kerb_pose(street, along, PARKING_M + shift)
        heading += angle + float(self.rng.normal(0, 0.02))
        posture = "fixed" if name in ("traffic_cone", "barrier") else "parked"
        self._enter(name, look, size, stay(place, heading, self.times), posture)

    def _add_works(self, passed: list[tuple[Node, Node]]) -> None:
        """A digger between two barriers, with cones along the lane."""
        size = self._size("construction_vehicle", "construction_vehicle")
        half = size[0] / 2 + 1.6
        spot = self._find_kerb(passed, 2 * half + 0.8)
        if spot is None:
            return
        street, along = spot
        flip = np.pi * int(self.rng.integers(2))
        place, heading = self._kerb_pose(street, along, PARKING_M)
        motion = stay(place, heading + flip, self.times)
        self._enter("construction_vehicle", "construction_vehicle", size, motion, "parked")
        for name, offset, aside in (
            ("barrier", -half + 0.4, PARKING_M),
            ("barrier", half - 0.4, PARKING_M),
            ("traffic_cone", -half + 1.2, 3.72),
            ("traffic_cone", half - 1.2, 3.72),
        ):
            place, heading = self._kerb_pose(street, along + offset, aside)
            self._enter(name, name, self._size(name, name), stay(place, heading, self.times), "fixed")

    def _find_kerb(
        self, passed: list[tuple[Node, Node]], room_m: float
    ) -> tuple[tuple[Node, Node], float] | None:
        """A free stretch of kerb: the directed street whose right side it is on, and the place along it."""
        for _ in range(60):
            street, length = self._pick(passed)
            low, high = KERB_CLEAR_M + room_m / 2, length - KERB_CLEAR_M - room_m / 2
            if low >= high:
                continue
            along = float(self.rng.uniform(low, high))
            taken = self.kerbs.setdefault(street, [])
            if all(abs(along - other) >= (room_m + room) / 2 for other, room in taken):
                taken.append((along, room_m))
                return street, along
        return None

    def _pick(self, passed: list[tuple[Node, Node]]) -> tuple[tuple[Node, Node], float]:
        """A street in either direction, and how long it is."""
        a, b = passed[int(self.rng.integers(len(passed)))]
        street = (a, b) if self.rng.random() < 0.5 else (b, a)
        return street, self.streets.run(a, b)[2]

    def _kerb_pose(self, street: tuple[Node, Node], along: float, offset: float) -> tuple[Array, float]:
        start, direction, _ = self.streets.run(*street)
        place = start + along * direction + offset * right_of(direction)
        return place, float(np.arctan2(direction[1], direction[0]))

    # Moving objects -----------------------------------------------------------------------------------------

    def _add_driver(self, name: str) -> None:
        towing = name == "trailer"
        kind = "truck" if towing else name
        look = f"{kind}.rider" if kind in ("motorcycle", "bicycle") else kind
        if kind == "car" and self.rng.random() < 0.2:
            look = "car.van"
        size = self._size(kind, look)
        load = self._size("trailer", "trailer") * [0.85, 1, 1]
        slack = (size[0] + load[0]) / 2 + TOWBAR_M if towing else 0.0
        lane = CYCLE_LANE_M if kind == "bicycle" else LANE_M
        low, high = TOP_SPEED[kind]
        margin = 0.05 if kind == "bicycle" else 0.3
        for attempt in range(80 if towing else 40):
            path = self._vehicle_path(lane)
            if path is None:
                continue
            room = size[0] / 2 + slack + load[0] * towing
            start = float(self.rng.uniform(room, max(room + 1, path.length - 20)))
            speed = float(self.rng.uniform(low, high)) * self.people.speed
            stops = self._stops(0.2, start, (5, 40), (2, 5))
            along = advance(path, start, speed, self.times, stops)
            motion = follow(path, along, size[0])
            if not self._is_near(motion, attempt) or not self.ground.is_free(motion, size, margin):
                continue
            trailing = follow(path, along - slack, load[0]) if towing else None
            if trailing is not None and not self.ground.is_free(trailing, load, margin):
                continue
            self._enter(kind, look, size, motion, "driving")
            if trailing is not None:
                self._enter("trailer", "trailer", load, trailing, "driving")
            return

    def _vehicle_path(self, lane: float) -> Path | None:
        """Along the ego vehicle's route, against it, or wherever the streets lead."""
        route = list(self.streets.route)
        kind = self.rng.random()
        if kind < 0.6:
            against = kind >= 0.35
            if (against, lane) not in self.lanes:
                self.lanes[against, lane] = self.streets.lane(route[::-1] if against else route, lane)
            return self.lanes[against, lane]
        starts = self.streets.crossings()
        nodes = [starts[int(self.rng.integers(len(starts)))]]
        for _ in range(len(route)):
            onward = [n for n in self.streets.neighbours(nodes[-1]) if len(nodes) < 2 or n != nodes[-2]]
            if not onward:
                break
            nodes.append(onward[int(self.rng.integers(len(onward)))])
        return self.streets.lane(nodes, lane) if len(nodes) > 1 else None

    def _add_walker(self) -> None:
        size = self._size("pedestrian", "pedestrian")
        for attempt in range(40):
            path = self._walk()
            speed = float(self.rng.uniform(0.8, 1.5)) * min(1.2, self.people.speed)
            stops = self._stops(0.2, 0.0, (2, 15), (2, 6))
            along = advance(path, float(self.rng.uniform(0, 20)), speed, self.times, stops)
            motion = follow(path, along, 1.0)
            if self._is_near(motion, attempt) and self.ground.is_free(motion, size, 0.15):
                self._enter("pedestrian", "pedestrian", size, motion, "walking")
                return

    def _walk(self) -> Path:
        """A walk along pavements and across streets at crossings near the route."""
        route = self.streets.route
        node = route[int(self.rng.integers(len(route)))]
        corner = [1 - 2 * int(self.rng.integers(2)) for _ in range(2)]
        jitter = self.rng.uniform(-0.6, 0.6, 2)
        points = [self._corner(node, corner) + jitter]
        need = 60.0 * self.scale
        while need > 0:
            axis = int(self.rng.integers(2))
            towards = (corner[0], 0) if axis == 0 else (0, corner[1])
            onward = step(node, towards)
            if self.rng.random() < 0.45 and self.streets.joined(node, onward):
                node = onward
            elif len(points) > 1 and self.rng.random() < 0.3:
                continue
            corner[axis] = -corner[axis]
            points.append(self._corner(node, corner) + jitter)
            need -= float(np.linalg.norm(points[-1] - points[-2]))
        return Path.through(np.array(points))

    def _corner(self, node: Node, corner: list[int]) -> Array:
        return self.streets.position(node) + PAVEMENT_M * np.array(corner)

    def _add_bystander(self, passed: list[tuple[Node, Node]]) -> None:
        sitting = bool(self.rng.random() < 0.2)
        look = "pedestrian.sitting" if sitting else "pedestrian"
        size = self._size("pedestrian", look)
        for _ in range(40):
            street, length = self._pick(passed)
            along = float(self.rng.uniform(7.0, length - 7.0))
            place, heading = self._kerb_pose(
                street, along, 8.7 if sitting else float(self.rng.uniform(6.8, 8.6))
            )
            heading += np.pi / 2 if sitting else float(self.rng.uniform(-np.pi, np.pi))
            motion = stay(place, heading, self.times)
            if self.ground.is_free(motion, size, 0.15):
                self._enter("pedestrian", look, size, motion, "sitting" if sitting else "standing")
                return

    # Keeping apart ------------------------------------------------------------------------------------------

    def _size(self, name: str, look: str) -> Array:
        nominal = shape_of(look).size
        scale = self.rng.normal(1.0, 0.035, 3).clip(0.92, 1.08)
        if name in LENGTH_SCALE:
            scale[0] = self.rng.uniform(*LENGTH_SCALE[name])
        if name == "pedestrian":
            scale[:] = self.rng.normal(1.0, 0.05, 3).clip(0.88, 1.1)
        size: Array = np.round(nominal * scale, 3)
        return size

    def _enter(self, name: str, look: str, size: Array, motion: Motion, posture: str) -> None:
        self.ground.add(motion, size)
        self.actors.append(Actor(name, look, size, palette_of(name, self.rng), motion, posture))

    def _is_near(self, motion: Motion, attempt: int) -> bool:
        """Whether it is near the ego vehicle for long enough; later attempts are content with less."""
        distance = np.linalg.norm(motion.places - self.near, axis=-1)
        share = float((distance < self.people.reach_m).mean())
        return share > 0.4 - 0.01 * min(attempt, 35)
