"""Batches of clips: stacking, sampling order, loaders.

Order and processes. `ResumableSampler` fixes one global order of clips from (seed, epoch). A loader prepared
by accelerate (its default, `split_batches=False`) hands batch k * N + p to process p of N, so step k uses the
clips `order[k * N * b : (k + 1) * N * b]` for batches of b: the same clips at the same step as one process
with batches of N * b. Keys carry their epoch, so augmentation depends neither on processes nor workers, and
training resumes at any step by starting the sampler at `step * N * b`.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from syncl.data.stream_clips import ClipSource, StreamSampler
from syncl.errors import SynclError
from syncl.interrupts import servants_end_with_us, serve_parent
from syncl.structures import Annotations, CameraRig, Clip, Frame, Odometry, Trajectories

Item = TypeVar("Item")


def collate_clips(clips: Sequence[Clip]) -> Clip:
    """Stack clips along B; objects are padded to the most any of them has in that frame.

    Raises:
        SynclError: the clips differ in length, cameras or image size.
    """
    lengths = {clip.length for clip in clips}
    if len(lengths) != 1:
        raise SynclError(f"clips of different lengths cannot form a batch: {sorted(lengths)}")
    frames = zip(*(clip.frames for clip in clips))
    annotations = zip(*(clip.annotations for clip in clips))
    return Clip(
        tuple(collate_frames(moment) for moment in frames),
        tuple(collate_annotations(moment) for moment in annotations),
    )


def collate_frames(frames: Sequence[Frame]) -> Frame:
    """Stack frames along B.

    Raises:
        SynclError: they differ in cameras or image size, or not all have past images or odometry.
    """
    pasts = _all_or_none([frame.past for frame in frames], "frames with and without past images")
    odometry = _all_or_none([frame.odometry for frame in frames], "frames with and without odometry")
    levels = _all_or_none([frame.levels for frame in frames], "frames with and without stored features")
    rigs = {frame.rig.names for frame in frames}
    sizes = {frame.image_size for frame in frames}
    if len(rigs) != 1 or len(sizes) != 1:
        found = f"{sorted(rigs)}, {sorted(sizes)}"
        raise SynclError(f"frames with different cameras or image sizes cannot form a batch: {found}")
    return Frame(
        images=_collate_images(frames),
        rig=CameraRig(
            names=frames[0].rig.names,
            image_from_camera=torch.cat([frame.rig.image_from_camera for frame in frames]),
            camera_from_vehicle=torch.cat([frame.rig.camera_from_vehicle for frame in frames]),
        ),
        camera_valid=torch.cat([frame.camera_valid for frame in frames]),
        content_size=torch.cat([frame.content_size for frame in frames]),
        global_from_vehicle=torch.cat([frame.global_from_vehicle for frame in frames]),
        timestamp_s=torch.cat([frame.timestamp_s for frame in frames]),
        scenes=tuple(scene for frame in frames for scene in frame.scenes),
        samples=tuple(sample for frame in frames for sample in frame.samples),
        # Channels stay next to each other in memory.
        levels=tuple(
            torch.cat([part.movedim(2, -1) for part in level]).movedim(-1, 2)
            for level in zip(*levels, strict=True)
        )
        or None,
        past=collate_frames(pasts) if pasts else None,
        odometry=Odometry(
            torch.cat([item.ego_from_vehicle for item in odometry]),
            torch.cat([item.ego_rotation for item in odometry]),
            torch.cat([item.readings for item in odometry]),
        )
        if odometry
        else None,
    )


def _collate_images(frames: Sequence[Frame]) -> Tensor:
    """Images of all frames; those of frames with stored features are black and take no memory."""
    if all(frame.levels is not None for frame in frames):
        return frames[0].images.expand(len(frames), -1, -1, -1, -1)
    return torch.cat([frame.images for frame in frames])


def _all_or_none(items: Sequence[Item | None], what: str) -> list[Item]:
    known = [item for item in items if item is not None]
    if known and len(known) < len(items):
        raise SynclError(f"{what} cannot form a batch")
    return known


def collate_annotations(annotations: Sequence[Annotations]) -> Annotations:
    """Stack annotations along B, padded to the largest M (padding: zeros, identity -1, not valid)."""
    most = max(item.boxes.shape[1] for item in annotations)

    def stack(tensors: list[Tensor], fill: float) -> Tensor:
        padded = tensors[0].new_full((len(tensors), most, *tensors[0].shape[2:]), fill)
        for row, tensor in enumerate(tensors):
            padded[row, : tensor.shape[1]] = tensor[0]
        return padded

    single = [
        item.map(lambda tensor, row=row: tensor[row : row + 1])  # type: ignore[misc]
        for item in annotations
        for row in range(item.boxes.shape[0])
    ]
    courses = _all_or_none(
        [item.trajectories for item in single], "annotations with and without trajectories"
    )
    depths = _all_or_none([item.depths for item in annotations], "annotations with and without depths")
    return Annotations(
        boxes=stack([item.boxes for item in single], 0),
        labels=stack([item.labels for item in single], 0),
        identities=stack([item.identities for item in single], -1),
        valid=stack([item.valid for item in single], False),
        trajectories=Trajectories(
            stack([item.centres for item in courses], 0), stack([item.valid for item in courses], False)
        )
        if courses
        else None,
        depths=torch.cat(depths) if depths else None,
    )


class ResumableSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, number) keys from any point of training on.

    Every epoch is a permutation that depends on (seed, epoch) only, so the keys from position p on are the
    same whether the sampler started there or came there.

    Args:
        length: number of items.
        seed: of the permutations.
        epoch: the first epoch.
        start: how many items of the first epoch have been used already.
        epochs: how many epochs to give, the first included; None goes on for ever.
    """

    def __init__(
        self, length: int, seed: int, epoch: int = 0, start: int = 0, epochs: int | None = 1
    ) -> None:
        if length < 1 or not 0 <= start < length:
            raise SynclError(f"sampler: start {start} must be within the {length} items of an epoch")
        self._length = length
        self._seed = seed
        self._epoch = epoch
        self._start = start
        self._epochs = epochs

    @classmethod
    def from_position(cls, length: int, seed: int, position: int) -> "ResumableSampler":
        """An endless sampler that starts after `position` items counted from the start of training."""
        return cls(length, seed, position // length, position % length, epochs=None)

    def __len__(self) -> int:
        if self._epochs is None:
            raise TypeError("an endless sampler has no length")
        return self._epochs * self._length - self._start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, epoch = self._start, self._epoch
        while self._epochs is None or epoch < self._epoch + self._epochs:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._length)
            for number in order[start:].tolist():
                yield epoch, number
            start, epoch = 0, epoch + 1


