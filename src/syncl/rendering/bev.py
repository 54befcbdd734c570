"""The bird's-eye view: the vehicle from above, its heading up, everything around it to scale."""

import numpy as np
from numpy.typing import NDArray

from syncl.geometry.poses import invert_pose
from syncl.rendering.cameras import Rectangle, overlap, short_identity
from syncl.rendering.frame_view import Floats, Image
from syncl.rendering.palette import BACKGROUND, EGO, ERROR, FAINT, GRID, RING, TEXT, TRUTH, Colour, mix
from syncl.rendering.scene_view import SceneView
from syncl.rendering.strokes import (
    draw_arrow,
    draw_broken_ring,
    draw_circle,
    draw_dots,
    draw_error_cross,
    draw_polyline,
    draw_segments,
    draw_text,
    fill_area,
    fill_polygon,
    text_width,
)
from syncl.rendering.wireframe import corners_of, heading_marks

# A middle-class car about nuScenes' origin, the middle of the rear axle: rear, front, half width (metres).
EGO_REAR_M, EGO_FRONT_M, EGO_HALF_WIDTH_M = -0.9, 3.2, 0.87
GRID_M = 10.0
ARROW_S = 1.0
SMALLEST_PX = 6.0


class GroundMap:
    """Pixels of a bird's-eye panel for points on the ground.

    Args:
        height: panel height in pixels.
        width: panel width in pixels.
        range_m: distance from the vehicle's origin to the upper and lower edges.
    """

    def __init__(self, height: int, width: int, range_m: float) -> None:
        self.pixels_a_metre = height / 2 / range_m
        self.centre = np.array([width / 2, height / 2])
        self.reach_m = float(np.hypot(width, height)) / 2 / self.pixels_a_metre

    def __call__(self, points: Floats) -> Floats:
        """Pixels [..., 2] of vehicle-frame points [..., 2 or 3]: forward is up, left is left."""
        return self.centre - points[..., 1::-1] * self.pixels_a_metre


def footprints(boxes: Floats) -> Floats:
    """Ground corners [N, 4, 2] of boxes [N, 9]: front left, front right, rear right, rear left."""
    return corners_of(boxes)[:, [0, 3, 7, 4], :2]


def draw_bev(
    panel: Image, view: SceneView, global_from_vehicle: Floats, range_m: float, scale: float = 1.0
) -> None:
    """Draw a bird's-eye view, in place.

    Args:
        panel: [H, W, 3] uint8.
        view: what to draw.
        global_from_vehicle: [4, 4] ego pose; it places the ground grid, which stands still in the world.
        range_m: from the vehicle to the upper edge.
        scale: factor for line widths and text.
    """
    fill_area(panel, BACKGROUND)
    ground = GroundMap(panel.shape[0], panel.shape[1], range_m)
    _draw_grid(panel, ground, global_from_vehicle)
    _draw_rings(panel, ground, range_m, scale)
    _draw_trails(panel, ground, view, scale)
    _draw_ego(panel, ground)
    _draw_truth(panel, ground, view, scale)
    near = np.abs(view.objects.boxes[:, :2]).max(axis=1) < ground.reach_m
    # Pedestrians would be specks: small footprints are drawn somewhat larger than they are.
    visible = view.objects.boxes.copy()
    visible[:, 3:5] = np.maximum(visible[:, 3:5], SMALLEST_PX * scale / ground.pixels_a_metre)
    shapes, marks = ground(footprints(visible)), ground(heading_marks(visible))
    for row in np.flatnonzero(near):
        _draw_object(panel, shapes[row], marks[row], view.colours[row], scale)
        if view.arrows[row]:
            _draw_velocity(panel, ground, view.objects.boxes[row], scale)
        if len(view.paths[row]):
            # Dots in the colour of the track, paler, so that they cannot be taken for its trail.
            pale = mix(view.colours[row], TEXT, 0.45)
            draw_dots(panel, ground(view.paths[row]), pale, 1.5 * scale, 7 * scale)
    _draw_errors(panel, ground, view, scale)
    _draw_identities(panel, ground, view, near, scale)


def _draw_grid(panel: Image, ground: GroundMap, global_from_vehicle: Floats) -> None:
    reach = ground.reach_m + GRID_M
    middle = global_from_vehicle[:2, 3]
    back = invert_pose(global_from_vehicle)
    segments = []
    for axis in (0, 1):
        first = np.ceil((middle[axis] - reach) / GRID_M)
        last = np.floor((middle[axis] + reach) / GRID_M)
        for at in np.arange(first, last + 1) * GRID_M:
            ends = np.zeros((2, 3))
            ends[:, axis] = at
            ends[:, 1 - axis] = middle[1 - axis] + np.array([-reach, reach])
            ends[:, 2] = global_from_vehicle[2, 3]
            segments.append(ends)
    points = np.array(segments) @ back[:3, :3].T + back[:3, 3]
    draw_segments(panel, ground(points), GRID)


