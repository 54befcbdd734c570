"""The streets of a scene: a lattice of crossings, some joined by streets, and paths along them.

The lattice is aligned with the scene's x and y axes. Cross-section of a street, metres from its axis:

    0 ... 3.5  driving lane (right-hand traffic)     3.5 ... 6.4  parking lane
    6.4 ... 9.4  pavement                            9.4 ...      buildings
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Node = tuple[int, int]

LANE_M = 1.6
CYCLE_LANE_M = 3.0
PARKING_M = 4.95
CARRIAGEWAY_M = 6.4
PAVEMENT_M = 7.9
BUILDING_LINE_M = 9.4
TURN_M = 7.0
DIRECTIONS: tuple[Node, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class Path:
    """A curve in the ground plane, points [N, 2] at arc lengths [N], metres."""

    points: Array
    lengths: Array

    @classmethod
    def through(cls, points: Array, step_m: float = 0.25) -> "Path":
        """The polyline through `points` [M, 2], resampled at even steps."""
        gaps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        keep = np.concatenate([[True], gaps > 1e-6])
        points = points[keep]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
        lengths = np.linspace(0, along[-1], max(2, int(along[-1] / step_m) + 1))
        even = np.stack([np.interp(lengths, along, points[:, k]) for k in range(2)], -1)
        return cls(even, lengths)

    @property
    def length(self) -> float:
        """Total length, metres."""
        return float(self.lengths[-1])

    def at(self, along: Array) -> Array:
        """Points [..., 2] at arc lengths [...]; beyond the ends the curve goes on straight."""
        inside = np.stack([np.interp(along, self.lengths, self.points[:, k]) for k in range(2)], -1)
        start, end = self.points[1] - self.points[0], self.points[-1] - self.points[-2]
        before = np.minimum(along, 0.0)[..., None] * start / np.linalg.norm(start)
        after = np.maximum(along - self.length, 0.0)[..., None] * end / np.linalg.norm(end)
        result: Array = inside + before + after
        return result

    def headings(self) -> Array:
        """Direction of travel [N] at every point, radians, unwrapped."""
        delta = np.gradient(self.points, axis=0)
        return np.unwrap(np.arctan2(delta[:, 1], delta[:, 0]))


@dataclass(frozen=True)
class StreetMap:
    """Crossings at lattice nodes and the streets between neighbours.

    Attributes:
        columns, rows: coordinates of the lattice lines, metres; index 0 is node `-reach`.
        reach: largest absolute node index.
        streets: pairs of neighbouring nodes, the smaller first.
        route: nodes along which the ego vehicle drives.
    """

    columns: Array
    rows: Array
    reach: int
    streets: frozenset[tuple[Node, Node]]
    route: tuple[Node, ...]

    def position(self, node: Node) -> Array:
        """Centre [2] of a crossing, metres."""
        return np.array([self.columns[node[0] + self.reach], self.rows[node[1] + self.reach]])

    def joined(self, a: Node, b: Node) -> bool:
        """Whether a street runs between two neighbouring nodes."""
        return (min(a, b), max(a, b)) in self.streets

    def run(self, a: Node, b: Node) -> tuple[Array, Array, float]:
        """Start [2], unit direction [2] and length (metres) of the way from one crossing to the next."""
        start = self.position(a)
        way = self.position(b) - start
        length = float(np.linalg.norm(way))
        return start, way / length, length

    def neighbours(self, node: Node) -> list[Node]:
        """Nodes reached by a street from `node`, in a fixed order."""
        around = [step(node, direction) for direction in DIRECTIONS]
        return [other for other in around if self.joined(node, other)]

    def crossings(self) -> list[Node]:
        """All nodes that a street touches, sorted."""
        return sorted({node for street in self.streets for node in street})

    def lane(self, nodes: list[Node], offset_m: float) -> Path:
        """The path through `nodes`, `offset_m` to the right of the street's axis, with rounded turns."""
        points: list[Array] = []
        for k, node in enumerate(nodes):
            centre = self.position(node)
            arrive = self._direction(nodes[k - 1], node) if k else None
            leave = self._direction(node, nodes[k + 1]) if k + 1 < len(nodes) else None
            if arrive is None or leave is None:
                along = leave if leave is not None else arrive
                if along is None:
                    raise ValueError("a lane needs at least two nodes")
                points.append((centre + offset_m * right_of(along))[None])
                continue
            entry = centre - TURN_M * arrive + offset_m * right_of(arrive)
            leaving = centre + TURN_M * leave + offset_m * right_of(leave)
            reach = abs(float((leaving - entry) @ arrive)) * 0.5523
            points.append(_bezier(entry, entry + reach * arrive, leaving - reach * leave, leaving))
        return Path.through(np.concatenate(points))

    def _direction(self, a: Node, b: Node) -> Array:
        return np.array([b[0] - a[0], b[1] - a[1]], float)


def step(node: Node, direction: Node) -> Node:
    """The neighbouring node in a direction."""
    return node[0] + direction[0], node[1] + direction[1]


def right_of(direction: Array) -> Array:
    """The unit vector to the right of a direction [2]."""
    return np.array([direction[1], -direction[0]])


def lay_streets(rng: np.random.Generator, distance_m: float, through: float) -> StreetMap:
    """Streets along which the ego vehicle can drive `distance_m`, with side streets.

    The route turns at least at every second crossing, and `through` is the chance that a street goes on
    straight where the route turns: few long lines of sight keep what can be seen near.
    """
    hops = int(np.ceil(distance_m / 42.0)) + 3
    reach = hops + 3
    columns, rows = (np.cumsum(rng.uniform(46.0, 54.0, 2 * reach + 1)) for _ in range(2))
    columns, rows = columns - columns[reach], rows - rows[reach]
    route = _route(rng, hops)
    streets = {(min(a, b), max(a, b)) for a, b in pairwise(route)}
    for k, node in enumerate(route):
        ahead = None
        if k > 0:
            ahead = step(node, (node[0] - route[k - 1][0], node[1] - route[k - 1][1]))
        for direction in DIRECTIONS:
            side = step(node, direction)
            if rng.random() < (through if side == ahead else 0.5):
                streets.add((min(node, side), max(node, side)))
                onward = step(side, DIRECTIONS[int(rng.integers(4))])
                streets.add((min(side, onward), max(side, onward)))
    return StreetMap(columns, rows, reach, frozenset(streets), tuple(route))


def _route(rng: np.random.Generator, hops: int) -> list[Node]:
    """A walk that turns after at most two hops and avoids nodes already seen while it can."""
    route: list[Node] = [(0, 0)]
    direction, straight = 0, 0
    for _ in range(hops):
        turns = [1, -1] if rng.random() < 0.5 else [-1, 1]
        options = ([0] if straight < 1 and rng.random() < 0.35 else []) + turns
        choice = options[0]
        for option in options:
            ahead = step(route[-1], DIRECTIONS[(direction + option) % 4])
            beyond = step(ahead, DIRECTIONS[(direction + option) % 4])
            if ahead not in route and beyond not in route:
                choice = option
                break
        straight = straight + 1 if choice == 0 else 0
        direction = (direction + choice) % 4
        route.append(step(route[-1], DIRECTIONS[direction]))
    return route


def _bezier(a: Array, b: Array, c: Array, d: Array) -> Array:
    t = np.linspace(0, 1, 17)[:, None]
    curve: Array = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return curve
