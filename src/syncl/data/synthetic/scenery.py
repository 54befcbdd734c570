"""Everything that is not annotated: buildings, gardens, trees, poles, hedges, and the light they stand in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.shapes import Array, Detail, Shape, ShapeBuilder, Tint
from syncl.data.synthetic.streets import BUILDING_LINE_M, DIRECTIONS, Node, StreetMap, right_of, step

UNIT_M = 6.0
BLOBS = 4
DEPTH_M = 5.6

_WALLS = np.array(
    [
        (150, 170, 190), (120, 145, 175), (90, 105, 150), (170, 175, 180), (110, 115, 120), (140, 180, 205),
        (95, 125, 165), (175, 190, 200), (80, 90, 120), (150, 150, 140),
    ],
    float,
)  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze of a scene.

    Attributes:
        sun: [3] unit vector towards the sun.
        direct, ambient: shares of sunlight and skylight.
        tone: [3] colour of the light (blue, green, red factors).
        sky_top, sky_low: [3] sky colours at the image's top and at the horizon, which haze takes too.
        haze_m: distance after which 63 % of a colour is haze.
        shadow: factor of ground brightness in shadow, 1 under clouds.
    """

    sun: Array
    direct: float
    ambient: float
    tone: Array
    sky_top: Array
    sky_low: Array
    haze_m: float
    shadow: float

    def shade(self, colours: Array, normals: Array, glowing: NDArray[np.bool_]) -> Array:
        """Colours [P, 3] of faces with outward normals [P, 3] under this light."""
        facing = np.clip(normals @ self.sun, 0, 1)
        # Faces in shade still differ a little, or the edges of boxes would vanish.
        bounce = self.ambient + 0.08 * normals[:, 2] + 0.05 * normals[:, 0]
        lit = colours * ((bounce + self.direct * facing)[:, None] * self.tone)
        return np.where(glowing[:, None], colours, np.clip(lit, 0, 255))


@dataclass(frozen=True)
class Prop:
    """A shape standing somewhere: scenery, or an actor that does not move.

    Attributes:
        shape: its shape.
        place: [2] metres, scene frame.
        heading: radians.
        size: [3] metres; the shape is stretched to it.
        palette: [3, 3] colours.
        owner: index of the actor, or -1.
    """

    shape: Shape
    place: Array
    heading: float
    size: Array
    palette: Array
    owner: int = -1


@dataclass(frozen=True)
class Crown:
    """The leaves of a tree or bush: blobs that always face the viewer.

    Attributes:
        centre: [3] metres.
        radius: metres.
        colour: [3] blue, green, red.
        rings: [BLOBS, 8, 2] corners of the blobs as fractions of the radius, to the right and up.
    """

    centre: Array
    radius: float
    colour: Array
    rings: Array


@dataclass(frozen=True)
class Scenery:
    """All props and crowns around the route."""

    props: tuple[Prop, ...]
    crowns: tuple[Crown, ...]


def choose_light(rng: np.random.Generator) -> Light:
    """Daylight of some kind: sunny, cloudy or late."""
    kind = rng.choice(3, p=[0.5, 0.35, 0.15])
    azimuth = rng.uniform(-np.pi, np.pi)
    height = np.radians(rng.uniform(30, 60) if kind < 2 else rng.uniform(15, 25))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    gain = rng.uniform(0.9, 1.1)
    if kind == 0:
        top, low, tone = np.array([205, 160, 110.0]), np.array([225, 215, 200.0]), (0.95, 1.0, 1.03)
        direct, ambient, haze_m, shadow = 0.58, 0.62, (180, 400), 0.58
    elif kind == 1:
        grey = rng.uniform(170, 225)
        top, low, tone = (
            np.array([1.02, 1, 0.97]) * grey,
            np.array([1.0, 1, 1]) * (grey + 15),
            (1.02, 1.0, 0.98),
        )
        direct, ambient, haze_m, shadow = 0.14, 0.78, (90, 200), 0.85
    else:
        top, low, tone = np.array([150, 110, 85.0]), np.array([130, 170, 220.0]), (0.86, 0.96, 1.08)
        direct, ambient, haze_m, shadow = 0.55, 0.62, (120, 250), 0.62
    haze = rng.uniform(*haze_m)
    return Light(sun, direct * gain, ambient * gain, np.array(tone), top, low, haze, shadow)