def _draw_rings(panel: Image, ground: GroundMap, range_m: float, scale: float) -> None:
    step = next((step for step in (5, 10, 20, 50, 100, 200) if range_m / step <= 6), 500)
    centre = ground(np.zeros(2))
    size = max(8.0, 9.5 * scale)
    for radius in range(step, int(ground.reach_m), step):
        if radius > range_m:
            break
        draw_circle(panel, centre, radius * ground.pixels_a_metre, RING)
        at = centre + radius * ground.pixels_a_metre * np.array([0.7071, 0.7071])
        draw_text(panel, f"{radius} m", at[0] + 3 * scale, at[1] + 6 * scale, size, FAINT)


def _draw_trails(panel: Image, ground: GroundMap, view: SceneView, scale: float) -> None:
    width = max(1, round(2 * scale))
    for name, colour in zip(view.objects.identities, view.colours):
        points = view.trails.get(name)
        if points is None or len(points) < 2:
            continue
        pixels = ground(points)
        count = len(pixels) - 1
        for step in range(count):
            faded = mix(BACKGROUND, colour, 0.25 + 0.6 * (step + 1) / count)
            draw_polyline(panel, pixels[step : step + 2], faded, width)
        for step in range(count):
            faded = mix(BACKGROUND, colour, 0.25 + 0.6 * (step + 1) / count)
            draw_circle(panel, pixels[step], 1.6 * scale, faded, -1)


def _draw_ego(panel: Image, ground: GroundMap) -> None:
    rear, front, half = EGO_REAR_M, EGO_FRONT_M, EGO_HALF_WIDTH_M
    cut = 0.35
    outline = np.array(
        [
            (front - cut, half), (front, half - cut), (front, cut - half), (front - cut, -half),
            (rear + cut, -half), (rear, cut - half), (rear, half - cut), (rear + cut, half),
        ]
    )  # fmt: skip
    fill_polygon(panel, ground(outline), EGO)
    arrow = np.array([(front - 0.5, 0.0), (front - 2.0, 0.6), (front - 2.0, -0.6)])
    fill_polygon(panel, ground(arrow), BACKGROUND)


def _draw_truth(panel: Image, ground: GroundMap, view: SceneView, scale: float) -> None:
    if view.truth is None:
        return
    width = max(1, round(scale))
    faint = mix(BACKGROUND, TRUTH, 0.8)
    for shape in ground(footprints(view.truth.boxes)):
        draw_polyline(panel, shape, faint, width, closed=True)
        draw_polyline(panel, np.stack([shape.mean(axis=0), shape[:2].mean(axis=0)]), faint, width)


def _draw_object(panel: Image, shape: Floats, mark: Floats, colour: Colour, scale: float) -> None:
    width = max(1, round(1.6 * scale))
    fill_polygon(panel, shape, colour, 0.45)
    draw_polyline(panel, shape, colour, width, closed=True)
    # The heading: a thick front edge, and a line from within it straight ahead.
    draw_polyline(
        panel, np.stack([(shape[:2].mean(axis=0) + shape.mean(axis=0)) / 2, mark[1]]), colour, width
    )
    draw_polyline(panel, shape[:2], colour, width + max(1, round(scale)))


def _draw_velocity(panel: Image, ground: GroundMap, box: Floats, scale: float) -> None:
    start = ground(box[:2])
    end = ground(box[:2] + box[7:9] * ARROW_S)
    head = min(5 * scale, 0.6 * float(np.hypot(*(end - start))))
    draw_arrow(panel, start, end, TEXT, max(1, round(scale)), head)


def _draw_errors(panel: Image, ground: GroundMap, view: SceneView, scale: float) -> None:
    if view.verdict is None or view.truth is None:
        return
    width = max(1, round(2 * scale))
    for centre in ground(view.objects.boxes[view.verdict.false, :2]):
        draw_error_cross(panel, centre, 5 * scale, width)
    missed = view.truth.select(view.verdict.missed)
    for box, centre in zip(missed.boxes, ground(missed.boxes[:, :2])):
        radius = max(7 * scale, 0.62 * float(np.hypot(*box[3:5])) * ground.pixels_a_metre)
        draw_broken_ring(panel, centre, radius, ERROR, width)


def _draw_identities(
    panel: Image, ground: GroundMap, view: SceneView, near: NDArray[np.bool_], scale: float
) -> None:
    """Write identities beside the boxes, nearest first; a number that would cover another is left out."""
    objects = view.objects
    size = max(8.0, 10.0 * scale)
    taken: list[Rectangle] = []
    distance = np.hypot(objects.boxes[:, 0], objects.boxes[:, 1])
    for row in np.argsort(distance, kind="stable"):
        if not near[row]:
            continue
        words = short_identity(objects.identities[row])
        wide = text_width(words, size, bold=True)
        centre = ground(objects.boxes[row, :2])
        beside = float(np.hypot(*objects.boxes[row, 3:5])) / 2 * ground.pixels_a_metre * 0.7 + 4 * scale
        for x, y in ((centre[0] + beside, centre[1]), (centre[0] - beside - wide, centre[1])):
            spot = (x - 1, y - size * 0.5, x + wide + 1, y + size * 0.5)
            if not any(overlap(spot, other) for other in taken):
                taken.append(spot)
                draw_text(panel, words, x, y, size, mix(view.colours[row], TEXT, 0.35), bold=True)
                break
