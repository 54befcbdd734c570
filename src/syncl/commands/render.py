"""`syncl render`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rendered:
    """A file that was drawn: how many frames it shows, and which in words."""

    path: Path
    frames: int
    content: str


def render(
    results: Path,
    /,
    *,
    data: Path,
    output: Path | None = None,
    rerun: Path | None = None,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    scene: str | None = None,
    frame: int | None = None,
    sheet: int | None = None,
    min_score: float = 0.3,
    classes: tuple[str, ...] = (),
    ground_truth: bool = True,
    mark_errors: bool = False,
    velocities: bool = True,
    forecasts: bool = True,
    trail_s: float = 4.0,
    fps: float = 2.0,
    width: int = 1280,
    range_m: float = 52.0,
    overwrite: bool = False,
) -> tuple[Rendered, ...]:
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
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: which scenes (default: the version's own validation split).
        scene: one scene of the split (default: all of them, one after another).
        frame: draw only this frame of the scene (of the first, if none is named), counted from 1.
        sheet: draw so many frames, spread evenly over the scene (the first, if none is named), as one
            picture.
        min_score: leave out tracks with a lower mean score, and detections with a lower score.
        classes: draw these only, such as car pedestrian; all if none is named.
        ground_truth: outline the annotated objects where the dataset has them.
        mark_errors: mark false positives, misses and identity switches: tracks and annotated objects belong
            together if they are of one class and their centres nearer than the dataset's
            track_distance_m, 2 m officially (ground plane).
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

    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.nuscenes.splits import own_split
    from syncl.data.own_results import as_json
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.progress import progress_bar
    from syncl.rendering import RenderStyle, render_image, render_sheet, render_video
    from syncl.rendering.layout import sheet_places
    from syncl.rendering.nuscenes_scenes import open_results
    from syncl.rendering.rerun_log import check_rerun, write_rerun
    from syncl.wording import counted

    if frame is not None and sheet is not None:
        raise SynclError("--frame and --sheet: a single frame or a sheet of several; leave one out")
    kind = "video" if frame is None and sheet is None else "picture (--frame, --sheet)"
    wanted = ".mp4" if kind == "video" else ".png"
    if output is None and (rerun is None or kind != "video"):
        raise SynclError(f"--output: name the {kind} to write{' (or --rerun)' if kind == 'video' else ''}")
    if rerun is not None and kind != "video":
        raise SynclError("--rerun: a recording is of whole scenes; leave out --frame and --sheet")
    if output is not None and output.suffix.lower() != wanted:
        raise SynclError(f"output: {output}; a {kind} is written as {wanted[1:].upper()}, name it so")
    for target in (output, rerun):
        if target is not None:
            check_output(target, overwrite)
    if rerun is not None:
        check_rerun(rerun)
    index = open_nuscenes(data, version, dataset=dataset)
    scenes = index.choose_scenes(split or own_split(version, data), () if scene is None else (scene,))
    if kind != "video":
        scenes = scenes[:1]
    if sheet is not None:
        chosen = sheet_places(len(index.scene_samples(scenes[0])), sheet)
    style = RenderStyle(
        width=width,
        range_m=range_m,
        trail_s=trail_s,
        velocities=velocities,
        forecasts=forecasts,
        ground_truth=ground_truth,
        mark_errors=mark_errors,
        match_distance_m=index.dataset.measures.track_distance_m,
    )
    written: list[Rendered] = []
    with as_json(results, data, split or own_split(version, data), index.dataset) as readable:
        source = open_results(index, readable, scenes, min_score, classes=classes)
    if rerun is not None:
        frames = progress_bar(source.frames(style), "logging", total=source.frame_count)
        count = write_rerun(frames, rerun, style, overwrite)
        content = f"{counted(count, 'frame')} of {counted(len(scenes), 'scene')}; open it with: rerun {rerun}"
        written.append(Rendered(rerun, count, content))
    if output is not None and frame is not None:
        drawn, history = source.frame(scenes[0], frame, style)
        render_image(drawn, output, style, history, overwrite)
        written.append(Rendered(output, 1, f"frame {frame} of {scenes[0]}"))
    elif output is not None and sheet is not None:
        pictures = progress_bar(source.sheet(scenes[0], sheet, style), "drawing", total=len(chosen))
        render_sheet(pictures, output, style, overwrite)
        content = f"frames {', '.join(str(n + 1) for n in chosen)} of {scenes[0]}"
        written.append(Rendered(output, len(chosen), content))
    elif output is not None:
        frames = progress_bar(source.frames(style), "drawing", total=source.frame_count)
        count = render_video(frames, output, style, fps, overwrite)
        written.append(
            Rendered(output, count, f"{counted(count, 'frame')} of {counted(len(scenes), 'scene')}")
        )
    for file in written:
        sys.stdout.write(f"{file.path}: {file.content}\n")
    return tuple(written)
