"""Ten hours of frames: what a stream holds stays within bounds."""

import dataclasses
import resource
from pathlib import Path

import pytest
import torch

from stub_detector import StubDetector, stub_frame
from syncl.trackers import GreedyConfig, Mutr3dConfig, PfTrackConfig, Tracker, TrackState


def state_bytes(state: TrackState) -> int:
    sizes: list[int] = []
    state.map(lambda tensor: sizes.append(tensor.numel() * tensor.element_size()) or tensor)
    return sum(sizes)


@dataclasses.dataclass(frozen=True)
class LongRun:
    """How a stream of many frames went.

    Attributes:
        births: identities given.
        slots: most that the state had.
        state_bytes: its size after a tenth of the frames, at its largest and at the end.
        resident_kib: memory of the process after a tenth of the frames and at the end.
    """

    births: int
    slots: int
    state_bytes: tuple[int, int, int]
    resident_kib: tuple[int, int]


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def run_for(frames: int, tracker: Tracker) -> LongRun:
    state = tracker.initial_state()
    generator = torch.Generator().manual_seed(0)
    most_slots = most_bytes = 0
    early = 0, 0
    for step in range(frames):
        noise = torch.rand(2, 64, generator=generator)
        births = (noise[0, :8] ** 3).tolist()
        objects, state = tracker.step(stub_frame(0.5 * step, births, tracks=noise[1]), state)
        most_slots, most_bytes = max(most_slots, state.count), max(most_bytes, state_bytes(state))
        identities = objects.identities[objects.valid]
        assert len(identities.unique()) == len(identities)
        if step == frames // 10:
            early = state_bytes(state), resident_kib()
    sizes = early[0], most_bytes, state_bytes(state)
    return LongRun(int(state.next_identity), most_slots, sizes, (early[1], resident_kib()))


LONG = [pytest.param(120), pytest.param(72_000, marks=pytest.mark.slow)]
# Scores come from the pixels as they are, so past reasoning, which would change them, is left out; it has no
# state of its own.
LASTING = {
    "mutr3d": Mutr3dConfig(heads=2, hidden=8, max_tracks=20),
    "pf-track": PfTrackConfig(heads=2, hidden=8, layers=1, max_tracks=20, past_reasoning=False),
    "greedy": GreedyConfig(min_score=0.4),
}


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from Linux' /proc")
@pytest.mark.parametrize("frames", LONG)
@pytest.mark.parametrize("kind", LASTING)
def test_ten_hours_stay_within_bounds(frames: int, kind: str) -> None:
    """72,000 frames are ten hours at 2 Hz; the short run is for every day."""
    run = run_for(frames, LASTING[kind].build(StubDetector()).eval())
    print(f"{kind}, {frames} frames: {run}")
    assert run.births > frames / 20
    assert run.slots <= (3 * 16 if kind == "greedy" else 20)
    assert run.state_bytes[1] < 100_000
    assert run.resident_kib[1] - run.resident_kib[0] < 30_000
