"""Anti-aliased strokes, fills and small crisp text with sub-pixel positions, drawn in place.

Points are [K, 2] float pixels with the centre of the top-left pixel at (0.5, 0.5). Callers clip far-away
points beforehand (`wireframe.clip_segments`); anything within some thousand pixels is safe.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from syncl.rendering.frame_view import Floats, Image
from syncl.rendering.palette import ERROR, INK, Colour

_SHIFT = 4


# Beyond that numbers would no longer be numbers of pixels.
_FARTHEST_PX = 1 << 24


def _fixed(points: Floats) -> NDArray[np.int32]:
    near = np.clip(np.asarray(points, np.float64) - 0.5, -_FARTHEST_PX, _FARTHEST_PX)
    return np.round(near * (1 << _SHIFT)).astype(np.int32)


def draw_polyline(
    canvas: Image, points: Floats, colour: Colour, width: int = 1, closed: bool = False
) -> None:
    """Draw a line through points [K, 2]."""
    cv2.polylines(canvas, [_fixed(points)], closed, colour, width, cv2.LINE_AA, _SHIFT)


def draw_segments(canvas: Image, segments: Floats, colour: Colour, width: int = 1) -> None:
    """Draw separate lines [K, 2, 2]."""
    if len(segments):
        cv2.polylines(canvas, list(_fixed(segments)), False, colour, width, cv2.LINE_AA, _SHIFT)


def draw_circle(canvas: Image, centre: Floats, radius: float, colour: Colour, width: int = 1) -> None:
    """Draw a circle; a negative width fills it."""
    x, y = (int(value) for value in _fixed(centre))
    cv2.circle(canvas, (x, y), round(radius * (1 << _SHIFT)), colour, width, cv2.LINE_AA, _SHIFT)


def draw_broken_ring(
    canvas: Image, centre: Floats, radius: float, colour: Colour, width: int = 1, arcs: int = 6
) -> None:
    """Draw a circle of `arcs` arcs with gaps between them."""
    for arc in range(arcs):
        along = 2 * np.pi * (arc + np.linspace(0, 0.62, 7)) / arcs
        points = centre + radius * np.stack([np.cos(along), np.sin(along)], axis=1)
        draw_polyline(canvas, points, colour, width)


def draw_error_cross(canvas: Image, centre: Floats, arm: float, width: int) -> None:
    """Draw the mark of a false positive: a rimmed cross that reaches `arm` pixels to each side."""
    for direction in ((1, 1), (1, -1)):
        reach = np.array(direction) * arm
        stroke = np.stack([centre - reach, centre + reach])
        draw_polyline(canvas, stroke, INK, width + 2)
        draw_polyline(canvas, stroke, ERROR, width)


def draw_arrow(canvas: Image, start: Floats, end: Floats, colour: Colour, width: int, head: float) -> None:
    """Draw an arrow with a filled head of `head` pixels."""
    along = end - start
    length = float(np.hypot(*along))
    if length < 1e-6:
        return
    along = along / length
    across = np.array([-along[1], along[0]])
    neck = end - along * min(head, length)
    draw_polyline(canvas, np.stack([start, neck]), colour, width)
    fill_polygon(canvas, np.stack([end, neck + across * head * 0.5, neck - across * head * 0.5]), colour)


def draw_dots(canvas: Image, points: Floats, colour: Colour, radius: float, gap: float) -> None:
    """Draw a path [K, 2] as dots `gap` pixels apart, the first one a gap away from its start."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    for place in np.arange(gap, along[-1] + 1e-9, gap):
        centre = np.array([np.interp(place, along, points[:, axis]) for axis in (0, 1)])
        draw_circle(canvas, centre, radius, colour, -1)


