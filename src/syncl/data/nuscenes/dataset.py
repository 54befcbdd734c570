"""Clips for training and scenes for tracking, read from a nuScenes index."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from torch.utils.data import Dataset

from syncl.data.augmentation import Augmentation, WorldTransform, draw_world_transform
from syncl.data.images import ImageTransform, draw_transform
from syncl.data.nuscenes.frames import (
    AnnotationOptions,
    ImageOptions,
    TransformOf,
    build_annotations,
    build_frame,
)
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.samples import FutureCentres
from syncl.errors import SynclError
from syncl.structures import Annotations, Clip, Frame

ClipKey = int | tuple[int, int]
"""A clip number, or (epoch, clip number): the epoch decides the augmentation."""


class ClipDataset(Dataset[Clip]):
    """Clips of T consecutive key frames that never leave their scene, B = 1.

    A clip's augmentation is drawn once for all its frames and cameras, from (seed, epoch, clip number) alone:
    the same clip comes out whatever the process, the worker or the order of reading.

    Args:
        index: where to read.
        scenes: scene names.
        clip_length: T.
        images: size, cameras and decoding.
        annotations: classes and filters.
        augmentation: None gives test-time images and the world as it is.
        repeat_first: also give clips that end at the first T - 1 frames of a scene, filled up by repeating
            the first frame (PF-Track does).
        seed: of the augmentation.

    Raises:
        SynclError: unknown scenes or cameras, or no scene is long enough.
    """

    def __init__(
        self,
        index: NuScenesIndex,
        scenes: Iterable[str],
        *,
        clip_length: int,
        images: ImageOptions,
        annotations: AnnotationOptions,
        augmentation: Augmentation | None = None,
        repeat_first: bool = False,
        seed: int = 0,
    ) -> None:
        self._index = index
        self._images = images
        self._annotations = annotations
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = 0
        self.camera_names = choose_cameras(index, images.cameras)
        self._clips = _clip_rows(index, tuple(scenes), clip_length, repeat_first)
        if not len(self._clips):
            raise SynclError(
                f"{index.dataroot / index.version}: none of the chosen scenes has {clip_length} key frames "
                "in a row; choose more scenes or a shorter clip"
            )

    def __len__(self) -> int:
        return len(self._clips)

    def set_epoch(self, epoch: int) -> None:
        """The epoch for plain clip numbers; keys of `ResumableSampler` carry theirs."""
        self._epoch = epoch

    def clip_rows(self, number: int) -> tuple[int, ...]:
        """Sample rows of a clip's frames."""
        return tuple(int(row) for row in self._clips[number])

    def __getitem__(self, key: ClipKey) -> Clip:
        epoch, number = (self._epoch, key) if isinstance(key, int) else key
        transform_of, world = self._draw(epoch, number)
        frames: dict[int, Frame] = {}
        annotations: dict[int, Annotations] = {}
        rows = self.clip_rows(number)
        for row in set(rows):
            sample = self._index.sample(row)
            frames[row] = build_frame(sample, self.camera_names, self._images, transform_of, world)
            future = future_centres(self._index, row, self._annotations)
            annotations[row] = build_annotations(sample.annotations, self._annotations, world, future)
        return Clip(tuple(frames[row] for row in rows), tuple(annotations[row] for row in rows))

    def _draw(self, epoch: int, number: int) -> tuple[TransformOf | None, WorldTransform | None]:
        if self._augmentation is None:
            return None, None
        rng = np.random.default_rng([self._seed, epoch, number])
        augmentation = self._augmentation
        world = draw_world_transform(rng, augmentation)
        image_seed = int(rng.integers(2**63))

        def transform_of(source_size: tuple[int, int]) -> ImageTransform:
            # A fresh generator from the clip's seed: every image of the clip gets the same draw.
            same = np.random.default_rng(image_seed)
            size = self._images.size
            return draw_transform(
                same, source_size, size, augmentation.resize_range, augmentation.flip_probability
            )

        return transform_of, world


class SceneStream:
    """The frames of one scene in time order, B = 1, decoded one ahead of their use.

    Args:
        index: where to read.
        scene: scene name.
        images: size, cameras and decoding.
        annotations: classes and filters of `with_annotations`.

    Raises:
        SynclError: unknown scene or cameras.
    """

    def __init__(
        self,
        index: NuScenesIndex,
        scene: str,
        images: ImageOptions,
        annotations: AnnotationOptions | None = None,
    ) -> None:
        self._index = index
        self._images = images
        self._annotations = annotations or AnnotationOptions()
        self.camera_names = choose_cameras(index, images.cameras)
        self.rows = index.scene_samples(scene)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Frame]:
        for frame, _ in self.with_annotations():
            yield frame

    def with_annotations(self) -> Iterator[tuple[Frame, Annotations]]:
        """Frames with their ground truth."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead: Future[tuple[Frame, Annotations]] | None = None
            for row in self.rows:
                following = reader.submit(self._read, row)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _read(self, row: int) -> tuple[Frame, Annotations]:
        sample = self._index.sample(row)
        frame = build_frame(sample, self.camera_names, self._images)
        future = future_centres(self._index, row, self._annotations)
        return frame, build_annotations(sample.annotations, self._annotations, future=future)


def future_centres(index: NuScenesIndex, row: int, options: AnnotationOptions) -> FutureCentres | None:
    """Where a sample's objects go, if the options ask for it."""
    return index.future_centres(row, options.future_frames) if options.future_frames else None


def choose_cameras(index: NuScenesIndex, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The wanted cameras, or all.

    Raises:
        SynclError: the dataset does not have one of them, or none at all.
    """
    available = index.camera_names
    if wanted is None:
        wanted = available
    unknown = [name for name in wanted if name not in available]
    if unknown or not wanted:
        problem = f"no camera '{unknown[0]}'" if unknown else "no cameras"
        raise SynclError(
            f"{index.dataroot / index.version}: {problem}; it has {', '.join(available) or 'none'}"
        )
    return wanted


def _clip_rows(
    index: NuScenesIndex, scenes: tuple[str, ...], length: int, repeat_first: bool
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Sample rows [clips, T]."""
    if length < 1:
        raise SynclError(f"clip length {length}: must be at least 1")
    offsets = np.arange(-length + 1, 1)
    clips = [np.zeros((0, length), np.int64)]
    for scene in scenes:
        samples = index.scene_samples(scene)
        first_end = samples.start if repeat_first else samples.start + length - 1
        ends = np.arange(first_end, samples.stop)
        clips.append(np.maximum(ends[:, None] + offsets, samples.start))
    return np.concatenate(clips)
