"""What `syncl profile` does: frames through a tracker, charged to its parts."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.deployment.exported import open_model
from syncl.errors import SynclError
from syncl.files import scratch_folder
from syncl.models import find_model
from syncl.recipes import find_recipe
from syncl.recipes.listing import recipe_entries
from syncl.rendering import RenderFrame, draw_frame
from syncl.runs.profile.meters import Allocations, Counters, Meter, Watch, clocks, metered
from syncl.runs.track.run import check_parts, choose_device, without_past_images
from syncl.runs.track.scenes import cameras_seen, image_options, report_objects
from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.inference import Precision, for_inference
from syncl.trackers.inputs import InputConfig, recording_for
from syncl.trackers.state import TrackState

PARTS = {
    "data": "reading, undistorting and scaling images; making the frame",
    "encoder": "backbone and neck",
    "tokens": "the rest of the detector's look: positions, image heads, memory",
    "decoder": "object queries, decoder layers, prediction heads",
    "tracker": "checks, motion, association or reasoning, births and ends",
    "drawing": "cameras and bird's-eye view as one picture",
}
"""What a frame's way is divided into, in order."""

STEP = tuple(part for part in PARTS if part not in ("data", "drawing"))
"""The parts of a step."""


@dataclass(frozen=True)
class PartCost:
    """What a part costs a frame.

    Attributes:
        seconds: wall time, median over frames.
        cpu_seconds: of the process, the same.
        gflops: 1e9 floating point operations of products and convolutions, of one frame.
        peak_mb: most megabytes of tensors of one frame while it runs; weights do not count.
        waits: how often the host reads or sends a value, for which a device is waited.
    """

    seconds: float
    cpu_seconds: float
    gflops: float | None = None
    peak_mb: float | None = None
    waits: int | None = None


@dataclass(frozen=True)
class Profile:
    """What a model costs a frame.

    Attributes:
        name: of the model.
        where: device, threads and precision.
        images: cameras, height and width of a frame.
        frames: how many were timed.
        tracks: how many it carried in the last of them.
        parts: by name, in the order of `PARTS`.
    """

    name: str
    where: str
    images: tuple[int, int, int]
    frames: int
    tracks: int
    parts: dict[str, PartCost]

    @property
    def step_seconds(self) -> float:
        """Seconds of a step: all but data and drawing."""
        return sum(self.parts[part].seconds for part in STEP)


def profile_model(
    model: Path,
    *,
    recording: Path | None = None,
    frames: int = 8,
    precision: Precision = "auto",
    device: str = "auto",
) -> Profile:
    """Profile a model; see `syncl.commands.profile.profile` for the arguments.

    Raises:
        SynclError: on unusable input.
    """
    if not 1 <= frames <= _MOST_FRAMES:
        raise SynclError(f"--frames: {frames} is not between 1 and {_MOST_FRAMES}")
    name, loaded = _opened(model)
    check_parts(loaded.tracker, "profile")
    chosen = choose_device(device)
    tracker = for_inference(loaded.tracker.eval().to(chosen), precision)
    samples: dict[str, list[Counters]] = {part: [] for part in PARTS}
    state = tracker.initial_state()
    # Read ahead by threads of its own, so that only all of it can be timed.
    reading = Meter(clocks(chosen))
    with _drive(loaded.config.input, tracker, recording, frames + 2) as drive, reading.part("data"):
        read = [next(drive) for _ in range(frames + 2)]
    each = {name: total / len(read) for name, total in reading.costs["data"].items()}
    # The first frame finds nothing in place, and no tracks.
    objects, state = tracker.step(read[0].to(chosen), state)
    _draw(read[0], objects, tracker)
    for frame in read[1:-1]:
        meter = Meter(clocks(chosen))
        with metered(meter, methods_of(tracker)):
            with meter.part("data"):
                frame = frame.to(chosen)
            with meter.part("tracker"):
                objects, state = tracker.step(frame, state)
            with meter.part("drawing"):
                _draw(frame, objects, tracker)
        for part in PARTS:
            samples[part].append(meter.costs[part])
        samples["data"][-1] = {name: cost + each[name] for name, cost in meter.costs["data"].items()}
    seen = read[-1].to(chosen)
    counted, peaks = _looked_on(tracker, seen, state)
    parts = {}
    for part, found in samples.items():
        wall, cpu = (
            statistics.median(sample.get(name, 0.0) for sample in found)
            for name in ("seconds", "cpu_seconds")
        )
        parts[part] = PartCost(wall, cpu)
        if part in STEP:
            operations, waits = (counted[part].get(name, 0.0) for name in ("flops", "waits"))
            parts[part] = PartCost(wall, cpu, operations / 1e9, peaks.get(part, 0) / 1e6, round(waits))
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count > 1 else ''}" if chosen.type == "cpu" else ""
    where = f"{chosen}{threads}, {str(tracker.precision).removeprefix('torch.')}"
    images = (seen.images.shape[1], *seen.image_size)
    return Profile(name, where, images, frames, int(state.alive.sum()), parts)


