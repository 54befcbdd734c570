"""What tracking costs beside detecting: one `step` of a tracker against its detector's own pass.

    python benchmarks/tracker_step.py                                   # small models, every combination
    python benchmarks/tracker_step.py mutr3d+petr pf-track+streampetr   # some of them
    python benchmarks/tracker_step.py pf-track_petr_v99_320x800 --rounds 1
    python benchmarks/tracker_step.py mutr3d+detr3d --parts --device cuda

The peer is the same detector on the same frame: `encode`, and `decode` of the same object and track queries
(or of object queries alone, shown apart). Weights are fresh; thresholds and scores are such that there are
as many tracks as asked for, all seen. On a CPU the time is that of the process, so that others disturb it
less; on a GPU it is wall time between synchronisations. Ways are timed in turn, and ratios are medians over
rounds of two times that follow each other. Also counted: how often a step reads values back from the device,
for each of which the host has to wait, and operators, which must not grow with the number of tracks.
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from syncl.recipes import find_recipe
from syncl.recipes.synthetic import (
    IMAGE_SIZE,
    small_ada_track,
    small_detr3d,
    small_mutr3d,
    small_one_track,
    small_petr,
    small_petrv2,
    small_pf_track,
    small_star_track,
    small_streampetr,
)
from syncl.structures import CameraRig, Frame, Queries
from syncl.trackers import (
    AdaTrackConfig,
    Cc3dtConfig,
    DqTrackConfig,
    GreedyConfig,
    PfTrackConfig,
    Tracker,
    TrackerConfig,
    TrackState,
)
from syncl.trackers.life_cycle import LifeCycleConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.pf_track import PfTrack


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
    """The model with so many tracks in every frame (by detection: with as many as it can have)."""
    torch.manual_seed(0)
    life = config.tracker
    always: TrackerConfig
    if isinstance(life, LifeCycleConfig):
        always = dataclasses.replace(
            life, birth_score=0.0, keep_score=0.0, output_score=0.0, max_tracks=tracks
        )
    elif isinstance(life, PfTrackConfig):
        always = dataclasses.replace(
            life, birth_score=0.5, record_score=0.5, output_score=0.5, max_tracks=tracks, untracked=()
        )
    elif isinstance(life, AdaTrackConfig):
        always = dataclasses.replace(life, birth_score=0.0, output_score=0.0, max_tracks=tracks)
    elif isinstance(life, GreedyConfig | Cc3dtConfig):
        always = dataclasses.replace(life, min_score=0.0, max_detections=tracks)
    elif isinstance(life, DqTrackConfig):
        always = dataclasses.replace(life, detection_score=0.0, birth_score=0.0, max_tracks=tracks)
    else:
        raise SystemExit("this benchmark is for recipes with a tracker")
    tracker = dataclasses.replace(config, tracker=always).build().eval().to(device)
    if isinstance(tracker, PfTrack) and tracker.past is not None:
        predict = tracker.past.predict

        def sure(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """The last rows, which tracks are if there are any, score high and all others low."""
            logits, codes = predict(*given)
            seen = torch.arange(logits.shape[1], device=device) >= logits.shape[1] - tracks
            return torch.where(seen[:, None], logits.abs() + 2, -logits.abs() - 4), codes

        tracker.past.predict = sure  # type: ignore[method-assign]
    return tracker


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
def detect(tracker: Tracker, frame: Frame, state: TrackState, queries: Queries | None = None) -> None:
    """The detector's pass over object queries, or over these."""
    features = tracker.detector.encode(frame, state.detector_memory)
    tracker.detector.decode(
        tracker.detector.initial_queries(features) if queries is None else queries, features
    )


@dataclass(frozen=True)
class Measured:
    """What a combination costs.

    Attributes:
        name: of the combination.
        queries: object queries and tracks.
        step_s: median seconds of a step.
        ratio: of a step to the detector's pass with the same queries.
        ratio_alone: of a step to its pass with object queries alone.
        reads: host reads a step, of single values and of whole tensors.
        operators: of a step.
        loops: whether a step with fewer tracks takes fewer operators.
        parts: median seconds of a step's parts.
    """

    name: str
    queries: str
    step_s: float
    ratio: float
    ratio_alone: float
    reads: str
    operators: int
    loops: bool
    parts: dict[str, float]


def after(tracker: Tracker, config: ModelConfig, device: torch.device, frames: int = 2) -> TrackState:
    state = tracker.initial_state()
    for index in range(frames):
        _, state = tracker.step(make_frame(config, index, device), state)
    return state


