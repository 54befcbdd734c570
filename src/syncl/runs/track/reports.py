"""How tracked scenes are reported: what of them, by whom, and into which file."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.nuscenes.samples import Sample
from syncl.data.own_results import own_layout
from syncl.progress import progress_bar
from syncl.runs.processes import Processes
from syncl.runs.track.parts import SceneParts

ALONE = Processes()


@dataclass(frozen=True)
class TrackingSummary:
    """How a tracking run went.

    Attributes:
        files: that were written.
        frames: frames tracked.
        seconds: wall time, reading images included.
        scenes: of a dataset that were tracked; none of a recording.
        remarks: what was odd about the input and accepted.
        earlier_frames: how many of the frames an earlier call had tracked.
    """

    files: tuple[Path, ...]
    frames: int
    seconds: float
    scenes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    earlier_frames: int = 0

    @property
    def seconds_per_frame(self) -> float:
        """Mean time of a frame of this call."""
        return self.seconds / max(self.frames - self.earlier_frames, 1)


@dataclass(frozen=True)
class Reports:
    """What of tracked scenes goes into one results file, which appears only when all is done.

    Attributes:
        output: results file.
        forecasts: keep forecasts.
        min_score: keep what scores as much; None keeps all.
        classes: keep these; all if none is named.
        overwrite: replace an existing file.
        quiet: no progress bar.
        processes: those that share the work, whole scenes each. Process 0 writes the file, which is the one a
            single process would write.
        parts: where finished scenes are found and kept; the file then says what it was made with.
    """

    output: Path
    forecasts: bool = False
    min_score: float | None = None
    classes: tuple[str, ...] = ()
    overwrite: bool = False
    quiet: bool = False
    processes: Processes = ALONE
    parts: SceneParts | None = None

    def write(
        self,
        follow: Callable[[str], Iterator[tuple[Sample, FrameObjects]]],
        index: NuScenesIndex,
        scenes: tuple[str, ...],
        submission: TrackingSubmission | DetectionSubmission,
    ) -> TrackingSummary:
        """Follow every scene and write what is reported.

        Args:
            follow: from a scene to its samples and what is reported of each, in the index's vehicle frame.
            index: the dataset.
            scenes: names of the scenes.
            submission: an empty one of these scenes.
        """
        tokens = {scene: [index.sample_token(row) for row in index.scene_samples(scene)] for scene in scenes}
        parts, own = self.parts, self.processes.deal(scenes)
        found = {} if parts is None else {scene: parts.read(scene, tokens[scene]) for scene in own}
        pending = [scene for scene in own if found.get(scene) is None]
        finished = [(len(boxes), boxes) for boxes in found.values() if boxes is not None]
        started = time.perf_counter()

        def followed() -> Iterator[None]:
            for scene in pending:
                part = submission.part(tokens[scene])
                for sample, objects in follow(scene):
                    kept = objects.chosen(self.min_score, self.classes)
                    reported = kept if self.forecasts else replace(kept, forecasts=None)
                    part.add(sample.token, reported, sample.global_from_vehicle, sample.global_from_ego)
                    yield
                finished.append((0, part.written))
                if parts is not None:
                    parts.write(scene, part.written)

        total = sum(len(tokens[scene]) for scene in pending)
        hidden = self.quiet or not self.processes.is_main
        for _ in followed() if hidden else progress_bar(followed(), "tracking", total=total):
            pass
        earlier = 0
        for count, boxes in self.processes.gather(finished) or ():
            submission.take(boxes)
            earlier += count
        seconds = time.perf_counter() - started
        if self.processes.is_main:
            if parts is not None:
                submission.made_with(parts.made_with)
            layout = own_layout(index.dataroot, self.output)
            if layout is None:
                submission.save(self.output, self.overwrite)
            else:
                layout.write(index, submission.written, self.output, self.overwrite)
        frames = sum(map(len, tokens.values()))
        return TrackingSummary((self.output,), frames, seconds, tuple(scenes), earlier_frames=earlier)
