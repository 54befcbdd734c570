"""Frames in the order in which a few streams pass through scenes, for training that remembers.

StreamPETR's streaming mode: each of the G slots of a step (batch size times processes) walks through one
part of a scene in time order, one frame a step, then goes on with another part. What is remembered of a slot
is carried from step to step and ends with the part.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

import numpy as np
from torch.utils.data import Dataset, Sampler

from syncl.errors import SynclError
from syncl.structures import Clip


class ClipSource(Dataset[Clip]):
    """Clips by (epoch, number): the epoch decides what is random about a clip."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of clips."""

    @abstractmethod
    def __getitem__(self, key: tuple[int, int]) -> Clip:
        """A clip of one stream (B = 1)."""


def scene_parts(lengths: Sequence[int], parts: int, clip_length: int = 1) -> tuple[range, ...]:
    """Scenes, laid behind each other, cut into parts of equal length (the last may be shorter).

    Args:
        lengths: frames of each scene.
        parts: into how many parts a scene is cut.
        clip_length: T frames a step; what a part holds beyond its last whole clip is left out.

    Returns:
        The clips of each part, counted over all clips of T frames in a row that the scenes have.

    Raises:
        SynclError: if `parts` is not positive.
    """
    if parts < 1:
        raise SynclError(f"scenes cut into {parts} parts: must be at least 1")
    ranges, start = [], 0
    for length in lengths:
        step = max(1, math.ceil(length / parts))
        for first in range(0, length, step):
            clips = range(first, min(first + step, length) - clip_length + 1, clip_length)
            if clips:
                ranges.append(range(start + clips.start, start + clips.stop, clip_length))
        start += max(0, length - clip_length + 1)
    return tuple(ranges)


class StreamSampler(Sampler[tuple[int, int]]):
    """Endless (pass, frame number) keys: the G slots' frames of a step, then those of the next step.

    Parts come in an endless sequence of random orders of all parts; the order depends on (seed, pass) alone.
    Slot k takes the parts number k, k + G, k + 2 G, ... of that sequence. A batch of B consecutive keys is
    what one process sees, so its rows are the same B slots in every step.

    Args:
        parts: frame numbers of each part.
        slots: G, batch size times processes.
        seed: of the orders.
        step: how many steps have been done already.

    Raises:
        SynclError: if there are no parts or slots.
    """

    def __init__(self, parts: Sequence[range], slots: int, seed: int, step: int = 0) -> None:
        if not parts or slots < 1:
            raise SynclError(f"streams: {len(parts)} scene parts for {slots} slots; both must be at least 1")
        self._parts = tuple(parts)
        self._slots = slots
        self._seed = seed
        self._step = step

    def __iter__(self) -> Iterator[tuple[int, int]]:
        slots = [self._slot(slot) for slot in range(self._slots)]
        while True:
            for slot in slots:
                yield next(slot)

    def _slot(self, slot: int) -> Iterator[tuple[int, int]]:
        """Keys of one slot from the sampler's first step on."""
        skipped = self._step
        for number, part in islice(self._sequence(), slot, None, self._slots):
            frames = self._parts[part]
            for frame in frames[skipped:]:
                yield number, frame
            skipped = max(0, skipped - len(frames))

    def _sequence(self) -> Iterator[tuple[int, int]]:
        """(pass, part) for ever."""
        for number in count():
            for part in np.random.default_rng([self._seed, number]).permutation(len(self._parts)).tolist():
                yield number, part


class StreamDataset(ClipSource):
    """Clips of one frame under the keys of `StreamSampler`.

    A frame's scene is named after the part of the scene and the pass through the data. So whatever is
    remembered of a stream ends where the stream goes on with another part, as with any change of scene.

    Args:
        frames: clips of one frame, one for each frame of the scenes in order.
        parts: frame numbers of each part, from `scene_parts`.
    """

    def __init__(self, frames: ClipSource, parts: Sequence[range]) -> None:
        self._frames = frames
        self.parts = tuple(parts)
        self._part_of = {frame: number for number, part in enumerate(self.parts) for frame in part}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        number, frame_number = key
        clip = self._frames[key]
        part = self._part_of[frame_number]
        frames = tuple(
            replace(frame, scenes=tuple(f"{name}, part {part}, pass {number}" for name in frame.scenes))
            for frame in clip.frames
        )
        return replace(clip, frames=frames)
