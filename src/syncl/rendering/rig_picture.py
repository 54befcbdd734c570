"""A rig's calibration drawn into its own pictures, so that a wrong extrinsic is seen at a glance.

Where calibration is right, the grid lies on the road, the yellow line is where level ground would end at the
horizon, the red line runs along the direction of travel and blue posts stand upright.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from syncl.rendering.bev import GroundMap
from syncl.rendering.cameras import draw_camera_name, fill_tile
from syncl.rendering.frame_view import Floats, Image, RenderFrame
from syncl.rendering.layout import Area, Layout, arrange_rows, row_of_tiles
from syncl.rendering.palette import BACKGROUND, FAINT, GRID, INK, PANEL, TEXT, Colour, identity_colour, mix
from syncl.rendering.strokes import (
    draw_arrow,
    draw_circle,
    draw_polyline,
    draw_segments,
    draw_text,
    fill_area,
    fill_polygon,
)
from syncl.rendering.style import RenderStyle
from syncl.rendering.wireframe import clip_segments, to_homogeneous

GRID_STEP_M, GRID_REACH_M = 5.0, 40.0
POST_M, POSTS_AT_M = 2.0, (5.0, 10.0, 20.0)
X_AXIS: Colour = (255, 64, 56)
Y_AXIS: Colour = (64, 210, 92)
Z_AXIS: Colour = (84, 150, 255)
HORIZON: Colour = (255, 220, 40)
GROUND: Colour = (235, 240, 245)
_FAR_M = 1e6
_TOP_VIEW_M = 4.0


@dataclass(frozen=True)
class RigLines:
    """Line segments in the vehicle frame, [K, 2, 3] metres each.

    Attributes:
        grid: on the ground, every 5 m.
        x_axis: forward along the ground, and back.
        y_axis: left along the ground, and right.
        posts: upright, 2 m high, 5, 10 and 20 m out: on the y axis, and 3 m beside the x axis.
        horizon: where level ground ends.
    """

    grid: Floats
    x_axis: Floats
    y_axis: Floats
    posts: Floats
    horizon: Floats


def rig_lines(ground_z_m: float = 0.0) -> RigLines:
    """The lines to draw where the ground is at this height in the vehicle frame."""
    ticks = np.arange(-GRID_REACH_M, GRID_REACH_M + 1e-6, GRID_STEP_M)
    ends = np.array([-GRID_REACH_M, GRID_REACH_M])
    along = [[(t, e, ground_z_m) for e in ends] for t in ticks if t] + [
        [(e, t, ground_z_m) for e in ends] for t in ticks if t
    ]
    # Beside the x axis, which a camera in the middle of the vehicle would see them stand in front of.
    places = [(s * d, side) for d in POSTS_AT_M for s in (1, -1) for side in (3.0, -3.0)]
    places += [(0.0, s * d) for d in POSTS_AT_M for s in (1, -1)]
    angles = np.linspace(0, 2 * np.pi, 181)
    circle = _FAR_M * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    return RigLines(
        grid=np.array(along),
        x_axis=np.array([[(-GRID_REACH_M, 0, ground_z_m), (GRID_REACH_M, 0, ground_z_m)]]),
        y_axis=np.array([[(0, -GRID_REACH_M, ground_z_m), (0, GRID_REACH_M, ground_z_m)]]),
        posts=np.array([[(x, y, ground_z_m), (x, y, ground_z_m + POST_M)] for x, y in places]),
        horizon=np.stack([circle[:-1], circle[1:]], axis=1),
    )


def project_lines(lines: Floats, projection: Floats, size: tuple[int, int]) -> Floats:
    """The visible pieces [J, 2, 2], pixels, of lines [K, 2, 3] in an image of (height, width)."""
    segments, visible = clip_segments(to_homogeneous(projection, lines), size)
    return segments[visible]


def draw_rig(frame: RenderFrame, facts: tuple[str, ...], ground_z_m: float, style: RenderStyle) -> Image:
    """Draw ground grid, axes and horizon into every camera, and the cameras from above.

    Args:
        frame: images and projections; its objects are not drawn.
        facts: a line of text for each camera.
        ground_z_m: height of the ground in the vehicle frame.
        style: its width counts.

    Returns:
        uint8 RGB picture [H, W, 3].
    """
    layout, scale = _lay_out(frame, style), style.scale
    canvas: Image = np.empty((layout.height, layout.width, 3), np.uint8)
    fill_area(canvas, INK)
    title = canvas[layout.title.slices]
    fill_area(title, PANEL)
    words = f"{frame.scene}  frame {frame.number} of {frame.total}: the grid must lie on the ground"
    draw_text(title, words, 12 * scale, title.shape[0] / 2, 14 * scale, TEXT, bold=True)
    lines = rig_lines(ground_z_m)
    for row, name in enumerate(frame.cameras):
        tile = canvas[layout.cameras[name].slices]
        filled = fill_tile(tile, frame.images[row], frame.image_from_vehicle[row])
        if filled is not None:
            draw_lines(*filled, lines, scale)
        draw_camera_name(tile, name, scale)
        tile[: max(2, round(3 * scale))] = _colour(row)
    _draw_top_view(canvas[layout.bev.slices], frame, scale)
    _draw_facts(canvas[layout.tracks.slices], frame, facts, scale)
    _draw_legend(canvas[layout.legend.slices], ground_z_m, scale)
    return canvas


def _lay_out(frame: RenderFrame, style: RenderStyle) -> Layout:
    """Cameras as large as they can be, what there is to read in a band below."""
    rows = arrange_rows(frame.cameras, frame.image_from_vehicle)
    width, scale = style.width - style.width % 2, style.scale
    gap = max(1, round(2 * scale))
    columns = max(2, max(len(row) for row in rows))
    tile_width = (width - gap * (columns - 1)) // columns
    shapes = [image.shape for image in frame.images if image is not None]
    tile_height = max((round(tile_width * shape[0] / shape[1]) for shape in shapes), default=tile_width // 2)
    title = Area(0, 0, width, round(34 * scale))
    top, cameras = title.height + gap, dict[str, Area]()
    for row in rows:
        cameras |= row_of_tiles(row, width, Area(0, top, tile_width, tile_height), gap)
        top += tile_height + gap
    band, side = round(260 * scale), round(width * 0.37)
    middle = Area(side + gap, top, width - 2 * (side + gap), band)
    height = top + band
    tracks, legend = Area(0, top, side, band), Area(width - side, top, side, band)
    return Layout(width, height + height % 2, title, cameras, tracks, middle, legend)


def _colour(row: int) -> Colour:
    return identity_colour(str(row))


def draw_lines(tile: Image, projection: Floats, lines: RigLines, scale: float) -> None:
    """Draw the lines into a camera image [H, W, 3], in place."""
    size = (tile.shape[0], tile.shape[1])
    under = tile.copy()
    draw_segments(tile, project_lines(lines.grid, projection, size), GROUND, max(1, round(scale)))
    tile[:] = cv2.addWeighted(tile, 0.55, under, 0.45, 0)
    width = max(2, round(2 * scale))
    for group, colour in (
        (lines.horizon, HORIZON),
        (lines.y_axis, Y_AXIS),
        (lines.x_axis, X_AXIS),
        (lines.posts, Z_AXIS),
    ):
        draw_segments(tile, project_lines(group, projection, size), colour, width)
    _label_axes(tile, projection, float(lines.x_axis[0, 0, 2]), scale)


def _label_axes(tile: Image, projection: Floats, ground_z_m: float, scale: float) -> None:
    for axis, colour in ((0, X_AXIS), (1, Y_AXIS)):
        for distance in POSTS_AT_M:
            for sign in (1, -1):
                point = np.array([0.0, 0.0, ground_z_m])
                point[axis] = sign * distance
                u, v, depth, _ = to_homogeneous(projection, point)
                if depth > 1 and 0 < u / depth < tile.shape[1] and 0 < v / depth < tile.shape[0]:
                    words = f"{'xy'[axis]} {sign * distance:+.0f} m"
                    x, y = u / depth + 4 * scale, v / depth + 7 * scale
                    draw_text(tile, words, x + 1, y + 1, 10 * scale, INK, bold=True)
                    draw_text(tile, words, x, y, 10 * scale, mix(colour, GROUND, 0.5), bold=True)


def _draw_top_view(panel: Image, frame: RenderFrame, scale: float) -> None:
    """Where the cameras sit and how far they look to the sides, forward up."""
    fill_area(panel, BACKGROUND)
    places = [_camera_rays(matrix, image) for matrix, image in zip(frame.image_from_vehicle, frame.images)]
    reach = max(_TOP_VIEW_M, *(1.6 * float(np.abs(origin[:2]).max()) + 1 for origin, _, _ in places))
    place = GroundMap(panel.shape[0], panel.shape[1], reach)
    for metre in range(-int(reach) - 1, int(reach) + 2):
        for ends in (((metre, -20), (metre, 20)), ((-20, metre), (20, metre))):
            draw_polyline(panel, place(np.array(ends, np.float64)), GRID)
    for row, (origin, left, right) in enumerate(places):
        wedge = np.stack([origin[:2], origin[:2] + left, origin[:2] + right])
        fill_polygon(panel, place(wedge), _colour(row), 0.22)
        draw_polyline(panel, place(wedge), _colour(row), max(1, round(scale)), closed=True)
    for direction, colour in (((1.5, 0), X_AXIS), ((0, 1.5), Y_AXIS)):
        arrow = place(np.array([(0, 0), direction], np.float64))
        draw_arrow(panel, arrow[0], arrow[1], colour, max(2, round(2 * scale)), 9 * scale)
    for row, (origin, left, right) in enumerate(places):
        draw_circle(panel, place(origin[:2]), 4 * scale, _colour(row), -1)
        at = place(origin[:2] + (left + right) * 0.42)
        words = frame.cameras[row].removeprefix("CAM_").replace("_", " ")
        draw_text(panel, words, at[0], at[1], 10 * scale, TEXT, "centre", bold=True)
    draw_text(panel, "cameras from above, lines 1 m apart", 8 * scale, 12 * scale, 10 * scale, FAINT)


def _camera_rays(image_from_vehicle: Floats, image: Image | None) -> tuple[Floats, Floats, Floats]:
    """A camera's place [3], and directions [2] on the ground of its image's left and right edges, 1.4 m long.

    Without an image its middle is the principal point.
    """
    matrix = image_from_vehicle[:3, :3]
    origin = np.asarray(-np.linalg.solve(matrix, image_from_vehicle[:3, 3]), np.float64)
    middle = matrix[:2] @ matrix[2]
    height, width = 2 * middle[::-1] if image is None else image.shape[:2]
    edges = []
    for u in (0.0, float(width)):
        ray = np.linalg.solve(matrix, np.array([u, height / 2, 1.0]))[:2]
        edges.append(1.4 * ray / max(float(np.hypot(*ray)), 1e-9))
    return origin, edges[0], edges[1]


def _draw_facts(panel: Image, frame: RenderFrame, facts: tuple[str, ...], scale: float) -> None:
    fill_area(panel, PANEL)
    draw_text(panel, "cameras", 10 * scale, 16 * scale, 12 * scale, TEXT, bold=True)
    step = min(36 * scale, (panel.shape[0] - 34 * scale) / max(len(facts), 1))
    for row, (name, fact) in enumerate(zip(frame.cameras, facts)):
        y = 40 * scale + row * step
        draw_text(panel, name, 10 * scale, y, 10.5 * scale, _colour(row), bold=True)
        draw_text(panel, fact, 10 * scale, y + min(15 * scale, step / 2), 9.5 * scale, TEXT)


def _draw_legend(panel: Image, ground_z_m: float, scale: float) -> None:
    fill_area(panel, PANEL)
    entries = (
        (GROUND, f"ground z = {ground_z_m:g} m, lines 5 m apart, to 40 m"),
        (HORIZON, "horizon of level ground"),
        (X_AXIS, "x: forward (+) and back"),
        (Y_AXIS, "y: left (+) and right"),
        (Z_AXIS, "z: upright posts of 2 m, 5, 10 and 20 m out"),
    )
    for row, (colour, words) in enumerate(entries):
        y = (22 + 24 * row) * scale
        ends = np.array([(12 * scale, y), (40 * scale, y)])
        draw_polyline(panel, ends, colour, max(2, round(2 * scale)))
        draw_text(panel, words, 50 * scale, y, 11 * scale, TEXT)
