"""Batches, order and resuming."""

import dataclasses
import multiprocessing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader

from syncl.data.augmentation import Augmentation
from syncl.data.loading import (
    ResumableSampler,
    clip_loader,
    collate_annotations,
    collate_clips,
    readable_errors,
)
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.errors import SynclError
from syncl.structures import Annotations, Clip

IMAGES = ImageOptions(size=(20, 40))


def open_clips(root: Path, clip_length: int = 2) -> ClipDataset:
    index = open_nuscenes(root, "v1.0-mini", cache=False)
    return ClipDataset(
        index,
        index.scene_names,
        clip_length=clip_length,
        images=IMAGES,
        annotations=AnnotationOptions(),
        augmentation=Augmentation(flip_probability=0.5, rotation_rad=0.3),
    )


@pytest.fixture
def dataset(tiny_root: Path) -> ClipDataset:
    """Five clips of two frames."""
    return open_clips(tiny_root)


def names(clip: Clip) -> list[tuple[str, ...]]:
    return [frame.samples for frame in clip.frames]


def same(first: Clip, second: Clip) -> bool:
    return all(
        a.samples == b.samples
        and torch.equal(a.images, b.images)
        and torch.equal(a.global_from_vehicle, b.global_from_vehicle)
        for a, b in zip(first.frames, second.frames, strict=True)
    )


def test_collate_stacks_streams_and_pads_objects(dataset: ClipDataset) -> None:
    first, second = dataset[0], dataset[1]
    batch = collate_clips([first, second])
    frame, annotations = batch.frames[0], batch.annotations[0]
    assert frame.images.shape == (2, 6, 3, 20, 40)
    assert frame.samples == ("scene-0061_t0", "scene-0061_t1")
    assert frame.batch_size == 2 and frame.rig.names == first.frames[0].rig.names
    for row, single in enumerate((first, second)):
        torch.testing.assert_close(frame.images[row], single.frames[0].images[0])
        count = single.annotations[0].boxes.shape[1]
        torch.testing.assert_close(annotations.boxes[row, :count], single.annotations[0].boxes[0])
        assert annotations.valid[row].sum() == count
    # The first frame shows one object, the second three.
    assert annotations.valid.tolist() == [[True, False, False], [True, True, True]]
    assert annotations.identities[0].tolist() == [0, -1, -1]
    assert not annotations.boxes[0, 1:].any()


def test_collate_annotations_without_any_object() -> None:
    empty = Annotations(
        boxes=torch.zeros(1, 0, 9),
        labels=torch.zeros(1, 0, dtype=torch.int64),
        identities=torch.zeros(1, 0, dtype=torch.int64),
        valid=torch.zeros(1, 0, dtype=torch.bool),
    )
    assert collate_annotations([empty, empty]).boxes.shape == (2, 0, 9)


def test_collate_pads_trajectories_like_boxes(tiny_root: Path) -> None:
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    options = AnnotationOptions(future_frames=2)
    dataset = ClipDataset(index, index.scene_names, clip_length=2, images=IMAGES, annotations=options)
    first, second = dataset[0], dataset[1]
    batch = collate_clips([first, second]).annotations[0]
    assert batch.trajectories is not None and first.annotations[0].trajectories is not None
    assert batch.trajectories.centres.shape == (2, 3, 3, 3)
    assert torch.equal(batch.trajectories.centres[0, :1], first.annotations[0].trajectories.centres[0])
    assert not batch.trajectories.valid[0, 1:].any() and batch.trajectories.valid[1, :, 0].all()
    without = dataclasses.replace(first.annotations[0], trajectories=None)
    with pytest.raises(SynclError, match="with and without trajectories"):
        collate_annotations([without, second.annotations[0]])


def test_collate_refuses_what_does_not_fit(dataset: ClipDataset, tiny_root: Path) -> None:
    with pytest.raises(SynclError, match=r"different lengths.*\[2, 3\]"):
        collate_clips([dataset[0], open_clips(tiny_root, clip_length=3)[0]])
    frame = dataset[0].frames[0]
    smaller = dataclasses.replace(frame, images=frame.images[..., ::2])
    odd = Clip((smaller, dataset[0].frames[1]), dataset[0].annotations)
    with pytest.raises(SynclError, match="different cameras or image sizes"):
        collate_clips([dataset[0], odd])


