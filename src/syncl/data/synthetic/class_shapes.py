"""What the objects look like: one or more shapes for each class, and palettes.

Fronts carry white lights and rears red ones, so that headings can be seen.
"""

from functools import cache
from itertools import pairwise

import numpy as np

from syncl.data.synthetic.shapes import PRIMARY, SECONDARY, TERTIARY, Array, Shape, ShapeBuilder, Tint

WHITE_LIGHT = (235.0, 250.0, 255.0)
RED_LIGHT = (30.0, 25.0, 225.0)
GLASS = (72.0, 58.0, 48.0)
DARK = (38.0, 38.0, 40.0)
BODY, SECOND, THIRD = Tint(PRIMARY), Tint(SECONDARY), Tint(TERTIARY)

_VEHICLE_COLOURS = np.array(
    [
        (225, 225, 228), (205, 205, 205), (150, 150, 152), (95, 92, 90), (45, 44, 46), (40, 38, 160),
        (150, 70, 35), (110, 50, 25), (60, 110, 45), (70, 140, 190), (60, 90, 120), (160, 150, 60),
        (30, 60, 190),
    ],
    float,
)  # fmt: skip
_BUS_COLOURS = np.array([(40, 40, 190), (60, 170, 225), (170, 95, 35), (215, 215, 215), (80, 150, 60)], float)
_CLOTHES = np.array(
    [
        (60, 50, 45), (140, 80, 50), (50, 50, 150), (70, 110, 70), (200, 200, 200), (60, 160, 210),
        (120, 60, 120),
        (90, 90, 95), (40, 90, 200), (170, 150, 90),
    ],
    float,
)  # fmt: skip
_SKIN = np.array([(150, 180, 225), (110, 145, 200), (70, 100, 150), (50, 70, 105)], float)


def palette_of(name: str, rng: np.random.Generator) -> Array:
    """Primary, secondary and tertiary colours [3, 3] of a new instance of a class."""

    def pick(colours: Array) -> Array:
        chosen: Array = colours[rng.integers(len(colours))] * rng.uniform(0.85, 1.1) + rng.uniform(-8, 8, 3)
        return np.clip(chosen, 12, 245)

    if name in ("car", "truck"):
        return np.stack([pick(_VEHICLE_COLOURS), pick(_VEHICLE_COLOURS[[0, 1, 2, 9, 10]]), pick(_SKIN)])
    if name == "trailer":
        return np.stack([pick(_VEHICLE_COLOURS[[0, 1, 2, 6, 8, 11]]), pick(_BUS_COLOURS), pick(_SKIN)])
    if name == "bus":
        return np.stack([pick(_BUS_COLOURS), pick(_VEHICLE_COLOURS[:2]), pick(_SKIN)])
    if name == "construction_vehicle":
        return np.stack([pick(np.array([(30, 180, 235.0)])), pick(np.array([(50, 50, 52.0)])), pick(_SKIN)])
    if name == "motorcycle":
        return np.stack([pick(_VEHICLE_COLOURS[[4, 5, 7, 12]]), pick(_CLOTHES), pick(_VEHICLE_COLOURS)])
    if name == "bicycle":
        return np.stack([pick(_VEHICLE_COLOURS), pick(_CLOTHES), pick(_SKIN)])
    return np.stack([pick(_CLOTHES), pick(_CLOTHES[[0, 1, 6, 7, 9]]), pick(_SKIN)])


@cache
def shape_of(look: str) -> Shape:
    """The shape of a look: a class name, or a class name and variant such as `car.van`, `bicycle.rider`.

    Raises:
        KeyError: if there is no such look.
    """
    return _LOOKS[look]()


def _car() -> Shape:
    b = ShapeBuilder()
    b.box((-2.3, 2.3), (-0.9, 0.9), (0.28, 0.92), BODY)
    b.detail("front", (0.02, 0.24), (0.45, 0.85), WHITE_LIGHT, True)
    b.detail("front", (0.76, 0.98), (0.45, 0.85), WHITE_LIGHT, True)
    b.detail("front", (0.28, 0.72), (0.15, 0.6), DARK)
    b.detail("back", (0.02, 0.25), (0.5, 0.9), RED_LIGHT, True)
    b.detail("back", (0.75, 0.98), (0.5, 0.9), RED_LIGHT, True)
    b.detail("back", (0.38, 0.62), (0.3, 0.55), (200, 205, 205))
    b.box((-1.9, 1.0), (-0.88, 0.88), (0.92, 1.6), BODY, top_x=(-1.5, 0.25), top_y=(-0.7, 0.7))
    b.detail("front", (0.06, 0.94), (0.08, 0.88), GLASS)
    b.detail("back", (0.1, 0.9), (0.15, 0.85), GLASS)
    b.detail("left right", (0.08, 0.47), (0.12, 0.85), GLASS)
    b.detail("left right", (0.52, 0.92), (0.12, 0.85), GLASS)
    for x in (-1.42, 1.42):
        b.wheel(x, 0.33, (0.9, 0.95)).wheel(x, 0.33, (-0.95, -0.9))
    return b.build((4.6, 1.9, 1.6))


