"""Clips for training and scenes for tracking, read from a nuScenes index."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from syncl.data.augmentation import Augmentation, WorldTransform, draw_world_transform
from syncl.data.features import FeatureStore
from syncl.data.images import ImageTransform, RGBImage, draw_transform
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions, count_learnable
from syncl.data.nuscenes.clips.choices import ClipChoice, ConsecutiveFrames
from syncl.data.nuscenes.clips.frames import (
    ImageOptions,
    Recolour,
    TransformOf,
    build_annotations,
    build_frame,
)
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.lidar import lidar_points, measured_depths
from syncl.data.nuscenes.odometry import OdometrySource
from syncl.data.nuscenes.past.sources import PastSource, PastSweeps, has_sweeps
from syncl.data.nuscenes.samples import FutureCentres, Sample
from syncl.data.photometric import distort_colours
from syncl.data.reading_ahead import read_ahead
from syncl.data.stream_clips import ClipSource
from syncl.errors import SynclError
from syncl.structures import Annotations, Clip, Frame

ClipKey = int | tuple[int, int]
"""(epoch, clip number): the epoch decides the augmentation. A plain number means epoch 0."""

# Kinds of random numbers that have generators of their own.
_CHOICE, _COLOURS, _PAST = 1, 2, 3


class ClipDataset(ClipSource):
    """Clips of key frames, B = 1.

    What is random about a clip is drawn from (seed, epoch, clip number) alone: the same clip comes out
    whatever the process, the worker or the order of reading. One draw of the augmentation serves all cameras,
    and all frames of the clip unless it says otherwise.

    Args:
        index: where to read.
        scenes: scene names.
        clip_length: T.
        images: size, cameras and decoding.
        annotations: classes and filters.
        augmentation: None gives test-time images and the world as it is.
        repeat_first: see `ConsecutiveFrames`.
        seed: of the augmentation.
        choice: which frames make a clip; None takes `clip_length` frames in a row.
        features: what the image encoder made of the frames, computed before; images are then not read.
        past: where every frame's past images come from; one draw of the augmentation serves both. None
            leaves them out.

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
        choice: ClipChoice | None = None,
        features: FeatureStore | None = None,
        past: PastSource | None = None,
    ) -> None:
        scenes = tuple(scenes)
        self._index = index
        self._past = past
        self._images = images
        self._annotations = annotations
        self._augmentation = augmentation
        self._seed = seed
        self._features = features
        self._odometry = OdometrySource(index) if images.odometry else None
        self.camera_names = choose_cameras(index, images.cameras)
        self._choice: ClipChoice = choice or ConsecutiveFrames(index, scenes, clip_length, repeat_first)
        counts = count_learnable(index, scenes, annotations)
        if not counts.learnable:
            raise SynclError(
                f"{index.dataroot / index.version}: no annotation of the chosen scenes can be learned from: "
                f"{counts}; choose other scenes or classes, or mend the tables"
            )
        if not len(self._choice):
            raise SynclError(
                f"{index.dataroot / index.version}: none of the chosen scenes has {clip_length} key frames "
                "in a row; choose more scenes or a shorter clip"
            )

    def __len__(self) -> int:
        return len(self._choice)

    def clip_rows(self, number: int, epoch: int = 0) -> tuple[int, ...]:
        """Sample rows of a clip's frames."""
        return self._choice.rows(number, np.random.default_rng([_CHOICE, self._seed, epoch, number]))

    def __getitem__(self, key: ClipKey) -> Clip:
        epoch, number = (0, key) if isinstance(key, int) else key
        rows = self.clip_rows(number, epoch)
        each = self._augmentation is not None and self._augmentation.each_frame
        made: dict[tuple[int, int], tuple[Frame, Annotations]] = {}
        pairs = []
        for place, row in enumerate(rows):
            # Frames of a clip share draw 0, and with it a frame that comes twice, unless each has its own.
            draw = place if each else 0
            if (row, draw) not in made:
                made[row, draw] = self._read(row, [self._seed, epoch, number, *([draw] if draw else [])])
            frame, annotations = made[row, draw]
            if self._choice.restarts and row in rows[place + 1 :]:
                frame = replace(frame, scenes=tuple(f"{name}, repeat {place}" for name in frame.scenes))
            pairs.append((frame, annotations))
        return Clip(tuple(frame for frame, _ in pairs), tuple(annotations for _, annotations in pairs))

    def _read(self, row: int, seed: list[int]) -> tuple[Frame, Annotations]:
        sample = self._index.sample(row)
        transform_of, world = self._draw(seed)

        def build(moment: Sample, first_colour: int) -> Frame:
            recolour = self._recolour(seed, row, first_colour)
            stored = None if self._features is None else self._features.of(moment.token)
            return build_frame(moment, self.camera_names, self._images, transform_of, world, recolour, stored)

        frame = build(sample, 0)
        if self._past is not None:
            past = self._past.of(row, sample, np.random.default_rng([_PAST, *seed, row]))
            frame = replace(frame, past=build(past, len(self.camera_names)))
        if self._odometry is not None:
            frame = replace(frame, odometry=self._odometry.of(row, sample, world))
        future = future_centres(self._index, row, self._annotations)
        annotations = build_annotations(
            sample.annotations, self._annotations, world, future, self._index.dataset
        )
        stride, centres = self._annotations.depth_stride, self._annotations.depth_pixel_centres
        if stride:
            depths = measured_depths(lidar_points(self._index, row, sample), frame, stride, world, centres)
            annotations = replace(annotations, depths=depths)
        return frame, annotations

    def _recolour(self, seed: list[int], row: int, first: int) -> Recolour | None:
        if self._augmentation is None or not self._augmentation.photometric:
            return None

        def recolour(camera: int, image: RGBImage) -> NDArray[np.float32]:
            # As in the original, colours are the one thing that every image has its own draw of.
            return distort_colours(image, np.random.default_rng([_COLOURS, *seed, row, first + camera]))

        return recolour

    def _draw(self, seed: list[int]) -> tuple[TransformOf | None, WorldTransform | None]:
        if self._augmentation is None:
            return None, None
        rng = np.random.default_rng(seed)
        augmentation = self._augmentation
        world = draw_world_transform(rng, augmentation)
        image_seed = int(rng.integers(2**63))
        if self._features is not None:
            # They are of images as tests crop them.
            return None, world

        def transform_of(source_size: tuple[int, int], horizon: float) -> ImageTransform:
            # A fresh generator from the draw's seed: every image gets the same.
            same = np.random.default_rng(image_seed)
            size = self._images.size
            resize, flip = augmentation.resize_range, augmentation.flip_probability
            return draw_transform(same, source_size, size, resize, flip, horizon)

        return transform_of, world


