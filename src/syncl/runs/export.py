"""What `syncl export` does: a model, and a drive for its golden frames, to a folder."""

import itertools
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from syncl.checkpoints.model_file import load_model
from syncl.checkpoints.upgrades import Json
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.tables.categories import CAMERA_ORDER
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.deployment.autoware.engines import fitting_detector
from syncl.deployment.autoware.node_folder import AutowareExport, write_autoware
from syncl.deployment.golden_frames import EVENTS, FRAMES_NEEDED
from syncl.deployment.manifest import MANIFEST, sha256
from syncl.deployment.writing import Exported, Precision, ProgramFormat, write_export
from syncl.errors import SynclError
from syncl.files import atomic_folder, check_replaced
from syncl.models import find_model
from syncl.progress import plain_console
from syncl.runs.provenance import commit
from syncl.runs.track.run import without_past_images
from syncl.runs.track.scenes import cameras_seen, image_options
from syncl.structures import Frame
from syncl.trackers.base import Tracker
from syncl.trackers.inference import for_inference
from syncl.trackers.inputs import InputConfig, recording_for

# Of the world that golden frames are of; the shipped models were trained on others.
_SEED = 2026


def export_model(
    model: Path,
    output: Path,
    *,
    program_format: ProgramFormat = "onnx",
    precision: Precision = "float32",
    opset: int = 18,
    recording: Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Export a model; see `syncl.commands.export.export` for the arguments.

    Raises:
        SynclError: the model has no step that can be exported, with the reason, or an option is out of range.
    """
    check_replaced(output, overwrite, MANIFEST)
    model = find_model(model)
    loaded = without_past_images(load_model(model))
    tracker, config = for_inference(loaded.tracker), loaded.config
    # Said before anything is generated.
    program = tracker.stepping_part().with_fixed_slots()
    source = _source(model, recording)
    with atomic_folder(output) as building, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        drive = _drive(config.input, tracker, recording, building)
        done = write_export(
            building,
            tracker,
            config,
            drive,
            source=source,
            program_format=program_format,
            precision=precision,
            opset=opset,
        )
    console = plain_console(stderr=True)
    absent = [event for event in EVENTS if event not in done.events]
    if absent and not program.detects_only:
        console.print(
            f"golden frames have no {', no '.join(absent)}: the model is sure of too little in "
            f"{source['golden_frames_of']}; take --recording of what it was trained for"
        )
    return replace(done, folder=output)


def export_to_autoware(
    model: Path,
    output: Path,
    *,
    opset: int = 18,
    recording: Path | None = None,
    overwrite: bool = False,
) -> AutowareExport:
    """Export a StreamPETR for Autoware's node; see `syncl.commands.export.export` for the arguments.

    Raises:
        SynclError: the model does not fit the node, with the reason, or an option is out of range.
    """
    check_replaced(output, overwrite, MANIFEST)
    model = find_model(model)
    loaded = load_model(model)
    tracker, config = for_inference(loaded.tracker), loaded.config
    fitting_detector(tracker, config.input)
    with atomic_folder(output) as building, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        drive = _drive(config.input, tracker, recording, building)
        done = write_autoware(building, tracker, config, drive, source=_source(model, recording), opset=opset)
    return replace(done, folder=output)


def _source(model: Path, recording: Path | None) -> dict[str, Json]:
    return {
        "model": model.name,
        "sha256": sha256(model),
        "commit": commit(),
        "golden_frames_of": "the synthetic world" if recording is None else recording.name,
    }


def _drive(config: InputConfig, tracker: Tracker, recording: Path | None, place: Path) -> list[Frame]:
    if recording is None:
        return synthetic_drive(config, tracker, place)
    return recorded_drive(config, tracker, recording)


def synthetic_drive(config: InputConfig, tracker: Tracker, place: Path | None = None) -> list[Frame]:
    """Frames of a synthetic scene, as a model with nuScenes' cameras sees them.

    Args:
        config: of the model.
        tracker: the model.
        place: where it is generated meanwhile: one that the next call tidies up, should this one be killed.

    Raises:
        SynclError: it has weights for other cameras.
    """
    if tracker.cameras not in (None, len(CAMERA_ORDER)):
        raise SynclError(
            f"this model has weights for {tracker.cameras} cameras and the synthetic world has six: give "
            "golden frames of its own rig, --recording"
        )
    height, width = config.image_size
    with tempfile.TemporaryDirectory(dir=place) as folder:
        world = WorldConfig(0, 1, keyframes=FRAMES_NEEDED, width=width, height=height, seed=_SEED)
        made = generate_world(Path(folder) / "world", world)
        index = open_nuscenes(made.root, made.version).with_vehicle_frame(config.vehicle_frame)
        seen = cameras_seen(config, tracker.detector, index, made.val_scenes)
        return list(SceneStream(index, made.val_scenes[0], image_options(seen)))


def recorded_drive(config: InputConfig, tracker: Tracker, folder: Path) -> list[Frame]:
    """The first frames of a recording, as a model sees them.

    Raises:
        SynclError: it has too few.
    """
    recording = recording_for(config, folder, tracker.detector.views)
    if len(recording) < FRAMES_NEEDED:
        raise SynclError(f"{folder}: {len(recording)} frames; golden frames are chosen of {FRAMES_NEEDED}")
    return list(itertools.islice(recording, FRAMES_NEEDED))