_MOST_FRAMES = 64
# Of the world that is looked at; the shipped models were trained on others.
_SEED = 2027


def methods_of(tracker: Tracker) -> dict[str, list[tuple[object, str]]]:
    """The methods that the parts of a step are made of; what is left is the tracker's."""
    detector = tracker.detector
    encoder = getattr(detector, "image_encoder", None)
    return {
        "encoder": [] if encoder is None else [(encoder, "forward")],
        "tokens": [(detector, "encode"), (detector, "remember")],
        "decoder": [(detector, "initial_queries"), (detector, "decode")],
    }


def _opened(model: Path) -> tuple[str, LoadedModel]:
    """A model by file or name, or a recipe with fresh weights."""
    if not model.exists() and str(model) in {entry.name for entry in recipe_entries()}:
        config = find_recipe(str(model)).model
        torch.manual_seed(0)
        loaded = LoadedModel(config.build().eval(), config, None, {})
        return f"{model}, fresh weights", without_past_images(loaded)
    return str(model), without_past_images(open_model(find_model(model)))


@contextmanager
def _drive(
    config: InputConfig, tracker: Tracker, recording: Path | None, count: int
) -> Iterator[Iterator[Frame]]:
    """Frames that are read when they are asked for: of a recording, or of a synthetic scene.

    Raises:
        SynclError: there are too few, or the model has weights for other cameras than nuScenes' six.
    """
    if recording is not None:
        frames = recording_for(config, recording, tracker.detector.views)
        if len(frames) < count:
            raise SynclError(f"{recording}: {len(frames)} frames; {count} are needed, or fewer --frames")
        yield iter(frames)
        return
    height, width = config.image_size
    with scratch_folder("profile") as folder:
        world = WorldConfig(0, 1, keyframes=count, width=width, height=height, seed=_SEED)
        made = generate_world(folder / "world", world)
        index = open_nuscenes(made.root, made.version).with_vehicle_frame(config.vehicle_frame)
        seen = cameras_seen(config, tracker.detector, index, made.val_scenes)
        yield iter(SceneStream(index, made.val_scenes[0], image_options(seen)))


def _looked_on(
    tracker: Tracker, frame: Frame, state: TrackState
) -> tuple[dict[str, Counters], dict[str, int]]:
    """Operations and waits, and the most bytes, of a step that is not timed, by part."""
    allocations, watch = Allocations(), Watch()
    meter = Meter(watch.read, allocations.enter)
    with allocations, watch, metered(meter, methods_of(tracker)), meter.part("tracker"):
        tracker.step(frame, state)
    return meter.costs, dict(allocations.peaks)


def _draw(frame: Frame, objects: Objects, tracker: Tracker) -> None:
    found = report_objects(frame.samples[0], objects, tracker.detector.classes)
    images = frame.images[0].permute(0, 2, 3, 1).cpu().numpy()
    draw_frame(
        RenderFrame(
            images=tuple(images),
            cameras=frame.rig.names,
            image_from_vehicle=frame.rig.image_from_vehicle[0].cpu().numpy(),
            global_from_vehicle=frame.global_from_vehicle[0].cpu().numpy(),
            timestamp_s=float(frame.timestamp_s[0]),
            objects=found,
        )
    )
