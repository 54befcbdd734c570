"""Live tracking with a fake tracker whose steps the test lets through one by one."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from rig import make_frame, make_tracker
from syncl.errors import SynclError
from syncl.structures import Frame, Objects
from syncl.trackers.live import LiveTracker

WAIT_S = 20.0


def frame(number: int) -> Frame:
    return dataclasses.replace(make_frame(number / 10), samples=(f"f{number}",))


@dataclasses.dataclass(frozen=True)
class State:
    timestamp_s: torch.Tensor
    seen: tuple[str, ...]


class SlowTracker:
    """Steps only when told to, and remembers in its state what it saw."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.fail_on = self.break_on = ""

    def initial_state(self, streams: int = 1) -> State:
        return State(torch.zeros(streams), ())

    def step(self, frame: Frame, state: State) -> tuple[Objects, State]:
        self.begun.release()
        assert self.go.acquire(timeout=WAIT_S)
        if frame.samples[0] == self.fail_on:
            raise SynclError(f"cannot track {frame.samples[0]}")
        if frame.samples[0] == self.break_on:
            raise RuntimeError("out of memory")
        seen = (*state.seen, frame.samples[0])
        count = torch.full((1, 1), len(seen))
        objects = Objects(torch.zeros(1, 1, 9), count, torch.ones(1, 1), count, torch.ones(1, 1) > 0)
        return objects, State(frame.timestamp_s, seen)

    def let(self, steps: int) -> None:
        self.go.release(steps)

    def wait_for_step(self) -> None:
        assert self.begun.acquire(timeout=WAIT_S)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def slow() -> SlowTracker:
    return SlowTracker()


def test_the_newest_frame_wins_and_drops_are_counted(slow: SlowTracker) -> None:
    with LiveTracker(slow) as live:
        assert live.push(frame(0)) == 0
        slow.wait_for_step()
        # The tracker is at frame 0; of those that come meanwhile only the last is left.
        assert [live.push(frame(number)) for number in (1, 2, 3, 4)] == [0, 1, 1, 1]
        slow.let(2)
        live.drain()
        assert live.state.seen == ("f0", "f4")
        assert [live.poll(WAIT_S).samples for _ in range(2)] == [("f0",), ("f4",)]
        assert live.poll() is None
        statistics = live.statistics()
    assert (statistics.pushed, statistics.tracked, statistics.dropped) == (5, 2, 3)


def test_a_longer_queue_keeps_the_latest_frames_in_order(slow: SlowTracker) -> None:
    with LiveTracker(slow, queue=2) as live:
        live.push(frame(0))
        slow.wait_for_step()
        for number in (1, 2, 3):
            live.push(frame(number))
        slow.let(9)
        live.drain()
        assert live.state.seen == ("f0", "f2", "f3") and live.statistics().dropped == 1


def test_latency_counts_from_the_push_and_includes_waiting(slow: SlowTracker) -> None:
    clock = Clock()
    with LiveTracker(slow, clock=clock) as live:
        live.push(frame(0))
        slow.wait_for_step()
        clock.now = 0.1
        live.push(frame(1))
        clock.now = 0.3
        slow.let(1)
        first = live.poll(WAIT_S)
        slow.wait_for_step()
        clock.now = 0.7
        slow.let(1)
        second = live.poll(WAIT_S)
        assert first.latency_s == pytest.approx(0.3) and first.timestamp_s == (0.0,)
        assert second.latency_s == pytest.approx(0.6) and second.timestamp_s == (0.1,)
        statistics = live.statistics()
    assert statistics.p50_s == pytest.approx(0.45)
    assert statistics.p90_s == pytest.approx(0.57) and statistics.p99_s == pytest.approx(0.597)
    assert statistics.step_s == pytest.approx(0.35)
    assert "2 of 2 frames tracked, 0 dropped; latency p50 450 ms" in str(statistics)


def test_warming_up_leaves_no_trace(slow: SlowTracker) -> None:
    with LiveTracker(slow) as live:
        slow.let(3)
        assert live.warm_up(frame(7), steps=3) >= 0
        assert live.state.seen == () and live.statistics().tracked == 0
        assert live.poll() is None
        live.push(frame(0))
        for _ in range(4):
            slow.wait_for_step()
        with pytest.raises(SynclError, match="warm up before pushing"):
            live.warm_up(frame(7))
        slow.let(1)
        live.drain()
        assert live.state.seen == ("f0",)


