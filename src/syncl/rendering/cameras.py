"""Boxes drawn into camera images."""

import cv2
import numpy as np

from syncl.data.frame_objects import FrameObjects
from syncl.rendering.frame_view import Floats, Image
from syncl.rendering.palette import ERROR, FAINT, INK, PANEL, TEXT, TRUTH, Colour, mix
from syncl.rendering.scene_view import SceneView
from syncl.rendering.strokes import (
    draw_arrow,
    draw_circle,
    draw_error_cross,
    draw_segments,
    draw_text,
    fill_area,
    fill_polygon,
    fill_rectangle,
    text_width,
)
from syncl.rendering.wireframe import (
    EDGES,
    FRONT_FACE,
    NEAR_M,
    clip_polygon,
    clip_segments,
    corners_of,
    heading_marks,
    to_homogeneous,
    to_pixels,
)

Rectangle = tuple[float, float, float, float]

# Shorter trails in a camera image are a parked object's jitter.
SHORTEST_TRAIL_M = 1.0
# Between the dots of a forecast, along the ground.
DOT_M = 1.0
_NO_TRAIL = np.zeros((0, 3))


def fill_tile(tile: Image, image: Image | None, image_from_vehicle: Floats) -> tuple[Image, Floats] | None:
    """Fill a tile [H, W, 3] with an image of any size, or with words saying that there is none.

    Returns:
        The part of the tile that shows the image, to be drawn into, and the [4, 4] projection into that
        part's pixels; None without an image.
    """
    height, width = tile.shape[:2]
    if image is None:
        fill_area(tile, PANEL)
        draw_text(tile, "no image", width / 2, height / 2, max(9, height / 14), FAINT, "centre")
        return None
    # Images of another shape keep it, in the middle of their tile; rounding alone may stretch them.
    scale = min(width / image.shape[1], height / image.shape[0])
    wide, tall = round(image.shape[1] * scale), round(image.shape[0] * scale)
    wide, tall = width if width - wide < 3 else wide, height if height - tall < 3 else tall
    left, top = (width - wide) // 2, (height - tall) // 2
    if (wide, tall) != (width, height):
        fill_area(tile, PANEL)
    method = cv2.INTER_AREA if image.shape[1] > 1.2 * wide else cv2.INTER_CUBIC
    shown = tile[top : top + tall, left : left + wide]
    shown[:] = cv2.resize(image, (wide, tall), interpolation=method)
    return shown, np.diag([wide / image.shape[1], tall / image.shape[0], 1.0, 1.0]) @ image_from_vehicle


def draw_camera(tile: Image, tile_from_vehicle: Floats, view: SceneView, scale: float = 1.0) -> None:
    """Draw trails, annotated objects, tracks and labels into a camera image, in place.

    Args:
        tile: [H, W, 3] uint8.
        tile_from_vehicle: [4, 4] projection into the tile's pixels.
        view: what to draw.
        scale: factor for line widths and text.
    """
    size = (tile.shape[0], tile.shape[1])
    _draw_trails(tile, tile_from_vehicle, view, scale)
    missed = np.zeros(0, bool)
    if view.truth is not None:
        missed = view.verdict.missed if view.verdict else np.zeros(view.truth.count, bool)
        _draw_truth(tile, tile_from_vehicle, view.truth.select(~missed), scale)
    labels = _draw_tracks(tile, tile_from_vehicle, view, scale)
    _draw_motion(tile, tile_from_vehicle, view, scale)
    if view.truth is not None and missed.any():
        labels = _draw_missed(tile, tile_from_vehicle, view.truth.select(missed), scale) + labels
    _draw_labels(tile, labels, size, scale)


def _project(tile: Image, projection: Floats, boxes: Floats) -> tuple[Floats, list[Floats], Floats]:
    """Homogeneous corners [N, 8, 4], the visible edges [K, 2, 2] of each box, centre depths [N]."""
    corners = to_homogeneous(projection, corners_of(boxes))
    edges, visible = clip_segments(corners[:, EDGES], (tile.shape[0], tile.shape[1]))
    lines = [edges[row][visible[row]] for row in range(len(boxes))]
    return corners, lines, to_homogeneous(projection, boxes[:, :3])[:, 2]