def clip_loader(
    dataset: ClipSource,
    batch_size: int,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
    *,
    sampler: ResumableSampler | StreamSampler | None = None,
    prefetch: int = 2,
) -> DataLoader[Clip]:
    """Batches of clips in a reproducible order; the last, smaller batch of a finite sampler is dropped.

    Args:
        dataset: where clips come from.
        batch_size: B, for each process.
        seed: of the order, if no sampler is given.
        workers: reading processes; 0 reads in the caller. With workers, OpenCV is limited to one thread in
            this process too, since its threads do not survive the fork.
        pin_memory: page-locked batches, for copies to a GPU in the background.
        sampler: the order; one epoch from the start if None.
        prefetch: batches each worker keeps ready.

    Raises:
        SynclError: an epoch is smaller than one batch.
    """
    if len(dataset) < batch_size and not isinstance(sampler, StreamSampler):
        raise SynclError(
            f"{len(dataset)} clips do not fill a batch of {batch_size}; use more scenes or a smaller batch"
        )
    if workers:
        # A worker forked from a process in which OpenCV has started threads of its own waits for ever for
        # threads that do not exist in it. Workers inherit the setting; they themselves are the parallelism.
        import cv2

        cv2.setNumThreads(1)
        servants_end_with_us()
    # A generator of its own: the loader would otherwise advance torch's global one at every start.
    generator = torch.Generator()
    generator.manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=ResumableSampler(len(dataset), seed) if sampler is None else sampler,
        num_workers=workers,
        collate_fn=collate_clips,
        pin_memory=pin_memory,
        drop_last=True,
        generator=generator,
        persistent_workers=workers > 0,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=serve_parent,
    )


def readable_errors(batches: DataLoader[Clip]) -> Iterator[Clip]:
    """The same batches; errors meant for users lose the traceback that worker processes put around them.

    Reading processes end with it, however it ends.
    """
    try:
        yield from batches
    except SynclError as error:
        text = str(error)
        marker = f"{SynclError.__module__}.{SynclError.__qualname__}: "
        if marker not in text:
            raise
        raise SynclError(text.rpartition(marker)[2].strip()) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise SynclError(
            "a process that loads data was killed (out of memory?); lower training.data.workers or prefetch "
            "and go on with --resume"
        ) from error
    finally:
        _end_workers(batches)


def _end_workers(loader: DataLoader[Clip]) -> None:
    """Tell a loader's processes to end, now and not when its iterator is collected as garbage.

    An error's traceback holds the iterator in a reference cycle. Its queues are then closed before it tells
    its workers through them: it waits for each in vain, and ours, which hear no signal, live on.
    """
    # accelerate's loader has inside the one that reads.
    reader = getattr(loader, "base_dataloader", loader)
    iterator = reader._iterator
    if isinstance(iterator, _MultiProcessingDataLoaderIter):
        iterator._shutdown_workers()
        reader._iterator = None
