"""Sheets: some frames of a scene, drawn whole, in the rows of one picture."""

from collections.abc import Sequence

import numpy as np

from syncl.errors import SynclError
from syncl.rendering.frame import Image
from syncl.rendering.palette import BACKGROUND
from syncl.rendering.strokes import fill_area

MOST = 24
"""Pictures of one sheet: more would be a file that few programs open."""


def sheet_places(total: int, count: int) -> tuple[int, ...]:
    """Places (from 0) of the `count` of `total` frames that a sheet shows: evenly spread, first and last in.

    Raises:
        SynclError: for a number of pictures that is not between 2 and `MOST`.
    """
    if not 2 <= count <= MOST:
        raise SynclError(f"sheet: {count} pictures; choose between 2 and {MOST} (--frame draws a single one)")
    return tuple(dict.fromkeys(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))


def join_sheet(pictures: Sequence[Image], gap: int = 12) -> Image:
    """Pictures [H, W, 3] of one size as one picture, in reading order, in about as many rows as columns.

    Raises:
        SynclError: if there is none, or their sizes differ.
    """
    if not pictures:
        raise SynclError("sheet: there is no picture")
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise SynclError(f"sheet: pictures of different sizes: {sorted(shapes)}")
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    sheet: Image = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    fill_area(sheet, BACKGROUND)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
