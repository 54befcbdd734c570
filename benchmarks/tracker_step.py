"""What tracking costs beside detecting: one `step` of a tracker against its detector's own pass.

    python benchmarks/tracker_step.py --recipe mutr3d_detr3d_synthetic --tracks 30 --rounds 10 --device cpu

The peer is the same detector on the same frame with object queries alone: `encode`, `initial_queries`,
`decode`. The tracker has fresh weights and thresholds that keep the number of tracks asked for. On a CPU the
time is that of the process, so that other programs disturb it less; on a GPU it is wall time between
synchronisations. A step also decodes the track queries; what that costs the detector, whoever brings them, is
shown apart. Also counted: how often a step reads values back from the device; each makes the host wait.
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from syncl.recipes import find_recipe
from syncl.structures import CameraRig, Frame, Queries
from syncl.trackers import Mutr3dConfig, Tracker, TrackState
from syncl.trackers.model import ModelConfig


class CountOperations(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted_transfers() -> Iterator[Counter[str]]:
    """Counts the calls that bring whole tensors to the host, which are no operators on a CPU tensor."""
    counts: Counter[str] = Counter()
    originals = {name: getattr(torch.Tensor, name) for name in ("tolist", "cpu", "to")}

    def counting(name: str) -> Callable[..., Any]:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if name != "to" or (args and args[0] in ("cpu", torch.device("cpu"))):
                counts[name] += 1
            return originals[name](tensor, *args, **kwargs)

        return call

    for name in originals:
        setattr(torch.Tensor, name, counting(name))
    try:
        yield counts
    finally:
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)


def make_frame(config: ModelConfig, index: int, device: torch.device) -> Frame:
    height, width = config.input.image_size
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    extrinsics = torch.zeros(1, 6, 4, 4, dtype=torch.float64)
    extrinsics[0, :, 0, 0], extrinsics[0, :, 0, 1] = angles.sin(), -angles.cos()
    extrinsics[0, :, 1, 2], extrinsics[0, :, 1, 3], extrinsics[0, :, 3, 3] = -1, 1.6, 1
    extrinsics[0, :, 2, 0], extrinsics[0, :, 2, 1] = angles.cos(), angles.sin()
    intrinsics = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    pose = torch.eye(4, dtype=torch.float64)[None]
    pose[:, 0, 3] = 2.0 * index
    generator = torch.Generator().manual_seed(index)
    return Frame(
        images=torch.randint(0, 256, (1, 6, 3, height, width), generator=generator).to(torch.uint8),
        rig=CameraRig(tuple(map(str, range(6))), intrinsics.double().expand(1, 6, 3, 3), extrinsics),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, 6, 2),
        global_from_vehicle=pose,
        timestamp_s=torch.tensor([0.5 * index], dtype=torch.float64),
        scenes=("scene",),
        samples=(f"sample {index}",),
    ).to(device)


def build(config: ModelConfig, tracks: int, device: torch.device) -> Tracker:
    if not isinstance(config.tracker, Mutr3dConfig):
        raise SystemExit("this benchmark is for recipes whose tracker is MUTR3D")
    torch.manual_seed(0)
    always = dataclasses.replace(
        config.tracker, birth_score=0.0, keep_score=0.0, output_score=0.0, max_tracks=tracks
    )
    return dataclasses.replace(config, tracker=always).build().eval().to(device)


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cpu":
        started = time.process_time()
        function()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


@torch.no_grad()
def detect(tracker: Tracker, frame: Frame, state: TrackState) -> None:
    features = tracker.detector.encode(frame, state.detector_memory)
    tracker.detector.decode(tracker.detector.initial_queries(features), features)


def decode(tracker: Tracker, frame: Frame, state: TrackState, queries: Queries) -> None:
    tracker.detector.decode(queries, tracker.detector.encode(frame, state.detector_memory))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="mutr3d_detr3d_synthetic")
    parser.add_argument("--tracks", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    config = find_recipe(options.recipe).model
    tracker = build(config, options.tracks, device)
    state = tracker.initial_state()
    for index in range(2):
        _, state = tracker.step(make_frame(config, index, device), state)
    frame = make_frame(config, 2, device)

    with torch.no_grad():
        entered = tracker.enter(state, frame)
        features = tracker.detector.encode(frame, entered.detector_memory)
        queries = tracker.queries(entered, features)
        (predictions,) = tracker.detector.decode(queries, features)
    ways: dict[str, Callable[[], object]] = {
        "detector alone": lambda: detect(tracker, frame, state),
        "with its tracks": lambda: torch.no_grad()(decode)(tracker, frame, state, queries),
        "whole step": lambda: tracker.step(frame, state),
        "enter": lambda: tracker.enter(state, frame),
        "conclude": lambda: torch.no_grad()(tracker.conclude)(entered, queries, predictions),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        # In turn, so that whatever else the machine does falls on all alike.
        for name, way in ways.items():
            seconds[name].append(timed(way, device))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    alone, whole = median["detector alone"], median["whole step"]
    print(f"{options.recipe}, {device}: {queries.object_count} object queries, {state.count} tracks")
    for name, value in median.items():
        print(f"  {name:<15}{1000 * value:10.2f} ms {value / alone:8.3f} of the detector alone")
    loaded = median["with its tracks"]
    print(
        f"ratio of a step to the detector's own pass: {whole / alone:.3f} (aim: at most 1.10); "
        f"to its pass with the same queries: {whole / loaded:.3f}"
    )

    with CountOperations() as operations, counted_transfers() as transfers:
        tracker.step(frame, state)
    scalars = operations.counts["aten._local_scalar_dense.default"]
    print(
        f"host reads a step: {scalars} of single values (item, bool, int), "
        f"{sum(transfers.values())} of tensors {dict(transfers)}; "
        f"{sum(operations.counts.values())} operators"
    )
    few = build(config, 5, device)
    small = few.initial_state()
    for index in range(2):
        _, small = few.step(make_frame(config, index, device), small)
    with CountOperations() as fewer:
        few.step(frame, small)
    count = sum(fewer.counts.values())
    verdict = "no loop" if count == sum(operations.counts.values()) else "a loop"
    print(f"operators with 5 tracks instead: {count}, so there is {verdict} over tracks")


if __name__ == "__main__":
    main()
