"""Tracking live: frames are pushed as cameras deliver them, the newest wins where the model is slower.

    with LiveTracker(tracker) as live:
        live.warm_up(first_frame)
        for frame in cameras:            # never waits
            live.push(frame)
            while (result := live.poll()) is not None:
                use(result.objects)
        print(live.statistics())

One thread of its own steps the tracker. Frames wait in a queue of bounded length; when it is full the oldest
is dropped and counted, so what is tracked is never older than the queue is long. A tracker takes gaps as they
are: its state carries times and poses. A frame that cannot be tracked (a nan in its pose, say) is an error in
place of its result; the state stays as it was, and the next frame goes on.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from syncl.errors import SynclError
from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.state import TrackState

# Percentiles describe the last frames, not the whole of a long drive.
_WINDOW = 2000


@dataclass(frozen=True)
class LiveResult:
    """What came of one frame.

    Attributes:
        samples: names of the frame's B samples.
        objects: as `Tracker.step` gives them, on the host.
        timestamp_s: [B] the frame's own times.
        latency_s: from the frame's push until its objects were there, waiting included.
    """

    samples: tuple[str, ...]
    objects: Objects
    timestamp_s: tuple[float, ...]
    latency_s: float


@dataclass(frozen=True)
class LiveStatistics:
    """How a live run went; times in seconds over the last 2000 frames, nan before the first.

    Attributes:
        pushed: frames pushed.
        tracked: frames stepped.
        dropped: frames that gave way to newer ones.
        refused: frames that could not be tracked.
        untaken: results that gave way to newer ones before anybody took them.
        p50_s: median latency from push to objects.
        p90_s: nine of ten frames were quicker.
        p99_s: 99 of 100 frames were quicker.
        step_s: median time of the tracker's step alone.
    """

    pushed: int
    tracked: int
    dropped: int
    refused: int
    untaken: int
    p50_s: float
    p90_s: float
    p99_s: float
    step_s: float

    def __str__(self) -> str:
        return (
            f"{self.tracked} of {self.pushed} frames tracked, {self.dropped} dropped"
            f"{f', {self.refused} refused' if self.refused else ''}"
            f"{f', results of {self.untaken} not taken in time' if self.untaken else ''}; latency "
            f"p50 {self.p50_s * 1e3:.0f} ms, p90 {self.p90_s * 1e3:.0f} ms, p99 {self.p99_s * 1e3:.0f} ms "
            f"(step {self.step_s * 1e3:.0f} ms)"
        )


class LiveTracker:
    """Steps a tracker in a thread of its own on frames pushed by a caller.

    It is closed at the end of the program, where nobody does before.

    Args:
        tracker: in inference mode, on its device; nobody else may step it meanwhile.
        queue: most frames that wait; 1 = always the newest.
        state: where to go on, on any device; None = nothing seen, of one stream.
        clock: seconds, for latencies.
        results: most results kept until they are taken; older ones give way, and are counted.

    Raises:
        SynclError: a queue without room.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        queue: int = 1,
        state: TrackState | None = None,
        clock: Callable[[], float] = time.perf_counter,
        results: int = 256,
    ) -> None:
        if queue < 1 or results < 1:
            raise SynclError(f"queue: {queue}, results: {results}; both must be at least 1")
        self._tracker = tracker
        fresh = tracker.initial_state()
        self._device = fresh.timestamp_s.device
        self._state = fresh if state is None else state.to(self._device)
        self._clock = clock
        self._room = queue
        self._waiting: deque[tuple[Frame, float]] = deque()
        self._results: deque[LiveResult | SynclError] = deque(maxlen=results)
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._pushed = self._tracked = self._dropped = self._refused = self._untaken = 0
        self._busy = self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="syncl-live", daemon=True)
        self._thread.start()
        # A thread that computes while the interpreter ends aborts it.
        atexit.register(self.close)

    def __enter__(self) -> "LiveTracker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def warm_up(self, frame: Frame, steps: int = 3) -> float:
        """Step on a frame without consequence, so that the first real one finds everything in place.

        Call it before pushing. Tracks, identities and statistics are as if it had not been called.

        Args:
            frame: with the cameras and image size that will be pushed.
            steps: how often.

        Returns:
            Seconds of the last step.

        Raises:
            SynclError: frames are being tracked already.
        """
        with self._changed:
            self._raise_error()
            if self._busy or self._waiting:
                raise SynclError("warm_up: frames are being tracked already; warm up before pushing")
            self._busy = True
        try:
            seconds = 0.0
            for _ in range(max(1, steps)):
                started = self._clock()
                self._step(frame, self._tracker.initial_state(frame.batch_size))
                seconds = self._clock() - started
            return seconds
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def push(self, frame: Frame) -> int:
        """Hand over a frame and return at once; the frames dropped for it, 0 or 1.

        Raises:
            SynclError: closed already.
            Exception: whatever broke on an earlier frame; not that a frame could not be tracked.
        """
        with self._changed:
            self._raise_error()
            if self._closed:
                raise SynclError("push: this live tracker is closed")
            dropped = 0
            if len(self._waiting) == self._room:
                self._waiting.popleft()
                dropped = 1
            self._waiting.append((frame, self._clock()))
            self._pushed += 1
            self._dropped += dropped
            self._changed.notify_all()
            return dropped

    def poll(self, timeout_s: float = 0.0) -> LiveResult | None:
        """The oldest result not yet taken; None if there is none after `timeout_s`, or once it is closed.

        Raises:
            SynclError: in place of the result of a frame that could not be tracked, once; others follow.
            Exception: whatever else broke; nothing is tracked any more.
        """
        with self._changed:
            self._changed.wait_for(self._nothing_to_wait_for, timeout_s)
            if not self._results:
                self._raise_error()
                return None
            result = self._results.popleft()
        if isinstance(result, SynclError):
            raise result
        return result

    def drain(self) -> None:
        """Wait until every waiting frame is tracked, or refused, which `poll` tells.

        Raises:
            Exception: whatever else broke.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._waiting or self._busy))
            self._raise_error()

    def close(self) -> None:
        """Stop after the frame under way; frames still waiting are dropped. Results can still be taken."""
        with self._changed:
            self._closed = True
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)

    @property
    def state(self) -> TrackState:
        """The state after the last tracked frame."""
        with self._changed:
            return self._state

    def statistics(self) -> LiveStatistics:
        """Counts and latencies so far."""
        with self._changed:
            latencies, steps = list(self._latencies), list(self._steps)
            counts = self._pushed, self._tracked, self._dropped, self._refused, self._untaken
        if not latencies:
            return LiveStatistics(*counts, *[float("nan")] * 4)
        p50, p90, p99 = (float(value) for value in np.percentile(latencies, (50, 90, 99)))
        return LiveStatistics(*counts, p50, p90, p99, float(np.median(steps)))

    def _nothing_to_wait_for(self) -> bool:
        return bool(self._results) or self._error is not None or (self._closed and not self._busy)

    def _keep(self, result: LiveResult | SynclError) -> None:
        self._untaken += len(self._results) == self._results.maxlen
        self._results.append(result)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _step(self, frame: Frame, state: TrackState) -> tuple[Objects, TrackState]:
        objects, state = self._tracker.step(frame.to(self._device, non_blocking=True), state)
        # Copying to the host waits for the device, so the time measured is that of finished work.
        return objects.to("cpu"), state

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._waiting and not self._busy))
                if self._closed:
                    return
                frame, pushed_s = self._waiting.popleft()
                state, self._busy = self._state, True
            try:
                started = self._clock()
                objects, state = self._step(frame, state)
                finished = self._clock()
            except SynclError as error:
                with self._changed:
                    self._busy = False
                    self._refused += 1
                    self._keep(error)
                    self._changed.notify_all()
                continue
            except BaseException as error:
                with self._changed:
                    self._error, self._busy, self._closed = error, False, True
                    self._changed.notify_all()
                return
            times = tuple(frame.timestamp_s.tolist())
            with self._changed:
                self._state, self._busy = state, False
                self._tracked += 1
                self._latencies.append(finished - pushed_s)
                self._steps.append(finished - started)
                self._keep(LiveResult(frame.samples, objects, times, finished - pushed_s))
                self._changed.notify_all()
