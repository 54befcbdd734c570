"""What `syncl render` does: results as a video, a picture, a sheet or a rerun recording."""

from dataclasses import dataclass
from pathlib import Path

from syncl.data.nuscenes.index import open_nuscenes
from syncl.errors import SynclError
from syncl.files import refuse_to_overwrite
from syncl.progress import progress_bar
from syncl.rendering import RenderStyle, render_image, render_sheet, render_video
from syncl.rendering.nuscenes_scenes import open_results
from syncl.rendering.rerun_log import check_rerun, write_rerun
from syncl.rendering.sheet import sheet_places


@dataclass(frozen=True)
class Rendered:
    """A file that was drawn: how many frames it shows, and which in words."""

    path: Path
    frames: int
    content: str


def render_results(
    results: Path,
    data: Path,
    version: str,
    split: str,
    style: RenderStyle,
    *,
    output: Path | None = None,
    rerun: Path | None = None,
    scene: str | None = None,
    frame: int | None = None,
    sheet: int | None = None,
    min_score: float = 0.3,
    fps: float = 2.0,
    overwrite: bool = False,
) -> tuple[Rendered, ...]:
    """Draw results; see `syncl.commands.render.render` for the arguments.

    Raises:
        SynclError: on options that contradict each other, or unusable input, before anything is drawn.
    """
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
            refuse_to_overwrite(target, overwrite)
    if rerun is not None:
        check_rerun(rerun)
    index = open_nuscenes(data, version)
    scenes = index.split_scenes(split)
    if scene is not None and scene not in scenes:
        raise SynclError(
            f"scene: {scene} is not in split '{split}' of {data / version}: {', '.join(scenes[:8])}"
        )
    if scene is not None:
        scenes = (scene,)
    if kind != "video":
        scenes = scenes[:1]
    if sheet is not None:
        chosen = sheet_places(len(index.scene_samples(scenes[0])), sheet)
    written: list[Rendered] = []
    source = open_results(index, results, scenes, min_score)
    if rerun is not None:
        frames = progress_bar(source.frames(style), "logging", total=source.frame_count)
        count = write_rerun(frames, rerun, style, overwrite)
        content = f"{count} frames of {len(scenes)} scenes; open it with: rerun {rerun}"
        written.append(Rendered(rerun, count, content))
    if output is None:
        return tuple(written)
    if frame is not None:
        drawn, history = source.frame(scenes[0], frame, style)
        render_image(drawn, output, style, history, overwrite)
        content = f"frame {frame} of {scenes[0]}"
        written.append(Rendered(output, 1, content))
    elif sheet is not None:
        pictures = progress_bar(source.sheet(scenes[0], sheet, style), "drawing", total=len(chosen))
        render_sheet(pictures, output, style, overwrite)
        content = f"frames {', '.join(str(n + 1) for n in chosen)} of {scenes[0]}"
        written.append(Rendered(output, len(chosen), content))
    else:
        frames = progress_bar(source.frames(style), "drawing", total=source.frame_count)
        count = render_video(frames, output, style, fps, overwrite)
        written.append(Rendered(output, count, f"{count} frames of {len(scenes)} scenes"))
    return tuple(written)