def operators_of(tracker: Tracker, frame: Frame, state: TrackState) -> tuple[Counter[str], Counter[str]]:
    with CountOperations() as operations, counted_transfers() as transfers:
        tracker.step(frame, state)
    return operations.counts, transfers


def measure(name: str, config: ModelConfig, tracks: int, rounds: int, device: torch.device) -> Measured:
    tracker = build(config, tracks, device)
    state = after(tracker, config, device)
    frame = make_frame(config, 2, device)
    with torch.no_grad():
        decoded = tracker.look(frame, state)
        interaction = tracker._decode(frame, state, tracker.admit(frame, state))[1]
    queries, made = decoded.queries, decoded.predictions[0]
    # What the frame was encoded with, before the detector memorised it.
    entered = dataclasses.replace(decoded.state, detector_memory=state.detector_memory)
    unreasoned = dataclasses.replace(decoded, state=entered, reasoned=None)
    ways: dict[str, Callable[[], object]] = {
        "detector, object queries": lambda: detect(tracker, frame, entered),
        "detector, all queries": lambda: detect(tracker, frame, entered, queries),
        "step": lambda: tracker.step(frame, state),
        "look": lambda: torch.no_grad()(tracker.look)(frame, state),
        "reason": lambda: torch.no_grad()(tracker.reason)(unreasoned, interaction),
        "remember": lambda: torch.no_grad()(tracker.detector.remember)(
            entered.detector_memory, frame, decoded.features, made
        ),
        "conclude": lambda: torch.no_grad()(tracker.conclude)(decoded),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            seconds[way].append(timed(function, device))
    steps = seconds["step"]
    counts, transfers = operators_of(tracker, frame, state)
    few = build(config, max(1, tracks // 4), device)
    fewer, _ = operators_of(few, frame, after(few, config, device))
    return Measured(
        name,
        f"{queries.object_count} + {queries.count - queries.object_count}",
        statistics.median(steps),
        statistics.median(step / peer for step, peer in zip(steps, seconds["detector, all queries"])),
        statistics.median(step / peer for step, peer in zip(steps, seconds["detector, object queries"])),
        f"{counts['aten._local_scalar_dense.default']} + {sum(transfers.values())}",
        sum(counts.values()),
        sum(counts.values()) != sum(fewer.values()),
        {way: statistics.median(values) for way, values in seconds.items()},
    )


DETECTORS = {
    "detr3d": small_detr3d,
    "petr": small_petr,
    "petrv2": small_petrv2,
    "streampetr": small_streampetr,
}
TRACKERS: dict[str, Callable[[], TrackerConfig]] = {
    "mutr3d": small_mutr3d,
    "pf-track": small_pf_track,
    "ada-track": small_ada_track,
    "star-track": small_star_track,
    "onetrack": small_one_track,
    "dqtrack": lambda: find_recipe("dqtrack_detr3d_synthetic").model.tracker,
    "greedy": GreedyConfig,
    "cc-3dt": Cc3dtConfig,
}


def configuration(name: str) -> ModelConfig:
    """Of a recipe, or of a small tracker and detector as in `mutr3d+petr`."""
    tracker, plus, detector = name.partition("+")
    if not plus:
        return find_recipe(name).model
    if tracker not in TRACKERS or detector not in DETECTORS:
        raise SystemExit(f"{name}: trackers are {', '.join(TRACKERS)}; detectors {', '.join(DETECTORS)}")
    return ModelConfig(
        InputConfig(IMAGE_SIZE, exact_resize=False), DETECTORS[detector](), TRACKERS[tracker]()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="recipes, or TRACKER+DETECTOR of the small ones")
    parser.add_argument("--tracks", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", action="store_true", help="times of a step's parts")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    names = options.names or [f"{tracker}+{detector}" for tracker in TRACKERS for detector in DETECTORS]
    print(f"{'':<28}{'queries':>12}{'step':>11}{'ratio':>8}{'alone':>8}{'reads':>8}{'operators':>11}")
    for name in names:
        row = measure(name, configuration(name), options.tracks, options.rounds, device)
        print(
            f"{row.name:<28}{row.queries:>12}{1000 * row.step_s:>8.1f} ms{row.ratio:>8.3f}"
            f"{row.ratio_alone:>8.3f}{row.reads:>8}{row.operators:>11}"
            f"{'  a loop over tracks' if row.loops else ''}",
            flush=True,
        )
        if options.parts:
            for way, value in row.parts.items():
                print(f"    {way:<26}{1000 * value:>8.2f} ms")
    print(
        "ratio: a step to the detector's pass with the same queries (aim: at most 1.10); alone: with object "
        "queries\nalone; reads: of single values and of tensors, each a wait for the device"
    )


if __name__ == "__main__":
    main()
