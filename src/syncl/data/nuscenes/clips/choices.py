"""Which key frames make a clip: in a row, or a sliding window with gaps.

Every choice numbers its clips by the frame they end with. What is random in a clip comes from the generator
it is given, so a clip's key decides it alone.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.index import NuScenesIndex
from syncl.errors import SynclError


class ClipChoice(Protocol):
    """Numbered clips of sample rows.

    Attributes:
        restarts: whether frames that a clip holds again later belong to no scene, so that nothing is
            remembered from them.
    """

    restarts: bool

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def rows(self, number: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Sample rows of a clip's frames, in order."""
        ...


class ConsecutiveFrames:
    """Clips of T frames in a row that never leave their scene.

    Args:
        index: where scenes are looked up.
        scenes: scene names.
        length: T.
        repeat_first: also give clips that end at the first T - 1 frames of a scene, filled up by repeating
            the first frame (PF-Track does).

    Raises:
        SynclError: unknown scenes, or a clip length below one.
    """

    restarts = False

    def __init__(
        self, index: NuScenesIndex, scenes: Sequence[str], length: int, repeat_first: bool = False
    ) -> None:
        if length < 1:
            raise SynclError(f"clip length {length}: must be at least 1")
        offsets = np.arange(-length + 1, 1)
        clips = [np.zeros((0, length), np.int64)]
        for scene in scenes:
            samples = index.scene_samples(scene)
            first_end = samples.start if repeat_first else samples.start + length - 1
            ends = np.arange(first_end, samples.stop)
            clips.append(np.maximum(ends[:, None] + offsets, samples.start))
        self._clips: NDArray[np.int64] = np.concatenate(clips)

    def __len__(self) -> int:
        return len(self._clips)

    def rows(self, number: int, rng: np.random.Generator) -> tuple[int, ...]:  # noqa: ARG002
        """See `ClipChoice.rows`."""
        return tuple(int(row) for row in self._clips[number])


class SlidingWindow:
    """StreamPETR's window: a frame behind T - 1 of the T - 1 + spare frames before it.

    Windows reach into the scene before (whose frames are forgotten when the scene changes), so that every
    frame ends one. The first windows of all repeat the first frame.

    Args:
        index: where scenes are looked up.
        scenes: scene names, in order.
        length: T.
        spare: how many of the frames before are left out at random.

    Raises:
        SynclError: unknown scenes, or a clip length below one.
    """

    restarts = True

    def __init__(self, index: NuScenesIndex, scenes: Sequence[str], length: int, spare: int = 1) -> None:
        if length < 1 or spare < 0:
            raise SynclError(f"window of {length} frames with {spare} left out: must be at least 1 and 0")
        rows = [np.arange(samples.start, samples.stop) for samples in map(index.scene_samples, scenes)]
        self._order = np.concatenate(rows or [np.zeros(0, np.int64)])
        self._length, self._spare = length, spare

    def __len__(self) -> int:
        return len(self._order)

    def rows(self, number: int, rng: np.random.Generator) -> tuple[int, ...]:
        """See `ClipChoice.rows`."""
        before = self._length - 1
        steps = rng.permutation(np.arange(1, before + self._spare + 1))[:before]
        places = np.maximum(np.append(number - np.sort(steps)[::-1], number), 0)
        return tuple(int(row) for row in self._order[places])
