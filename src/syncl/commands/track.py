"""`syncl track`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.runs.track.reports import TrackingSummary


def track(
    model: Path | None = None,
    /,
    *,
    detections: Path | None = None,
    data: Path | None = None,
    recording: Path | None = None,
    output: Path | None = None,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    scenes: tuple[str, ...] = (),
    task: Literal["tracking", "detection"] = "tracking",
    tracker: Literal["model", "greedy", "greedy-observed", "cc-3dt", "cc-3dt++"] = "model",
    min_score: float | None = None,
    classes: tuple[str, ...] = (),
    forecasts: bool = False,
    past: Literal["model", "key-frames"] = "model",
    device: str = "auto",
    providers: tuple[str, ...] = (),
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    compile: bool = False,
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> "TrackingSummary":
    """Track the scenes of a split and write a nuScenes submission, or track a recording of any rig.

    With --detections, tracks are made of anybody's detections, a nuScenes results file; no model is needed.

    Scenes are streamed frame by frame in time order; every scene starts with no tracks. The same input gives
    the same file; sums are rounded as devices and CPU threads divide them, which the file names. Under
    `torchrun` or `accelerate launch` the scenes are dealt to the processes, and the file is the same again. A
    recording's tracks are written as JSON, CSV and a video.

    Scenes that are finished are kept beside the output (OUTPUT.scenes) until all are: after a kill, --resume
    goes on with the others and writes the same file.

    Args:
        model: name of a shipped model (syncl models), a model file, a run's folder, or an exported folder
            (syncl export). With detections it may be left out; a CC-3DT model's tracker ties them together,
            and its detector is not asked.
        detections: a nuScenes detection results file of the same samples, whose boxes are tied together.
        data: folder of a nuScenes-format dataset.
        recording: folder of a recording with its rig.yaml, instead of data (docs/recordings.md).
        output: results file (JSON) to write; for Argoverse 2 also NAME.feather, its own layout; for a
            recording, a folder (default: RECORDING_tracks).
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: which scenes (default: the version's own validation split).
        scenes: names of some of its scenes, where not all are wanted.
        task: tracking writes tracks; detection writes what the model's detector sees in each frame alone.
        tracker: model tracks as the model was trained to. greedy is the yardstick: the model's detector
            looks at each frame alone, and detections are tied together by the distance of their centres, put
            back by their velocity. greedy-observed does without the detector's velocities. cc-3dt also goes
            by the order of depth and by tracks' motion, which a Kalman filter follows; cc-3dt++ has other
            settings, which trust detected velocities. Neither needs training, and detections without a model
            are tracked by greedy unless another is named.
        min_score: leave out boxes that score less (default: none; what a recording's video shows scores at
            least 0.3). The official metrics choose scores themselves, and lose by it.
        classes: write these only, such as car pedestrian; all if none is named.
        forecasts: write where tracks are expected next as well (PF-Track): a field `forecast` of every box,
            centres (x, y) in the global frame, one every `forecast_step_s` seconds (in the file's meta). The
            official evaluation reads over both. A recording's JSON has them unasked.
        past: of models that see images of a while ago beside the present ones (PETRv2): model reads them from
            between the key frames as the model was trained to; key-frames does without those image files, and
            the model remembers key frames instead.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        providers: of onnxruntime, for exported folders, the preferred one first (the CPU's if none is named).
        precision: of the model's layers; geometry, times, boxes, scores and states are float32 and float64
            whatever it is. auto is float32.
        compile: compile the whole step as one graph, captured on a GPU. The first frame waits for it, minutes
            the first time; the code is kept between runs. Needs a C++ compiler.
        threads: CPU threads (default: torch's choice).
        resume: go on with scenes that an earlier call finished; model, data, options, device and threads must
            be as then.
        overwrite: replace an existing results file.

    Returns:
        The files that were written, and how many frames and how much time it took.
    """
    from syncl.classes import check_classes, check_min_score
    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.nuscenes.odometry import can_bus_remark
    from syncl.data.nuscenes.splits import OFFICIAL_SPLITS, own_split
    from syncl.data.own_results import as_json, own_layout
    from syncl.data.recording.rig_file import folder_of
    from syncl.deployment.exported import model_source, open_model
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.models import find_model
    from syncl.progress import plain_console
    from syncl.runs.processes import Processes, started_together
    from syncl.runs.threads import use_threads
    from syncl.runs.track.given import track_given
    from syncl.runs.track.on_recording import track_recording
    from syncl.runs.track.parts import scene_parts
    from syncl.runs.track.reports import Reports
    from syncl.runs.track.run import check_past_images, track_to_file, tracking_origin, without_past_images
    from syncl.wording import counted

    model = None if model is None else find_model(model)
    use_threads(threads)
    console = plain_console()
    if model is None and detections is None:
        raise SynclError("pass a MODEL that detects and tracks, or --detections of another detector")
    of_scenes = {
        "data": data,
        "detections": detections,
        "version": version != "v1.0-mini",
        "dataset": dataset,
        "split": split,
        "scenes": scenes,
        "task detection": task == "detection",
        "forecasts": forecasts,
        "resume": resume,
    }
    if recording is not None and (without := [f"--{name}" for name, value in of_scenes.items() if value]):
        raise SynclError(f"--recording: goes without {', '.join(without)}")
    if recording is not None and started_together():
        raise SynclError("--recording: is one scene, which one process tracks; start it without torchrun")
    check_min_score(min_score)
    if recording is not None and model is not None:
        target = output or Path(f"{folder_of(recording).name}_tracks")
        seeing = open_model(model, providers=providers)
        done = track_recording(
            without_past_images(seeing) if past == "key-frames" else seeing,
            recording,
            target,
            name=model.stem,
            tracker=tracker,
            device=device,
            min_score=min_score,
            classes=classes,
            precision=precision,
            compile=compile,
            overwrite=overwrite,
        )
        files = ", ".join(map(str, done.files))
        console.print(
            f"wrote {files}: {counted(done.frames, 'frame')}, {done.seconds_per_frame:.3f} s a frame"
        )
        return done
    if data is None or output is None:
        raise SynclError("pass --data and --output for a nuScenes-format dataset, or --recording")
    processes = Processes.current()
    if detections is not None and detections.resolve() == output.resolve():
        raise SynclError(f"--output: {output}: are the detections themselves; name another file")
    check_output(output, overwrite)
    index = open_nuscenes(data, version, dataset=dataset)
    if forecasts and own_layout(data, output) is not None:
        raise SynclError(f"--forecasts: {output}: this layout has no place for them; name a .json")
    split = split or own_split(version, data)
    chosen = index.choose_scenes(split, scenes)
    if detections is not None:
        if task == "detection" or forecasts or past != "model" or precision != "auto" or compile:
            raise SynclError(
                "--detections: are tracked as they are; leave out --task, --forecasts, --past, --precision "
                "and --compile"
            )
    else:
        index.check_images(chosen)
    loaded = None if model is None else open_model(model, providers=providers)
    kept = index.dataset.tracked if task == "tracking" else index.dataset.classes
    check_classes(classes, [name for name in kept if loaded is None or name in loaded.tracker.classes])
    if loaded is not None and detections is None:
        if past == "key-frames":
            loaded = without_past_images(loaded)
        check_past_images(loaded, index, chosen)
        if loaded.config.input.odometry and processes.is_main:
            console.print(can_bus_remark(index, chosen))
    asked: dict[str, object] = {"task": task, "tracker": tracker, "forecasts": forecasts, "past": past}
    # Named where they were asked for, so that earlier calls' finished scenes are still known.
    asked |= {} if min_score is None else {"min_score": min_score}
    asked |= {"classes": list(classes)} if classes else {}
    asked |= {} if precision == "auto" else {"precision": precision}
    asked |= {"compile": True} if compile else {}
    asked |= {"providers": list(providers)} if providers else {}
    sources = {"model": model_source(model), "detections": detections}
    origin = asked | tracking_origin(sources, index, device, processes)
    with scene_parts(output, origin, resume, overwrite, processes) as parts:
        reports = Reports(output, forecasts, min_score, classes, overwrite, processes=processes, parts=parts)
        if detections is not None:
            with as_json(detections, data, split, index.dataset) as readable:
                done = track_given(
                    readable,
                    index,
                    chosen,
                    reports,
                    model=loaded,
                    tracker="greedy" if model is None and tracker == "model" else tracker,
                    others=bool(scenes) or split not in OFFICIAL_SPLITS,
                    device=device,
                )
        elif loaded is not None:
            done = track_to_file(
                loaded,
                index,
                chosen,
                reports,
                task=task,
                tracker=tracker,
                device=device,
                precision=precision,
                compile=compile,
            )
    processes.finish()
    if processes.is_main:
        for remark in done.remarks:
            console.print(remark)
        scene_count = f"{counted(done.frames, 'frame')} of {counted(len(done.scenes), 'scene')}"
        if done.earlier_frames:
            scene_count += f" ({done.earlier_frames} of them tracked by an earlier call)"
        console.print(f"wrote {output}: {scene_count}, {done.seconds_per_frame:.3f} s a frame")
    return done