def build_scenery(
    rng: np.random.Generator, streets: StreetMap, occluders: float, driven: Array, within_m: float = 110.0
) -> Scenery:
    """Line the streets with buildings and gardens and furnish the pavements.

    Args:
        rng: source of every choice.
        streets: where they run.
        occluders: density of trees, hedges and poles; about 1.
        driven: [N, 2] places of the ego vehicle; nothing farther than `within_m` metres from all is kept.
        within_m: see `driven`.
    """
    builder = _Builder(rng, driven[::20], within_m)
    for a, b in sorted(streets.streets):
        builder.line_street(streets, a, b)
        builder.furnish(streets, a, b, occluders)
    for node in streets.crossings():
        for direction in DIRECTIONS:
            if not streets.joined(node, step(node, direction)):
                builder.close_crossing(streets.position(node), np.array(direction, float))
    crowns = tuple(crown for crown in builder.crowns if builder.is_near(crown.centre[:2]))
    return Scenery(tuple(prop for prop in builder.props if builder.is_near(prop.place)), crowns)


class _Builder:
    def __init__(self, rng: np.random.Generator, driven: Array, within_m: float) -> None:
        self.rng = rng
        self.driven, self.within_m = driven, within_m
        self.props: list[Prop] = []
        self.crowns: list[Crown] = []

    def is_near(self, place: Array) -> bool:
        """Whether a place can matter to the pictures."""
        return bool((np.square(self.driven - place).sum(-1) < self.within_m**2).any())

    def line_street(self, streets: StreetMap, a: Node, b: Node) -> None:
        start, direction, length = streets.run(a, b)
        for side in (right_of(direction), -right_of(direction)):
            across = (int(side[0]), int(side[1]))
            # On streets along y, corner lots belong to the crossing street's row of houses.
            corner = BUILDING_LINE_M + DEPTH_M if direction[1] else BUILDING_LINE_M
            low = corner if streets.joined(a, step(a, across)) else BUILDING_LINE_M
            high = length - (corner if streets.joined(b, step(b, across)) else BUILDING_LINE_M)
            self._row(start, direction, side, low, high)

    def close_crossing(self, centre: Array, outward: Array) -> None:
        self._row(centre, right_of(outward), outward, -BUILDING_LINE_M, BUILDING_LINE_M)

    def _row(self, origin: Array, along: Array, side: Array, low: float, high: float) -> None:
        if high - low < 1.0:
            return
        count = int(np.ceil((high - low) / UNIT_M))
        edges = np.linspace(low, high, count + 1)
        storeys, wall, house = 2, self._wall(), 0
        for k in range(count):
            if house == 0:
                storeys, wall = int(self.rng.integers(2, 6)), self._wall()
                house = int(self.rng.integers(1, 4))
            house -= 1
            garden = self.rng.random() < 0.12
            ends = np.array([edges[k], edges[k + 1]])
            front = BUILDING_LINE_M + (2.6 if garden else float(self.rng.uniform(0.0, 0.25)))
            corner_a = origin + along * ends[0] + side * front
            corner_b = origin + along * ends[1] + side * (BUILDING_LINE_M + DEPTH_M)
            self._block(corner_a, corner_b, 3.1 * storeys + 0.4, wall, storeys)
            if garden:
                self._garden(
                    origin + along * ends.mean() + side * (BUILDING_LINE_M + 0.9), along, ends[1] - ends[0]
                )

    def _wall(self) -> Array:
        colour: Array = _WALLS[self.rng.integers(len(_WALLS))] * self.rng.uniform(0.8, 1.1)
        return np.clip(colour + self.rng.uniform(-10, 10, 3), 20, 235)

    def _block(self, corner_a: Array, corner_b: Array, height: float, wall: Array, storeys: int) -> None:
        low, high = np.minimum(corner_a, corner_b), np.maximum(corner_a, corner_b)
        shop = bool(self.rng.random() < 0.3)
        sill = float(self.rng.uniform(0.25, 0.38)), float(self.rng.uniform(0.72, 0.85))
        panes = np.array([95, 85, 75.0]) * self.rng.uniform(0.6, 1.3)
        if self.is_near((low + high) / 2):
            shape = _house(float((high - low)[0]), float((high - low)[1]), height, storeys, shop, sill)
            self.props.append(Prop(shape, (low + high) / 2, 0.0, shape.size, np.stack([wall, panes, wall])))

    def _garden(self, centre: Array, along: Array, width: float) -> None:
        heading = float(np.arctan2(along[1], along[0]))
        self._hedge(centre, heading, width - 0.6, 1.1, float(self.rng.uniform(0.8, 1.5)))
        if self.rng.random() < 0.6:
            self._tree(centre + along * self.rng.uniform(-1.5, 1.5), 4.6, 1.5)

    def furnish(self, streets: StreetMap, a: Node, b: Node, density: float) -> None:
        """Trees, lamps and hedges along the kerbs of a street."""
        start, direction, length = streets.run(a, b)
        heading = float(np.arctan2(direction[1], direction[0]))
        for side in (right_of(direction), -right_of(direction)):
            for along in np.arange(12.0, length - 11.0, 8.5):
                place = start + direction * (along + self.rng.uniform(-1.5, 1.5)) + side * 6.62
                draw = self.rng.random()
                if draw < 0.3 * density:
                    self._tree(place, float(self.rng.uniform(3.9, 4.8)), float(self.rng.uniform(1.0, 1.45)))
                elif draw < 0.45 * density:
                    self._pole(place)
                elif draw < 0.6 * density:
                    behind = place + side * 2.35
                    length_m, height_m = float(self.rng.uniform(1.5, 3.0)), float(self.rng.uniform(0.7, 1.2))
                    self._hedge(behind, heading, length_m, 0.6, height_m)

    def _tree(self, place: Array, height: float, radius: float) -> None:
        stem = ShapeBuilder().box((-0.13, 0.13), (-0.13, 0.13), (0.0, height), Tint(0))
        shape = stem.build((0.26, 0.26, height))
        bark = np.tile(np.array([50, 62, 78.0]) * self.rng.uniform(0.7, 1.2), (3, 1))
        self.props.append(Prop(shape, place, 0.0, shape.size, bark))
        self.crowns.append(self._crown(np.array([place[0], place[1], height]), radius))

    def _crown(self, centre: Array, radius: float) -> Crown:
        angles = np.arange(8) * np.pi / 4
        rings = []
        for reach, spread in ((0.95, 0.0), (0.6, 0.3), (0.5, 0.4), (0.38, 0.45)):
            wobble = self.rng.uniform(0.85, 1.1, 8) * reach
            shift = self.rng.uniform(-spread, spread, 2)
            ring = np.stack([np.cos(angles), np.sin(angles)], -1) * wobble[:, None] + shift
            rings.append(ring.clip(-1, 1))
        colour = np.array([45, 105, 75.0]) * self.rng.uniform(0.75, 1.15) + self.rng.uniform(-12, 12, 3)
        return Crown(centre, radius, colour, np.array(rings))

    def _pole(self, place: Array) -> None:
        shape = ShapeBuilder().box((-0.09, 0.09), (-0.09, 0.09), (0.0, 6.0), Tint(0)).build((0.18, 0.18, 6.0))
        steel = np.tile(np.array([120, 118, 112.0]) * self.rng.uniform(0.5, 1.2), (3, 1))
        self.props.append(Prop(shape, place, 0.0, shape.size, steel))

    def _hedge(self, place: Array, heading: float, length: float, width: float, height: float) -> None:
        b = ShapeBuilder().box((-length / 2, length / 2), (-width / 2, width / 2), (0.0, height), Tint(0))
        for face in ("front", "back", "left", "right"):
            for k in range(3):
                u = (k / 3 + 0.05, k / 3 + 0.24)
                b.detail(face, u, (0.25 + 0.1 * k, 0.6 + 0.1 * k), Tint(0, 0.8))
        shape = b.build((length, width, height))
        leaf = np.tile(np.array([40, 92, 62.0]) * self.rng.uniform(0.8, 1.2), (3, 1))
        self.props.append(Prop(shape, place, heading, shape.size, leaf))


def _house(x: float, y: float, height: float, storeys: int, shop: bool, sill: tuple[float, float]) -> Shape:
    """A block of flats with two windows a storey on every side, perhaps a shop below."""
    b = ShapeBuilder()
    b.box((-x / 2, x / 2), (-y / 2, y / 2), (0.0, height), Tint(0), faces="front back left right")
    details: list[Detail] = [((0.0, 1.0), (0.0, 0.45 / height), Tint(0, 0.72))]
    for storey in range(storeys):
        base = (0.3 + 3.1 * storey) / height
        if shop and storey == 0:
            details.append(((0.08, 0.66), (base + 0.5 / height, base + 2.5 / height), (70, 62, 55)))
            details.append(((0.72, 0.92), (base, base + 2.3 / height), (50, 55, 70)))
            continue
        window = (base + sill[0] * 3.1 / height, base + sill[1] * 3.1 / height)
        details += [(u, window, Tint(1)) for u in ((0.16, 0.42), (0.58, 0.84))]
    for face in ("front", "back", "left", "right"):
        b.details(face, details)
    return b.build((x, y, height))
