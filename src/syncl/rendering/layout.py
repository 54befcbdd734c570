"""Where things stand in a picture: cameras by direction, the bird's-eye view between front and back.

+-----------------------------------+
| title                             |
| FRONT_LEFT    FRONT   FRONT_RIGHT |
| tracks     bird's-eye      legend |
| BACK_LEFT     BACK     BACK_RIGHT |
+-----------------------------------+
"""

from dataclasses import dataclass

import numpy as np

from syncl.errors import SynclError
from syncl.rendering.frame_view import Floats, RenderFrame
from syncl.rendering.style import RenderStyle

MAX_COLUMNS = 4
MOST_PICTURES = 24
"""Of a sheet: more would be a file that few programs open."""


@dataclass(frozen=True)
class Area:
    """An upright rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this area in an image [H, W, 3]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Layout:
    """The areas of a picture of `width` x `height` pixels (both even); cameras by name."""

    width: int
    height: int
    title: Area
    cameras: dict[str, Area]
    tracks: Area
    bev: Area
    legend: Area


def arrange_rows(cameras: tuple[str, ...], image_from_vehicle: Floats) -> tuple[tuple[str, ...], ...]:
    """Camera names in rows: those that look ahead above those that look back, each from left to right.

    The optical axis is the third row of a projection, so no name needs to be known; nuScenes' six come out
    as FRONT_LEFT, FRONT, FRONT_RIGHT over BACK_LEFT, BACK, BACK_RIGHT.
    """
    axes = image_from_vehicle[:, 2, :3]
    azimuth = np.arctan2(axes[:, 1], axes[:, 0])
    order = [int(row) for row in np.argsort(-np.sin(azimuth), kind="stable")]
    # A little beyond square to the side still counts as ahead.
    ahead = [row for row in order if abs(azimuth[row]) < np.radians(100)]
    behind = [row for row in order if abs(azimuth[row]) >= np.radians(100)]
    ahead.sort(key=lambda row: -azimuth[row])
    rows = []
    for group in (ahead, behind):
        for start in range(0, len(group), MAX_COLUMNS):
            rows.append(tuple(cameras[row] for row in group[start : start + MAX_COLUMNS]))
    return tuple(rows)


def row_of_tiles(names: tuple[str, ...], width: int, tile: Area, gap: int) -> dict[str, Area]:
    """A row of tiles as large as `tile` and as far down, in the middle of a picture of this width."""
    left = (width - len(names) * tile.width - (len(names) - 1) * gap) // 2
    return {
        name: Area(left + place * (tile.width + gap), tile.top, tile.width, tile.height)
        for place, name in enumerate(names)
    }


def lay_out(frame: RenderFrame, style: RenderStyle) -> Layout:
    """The layout for a frame and all others with the same cameras.

    Raises:
        SynclError: if `style.rows` names a camera that the frame does not have.
    """
    rows = style.rows or arrange_rows(frame.cameras, frame.image_from_vehicle)
    unknown = [name for row in rows for name in row if name not in frame.cameras]
    if unknown:
        raise SynclError(f"rows: unknown camera {unknown[0]}; the frame has {', '.join(frame.cameras)}")
    scale, width = style.scale, style.width - style.width % 2
    gap = max(1, round(2 * scale))
    columns = max(2, max(len(row) for row in rows))
    tile_width = (width - gap * (columns - 1)) // columns
    tile_height = round(tile_width / _aspect(frame))
    top = round(34 * scale)
    title = Area(0, 0, width, top)
    top += gap
    band_height = round(width * 0.385)
    above = (len(rows) + 1) // 2
    cameras: dict[str, Area] = {}
    band_top = 0
    for number, row in enumerate(rows):
        if number == above:
            band_top, top = top, top + band_height + gap
        cameras |= row_of_tiles(row, width, Area(0, top, tile_width, tile_height), gap)
        top += tile_height + gap
    if len(rows) <= above:
        band_top, top = top, top + band_height + gap
    height = top - gap
    side = round(width * 0.29)
    return Layout(
        width=width,
        height=height + height % 2,
        title=title,
        cameras=cameras,
        tracks=Area(0, band_top, side, band_height),
        bev=Area(side + gap, band_top, width - 2 * (side + gap), band_height),
        legend=Area(width - side, band_top, side, band_height),
    )


def _aspect(frame: RenderFrame) -> float:
    """Width over height of the tallest image, within reason: every tile has the same shape."""
    shapes = [image.shape for image in frame.images if image is not None]
    if not shapes:
        return 16 / 9
    return float(np.clip(min(shape[1] / shape[0] for shape in shapes), 1.0, 4.0))


def sheet_places(total: int, count: int) -> tuple[int, ...]:
    """Places (from 0) of the `count` of `total` frames that a sheet shows: evenly spread, first and last in.

    Raises:
        SynclError: for a number of pictures that is not between 2 and `MOST_PICTURES`.
    """
    if not 2 <= count <= MOST_PICTURES:
        raise SynclError(
            f"sheet: {count} pictures; choose between 2 and {MOST_PICTURES} (--frame draws a single one)"
        )
    return tuple(dict.fromkeys(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))