def _draw_trails(tile: Image, projection: Floats, view: SceneView, scale: float) -> None:
    size = (tile.shape[0], tile.shape[1])
    width = max(1, round(1.2 * scale))
    moving = [
        (points, colour)
        for name, colour in zip(view.objects.identities, view.colours)
        if len(points := view.trails.get(name, _NO_TRAIL)) > 1
        and float(np.ptp(points[:, :2], axis=0).max()) >= SHORTEST_TRAIL_M
    ]
    if not moving:
        return
    pairs = np.concatenate([np.stack([points[:-1], points[1:]], axis=1) for points, _ in moving])
    segments, visible = clip_segments(to_homogeneous(projection, pairs), size)
    last = 0
    for points, colour in moving:
        first, last = last, last + len(points) - 1
        draw_segments(tile, segments[first:last][visible[first:last]], colour, width)


def _draw_truth(tile: Image, projection: Floats, truth: FrameObjects, scale: float) -> None:
    _, lines, _ = _project(tile, projection, truth.boxes)
    if any(map(len, lines)):
        under = tile.copy()
        draw_segments(tile, np.concatenate(lines), TRUTH, max(1, round(0.8 * scale)))
        tile[:] = cv2.addWeighted(tile, 0.75, under, 0.25, 0)


Label = tuple[str, Rectangle, Colour, bool]


def _draw_tracks(tile: Image, projection: Floats, view: SceneView, scale: float) -> list[Label]:
    """Draw the tracks far to near; returns their labels near to far with the rectangles they belong to."""
    corners, edges, depth = _project(tile, projection, view.objects.boxes)
    marks = to_homogeneous(projection, heading_marks(view.objects.boxes))
    marks, marked = clip_segments(marks, (tile.shape[0], tile.shape[1]))
    labels: list[Label] = []
    for row in np.argsort(-depth, kind="stable"):
        lines = edges[row]
        if len(lines) == 0:
            continue
        low, high = lines.min(axis=(0, 1)), lines.max(axis=(0, 1))
        colour = view.colours[row]
        face = clip_polygon(corners[row][FRONT_FACE], (tile.shape[0], tile.shape[1]))
        if len(face) > 2:
            fill_polygon(tile, face, colour, 0.32)
        tall = (high[1] - low[1]) / scale
        # Lines grow more slowly than the picture: large pictures are for looking at details.
        width = max(1, round((1.2 if tall < 44 else 2) * scale**0.6))
        if tall > 18:
            draw_segments(tile, lines, mix(INK, colour, 0.25), width + 2)
        draw_segments(tile, lines, colour, width)
        if marked[row] and tall > 9:
            head = min(5 * scale, 0.7 * float(np.hypot(*(marks[row, 1] - marks[row, 0]))))
            draw_arrow(tile, marks[row, 0], marks[row, 1], mix(INK, colour, 0.25), width + 2, head + 2)
            draw_arrow(tile, marks[row, 0], marks[row, 1], colour, width, head)
        wrong = view.verdict is not None and bool(view.verdict.false[row])
        if wrong:
            arm = float(np.clip((high - low).min() * 0.22, 4 * scale, 14 * scale))
            draw_error_cross(tile, (low + high) / 2, arm, max(2, round(2 * scale)))
        labels.append((_label_of(view, int(row)), (*low, *high), colour, wrong))
    return labels[::-1]


def _draw_motion(tile: Image, projection: Floats, view: SceneView, scale: float) -> None:
    """Draw velocities as arrows and forecasts as dots, both on the ground under the objects."""
    size = (tile.shape[0], tile.shape[1])
    floor = view.objects.boxes[:, 2] - view.objects.boxes[:, 5] / 2
    moving = np.flatnonzero(view.arrows)
    if len(moving):
        boxes = view.objects.boxes[moving]
        feet = np.concatenate([boxes[:, :2], floor[moving, None]], axis=1)
        tips = feet + np.pad(boxes[:, 7:9], ((0, 0), (0, 1)))
        ends, visible = clip_segments(to_homogeneous(projection, np.stack([feet, tips], axis=1)), size)
        for start, end in ends[visible]:
            head = min(5 * scale, 0.6 * float(np.hypot(*(end - start))))
            draw_arrow(tile, start, end, INK, max(1, round(scale)) + 2, head + 2)
            draw_arrow(tile, start, end, TEXT, max(1, round(scale)), head)
    for row, path in enumerate(view.paths):
        if len(path):
            points = np.pad(_spaced(path), ((0, 0), (0, 1)), constant_values=floor[row])
            seen = to_homogeneous(projection, points)
            pale = mix(view.colours[row], TEXT, 0.45)
            for pixel in to_pixels(seen[seen[:, 2] > NEAR_M]):
                if (pixel > 0).all() and pixel[0] < size[1] and pixel[1] < size[0]:
                    draw_circle(tile, pixel, 2.6 * scale, INK, -1)
                    draw_circle(tile, pixel, 1.7 * scale, pale, -1)