def test_a_frame_that_cannot_be_tracked_is_an_error_and_the_next_goes_on(
    slow: SlowTracker,
) -> None:
    slow.fail_on = "f1"
    with LiveTracker(slow) as live:
        slow.let(3)
        for number in range(3):
            live.push(frame(number))
            live.drain()
        assert live.poll().samples == ("f0",)
        with pytest.raises(SynclError, match="cannot track f1"):
            live.poll()
        assert live.poll().samples == ("f2",) and live.poll() is None
        assert live.state.seen == ("f0", "f2")
        assert "2 of 3 frames tracked, 0 dropped, 1 refused" in str(live.statistics())


def test_results_that_nobody_takes_in_time_are_counted(slow: SlowTracker) -> None:
    slow.fail_on = "f1"
    with LiveTracker(slow, results=2) as live:
        slow.let(4)
        for number in range(4):
            live.push(frame(number))
            live.drain()
        assert live.statistics().untaken == 2 and "results of 2 not taken in time" in str(live.statistics())
        assert [live.poll().samples for _ in range(2)] == [("f2",), ("f3",)] and live.poll() is None
        assert live.statistics().untaken == 2


def test_what_breaks_the_tracker_reaches_the_caller(slow: SlowTracker) -> None:
    slow.break_on = "f1"
    with LiveTracker(slow) as live:
        slow.let(2)
        live.push(frame(0))
        live.drain()
        live.push(frame(1))
        with pytest.raises(RuntimeError, match="out of memory"):
            live.drain()
        assert live.poll().samples == ("f0",), "results from before are not lost"
        with pytest.raises(RuntimeError, match="out of memory"):
            live.poll(WAIT_S)
        with pytest.raises(RuntimeError, match="out of memory"):
            live.push(frame(2))


UNCLOSED = """
import sys; sys.path.insert(0, {tests!r})
import torch
from rig import make_frame, make_tracker
from syncl.trackers.live import LiveTracker
live = LiveTracker(make_tracker().eval())
for number in range(50):
    live.push(make_frame(number / 10))
"""


def test_a_live_tracker_that_nobody_closes_ends_quietly() -> None:
    script = UNCLOSED.format(tests=str(Path(__file__).parent.parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_drops_what_waits(slow: SlowTracker) -> None:
    live = LiveTracker(slow)
    live.push(frame(0))
    slow.wait_for_step()
    live.push(frame(1))
    closing = threading.Thread(target=live.close)
    closing.start()
    slow.let(1)
    closing.join(WAIT_S)
    assert not closing.is_alive() and live.statistics().dropped == 1
    with pytest.raises(SynclError, match="closed"):
        live.push(frame(2))


def test_nobody_waits_for_results_of_a_closed_tracker(slow: SlowTracker) -> None:
    live, took = LiveTracker(slow), []
    live.push(frame(0))
    slow.wait_for_step()
    taker = threading.Thread(target=lambda: took.extend(live.poll(1e3) for _ in range(2)), daemon=True)
    taker.start()
    closing = threading.Thread(target=live.close)
    closing.start()
    slow.let(1)
    closing.join(WAIT_S)
    taker.join(WAIT_S)
    assert not taker.is_alive() and took[0].samples == ("f0",) and took[1] is None


def test_a_state_goes_on_where_the_tracker_is() -> None:
    tracker = make_tracker().eval()
    state = tracker.initial_state()
    with LiveTracker(tracker.to("meta"), state=state) as live:
        assert live.state.timestamp_s.is_meta and live.state.scenes == state.scenes


def test_a_queue_needs_room(slow: SlowTracker) -> None:
    with pytest.raises(SynclError, match="queue: 0"):
        LiveTracker(slow, queue=0)


def test_statistics_before_the_first_frame(slow: SlowTracker) -> None:
    with LiveTracker(slow) as live:
        statistics = live.statistics()
    assert statistics.tracked == 0 and statistics.p50_s != statistics.p50_s
