"""What `syncl track --recording` does: a model over a recording; tracks as JSON and CSV, and a video."""

import time
from dataclasses import replace
from pathlib import Path

from syncl.checkpoints.model_file import LoadedModel
from syncl.classes import check_classes
from syncl.data.recording.track_files import write_csv, write_json
from syncl.dataset_description import NUSCENES
from syncl.deployment.compiled import compiled
from syncl.files import check_output
from syncl.progress import plain_console, progress_bar
from syncl.rendering import RenderStyle, render_video
from syncl.rendering.recordings import playback_rate, recording_frames
from syncl.runs.check_rig import find_doubts
from syncl.runs.track.reports import TrackingSummary
from syncl.runs.track.run import TrackerChoice, choose_device, choose_tracker
from syncl.runs.track.scenes import report_objects
from syncl.trackers.inference import Precision, for_inference
from syncl.trackers.inputs import recording_for

_DRAWN = 0.3
FILES = ("tracks.json", "tracks.csv", "tracks.mp4")


def track_recording(
    model: LoadedModel,
    folder: Path,
    output: Path,
    *,
    name: str = "",
    tracker: TrackerChoice = "model",
    device: str = "auto",
    min_score: float | None = None,
    classes: tuple[str, ...] = (),
    precision: Precision = "auto",
    compile: bool = False,
    overwrite: bool = False,
) -> TrackingSummary:
    """Track a recording and write `tracks.json`, `tracks.csv` and `tracks.mp4` into a folder.

    Args:
        model: a tracker.
        folder: the recording.
        output: folder for the results.
        name: of the model, noted in the results.
        tracker: see `syncl.commands.track.track`; those that need no training track nuScenes' tracked
            classes, of a model that knows none of them all that it knows.
        device: as `choose_device`.
        min_score: objects below it are left out; None: the files have all, the video those from 0.3 on.
        classes: left in; all if none is named.
        precision: see `for_inference`.
        compile: whether the step becomes one compiled graph (`compiled`).
        overwrite: replace earlier results.

    Raises:
        SynclError: on unusable input, or if the model only detects and no tracker was named.
    """
    known = model.tracker.classes
    tracked = tuple(name for name in NUSCENES.tracked if name in known) or known
    stepping = choose_tracker(model, "tracking", tracker, tracked)
    check_classes(classes, model.tracker.classes)
    check_output(output, True, "folder")
    for file in FILES:
        check_output(output / file, overwrite)
    chosen = choose_device(device)
    recording = recording_for(model.config.input, folder, model.tracker.detector.views)
    recording.check_images()
    console = plain_console(stderr=True)
    doubts = [f"{doubt} (syncl check-rig draws it)" for doubt in find_doubts(recording, 0)]
    for remark in (*recording.remarks, *doubts):
        console.print(f"{recording.rig.path}: {remark}")
    if model.config.input.odometry:
        console.print(
            "the vehicle's motion: poses; acceleration, rotation rate and velocity are told as 0, which no "
            "recording has"
        )
    console.print(f"cameras, as the model sees them: {', '.join(recording.cameras)}")
    stepping = for_inference(stepping.eval().to(chosen), precision)
    stepping = compiled(stepping) if compile else stepping
    state = stepping.initial_state()
    tracks = []
    started = time.perf_counter()
    for number, frame in enumerate(progress_bar(recording, "tracking", total=len(recording))):
        objects, state = stepping.step(frame.to(chosen), state)
        reported = report_objects(recording.rig.moments[number].name, objects, stepping.detector.classes)
        # From the model's body frame to the rig's.
        tracks.append(reported.moved(recording.vehicle_from_body).chosen(min_score, classes))
    seconds = time.perf_counter() - started
    moments, step_s = recording.rig.moments, stepping.forecast_step_s
    write_json(output / FILES[0], moments, tracks, recording.rig.name, recording.remarks, name, step_s)
    write_csv(output / FILES[1], moments, tracks)
    style, drawn_from = RenderStyle(), _DRAWN if min_score is None else 0.0
    pictures = recording_frames(
        replace(recording, resize="fast"),
        tracks,
        style,
        drawn_from,
        title=name,
    )
    drawn = progress_bar(pictures, "drawing", total=len(tracks))
    render_video(drawn, output / FILES[2], style, playback_rate(recording), overwrite)
    return TrackingSummary(tuple(output / file for file in FILES), len(tracks), seconds)