class SceneStream:
    """The frames of one scene in time order, B = 1, decoded one ahead of their use.

    Where the images' options ask for past images and the scene has any between its key frames, every frame
    comes with them.

    Args:
        index: where to read.
        scene: scene name.
        images: size, cameras, decoding and past.
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
        self._odometry = OdometrySource(index) if images.odometry else None
        self._past: PastSource | None = None
        if images.past is not None and has_sweeps(index, [scene]):
            self._past = PastSweeps(index, self.camera_names, images.past)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Frame]:
        for frame, _ in self.with_annotations():
            yield frame

    def with_annotations(self) -> Iterator[tuple[Frame, Annotations]]:
        """Frames with their ground truth."""
        return read_ahead(self._read, self.rows, ahead=1)

    def _read(self, row: int) -> tuple[Frame, Annotations]:
        sample = self._index.sample(row)
        frame = build_frame(sample, self.camera_names, self._images)
        if self._past is not None:
            past = build_frame(self._past.of(row, sample), self.camera_names, self._images)
            frame = replace(frame, past=past)
        if self._odometry is not None:
            frame = replace(frame, odometry=self._odometry.of(row, sample))
        future = future_centres(self._index, row, self._annotations)
        return frame, build_annotations(
            sample.annotations, self._annotations, future=future, dataset=self._index.dataset
        )


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
