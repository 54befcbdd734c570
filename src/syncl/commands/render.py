"""`syncl render`."""

from pathlib import Path


def render(
    results: Path,
    /,
    *,
    data: Path,
    output: Path,
    version: str = "v1.0-mini",
    split: str = "mini_val",
    scene: str | None = None,
    frame: int | None = None,
    min_score: float = 0.3,
    ground_truth: bool = True,
    mark_errors: bool = False,
    fps: float = 2.0,
    width: int = 1280,
    range_m: float = 52.0,
    overwrite: bool = False,
) -> None:
    """Draw results as a video, or one frame of them as a picture.

    All cameras with a bird's-eye view: boxes coloured by identity with trails, classes and velocities, and
    the annotated objects as thin outlines.

    Args:
        results: tracking or detection results in the nuScenes submission format (JSON).
        data: folder of the nuScenes-format dataset that the results belong to.
        output: video (.mp4) to write; with --frame, picture (.png).
        version: nuScenes version folder inside data.
        split: which scenes.
        scene: one scene of the split (default: all of them, one after another).
        frame: draw only this frame of the scene (of the first, if none is named), counted from 1.
        min_score: leave out tracks with a lower mean score, and detections with a lower score.
        ground_truth: outline the annotated objects where the dataset has them.
        mark_errors: mark false positives, misses and identity switches (2 m centre distance).
        fps: frames of the video a second; nuScenes key frames are 2 a second.
        width: pixels; the height follows from the cameras.
        range_m: how far the bird's-eye view reaches ahead.
        overwrite: replace an existing file.
    """
    import sys

    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.errors import SynclError
    from syncl.files import refuse_to_overwrite
    from syncl.progress import track
    from syncl.rendering import RenderStyle, render_image, render_video
    from syncl.rendering.results import open_results

    wanted = ".mp4" if frame is None else ".png"
    if output.suffix.lower() != wanted:
        kind = "a video" if frame is None else "a picture (--frame)"
        raise SynclError(f"output: {output}; {kind} is written as {wanted[1:].upper()}, name it so")
    refuse_to_overwrite(output, overwrite)
    style = RenderStyle(width=width, range_m=range_m, ground_truth=ground_truth, mark_errors=mark_errors)
    index = open_nuscenes(data, version)
    scenes = index.split_scenes(split)
    if scene is not None and scene not in scenes:
        raise SynclError(
            f"scene: {scene} is not in split '{split}' of {data / version}: {', '.join(scenes[:8])}"
        )
    if scene is not None:
        scenes = (scene,)
    if frame is not None:
        scenes = scenes[:1]
    source = open_results(index, results, scenes, min_score)
    if frame is not None:
        drawn, history = source.frame(scenes[0], frame, style)
        render_image(drawn, output, style, history, overwrite)
        sys.stdout.write(f"{output}: frame {frame} of {scenes[0]}\n")
        return
    frames = track(source.frames(style), "drawing", total=source.frame_count)
    count = render_video(frames, output, style, fps, overwrite)
    sys.stdout.write(f"{output}: {count} frames of {len(scenes)} scenes\n")