class TestSampler:
    def test_an_epoch_is_a_permutation_and_epochs_differ(self) -> None:
        keys = list(ResumableSampler(50, seed=1, epochs=2))
        assert sorted(number for _, number in keys[:50]) == list(range(50))
        assert [epoch for epoch, _ in keys] == [0] * 50 + [1] * 50
        assert [n for _, n in keys[:50]] != [n for _, n in keys[50:]]
        assert keys[:50] != list(ResumableSampler(50, seed=2))

    @pytest.mark.parametrize("position", [0, 1, 6, 7, 20])
    def test_starting_anywhere_continues_the_same_order(self, position: int) -> None:
        whole = list(islice(ResumableSampler(7, 3, epochs=None), 40))
        rest = list(islice(ResumableSampler.from_position(7, 3, position), 40 - position))
        assert rest == whole[position:]

    def test_length(self) -> None:
        assert len(ResumableSampler(7, 0, epoch=4, start=3)) == 4
        assert len(list(ResumableSampler(7, 0, epoch=4, start=3, epochs=2))) == 11
        with pytest.raises(TypeError, match="endless"):
            len(ResumableSampler(7, 0, epochs=None))

    @pytest.mark.parametrize(("length", "start"), [(0, 0), (5, 5), (5, -1)])
    def test_impossible_starts(self, length: int, start: int) -> None:
        with pytest.raises(SynclError, match="sampler"):
            ResumableSampler(length, 0, start=start)


def test_loader_is_reproducible_with_and_without_workers(dataset: ClipDataset) -> None:
    alone = list(clip_loader(dataset, 2, seed=5))
    helped = list(clip_loader(dataset, 2, seed=5, workers=2))
    # Five clips make two full batches.
    assert len(alone) == len(helped) == 2
    assert all(same(a, b) for a, b in zip(alone, helped))


def test_workers_decode_although_opencv_has_used_threads(tiny: Any, tmp_path: Path) -> None:
    """OpenCV's threads do not survive a fork; workers would wait for them for ever."""
    import cv2

    # Large enough for OpenCV to share the work among threads.
    picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", picture)[1].tobytes()
    root = tiny.write(tmp_path)
    for record in tiny.tables["sample_data"]:
        if "CAM" in record["filename"]:
            record["width"], record["height"] = 1280, 720
            (root / record["filename"]).write_bytes(encoded)
    tiny.write(root, images=False)
    dataset = open_clips(root)
    cv2.setNumThreads(4)
    cv2.resize(picture, (901, 501), interpolation=cv2.INTER_AREA)
    loader = clip_loader(dataset, 1, seed=5, workers=1)
    loader.timeout = 30
    assert next(iter(loader)).length == 2


def test_loader_resumes_in_the_middle(dataset: ClipDataset) -> None:
    def batches(position: int, count: int) -> list[Clip]:
        sampler = ResumableSampler.from_position(len(dataset), 5, position)
        return list(islice(clip_loader(dataset, 2, seed=5, sampler=sampler), count))

    straight, resumed = batches(0, 6), batches(2 * 3, 3)
    assert all(same(a, b) for a, b in zip(straight[3:], resumed))


def test_loader_leaves_torchs_generator_alone(dataset: ClipDataset) -> None:
    before = torch.get_rng_state()
    next(iter(clip_loader(dataset, 2, seed=5)))
    assert torch.equal(before, torch.get_rng_state())


def test_processes_share_the_order_of_one(dataset: ClipDataset) -> None:
    """Step k of two processes with batches of one uses the clips of one process with batches of two."""

    def batches(size: int, processes: int, process: int) -> list[Clip]:
        sampler = ResumableSampler.from_position(len(dataset), 5, 0)
        loader = clip_loader(dataset, size, seed=5, sampler=sampler)
        prepared = prepare_data_loader(
            loader, torch.device("cpu"), processes, process, put_on_device=True, even_batches=False
        )
        return list(islice(prepared, 4))

    single = batches(2, 1, 0)
    pairs = zip(batches(1, 2, 0), batches(1, 2, 1), strict=True)
    for whole, parts in zip(single, pairs, strict=True):
        assert same(whole, collate_clips(parts))


def test_batch_larger_than_the_data(dataset: ClipDataset) -> None:
    with pytest.raises(SynclError, match="5 clips do not fill a batch of 6"):
        clip_loader(dataset, 6, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_from_workers_stay_readable(tiny: Any, tmp_path: Path, workers: int) -> None:
    dataset = open_clips(tiny.write(tmp_path))
    for image in (tmp_path / "samples" / "CAM_BACK").iterdir():
        image.unlink()
    others = set(multiprocessing.active_children())
    with pytest.raises(SynclError) as caught:
        next(iter(readable_errors(clip_loader(dataset, 2, seed=0, workers=workers))))
    message = str(caught.value)
    assert message.endswith("this image is missing; copy or unpack it again") and "CAM_BACK" in message
    assert "Traceback" not in message and "\n" not in message
    assert set(multiprocessing.active_children()) <= others, (
        "workers end, though the error holds their loader"
    )


@pytest.mark.gpu
def test_pinned_batches_reach_the_device(dataset: ClipDataset) -> None:
    batch = next(iter(clip_loader(dataset, 2, seed=5, pin_memory=True)))
    assert batch.frames[0].images.is_pinned()
    moved = batch.to("cuda", non_blocking=True)
    torch.testing.assert_close(moved.frames[0].images.cpu(), batch.frames[0].images)