def fill_polygon(canvas: Image, points: Floats, colour: Colour, opacity: float = 1.0) -> None:
    """Fill a polygon [K, 2], blended with what is there by `opacity`."""
    if opacity >= 1:
        cv2.fillPoly(canvas, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)
        return
    points = np.clip(points, -_FARTHEST_PX, _FARTHEST_PX)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if (high <= low).any():
        return
    region = canvas[low[1] : high[1], low[0] : high[0]]
    filled = region.copy()
    cv2.fillPoly(filled, [_fixed(points - low)], colour, cv2.LINE_AA, _SHIFT)
    region[:] = cv2.addWeighted(filled, opacity, region, 1 - opacity, 0)


def fill_area(canvas: Image, colour: Colour) -> None:
    """Fill a whole image."""
    # Several times as fast as numpy's assignment of three channels.
    cv2.rectangle(canvas, (0, 0), (canvas.shape[1], canvas.shape[0]), colour, -1)


def fill_rectangle(
    canvas: Image, left: float, top: float, right: float, bottom: float, colour: Colour, opacity: float = 1.0
) -> None:
    """Fill the pixels of an upright rectangle, blended by `opacity`."""
    height, width = canvas.shape[:2]
    x0, x1 = np.clip([round(left), round(right)], 0, width)
    y0, y1 = np.clip([round(top), round(bottom)], 0, height)
    if x1 <= x0 or y1 <= y0:
        return
    if opacity >= 1:
        cv2.rectangle(canvas, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), colour, -1)
        return
    region = canvas[y0:y1, x0:x1]
    region[:] = cv2.addWeighted(region, 1 - opacity, np.full_like(region, colour), opacity, 0)


# Text is rendered once for every string, then blended from a cache.
Align = Literal["left", "centre", "right"]


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    # The typeface that every matplotlib installation carries: the same letters on every machine.
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


@lru_cache(maxsize=8192)
def _coverage(text: str, size: int, bold: bool) -> tuple[NDArray[np.uint16], int]:
    """Coverage 0..256 of every pixel of a line of text, and the row of the middle of its capitals."""
    font = _font(size, bold)
    text = " ".join(text.splitlines())
    ascent, descent = font.getmetrics()
    width = max(1, round(font.getlength(text)))
    picture = PillowImage.new("L", (width, ascent + descent))
    ImageDraw.Draw(picture).text((0, ascent), text, fill=255, font=font, anchor="ls")
    coverage = np.asarray(picture, np.uint16)
    return coverage + (coverage >> 7), ascent - round(size * 0.729 / 2)


def text_width(text: str, size: float, bold: bool = False) -> int:
    """Width in pixels of a line of text."""
    return int(_coverage(text, round(size), bold)[0].shape[1])


@lru_cache(maxsize=1024)
def fitting(text: str, size: float, width: float) -> str:
    """As much of a line of text as is no wider than so many pixels; an ellipsis stands for the rest."""
    if text_width(text, size) <= width:
        return text
    kept = next((n for n in range(len(text) - 1, 0, -1) if text_width(f"{text[:n]}\u2026", size) <= width), 0)
    return f"{text[:kept]}\u2026"


def draw_text(
    canvas: Image,
    text: str,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    align: Align = "left",
    bold: bool = False,
) -> None:
    """Draw one line of text in place.

    Args:
        canvas: [H, W, 3] uint8; what falls outside is cut off.
        text: the line.
        x: pixels; what `align` names of the text stands here.
        y: pixels; the middle of the capital letters.
        size: pixels an em.
        colour: RGB.
        align: which point of the line is at `x`.
        bold: heavier strokes.
    """
    coverage, middle = _coverage(text, round(size), bold)
    height, width = coverage.shape
    left = round(x - {"left": 0.0, "centre": width / 2, "right": float(width)}[align])
    top = round(y) - middle
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, canvas.shape[0]), min(left + width, canvas.shape[1])
    if y1 <= y0 or x1 <= x0:
        return
    share = coverage[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = canvas[y0:y1, x0:x1]
    ink = np.array(colour, np.uint16)
    region[:] = (region * (256 - share) + ink * share) >> 8