def _van() -> Shape:
    b = ShapeBuilder()
    b.box((-2.5, 2.5), (-0.95, 0.95), (0.3, 1.15), BODY)
    b.detail("front", (0.02, 0.22), (0.45, 0.8), WHITE_LIGHT, True)
    b.detail("front", (0.78, 0.98), (0.45, 0.8), WHITE_LIGHT, True)
    b.detail("front", (0.26, 0.74), (0.15, 0.55), DARK)
    b.detail("back", (0.01, 0.14), (0.45, 1.0), RED_LIGHT, True)
    b.detail("back", (0.86, 0.99), (0.45, 1.0), RED_LIGHT, True)
    b.box((-2.5, 1.7), (-0.95, 0.95), (1.15, 2.1), BODY, top_x=(-2.4, 0.9), top_y=(-0.85, 0.85))
    b.detail("front", (0.06, 0.94), (0.1, 0.85), GLASS)
    b.detail("back", (0.12, 0.88), (0.3, 0.85), GLASS)
    for side, u in (("right", (0.7, 0.95)), ("left", (0.05, 0.3))):
        b.detail(side, u, (0.15, 0.8), GLASS)
    for x in (-1.55, 1.55):
        b.wheel(x, 0.35, (0.95, 1.0)).wheel(x, 0.35, (-1.0, -0.95))
    return b.build((5.0, 2.0, 2.1))


def _truck() -> Shape:
    b = ShapeBuilder()
    b.box((-3.6, 3.6), (-1.0, 1.0), (0.45, 0.9), DARK)
    b.detail("back", (0.02, 0.25), (0.2, 0.9), RED_LIGHT, True)
    b.detail("back", (0.75, 0.98), (0.2, 0.9), RED_LIGHT, True)
    b.box((1.9, 3.6), (-1.2, 1.2), (0.9, 2.6), BODY, top_x=(1.9, 3.35))
    b.detail("front", (0.05, 0.25), (0.04, 0.18), WHITE_LIGHT, True)
    b.detail("front", (0.75, 0.95), (0.04, 0.18), WHITE_LIGHT, True)
    b.detail("front", (0.06, 0.94), (0.45, 0.9), GLASS)
    b.detail("right", (0.35, 0.9), (0.45, 0.88), GLASS)
    b.detail("left", (0.1, 0.65), (0.45, 0.88), GLASS)
    b.box((-3.6, 1.75), (-1.25, 1.25), (0.9, 3.0), SECOND)
    b.detail("back", (0.485, 0.515), (0.03, 0.97), DARK)
    b.detail("back", (0.03, 0.97), (0.0, 0.07), RED_LIGHT)
    b.detail("left right", (0.0, 1.0), (0.0, 0.06), DARK)
    b.detail("left right", (0.25, 0.75), (0.45, 0.65), BODY)
    for x in (-2.3, 2.6):
        b.wheel(x, 0.46, (1.02, 1.24)).wheel(x, 0.46, (-1.24, -1.02))
    return b.build((7.2, 2.5, 3.0))


def _bus() -> Shape:
    b = ShapeBuilder()
    b.box((-5.5, 5.5), (-1.3, 1.3), (0.32, 3.3), BODY)
    b.detail("front", (0.06, 0.94), (0.35, 0.84), GLASS)
    b.detail("front", (0.2, 0.8), (0.88, 0.97), (60, 200, 250), True)
    b.detail("front", (0.04, 0.2), (0.08, 0.18), WHITE_LIGHT, True)
    b.detail("front", (0.8, 0.96), (0.08, 0.18), WHITE_LIGHT, True)
    b.detail("back", (0.12, 0.88), (0.5, 0.85), GLASS)
    b.detail("back", (0.02, 0.14), (0.12, 0.34), RED_LIGHT, True)
    b.detail("back", (0.86, 0.98), (0.12, 0.34), RED_LIGHT, True)
    for side in ("left", "right"):
        b.detail(side, (0.0, 1.0), (0.26, 0.34), SECOND)
        for k in range(7):
            b.detail(side, (0.03 + k * 0.137, 0.15 + k * 0.137), (0.45, 0.82), GLASS)
    for u in ((0.2, 0.3), (0.84, 0.94)):
        b.detail("right", u, (0.04, 0.84), GLASS)
    for x in (-3.2, 3.3):
        b.wheel(x, 0.5, (1.3, 1.35)).wheel(x, 0.5, (-1.35, -1.3))
    return b.build((11.0, 2.7, 3.3))


