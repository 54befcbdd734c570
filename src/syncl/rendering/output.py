"""Whole pictures, with title, cameras, bird's-eye view and panels, and their files: videos, PNGs, sheets."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from syncl.errors import SynclError
from syncl.files import atomic_path, refuse_to_overwrite
from syncl.rendering.bev import draw_bev
from syncl.rendering.cameras import draw_camera, draw_camera_name, fill_tile
from syncl.rendering.frame_view import Image, RenderFrame
from syncl.rendering.layout import Layout, lay_out
from syncl.rendering.palette import BACKGROUND, INK
from syncl.rendering.panels import draw_legend, draw_title, draw_track_list
from syncl.rendering.scene_view import History, view_frame
from syncl.rendering.strokes import fill_area
from syncl.rendering.style import RenderStyle
from syncl.rendering.video_writer import open_video


def render_video(
    frames: Iterable[RenderFrame],
    output: Path,
    style: RenderStyle | None = None,
    fps: float = 2.0,
    overwrite: bool = False,
) -> int:
    """Draw frames and write them as an MP4 that plays in browsers; returns the number of frames.

    Args:
        frames: in order; a change of scene starts trails afresh and may change the cameras.
        output: the .mp4 file; it appears only when complete.
        style: how to draw.
        fps: pictures a second; nuScenes key frames come at 2.
        overwrite: replace an existing file.

    Raises:
        SynclError: on an existing file, a bad name, or no frame at all.
    """
    with open_video(output, fps, overwrite) as video:
        for picture in draw_frames(frames, style):
            video.write(picture)
        return video.count


def render_image(
    frame: RenderFrame,
    output: Path,
    style: RenderStyle | None = None,
    history: History | None = None,
    overwrite: bool = False,
) -> None:
    """Draw one frame and write it as a PNG.

    Args:
        frame: what to draw.
        output: the .png file.
        style: how to draw.
        history: the past of the scene, for trails and identity switches; None: none.
        overwrite: replace an existing file.

    Raises:
        SynclError: on an existing file or a bad name.
    """
    picture, _ = draw_frame(frame, history, style)
    write_png(picture, output, overwrite)


def render_sheet(
    frames: Iterable[tuple[RenderFrame, History]],
    output: Path,
    style: RenderStyle | None = None,
    overwrite: bool = False,
) -> int:
    """Draw some frames and write them as one PNG, in rows; returns how many.

    Args:
        frames: each with the past of its scene, as `ResultsSource.sheet` gives them; of the same cameras.
        output: the .png file.
        style: how to draw; its width is that of each picture.
        overwrite: replace an existing file.

    Raises:
        SynclError: on an existing file, a bad name, or no frame at all.
    """
    style = style or RenderStyle()
    layout: Layout | None = None
    pictures: list[Image] = []
    for frame, history in frames:
        layout = layout or lay_out(frame, style)
        pictures.append(draw_frame(frame, history, style, layout)[0])
    write_png(join_sheet(pictures), output, overwrite)
    return len(pictures)


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


def write_png(picture: Image, output: Path, overwrite: bool = False) -> None:
    """Write a uint8 RGB picture [H, W, 3] as a PNG; the file appears only when complete.

    Raises:
        SynclError: if the name does not end in .png or the file exists.
    """
    output = Path(output)
    if output.suffix.lower() != ".png":
        raise SynclError(f"{output}: pictures are written as PNG; choose a name that ends in .png")
    refuse_to_overwrite(output, overwrite)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with atomic_path(output) as temporary:
        temporary.write_bytes(encoded.tobytes())


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
            filled = fill_tile(tile, frame.images[row], frame.image_from_vehicle[row])
            if filled is not None:
                draw_camera(*filled, view, scale)
            draw_camera_name(tile, name, scale)
    draw_bev(canvas[layout.bev.slices], view, frame.global_from_vehicle, style.range_m, scale)
    draw_track_list(canvas[layout.tracks.slices], view, scale)
    draw_legend(canvas[layout.legend.slices], view, style)
    return canvas, history


def draw_frames(
    frames: Iterable[RenderFrame], style: RenderStyle | None = None, history: History | None = None
) -> Iterator[Image]:
    """Draw a stream of frames; all pictures have the size of the first.

    A change of scene starts trails afresh. Where cameras change with it, so does the layout; a picture that
    would be larger is shrunk.
    """
    style = style or RenderStyle()
    layout: Layout | None = None
    first: Layout | None = None
    rig: tuple[str, tuple[str, ...]] | None = None
    for frame in frames:
        if layout is None or rig != (frame.scene, frame.cameras):
            layout, rig = lay_out(frame, style), (frame.scene, frame.cameras)
        first = first or layout
        picture, history = draw_frame(frame, history, style, layout)
        yield _fitted(picture, first.height, first.width)


def _fitted(picture: Image, height: int, width: int) -> Image:
    """A picture in the middle of one of this size, whole."""
    scale = min(1.0, height / picture.shape[0], width / picture.shape[1])
    if scale < 1:
        size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if picture.shape[:2] == (height, width):
        return picture
    canvas: Image = np.empty((height, width, 3), np.uint8)
    fill_area(canvas, INK)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas
