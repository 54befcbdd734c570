"""Frames for streaming training: single frames that know which part of a scene they are walked through in."""

from collections.abc import Sequence
from dataclasses import replace

from torch.utils.data import Dataset

from syncl.data.nuscenes.dataset import ClipDataset
from syncl.structures import Clip


class StreamDataset(Dataset[Clip]):
    """Clips of one frame under the keys of `data.streams.StreamSampler`.

    A frame's scene is named after the part of the scene and the pass through the data. So whatever is
    remembered of a stream ends where the stream goes on with another part, as with any change of scene.

    Args:
        frames: clips of one frame, one for each frame of the scenes in order.
        parts: frame numbers of each part, from `scene_parts`.
    """

    def __init__(self, frames: ClipDataset, parts: Sequence[range]) -> None:
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