def _spaced(path: Floats) -> Floats:
    """Points [J, 2] on a path [K, 2], DOT_M apart, the first one DOT_M from its start."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    places = np.arange(DOT_M, along[-1] + 1e-9, DOT_M)
    return np.stack([np.interp(places, along, path[:, axis]) for axis in (0, 1)], axis=1)


def _label_of(view: SceneView, row: int) -> str:
    identity = short_identity(view.objects.identities[row])
    text = f"{identity} {view.objects.classes[row].replace('_', ' ')}".strip()
    if view.verdict is not None and view.verdict.switched_from[row] is not None:
        text += f" \u2190 {short_identity(view.verdict.switched_from[row] or '')}"
    return text


def short_identity(identity: str) -> str:
    """An identity short enough for a label: its number if it ends in one, otherwise its first letters."""
    tail = identity.replace("-", "_").rsplit("_", 1)[-1]
    if tail.isdecimal() and len(tail) <= 6:
        return tail.lstrip("0") or "0"
    return identity[:4]


def _draw_missed(tile: Image, projection: Floats, missed: FrameObjects, scale: float) -> list[Label]:
    _, edges, depth = _project(tile, projection, missed.boxes)
    labels: list[Label] = []
    for row in np.argsort(depth, kind="stable"):
        lines = edges[row]
        if len(lines) == 0:
            continue
        draw_segments(tile, lines, INK, max(2, round(3 * scale)))
        draw_segments(tile, lines, ERROR, max(1, round(1.4 * scale)))
        low, high = lines.min(axis=(0, 1)), lines.max(axis=(0, 1))
        labels.append((f"missed {missed.classes[row].replace('_', ' ')}", (*low, *high), ERROR, True))
    return labels


def _draw_labels(tile: Image, labels: list[Label], size: tuple[int, int], scale: float) -> None:
    """Write labels where they fit; nearer objects come first and later ones give way."""
    height, width = size
    taken: list[Rectangle] = []
    text_size = max(8.0, 10.5 * scale)
    tall = round(text_size * 1.3)
    for text, (left, top, right, bottom), colour, wrong in labels:
        if bottom - top < 9 * scale and not wrong:
            continue
        short = text.split(" ", 1)[0] if not wrong else text
        for words in (text, short):
            wide = text_width(words, text_size, bold=True) + round(6 * scale)
            x = float(np.clip((max(left, 0) + min(right, width)) / 2 - wide / 2, 0, max(width - wide, 0)))
            y = float(np.clip(top - tall - 1, 0, height - tall))
            spot = (x, y, x + wide, y + tall)
            fits_box = words == short or wide < 2.2 * (right - left) + 14 * scale
            if fits_box and not any(overlap(spot, other) for other in taken):
                taken.append(spot)
                fill_rectangle(tile, *spot, colour if not wrong else INK, 0.88)
                ink = INK if not wrong else colour
                draw_text(tile, words, x + wide / 2, y + tall / 2, text_size, ink, "centre", bold=True)
                break


def overlap(a: Rectangle, b: Rectangle) -> bool:
    """Whether two rectangles (left, top, right, bottom) share more than an edge."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_camera_name(tile: Image, name: str, scale: float) -> None:
    """Write a camera's name into the lower left corner of its tile, in place."""
    words = name.removeprefix("CAM_").replace("_", " ")
    size = max(8.0, 10.0 * scale)
    wide, tall = text_width(words, size, bold=True) + 10 * scale, size * 1.5
    height = tile.shape[0]
    fill_rectangle(tile, 0, height - tall, wide, height, INK, 0.6)
    draw_text(tile, words, 5 * scale, height - tall / 2, size, TEXT, bold=True)
