"""`syncl render`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.render import Rendered


def render(
    results: Path,
    /,
    *,
    data: Path,
    output: Path | None = None,
    rerun: Path | None = None,
    version: str = "v1.0-mini",
    split: str = "mini_val",
    scene: str | None = None,
    frame: int | None = None,
    sheet: int | None = None,
    min_score: float = 0.3,
    ground_truth: bool = True,
    mark_errors: bool = False,
    velocities: bool = True,
    forecasts: bool = True,
    trail_s: float = 4.0,
    fps: float = 2.0,
    width: int = 1280,
    range_m: float = 52.0,
    overwrite: bool = False,
) -> "tuple[Rendered, ...]":
    """Draw results as a video, one frame as a picture, several as a sheet, or log them for the rerun viewer.

    All cameras with a bird's-eye view: boxes coloured by identity with trails, classes, velocities and
    forecasts, and the annotated objects as thin outlines. No display is needed.

    Args:
        results: tracking or detection results in the nuScenes submission format (JSON).
        data: folder of the nuScenes-format dataset that the results belong to.
        output: video (.mp4) to write; with --frame or --sheet, picture (.png).
        rerun: rerun recording (.rrd) to write, instead of a video or beside it: images, cameras, boxes and
            trails to walk around in with the rerun viewer. Needs the extra: pip install 'syncl[rerun]'.
        version: nuScenes version folder inside data.
        split: which scenes.
        scene: one scene of the split (default: all of them, one after another).
        frame: draw only this frame of the scene (of the first, if none is named), counted from 1.
        sheet: draw so many frames, spread evenly over the scene (the first, if none is named), as one
            picture.
        min_score: leave out tracks with a lower mean score, and detections with a lower score.
        ground_truth: outline the annotated objects where the dataset has them.
        mark_errors: mark false positives, misses and identity switches: tracks and annotated objects belong
            together if they are of one class and their centres nearer than 2 m (ground plane).
        velocities: draw an arrow from every moving object to where it will be in one second.
        forecasts: draw expected paths as dots, where the tracker wrote them with its results.
        trail_s: seconds of past positions behind every track; 0 draws none.
        fps: frames of the video a second; nuScenes key frames are 2 a second.
        width: pixels (of each picture of a sheet); the height follows from the cameras.
        range_m: how far the bird's-eye view reaches ahead.
        overwrite: replace an existing file.

    Returns:
        What was drawn, a file each.
    """
    import sys

    from syncl.rendering import RenderStyle
    from syncl.runs.render import render_results

    style = RenderStyle(
        width=width,
        range_m=range_m,
        trail_s=trail_s,
        velocities=velocities,
        forecasts=forecasts,
        ground_truth=ground_truth,
        mark_errors=mark_errors,
    )
    written = render_results(
        results,
        data,
        version,
        split,
        style,
        output=output,
        rerun=rerun,
        scene=scene,
        frame=frame,
        sheet=sheet,
        min_score=min_score,
        fps=fps,
        overwrite=overwrite,
    )
    for file in written:
        sys.stdout.write(f"{file.path}: {file.content}\n")
    return written
