"""Small crisp text: rendered once for every string, then blended from a cache."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from syncl.rendering.frame import Image
from syncl.rendering.palette import Colour

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
    ascent, descent = font.getmetrics()
    width = max(1, round(font.getlength(text)))
    picture = PillowImage.new("L", (width, ascent + descent))
    ImageDraw.Draw(picture).text((0, ascent), text, fill=255, font=font, anchor="ls")
    coverage = np.asarray(picture, np.uint16)
    return coverage + (coverage >> 7), ascent - round(size * 0.729 / 2)


def text_width(text: str, size: float, bold: bool = False) -> int:
    """Width in pixels of a line of text."""
    return int(_coverage(text, round(size), bold)[0].shape[1])


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