def _trailer() -> Shape:
    b = ShapeBuilder()
    b.box((-5.0, 4.2), (-0.7, 0.7), (0.75, 1.15), DARK)
    b.box((-5.0, 5.0), (-1.27, 1.27), (1.15, 3.7), BODY)
    b.detail("back", (0.48, 0.52), (0.03, 0.97), DARK)
    b.detail("back", (0.0, 1.0), (0.0, 0.1), DARK)
    b.detail("back", (0.02, 0.2), (0.01, 0.09), RED_LIGHT, True)
    b.detail("back", (0.8, 0.98), (0.01, 0.09), RED_LIGHT, True)
    b.detail("back", (0.05, 0.95), (0.92, 0.96), RED_LIGHT)
    for side in ("left", "right"):
        b.detail(side, (0.0, 1.0), (0.3, 0.42), SECOND)
        for k in range(1, 6):
            b.detail(side, (k / 6 - 0.004, k / 6 + 0.004), (0.0, 1.0), Tint(PRIMARY, 0.7))
    for x in (-4.0, -2.9):
        b.wheel(x, 0.5, (0.8, 1.2)).wheel(x, 0.5, (-1.2, -0.8))
    for y in ((0.6, 0.75), (-0.75, -0.6)):
        b.box((2.9, 3.1), y, (0.0, 0.75), DARK)
    return b.build((10.0, 2.55, 3.7))


def _construction_vehicle() -> Shape:
    b = ShapeBuilder()
    for y in ((-1.35, -0.75), (0.75, 1.35)):
        b.box((-2.3, 1.7), y, (0.0, 0.85), DARK, top_x=(-2.1, 1.5))
        for side in ("left", "right"):
            b.detail(side, (0.08, 0.92), (0.25, 0.7), (70, 75, 80))
    b.box((-2.1, 1.5), (-0.75, 0.75), (0.35, 0.9), SECOND)
    b.box((-3.1, 1.0), (-1.3, 1.3), (0.9, 1.75), BODY)
    b.detail("back", (0.1, 0.9), (0.15, 0.7), DARK)
    b.detail("back", (0.02, 0.1), (0.3, 0.6), RED_LIGHT, True)
    b.detail("back", (0.9, 0.98), (0.3, 0.6), RED_LIGHT, True)
    b.detail("left right", (0.1, 0.5), (0.3, 0.6), SECOND)
    b.box((-0.5, 1.0), (0.2, 1.3), (1.75, 3.0), BODY)
    b.detail("front back left right", (0.1, 0.9), (0.15, 0.88), GLASS)
    b.box((1.0, 2.9), (-0.3, 0.15), (1.5, 2.1), BODY, top_x=(1.2, 2.9))
    b.box((2.6, 3.05), (-0.25, 0.1), (0.8, 3.0), BODY, top_x=(2.7, 2.95))
    b.box((2.4, 3.2), (-0.6, 0.45), (0.05, 0.8), SECOND)
    return b.build((6.4, 2.7, 3.0))


def _cycle(rider: bool, motor: bool) -> Shape:
    b = ShapeBuilder()
    half, radius, y = (1.05, 0.33, (-0.09, 0.09)) if motor else (0.87, 0.34, (-0.035, 0.035))
    for x in (radius - half, half - radius):
        b.wheel(x, radius, y)
    if motor:
        b.box((-0.38, 0.4), (-0.12, 0.12), (0.3, 0.85), BODY, top_x=(-0.38, 0.3))
        b.box((-0.98, -0.38), (-0.16, 0.16), (0.66, 0.88), BODY)
        b.detail("back", (0.1, 0.9), (0.1, 0.9), RED_LIGHT, True)
        b.box((0.42, 0.72), (-0.14, 0.14), (0.68, 1.1), BODY, top_x=(0.42, 0.6))
        b.detail("front", (0.05, 0.95), (0.2, 0.85), WHITE_LIGHT, True)
        b.box((0.3, 0.42), (-0.38, 0.38), (0.98, 1.08), DARK)
    else:
        b.box((-0.4, 0.4), (-0.03, 0.03), (0.42, 0.62), BODY)
        b.box((-0.25, -0.15), (-0.03, 0.03), (0.62, 0.92), BODY)
        b.box((-0.34, -0.08), (-0.08, 0.08), (0.92, 0.98), DARK)
        b.box((0.4, 0.5), (-0.03, 0.03), (0.42, 1.0), BODY, top_x=(0.32, 0.42))
        b.box((0.3, 0.4), (-0.29, 0.29), (1.0, 1.07), DARK)
        b.detail("front", (0.4, 0.6), (0.0, 1.0), WHITE_LIGHT, True)
    if not rider:
        return b.build((2.1, 0.8, 1.15) if motor else (1.74, 0.6, 1.1))
    seat = 0.85 if motor else 0.95
    for side in ((-0.26, -0.12), (0.12, 0.26)):
        b.box((-0.2, 0.1), side, (0.3, seat), Tint(SECONDARY, 0.5), top_x=(-0.25, 0.15))
    b.box((-0.3, 0.02), (-0.24, 0.24), (seat, seat + 0.52), SECOND, top_x=(-0.15, 0.18))
    b.detail("back", (0.15, 0.85), (0.2, 0.8), Tint(SECONDARY, 0.7))
    for side in ((-0.33, -0.25), (0.25, 0.33)):
        b.box((0.05, 0.38), side, (seat + 0.2, seat + 0.4), SECOND)
    b.box((-0.05, 0.22), (-0.12, 0.12), (seat + 0.52, seat + 0.78), THIRD)
    b.detail("front", (0.1, 0.9), (0.1, 0.6), GLASS if motor else (150, 175, 215))
    return b.build((2.1, 0.8, 1.65) if motor else (1.74, 0.68, 1.75))


