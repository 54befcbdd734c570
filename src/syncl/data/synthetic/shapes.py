"""Solid shapes made of convex parts with flat details, and the order in which to paint them.

A shape is a list of polygons of at most eight corners, grouped in convex parts. Details (windows, lights) lie
on a face and follow it in the list. Painting the parts from back to front, and within a part all polygons
that face the viewer, gives the right picture without a depth buffer. The order of the parts depends only on
which side of the parts' bounding planes the viewer is, so it is computed once for each such cell and kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Colour = tuple[float, float, float]
"""Blue, green, red, 0 to 255."""

CORNERS = 8
PRIMARY, SECONDARY, TERTIARY = 0, 1, 2
_STILL = np.zeros(1)


@dataclass(frozen=True)
class Tint:
    """One of an instance's own colours, made lighter or darker by `factor`."""

    slot: int
    factor: float = 1.0


Paint = Colour | Tint
Detail = tuple[tuple[float, float], tuple[float, float], Paint]
"""A rectangle on a face: from where to where left to right, and bottom to top, in fractions; its paint."""


@dataclass(frozen=True)
class Shape:
    """A shape with P polygons and K parts in its own frame: x forward, y left, z up, ground at z = 0, metres.

    Attributes:
        size: length, width, height of the nominal shape, metres.
        corners: [P, 8, 3] polygon corners, the last one repeated where there are fewer than eight.
        counts: [P] number of corners.
        normals: [P, 3] outward unit normals.
        colours: [P, 3] fixed colour, or the factor of the tint.
        slots: [P] tint slot, or -1 for a fixed colour.
        glowing: [P] bool, lights that shading leaves alone.
        swing: [P, 8] metres by which a corner moves forward at full stride (legs).
        parts: [P] part of each polygon, ascending.
        low, high: [K, 3] bounds of the parts.
    """

    size: Array
    corners: Array
    counts: NDArray[np.int64]
    normals: Array
    colours: Array
    slots: NDArray[np.int64]
    glowing: NDArray[np.bool_]
    swing: Array
    parts: NDArray[np.int64]
    low: Array
    high: Array
    _orders: dict[tuple[int, int, int], NDArray[np.int64]] = field(default_factory=dict, compare=False)

    def paint(self, palette: Array) -> Array:
        """Base colours [P, 3] with the instance's palette [3, 3]."""
        return np.where(self.slots[:, None] < 0, self.colours, palette[self.slots] * self.colours)

    def painting_order(self, viewer: Array) -> NDArray[np.int64]:
        """Polygon indices [P] from back to front for a viewer [3] in the shape's own (nominal) frame."""
        if len(self.low) == 1:
            return np.arange(len(self.parts))
        planes = np.concatenate([self.low, self.high])
        cell = tuple(int(n) for n in (planes < viewer).sum(0))
        key = (cell[0], cell[1], cell[2])
        if key not in self._orders:
            # Parts that touch are painted as listed: an order by distance would depend on who looked first.
            order = back_to_front(self.low, self.high, viewer, -np.arange(len(self.low), dtype=float))
            groups = [np.flatnonzero(self.parts == part) for part in order]
            self._orders[key] = np.concatenate(groups)
        return self._orders[key]


def back_to_front(low: Array, high: Array, viewer: Array, distance: Array) -> NDArray[np.int64]:
    """Order [N] in which axis-aligned boxes [N, 3] must be painted for a viewer [3].

    Two boxes that a plane separates are ordered by the viewer's side of it, which is exact; boxes that
    intersect, by `distance` [N]. Cycles are broken at the farthest box.
    """
    return in_order(cannot_hide(low, high, low, high, viewer), distance)


def cannot_hide(low: Array, high: Array, others_low: Array, others_high: Array, viewer: Array) -> Flags:
    """Whether boxes [N] lie beyond an axis-aligned plane, seen from the viewer, that others [M] do not cross.

    Args:
        low: [N, D] lower bounds.
        high: [N, D] upper bounds.
        others_low: [M, D] lower bounds.
        others_high: [M, D] upper bounds.
        viewer: [D].

    Returns:
        [N, M]; true means that box n cannot hide box m.
    """
    margin = 1e-6
    result = np.zeros((len(low), len(others_low)), bool)
    # One axis at a time: reductions over so short an axis are slow.
    for axis in range(len(viewer)):
        above, below = low[:, axis] + margin, high[:, axis] - margin
        ahead, behind = viewer[axis] <= above, viewer[axis] >= below
        result |= (others_high[:, axis] <= above[:, None]) & ahead[:, None]
        result |= (others_low[:, axis] >= below[:, None]) & behind[:, None]
    return result


def in_order(harmless: Flags, distance: Array) -> NDArray[np.int64]:
    """Painting order [N] given which boxes cannot hide which [N, N] and their distances [N]."""
    unknown = ~harmless & ~harmless.T
    before = (harmless & ~harmless.T) | (unknown & (distance[:, None] > distance[None]))
    waiting = before.sum(0)
    left = np.ones(len(distance), bool)
    order: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    while left.any():
        ready = np.flatnonzero(left & (waiting == 0))
        if len(ready) == 0:
            remaining = np.flatnonzero(left)
            ready = remaining[[np.argmax(distance[remaining])]]
        order.append(ready)
        left[ready] = False
        waiting -= before[ready].sum(0)
    return np.concatenate(order)


