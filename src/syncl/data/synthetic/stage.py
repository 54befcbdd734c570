"""A scene's polygons as arrays, ready to be seen by any camera at any time."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.actors import Actor
from syncl.data.synthetic.class_shapes import shape_of
from syncl.data.synthetic.movement import LEAD_S, STEP_S
from syncl.data.synthetic.scenery import Crown, Light, Prop, Scenery
from syncl.data.synthetic.shapes import CORNERS, Array, Shape

Ints = NDArray[np.int64]
STRIDE_M = 1.4


@dataclass(frozen=True)
class Polygons:
    """P polygons in the scene frame.

    Attributes:
        corners: [P, 8, 3] metres.
        counts: [P] corners of each.
        normals: [P, 3].
        colours: [P, 3] lit, without haze.
        blobs: [P, 8, 2] metres to the viewer's right and up, added to the corners; zero unless a blob.
        flat: [P] bool, false for blobs, which are seen from everywhere.
    """

    corners: Array
    counts: Ints
    normals: Array
    colours: Array
    blobs: Array
    flat: NDArray[np.bool_]


@dataclass(frozen=True)
class Items:
    """I things to paint, each a run of polygons.

    Attributes:
        shapes: the shape of each, None for crowns.
        starts: [I] first polygon of each.
        places: [I, 2], headings: [I], sizes: [I, 3].
        low, high: [I, 3] axis-aligned bounds in the scene frame, metres.
        owners: [I] actor index, or -1 for scenery.
    """

    shapes: tuple[Shape | None, ...]
    starts: Ints
    places: Array
    headings: Array
    sizes: Array
    low: Array
    high: Array
    owners: Ints


class Stage:
    """A scene ready to be painted: what stands still is prepared once, what moves, for each picture."""

    def __init__(self, scenery: Scenery, actors: tuple[Actor, ...], light: Light) -> None:
        self.light = light
        still = [
            Prop(shape_of(a.look), a.motion.places[0], float(a.motion.headings[0]), a.size, a.palette, k)
            for k, a in enumerate(actors)
            if not a.moves
        ]
        props = list(scenery.props) + still
        groups = [_pose_prop(prop, light) for prop in props]
        groups += [_pose_crown(crown, light) for crown in scenery.crowns]
        self._prepare_movers(actors)
        # What moves comes last and is overwritten for each picture.
        self._polygons = _join([*groups, self._base])
        self._items = self._list_items(props, scenery.crowns, [len(group.counts) for group in groups])

    @property
    def mover_count(self) -> int:
        """Number of things that move; they are the last items."""
        return len(self._owners)

    def _list_items(self, props: list[Prop], crowns: tuple[Crown, ...], counts: list[int]) -> Items:
        counts = counts + [len(s.counts) for s in self._shapes]
        spots = np.array([c.centre for c in crowns]).reshape(-1, 3)
        reach = np.array([np.full(3, c.radius) for c in crowns]).reshape(-1, 3)
        places = np.array([p.place for p in props]).reshape(-1, 2)
        headings = np.array([p.heading for p in props])
        sizes = np.array([p.size for p in props]).reshape(-1, 3)
        low, high = _bounds(places, headings, sizes)
        movers = len(self._owners)
        return Items(
            shapes=(*(p.shape for p in props), *(None for _ in crowns), *self._shapes),
            starts=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64),
            places=np.concatenate([places, spots[:, :2], np.zeros((movers, 2))]),
            headings=np.concatenate([headings, np.zeros(len(crowns) + movers)]),
            sizes=np.concatenate([sizes, 2 * reach, self._sizes]),
            low=np.concatenate([low, spots - reach, np.zeros((movers, 3))]),
            high=np.concatenate([high, spots + reach, np.zeros((movers, 3))]),
            owners=np.array([*(p.owner for p in props), *[-1] * len(crowns), *self._owners], int),
        )

    def _prepare_movers(self, actors: tuple[Actor, ...]) -> None:
        movers = [(k, a) for k, a in enumerate(actors) if a.moves]
        self._owners = np.array([k for k, _ in movers], np.int64)
        self._shapes = tuple(shape_of(a.look) for _, a in movers)
        self._sizes = np.array([a.size for _, a in movers]).reshape(-1, 3)
        self._walks = np.array([a.posture == "walking" for _, a in movers], bool)
        self._places = np.array([a.motion.places for _, a in movers])
        self._headings = np.array([a.motion.headings for _, a in movers])
        self._travelled = np.array([a.motion.travelled for _, a in movers])
        counts = [len(s.counts) for s in self._shapes]
        self._polygon_item = np.repeat(np.arange(len(movers)), counts)
        shaped = list(zip(self._shapes, movers, strict=True))
        self._base = _join(
            [_solid(s.corners / s.size, s.counts, s.normals, s.paint(a.palette)) for s, (_, a) in shaped]
        )
        if movers:
            self._glowing = np.concatenate([s.glowing for s in self._shapes])
            self._swing = np.concatenate([s.swing for s in self._shapes])

    def at(self, time_s: float) -> tuple[Polygons, Items]:
        """Everything as it is at a time; the arrays are reused by the next call."""
        if len(self._owners) == 0:
            return self._polygons, self._items
        places, headings, travelled = self._poses(time_s)
        cos, sin = np.cos(headings), np.sin(headings)
        of = self._polygon_item
        local = self._base.corners * self._sizes[of, None]
        stride = np.where(self._walks, np.sin(2 * np.pi * travelled / STRIDE_M), 0.0)
        local[..., 0] += self._swing * stride[of, None]
        c, s = cos[of, None], sin[of, None]
        tail = slice(len(self._polygons.counts) - len(of), None)
        corners = self._polygons.corners[tail]
        corners[..., 0] = local[..., 0] * c - local[..., 1] * s + places[of, None, 0]
        corners[..., 1] = local[..., 0] * s + local[..., 1] * c + places[of, None, 1]
        corners[..., 2] = local[..., 2]
        normals, n = self._polygons.normals[tail], self._base.normals
        normals[:, 0] = n[:, 0] * cos[of] - n[:, 1] * sin[of]
        normals[:, 1] = n[:, 0] * sin[of] + n[:, 1] * cos[of]
        self._polygons.colours[tail] = self.light.shade(self._base.colours, normals, self._glowing)
        low, high = _bounds(places, headings, self._sizes)
        tail = slice(len(self._items.owners) - len(places), None)
        self._items.places[tail], self._items.headings[tail] = places, headings
        self._items.low[tail], self._items.high[tail] = low, high
        return self._polygons, self._items

    def _poses(self, time_s: float) -> tuple[Array, Array, Array]:
        position = (time_s + LEAD_S) / STEP_S
        index = min(max(int(position), 0), self._headings.shape[1] - 2)
        part = position - index

        def between(values: Array) -> Array:
            blend: Array = values[:, index] * (1 - part) + values[:, index + 1] * part
            return blend

        return between(self._places), between(self._headings), between(self._travelled)


def _pose_prop(prop: Prop, light: Light) -> Polygons:
    shape = prop.shape
    cos, sin = np.cos(prop.heading), np.sin(prop.heading)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    corners = shape.corners * (prop.size / shape.size) @ turn.T + np.append(prop.place, 0.0)
    normals = shape.normals @ turn.T
    colours = light.shade(shape.paint(prop.palette), normals, shape.glowing)
    return _solid(corners, shape.counts, normals, colours)


def _solid(corners: Array, counts: Ints, normals: Array, colours: Array) -> Polygons:
    """Polygons that are no blobs."""
    blobs, flat = np.zeros((len(counts), CORNERS, 2)), np.ones(len(counts), bool)
    return Polygons(corners, counts, normals, colours, blobs, flat)


def _pose_crown(crown: Crown, light: Light) -> Polygons:
    count = len(crown.rings)
    tones = np.array([0.72, 0.95, 1.15, 1.35])[:count, None]
    up = np.tile(np.array([0, 0, 1.0]), (count, 1))
    colours = light.shade(crown.colour * tones, up, np.zeros(count, bool)) * 0.85
    corners = np.tile(crown.centre, (count, 8, 1))
    return Polygons(
        corners, np.full(count, 8), up, colours, crown.rings * crown.radius, np.zeros(count, bool)
    )


def _join(groups: list[Polygons]) -> Polygons:
    nothing = np.zeros((0, 3))
    empty = _solid(np.zeros((0, CORNERS, 3)), np.zeros(0, int), nothing, nothing)
    columns = [[getattr(group, field.name) for group in (empty, *groups)] for field in fields(Polygons)]
    return Polygons(*(np.concatenate(column) for column in columns))


def _bounds(places: Array, headings: Array, sizes: Array) -> tuple[Array, Array]:
    """Axis-aligned bounds [N, 3] of upright boxes standing on the ground."""
    cos, sin = np.abs(np.cos(headings)), np.abs(np.sin(headings))
    half = np.stack([cos * sizes[:, 0] + sin * sizes[:, 1], sin * sizes[:, 0] + cos * sizes[:, 1]], -1) / 2
    low = np.concatenate([places - half, np.zeros((len(places), 1))], -1)
    high = np.concatenate([places + half, sizes[:, 2:3]], -1)
    return low, high
