"""The ground as one picture seen from above: carriageways, pavements, markings, and the shadows on it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.scenery import Light, Scenery
from syncl.data.synthetic.shapes import Array
from syncl.data.synthetic.streets import BUILDING_LINE_M, CARRIAGEWAY_M, DIRECTIONS, StreetMap, right_of, step

Image = NDArray[np.uint8]

FINE_M = 0.125
COARSE = 6
FAR_M = 16.0
"""Beyond this distance the coarse picture is used, or single texels would flicker."""


@dataclass(frozen=True)
class Ground:
    """Pictures [H, W, 4] of the ground, blue-green-red and a zero channel, and their scales.

    Attributes:
        fine, coarse: the same ground at two resolutions.
        corner: [2] scene position of the first pixel's outer corner, metres; rows run along +y.
        fine_m, coarse_m: metres a pixel.
        edge: [3] colour outside the pictures.
    """

    fine: Image
    coarse: Image
    corner: Array
    fine_m: float
    coarse_m: float
    edge: Array


def paint_ground(
    rng: np.random.Generator, streets: StreetMap, scenery: Scenery, light: Light, centre_line: Array
) -> Ground:
    """Paint the ground within 75 m of the ego vehicle's places `centre_line` [N, 2]."""
    corner = np.floor(centre_line.min(0) - 75.0)
    extent = np.ceil(centre_line.max(0) + 75.0) - corner
    cells = np.ceil(extent / FINE_M / COARSE).astype(int) * COARSE
    base = np.array([75, 100, 95.0]) * rng.uniform(0.8, 1.1)
    image = np.empty((cells[1], cells[0], 3), np.uint8)
    image[:] = base
    painter = _Painter(image, corner)
    pavement = np.array([150, 152, 155.0]) * rng.uniform(0.8, 1.1)
    asphalt = np.array([82, 80, 78.0]) * rng.uniform(0.75, 1.2)
    for half, colour in (
        (BUILDING_LINE_M, pavement),
        (CARRIAGEWAY_M + 0.2, pavement * 1.15),
        (CARRIAGEWAY_M, asphalt),
    ):
        for a, b in sorted(streets.streets):
            painter.strip(streets.position(a), streets.position(b), half, half, colour)
    _patch_asphalt(rng, painter, streets, asphalt)
    _mark(rng, painter, streets)
    shadows = np.zeros(image.shape[:2], np.uint8)
    _cast_shadows(_Painter(shadows, corner), scenery, light)
    shadows = cv2.blur(shadows, (5, 5))
    grain = rng.normal(1.0, 0.07, (256, 256))
    broad = cv2.resize(rng.normal(1.0, 0.08, (40, 40)), (256, 256), interpolation=cv2.INTER_CUBIC)
    lit = light.ambient + 0.08 + light.direct * light.sun[2]
    tile = np.tile(grain * broad, (1, cells[0] // 256 + 1))[:, : cells[0]]
    fine = np.zeros((cells[1], cells[0], 4), np.uint8)
    # A band at a time, for long drives cover square kilometres.
    for top in range(0, int(cells[1]), 256):
        rows = slice(top, min(top + 256, int(cells[1])))
        brightness = lit * (1 - (1 - light.shadow) * shadows[rows] / 255.0)
        factor = tile[: rows.stop - top] * brightness
        fine[rows, :, :3] = np.clip(image[rows] * (factor[..., None] * light.tone), 0, 255)
    small = (int(cells[0]) // COARSE, int(cells[1]) // COARSE)
    coarse = np.asarray(cv2.resize(fine, small, interpolation=cv2.INTER_AREA), np.uint8)
    return Ground(fine, coarse, corner, FINE_M, FINE_M * COARSE, base * lit * light.tone)


class _Painter:
    """Draws shapes given in metres."""

    def __init__(self, image: Image, corner: Array) -> None:
        self.image, self.corner = image, corner

    def polygon(self, points: Array, colour: Array | float) -> None:
        pixels = np.round(((points - self.corner) / FINE_M - 0.5) * 16).astype(np.int32)
        values = [float(v) for v in np.atleast_1d(np.clip(colour, 0, 255))]
        cv2.fillConvexPoly(self.image, pixels, values, lineType=cv2.LINE_AA, shift=4)

    def strip(self, start: Array, end: Array, half: float, beyond: float, colour: Array) -> None:
        """A rectangle along a line, `half` metres to either side and `beyond` its ends."""
        direction = (end - start) / np.linalg.norm(end - start)
        a, b, side = start - direction * beyond, end + direction * beyond, right_of(direction) * half
        self.polygon(np.array([a - side, a + side, b + side, b - side]), colour)


def _patch_asphalt(rng: np.random.Generator, painter: _Painter, streets: StreetMap, asphalt: Array) -> None:
    for a, b in sorted(streets.streets):
        start, end = streets.position(a), streets.position(b)
        direction = (end - start) / np.linalg.norm(end - start)
        for _ in range(int(rng.integers(2, 6))):
            middle = start + (end - start) * rng.uniform(0, 1) + right_of(direction) * rng.uniform(-5, 5)
            reach = direction * rng.uniform(0.4, 4.0)
            painter.strip(
                middle - reach, middle + reach, rng.uniform(0.3, 1.3), 0.0, asphalt * rng.uniform(0.8, 1.15)
            )


def _mark(rng: np.random.Generator, painter: _Painter, streets: StreetMap) -> None:
    """Dashed centre lines, parking lines and zebra crossings."""
    white = np.array([205, 210, 212.0])
    centre = white if rng.random() < 0.6 else np.array([70, 185, 215.0])
    for a, b in sorted(streets.streets):
        start, direction, length = streets.run(a, b)
        for along in np.arange(11.0, length - 12.0, 5.0):
            painter.strip(start + direction * along, start + direction * (along + 2.5), 0.08, 0.0, centre)
        for offset in (-3.5, 3.5):
            shift = right_of(direction) * offset
            begin, end = start + direction * 10.0 + shift, start + direction * (length - 10.0) + shift
            painter.strip(begin, end, 0.06, 0.0, white)
    for node in streets.crossings():
        for step_by in DIRECTIONS:
            if streets.joined(node, step(node, step_by)) and len(streets.neighbours(node)) > 1:
                outward = np.array(step_by, float)
                for offset in np.arange(-5.6, 5.7, 1.12):
                    middle = streets.position(node) + right_of(outward) * offset
                    painter.strip(middle + outward * 6.7, middle + outward * 9.2, 0.26, 0.0, white)


def _cast_shadows(painter: _Painter, scenery: Scenery, light: Light) -> None:
    """Shadows of props and crowns, white on black."""
    for prop in scenery.props:
        footprint = footprint_of(prop.place, prop.heading, prop.size)
        fall = -light.sun[:2] / light.sun[2] * min(float(prop.size[2]), 7.0)
        points = np.concatenate([footprint, footprint + fall]).astype(np.float32)
        painter.polygon(cv2.convexHull(points)[:, 0].astype(np.float64), 255.0)
    angles = np.arange(12) * np.pi / 6
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    for crown in scenery.crowns:
        fall = -light.sun[:2] / light.sun[2] * crown.centre[2]
        painter.polygon(crown.centre[:2] + fall + circle * crown.radius, 255.0)


def footprint_of(place: Array, heading: float, size: Array) -> Array:
    """Corners [4, 2] of a box on the ground, counter-clockwise."""
    forward = np.array([np.cos(heading), np.sin(heading)]) * size[0] / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * size[1] / 2
    return np.array([forward - left, forward + left, left - forward, -forward - left]) + place
