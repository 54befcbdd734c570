"""Pictures and videos of tracks: camera mosaics, bird's-eye views and plots, drawn headless on the CPU.

Everything here is numpy in, numpy out. A `RenderFrame` holds what is drawn of one moment; `draw_frames`
turns a stream of them into finished pictures, `render_video` and `render_image` into files. Images are
uint8 RGB arrays [H, W, 3]; drawing coordinates are pixels, the centre of the top-left pixel at (0.5, 0.5).
"""

from syncl.data.frame_objects import FrameObjects
from syncl.rendering.frame_view import RenderFrame
from syncl.rendering.output import draw_frame, draw_frames, render_image, render_sheet, render_video
from syncl.rendering.palette import identity_colour
from syncl.rendering.scene_view import History
from syncl.rendering.style import RenderStyle

__all__ = [
    "FrameObjects",
    "History",
    "RenderFrame",
    "RenderStyle",
    "draw_frame",
    "draw_frames",
    "identity_colour",
    "render_image",
    "render_sheet",
    "render_video",
]
