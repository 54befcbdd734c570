"""Whole pictures: title, cameras, bird's-eye view and panels."""

from collections.abc import Iterable, Iterator

import numpy as np

from syncl.rendering.bev import draw_bev
from syncl.rendering.cameras import draw_camera, draw_camera_name, fill_tile
from syncl.rendering.frame import Image, RenderFrame
from syncl.rendering.layout import Layout, lay_out
from syncl.rendering.palette import INK
from syncl.rendering.panels import draw_legend, draw_title, draw_track_list
from syncl.rendering.scene_view import History, view_frame
from syncl.rendering.strokes import fill_area
from syncl.rendering.style import RenderStyle


def draw_frame(
    frame: RenderFrame,
    history: History | None = None,
    style: RenderStyle | None = None,
    layout: Layout | None = None,
) -> tuple[Image, History]:
    """Draw one frame.

    Args:
        frame: what to draw.
        history: the past of the scene, as returned for the frame before; None: none is known.
        style: how to draw.
        layout: where; None lays the frame out by itself. Frames of one video share a layout.

    Returns:
        The picture, uint8 RGB [H, W, 3] with even height and width, and the past for the next frame.
    """
    style = style or RenderStyle()
    layout = layout or lay_out(frame, style)
    view, history = view_frame(frame, history or History(), style)
    scale = style.scale
    canvas: Image = np.empty((layout.height, layout.width, 3), np.uint8)
    fill_area(canvas, INK)
    draw_title(canvas[layout.title.slices], frame, view, scale)
    for row, name in enumerate(frame.cameras):
        if name in layout.cameras:
            tile = canvas[layout.cameras[name].slices]
            projection = fill_tile(tile, frame.images[row], frame.image_from_vehicle[row])
            if projection is not None:
                draw_camera(tile, projection, view, scale)
            draw_camera_name(tile, name, scale)
    draw_bev(canvas[layout.bev.slices], view, frame.global_from_vehicle, style.range_m, scale)
    draw_track_list(canvas[layout.tracks.slices], view, scale)
    draw_legend(canvas[layout.legend.slices], view, style)
    return canvas, history


def draw_frames(
    frames: Iterable[RenderFrame], style: RenderStyle | None = None, history: History | None = None
) -> Iterator[Image]:
    """Draw a stream of frames with the same cameras; all pictures have one size.

    A change of scene starts trails afresh.
    """
    style = style or RenderStyle()
    layout: Layout | None = None
    for frame in frames:
        layout = layout or lay_out(frame, style)
        picture, history = draw_frame(frame, history, style, layout)
        yield picture