def _pedestrian() -> Shape:
    b = ShapeBuilder()
    for y, swing in (((-0.2, -0.03), 0.24), ((0.03, 0.2), -0.24)):
        b.box((-0.1, 0.1), y, (0.0, 0.85), SECOND, swing=swing)
    b.box((-0.13, 0.13), (-0.23, 0.23), (0.85, 1.45), BODY)
    b.detail("back", (0.2, 0.8), (0.35, 0.95), Tint(PRIMARY, 0.7))
    for y in ((-0.32, -0.23), (0.23, 0.32)):
        b.box((-0.07, 0.08), y, (0.78, 1.42), Tint(PRIMARY, 0.85))
    b.box((-0.1, 0.12), (-0.1, 0.1), (1.47, 1.75), THIRD)
    b.detail("back", (0.0, 1.0), (0.2, 1.0), DARK)
    b.detail("top", (0.0, 1.0), (0.0, 1.0), DARK)
    b.detail("left right", (0.0, 1.0), (0.65, 1.0), DARK)
    return b.build((0.7, 0.66, 1.75))


def _sitting() -> Shape:
    b = ShapeBuilder()
    b.box((-0.38, 0.0), (-0.3, 0.3), (0.0, 0.42), (60, 80, 95))
    for y in ((-0.2, -0.03), (0.03, 0.2)):
        b.box((0.15, 0.36), y, (0.0, 0.45), SECOND)
    b.box((-0.25, 0.35), (-0.2, 0.2), (0.45, 0.6), SECOND)
    b.box((-0.3, -0.04), (-0.23, 0.23), (0.6, 1.05), BODY)
    b.box((-0.26, -0.05), (-0.1, 0.1), (1.06, 1.32), THIRD)
    b.detail("back", (0.0, 1.0), (0.2, 1.0), DARK)
    return b.build((0.8, 0.66, 1.32))


def _traffic_cone() -> Shape:
    orange, white = (20.0, 95.0, 245.0), (235.0, 238.0, 240.0)
    b = ShapeBuilder()
    b.box((-0.2, 0.2), (-0.2, 0.2), (0.0, 0.06), DARK)
    steps = ((0.06, 0.16, orange), (0.42, 0.11, white), (0.6, 0.085, orange), (0.9, 0.03, orange))
    for (z0, r0, paint), (z1, r1, _) in pairwise(steps):
        b.box((-r0, r0), (-r0, r0), (z0, z1), paint, top_x=(-r1, r1), top_y=(-r1, r1))
    return b.build((0.4, 0.4, 0.9))


def _barrier() -> Shape:
    red, white = (40.0, 35.0, 205.0), (232.0, 235.0, 235.0)
    b = ShapeBuilder()
    for y in (-0.9, 0.9):
        b.box((-0.24, 0.24), (y - 0.1, y + 0.1), (0.0, 0.2), DARK)
    b.box((-0.09, 0.09), (-1.2, 1.2), (0.2, 0.98), white)
    for face in ("front", "back"):
        for k in range(4):
            b.detail(face, (k * 0.26, k * 0.26 + 0.13), (0.0, 1.0), red)
    return b.build((0.5, 2.4, 1.0))


_LOOKS = {
    "car": _car,
    "car.van": _van,
    "truck": _truck,
    "bus": _bus,
    "trailer": _trailer,
    "construction_vehicle": _construction_vehicle,
    "motorcycle": lambda: _cycle(False, True),
    "motorcycle.rider": lambda: _cycle(True, True),
    "bicycle": lambda: _cycle(False, False),
    "bicycle.rider": lambda: _cycle(True, False),
    "pedestrian": _pedestrian,
    "pedestrian.sitting": _sitting,
    "traffic_cone": _traffic_cone,
    "barrier": _barrier,
}
