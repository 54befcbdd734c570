"""Find an occlusion that a tracker bridged, and make a film of it.

    python examples/bridged_occlusion.py model.safetensors --data my_world --output bridge \\
        --version v1.0-trainval --split val
    python examples/bridged_occlusion.py ... --scenes scene-0003 scene-0007 --min-gap 3 --rank 2

A bridge is an annotated object that a track reported, that the same identity did not report for at least
`--min-gap` frames, and that it then reported again. Those whose objects could really not be seen meanwhile
(annotated as hardly visible, hit by no sensor, or not annotated) come first, then longer ones, then those
whose objects moved farther. The folder gets `bridge.mp4` and `bridge.png` of one of them, with the track
drawn where its state has it while it was not reported, and `bridges.json`, the list of all.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from syncl.checkpoints.model_file import LoadedModel, load_model
from syncl.classes import DETECTION_CLASSES
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.samples import Sample
from syncl.errors import SynclError
from syncl.files import atomic_write, refuse_to_overwrite
from syncl.geometry.poses import invert_pose, move_points
from syncl.progress import progress_bar
from syncl.rendering import History, RenderFrame, RenderStyle, render_video
from syncl.rendering.cameras import draw_camera
from syncl.rendering.nuscenes_scenes import ResultsSource
from syncl.rendering.output import write_png
from syncl.rendering.scene_view import view_frame
from syncl.runs.track.scenes import image_options

Floats = NDArray[np.float64]
# The lowest of nuScenes' four levels: at most 40 % of the object are visible.
HARDLY_VISIBLE = 1
TILE_WIDTH, TALLEST_TILE = 360, 240
CAPTION = 40


@dataclass(frozen=True)
class TrackedFrame:
    """All tracks of one frame, reported ones first.

    Attributes:
        sample: its token.
        boxes: [N, 9] global frame.
        names: N classes.
        scores: [N]; 0 where the track was not reported.
        identities: [N].
        reported: [N] bool.
    """

    sample: str
    boxes: Floats
    names: tuple[str, ...]
    scores: Floats
    identities: NDArray[np.int64]
    reported: NDArray[np.bool_]


@dataclass(frozen=True)
class Bridge:
    """A gap in a track's reports with its object on both sides; frames are numbered from 1.

    Attributes:
        scene: its name.
        identity: of the track.
        name: class of the object.
        last_seen: last frame with a report before the gap.
        seen_again: first one behind it.
        hidden: frames of the gap in which the object could hardly be seen.
        moved_m: how far it moved across the gap.
        distance_m: from the vehicle, where it was seen again.
    """

    scene: str
    identity: int
    name: str
    last_seen: int
    seen_again: int
    hidden: int
    moved_m: float
    distance_m: float

    @property
    def gap(self) -> int:
        """Frames without a report."""
        return self.seen_again - self.last_seen - 1


def track_frames(
    model: LoadedModel, index: NuScenesIndex, scene: str, device: torch.device
) -> Iterator[TrackedFrame]:
    """Track a scene. Tracks that the state keeps without reporting them are where it expects them; size and
    heading are those last reported.
    """
    tracker = model.tracker
    state = tracker.initial_state()
    stream = SceneStream(index, scene, image_options(model.config.input))
    last: dict[int, tuple[Floats, str]] = {}
    for row, frame in zip(stream.rows, stream):
        objects, state = tracker.step(frame.to(device), state)
        sample = index.sample(row)
        pose = sample.global_from_vehicle
        found = FrameObjects.of(objects, tracker.detector.classes).moved(pose)
        numbers = [int(identity) for identity in found.identities]
        known = dict(zip(numbers, zip(found.boxes, found.classes)))
        last |= known
        alive = state.alive[0].cpu()
        centres = state.references[0].cpu()[alive].double().numpy() @ pose[:3, :3].T + pose[:3, 3]
        kept = dict(zip(state.identities[0].cpu()[alive].tolist(), centres))
        missed = [identity for identity in kept if identity in last and identity not in known]
        coasting = [np.concatenate([kept[identity], last[identity][0][3:]]) for identity in missed]
        yield TrackedFrame(
            sample.token,
            np.array([*found.boxes, *coasting]).reshape(-1, 9),
            (*found.classes, *(last[identity][1] for identity in missed)),
            np.concatenate([found.scores, np.zeros(len(missed))]),
            np.array([*numbers, *missed], np.int64),
            np.arange(found.count + len(missed)) < found.count,
        )


def matched(sample: Sample, frame: TrackedFrame, gate_m: float) -> dict[int, int]:
    """Annotated identity to the reported identity that lies nearest, same class, each at most once."""
    truth = sample.annotations
    rows = np.flatnonzero(frame.reported)
    centres = move_points(invert_pose(sample.global_from_vehicle), frame.boxes[rows, :3])[:, :2]
    distance = np.linalg.norm(truth.boxes[:, None, :2] - centres[None], axis=-1)
    names = [DETECTION_CLASSES[label] if label >= 0 else "" for label in truth.labels]
    same = np.array([[name == frame.names[row] for row in rows] for name in names], np.bool_)
    allowed = same.reshape(distance.shape) & (distance <= gate_m)
    pairs = zip(*linear_sum_assignment(np.where(allowed, distance, 1e6)))
    return {
        int(truth.identities[real]): int(frame.identities[rows[track]])
        for real, track in pairs
        if allowed[real, track]
    }


def seen_objects(sample: Sample) -> dict[int, int]:
    """Row of every annotated object that could be seen."""
    truth = sample.annotations
    visible = (truth.visibility != HARDLY_VISIBLE) & (truth.num_lidar_pts + truth.num_radar_pts > 0)
    return {int(truth.identities[row]): int(row) for row in np.flatnonzero(visible)}


def find_bridges(
    samples: Sequence[Sample], frames: Sequence[TrackedFrame], scene: str, min_gap: int, gate_m: float
) -> Iterator[Bridge]:
    """All bridges of a scene."""
    matches = [matched(sample, frame, gate_m) for sample, frame in zip(samples, frames)]
    visible = [seen_objects(sample) for sample in samples]
    for instance in sorted({instance for found in matches for instance in found}):
        held = [(number, found[instance]) for number, found in enumerate(matches) if instance in found]
        for (before, identity), (after, again) in pairwise(held):
            between = range(before + 1, after)
            reported = (identity in frames[number].identities[frames[number].reported] for number in between)
            if identity != again or len(between) < min_gap or any(reported):
                continue
            places = [_place(samples[number], instance) for number in (before, after)]
            ego = samples[after].global_from_ego[:2, 3]
            row = int(np.flatnonzero(samples[after].annotations.identities == instance)[0])
            yield Bridge(
                scene,
                identity,
                DETECTION_CLASSES[samples[after].annotations.labels[row]],
                before + 1,
                after + 1,
                sum(instance not in visible[number] for number in between),
                float(np.linalg.norm(places[1] - places[0])),
                float(np.linalg.norm(places[1] - ego)),
            )


def _place(sample: Sample, instance: int) -> Floats:
    """Where an annotated object is, [2], global frame."""
    row = int(np.flatnonzero(sample.annotations.identities == instance)[0])
    pose = sample.global_from_vehicle
    centre: Floats = pose[:2, :3] @ sample.annotations.boxes[row, :3] + pose[:2, 3]
    return centre


def scene_frames(
    index: NuScenesIndex, bridge: Bridge, frames: Sequence[TrackedFrame], margin: int, style: RenderStyle
) -> tuple[list[RenderFrame], History]:
    """The clip, from `margin` frames before the gap to as many behind, and the past it is drawn with.

    Of the tracks that were not reported, only the bridging one is drawn.
    """
    results: Mapping[str, FrameObjects] = {
        frame.sample: _drawn(frame, frame.reported | (frame.identities == bridge.identity))
        for frame in frames
    }
    source = ResultsSource(index, Path("tracks"), results, (bridge.scene,), 0.0)
    first = max(1, bridge.last_seen - margin)
    numbers = range(first, min(len(frames), bridge.seen_again + margin) + 1)
    clip, past = [], History()
    for number in numbers:
        frame, history = source.frame(bridge.scene, number, style)
        past = history if number == first else past
        clip.append(replace(frame, title=_state_of(bridge, frames[number - 1])))
    return clip, past


def _drawn(frame: TrackedFrame, keep: NDArray[np.bool_]) -> FrameObjects:
    rows = np.flatnonzero(keep)
    return FrameObjects(
        frame.boxes[rows],
        tuple(frame.names[row] for row in rows),
        frame.scores[rows],
        tuple(str(identity) for identity in frame.identities[rows]),
    )


def _state_of(bridge: Bridge, frame: TrackedFrame) -> str:
    rows = np.flatnonzero(frame.identities == bridge.identity)
    if len(rows) == 0:
        return f"track {bridge.identity}: not there"
    return f"track {bridge.identity}: {'reported' if frame.reported[rows[0]] else 'unseen, carried on'}"


def sheet(
    clip: Sequence[RenderFrame], past: History, bridge: Bridge, style: RenderStyle
) -> NDArray[np.uint8]:
    """Every frame from the camera that looks at the track best, with that track alone, four in a row."""
    tiles, history = [], past
    shapes = [image.shape for frame in clip for image in frame.images if image is not None]
    heights = [min(TALLEST_TILE, round(shape[0] * TILE_WIDTH / shape[1])) for shape in shapes]
    tallest = max(heights, default=TALLEST_TILE)
    for frame in clip:
        own = np.array([name == str(bridge.identity) for name in frame.objects.identities], np.bool_)
        alone = replace(frame, objects=frame.objects.select(own), ground_truth=None, counted=None)
        view, history = view_frame(alone, history, style)
        number = _best_camera(frame, str(bridge.identity))
        image = frame.images[number]
        tile = np.zeros((CAPTION + tallest, TILE_WIDTH, 3), np.uint8)
        if image is not None:
            scale = TILE_WIDTH / image.shape[1]
            height = min(tallest, round(image.shape[0] * scale))
            resized = cv2.resize(image, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
            zoom = np.diag([scale, height / image.shape[0], 1.0, 1.0])
            draw_camera(resized, zoom @ frame.image_from_vehicle[number], view, 1.0)
            tile[CAPTION : CAPTION + height] = resized
        for line, text in enumerate((f"frame {frame.number}, {frame.cameras[number]}", frame.title)):
            place = (6, 15 + 16 * line)
            cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % 4)
    rows = [np.concatenate(tiles[start : start + 4], axis=1) for start in range(0, len(tiles), 4)]
    return np.concatenate(rows)


def _best_camera(frame: RenderFrame, identity: str) -> int:
    """The camera in whose image the track lies nearest to the middle; the first where none sees it."""
    if identity not in frame.objects.identities:
        return 0
    centre = np.append(frame.objects.boxes[frame.objects.identities.index(identity), :3], 1.0)
    offsets = []
    for image, projection in zip(frame.images, frame.image_from_vehicle):
        x, _, depth, _ = projection @ centre
        sees = image is not None and depth > 0.5
        offsets.append(abs(x / depth / image.shape[1] - 0.5) if sees and image is not None else np.inf)
    return int(np.argmin(offsets))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of a nuScenes-format dataset")
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--split", default="mini_val")
    parser.add_argument("--scenes", nargs="*", default=(), help="some of the split's scenes")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--min-gap", type=int, default=2, help="frames without a report")
    parser.add_argument("--gate-m", type=float, default=2.0, help="between a track and its object")
    parser.add_argument("--margin", type=int, default=4, help="frames shown before and behind")
    parser.add_argument("--rank", type=int, default=1, help="which bridge to show, the best is 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    try:
        run(options)
    except SynclError as error:
        raise SystemExit(f"error: {error}") from error


def run(options: argparse.Namespace) -> None:
    for name in ("bridges.json", "bridge.mp4", "bridge.png"):
        refuse_to_overwrite(options.output / name, options.overwrite)
    device = torch.device(options.device)
    model = load_model(options.model, options.device)
    model.tracker.eval()
    index = open_nuscenes(options.data, options.version).with_vehicle_frame(model.config.input.vehicle_frame)
    scenes = tuple(options.scenes) or index.split_scenes(options.split)
    index.check_images(scenes)
    bridges: list[Bridge] = []
    frames: dict[str, list[TrackedFrame]] = {}
    for scene in progress_bar(scenes, "tracking scenes", total=len(scenes)):
        frames[scene] = list(track_frames(model, index, scene, device))
        samples = [index.sample(row) for row in index.scene_samples(scene)]
        bridges += find_bridges(samples, frames[scene], scene, options.min_gap, options.gate_m)
    bridges.sort(key=lambda bridge: (-bridge.hidden, -bridge.gap, -bridge.moved_m))
    for rank, bridge in enumerate(bridges[:10], start=1):
        print(
            f"{rank}: {bridge.scene}, {bridge.name} {bridge.identity}: frames {bridge.last_seen} to "
            f"{bridge.seen_again}, {bridge.hidden} of {bridge.gap} hidden, moved {bridge.moved_m:.1f} m, "
            f"{bridge.distance_m:.0f} m away"
        )
    if not 1 <= options.rank <= len(bridges):
        raise SynclError(
            f"--rank {options.rank}: {len(bridges)} bridges were found in {len(scenes)} scenes; lower "
            "--min-gap or --rank, or take other scenes"
        )
    chosen = bridges[options.rank - 1]
    style = RenderStyle()
    clip, past = scene_frames(index, chosen, frames[chosen.scene], options.margin, style)
    listed = [{**asdict(bridge), "gap": bridge.gap} for bridge in bridges]
    atomic_write(options.output / "bridges.json", json.dumps(listed, indent=2).encode() + b"\n")
    render_video(clip, options.output / "bridge.mp4", style, 2.0, options.overwrite)
    write_png(sheet(clip, past, chosen, style), options.output / "bridge.png", options.overwrite)
    print(f"wrote bridge.mp4, bridge.png and bridges.json to {options.output}")


if __name__ == "__main__":
    main()