class ShapeBuilder:
    """Collects the parts of a shape."""

    def __init__(self) -> None:
        self._polygons: list[Array] = []
        self._rows: list[tuple[int, Colour, int, bool]] = []
        self._swing: list[Array] = []
        self._bounds: list[tuple[Array, Array]] = []
        self._faces: dict[str, Array] = {}

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        paint: Paint,
        top_x: tuple[float, float] | None = None,
        top_y: tuple[float, float] | None = None,
        swing: float = 0.0,
        faces: str = "front back left right top",
    ) -> "ShapeBuilder":
        """Add a part: a box, or a frustum when the top differs. Details added next lie on its faces."""
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        tx0, tx1 = top_x or x
        ty0, ty1 = top_y or y
        bottom = [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]
        top = [(tx0, ty0, z1), (tx1, ty0, z1), (tx1, ty1, z1), (tx0, ty1, z1)]
        # Each face: bottom left, bottom right, top right, top left as seen from outside.
        quads = {
            "front": (bottom[1], bottom[2], top[2], top[1]),
            "back": (bottom[3], bottom[0], top[0], top[3]),
            "left": (bottom[2], bottom[3], top[3], top[2]),
            "right": (bottom[0], bottom[1], top[1], top[0]),
            "top": (top[0], top[1], top[2], top[3]),
        }
        self._part(np.array(bottom + top, float))
        self._faces = {name: np.array(quad, float) for name, quad in quads.items()}
        for name in faces.split():
            quad = self._faces[name]
            weights = swing * (1 - (quad[:, 2] - z0) / (z1 - z0))
            self._add(quad, paint, False, weights)
        return self

    def detail(
        self, faces: str, u: tuple[float, float], v: tuple[float, float], paint: Paint, glow: bool = False
    ) -> "ShapeBuilder":
        """Add a rectangle on faces of the last box, in fractions: u left to right, v bottom to top."""
        for face in faces.split():
            self.details(face, [(u, v, paint)], glow)
        return self

    def details(self, face: str, rectangles: Sequence[Detail], glow: bool = False) -> "ShapeBuilder":
        """Add rectangles on one face of the last box."""
        quad = self._faces[face]
        across = np.array([(u[0], u[1], u[1], u[0]) for u, _, _ in rectangles])[..., None]
        up = np.array([(v[0], v[0], v[1], v[1]) for _, v, _ in rectangles])[..., None]
        low = (1 - across) * quad[0] + across * quad[1]
        high = (1 - across) * quad[3] + across * quad[2]
        for polygon, (_, _, paint) in zip((1 - up) * low + up * high, rectangles):
            self._add(polygon, paint, glow, _STILL)
        return self

    def wheel(
        self, x: float, radius: float, y: tuple[float, float], paint: Paint = (28, 28, 30)
    ) -> "ShapeBuilder":
        """Add a wheel standing on the ground at `x`, between two y, as a part of its own."""
        angles = np.arange(8) * np.pi / 4 + np.pi / 8
        ring = np.stack([x + radius * np.cos(angles), np.zeros(8), radius + radius * np.sin(angles)], -1)
        low, high = ring.min(0), ring.max(0)
        low[1], high[1] = y
        self._part(np.array([low, high]))
        right, left = ring + np.array([0, y[0], 0]), ring[::-1] + np.array([0, y[1], 0])
        self._add(right, paint, False, _STILL)
        self._add(left, paint, False, _STILL)
        for side in (right, left):
            centre = side.mean(0)
            self._add((centre + (side - centre) * 0.45)[::2], (120, 120, 122), False, _STILL)
        for sign in (1, -1):
            edge = x + sign * 0.7 * radius
            z = (0.1 * radius, 1.9 * radius)
            quad = np.array([(edge, y[0], z[0]), (edge, y[1], z[0]), (edge, y[1], z[1]), (edge, y[0], z[1])])
            self._add(quad[::sign], paint, False, _STILL)
        return self

    def build(self, size: tuple[float, float, float]) -> Shape:
        """The finished shape, whose parts must lie within `size` (length, width, height)."""
        counts = np.array([len(p) for p in self._polygons])
        corners, swing = np.empty((len(counts), CORNERS, 3)), np.empty((len(counts), CORNERS))
        for row, (polygon, weights) in enumerate(zip(self._polygons, self._swing)):
            count = len(polygon)
            corners[row, :count], corners[row, count:] = polygon, polygon[-1]
            swing[row, :count], swing[row, count:] = weights, weights[-1]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
        return Shape(
            size=np.array(size, float),
            corners=corners,
            counts=counts,
            normals=normals,
            colours=np.array([row[1] for row in self._rows], float),
            slots=np.array([row[2] for row in self._rows]),
            glowing=np.array([row[3] for row in self._rows]),
            swing=swing,
            parts=np.array([row[0] for row in self._rows]),
            low=np.array([low for low, _ in self._bounds]),
            high=np.array([high for _, high in self._bounds]),
        )

    def _part(self, points: Array) -> None:
        self._bounds.append((points.min(0), points.max(0)))

    def _add(self, polygon: Array, paint: Paint, glow: bool, swing: Array) -> None:
        if isinstance(paint, Tint):
            colour, slot = (paint.factor, paint.factor, paint.factor), paint.slot
        else:
            colour, slot = paint, -1
        self._polygons.append(polygon)
        self._rows.append((len(self._bounds) - 1, colour, slot, glow))
        self._swing.append(swing)
