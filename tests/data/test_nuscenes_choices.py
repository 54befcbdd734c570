"""Windows and streams of key frames, and augmentation with a draw for every frame."""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from syncl.data.augmentation import Augmentation
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.choices import SlidingWindow
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.photometric import distort_colours
from syncl.data.stream_clips import StreamDataset, scene_parts
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity, transform_points
from syncl.structures import Clip

EACH = Augmentation(rotation_rad=0.4, scale_range=(0.8, 1.2), flip_probability=0.5, each_frame=True)


@pytest.fixture(scope="module")
def index(tiny_root: Path) -> NuScenesIndex:
    """Two scenes of 4 and 3 key frames: rows 0 to 3 and 4 to 6."""
    return open_nuscenes(tiny_root, "v1.0-mini", cache=False)


def clips(index: NuScenesIndex, **changes: Any) -> ClipDataset:
    options: dict[str, Any] = {"clip_length": 1, "images": ImageOptions(size=(40, 80))}
    return ClipDataset(
        index, index.scene_names, annotations=AnnotationOptions(min_points=0), **{**options, **changes}
    )


def test_a_window_leaves_out_one_of_the_frames_before(index: NuScenesIndex) -> None:
    window = SlidingWindow(index, index.scene_names, 4)
    assert len(window) == 7
    found = {window.rows(6, np.random.default_rng(seed)) for seed in range(60)}
    assert found == {(3, 4, 5, 6), (2, 4, 5, 6), (2, 3, 5, 6), (2, 3, 4, 6)}


def test_the_first_windows_repeat_the_first_frame_which_is_not_remembered(index: NuScenesIndex) -> None:
    window = SlidingWindow(index, index.scene_names, 4, spare=0)
    assert window.rows(1, np.random.default_rng(0)) == (0, 0, 0, 1)
    clip = clips(index, clip_length=4, choice=window)[1]
    names = [frame.scenes[0] for frame in clip.frames]
    assert names[2:] == ["scene-0061", "scene-0061"] and len(set(names)) == 3
    # A window may begin in the scene before: its name tells memories to start anew.
    crossing = clips(index, clip_length=4, choice=window)[5]
    assert [frame.scenes[0] for frame in crossing.frames] == ["scene-0061"] * 2 + ["scene-0103"] * 2


def test_what_is_random_follows_from_the_key(index: NuScenesIndex) -> None:
    dataset = clips(
        index, clip_length=4, choice=SlidingWindow(index, index.scene_names, 4), augmentation=EACH
    )

    def look(key: tuple[int, int]) -> tuple[list[str], list[float]]:
        clip = dataset[key]
        return [frame.samples[0] for frame in clip.frames], [
            float(f.images.float().sum()) for f in clip.frames
        ]

    assert look((0, 6)) == look((0, 6))
    assert len({tuple(look((epoch, 6))[1]) for epoch in range(4)}) == 4


def test_streams_end_with_their_part(index: NuScenesIndex) -> None:
    parts = scene_parts([4, 3], 2)
    dataset = StreamDataset(clips(index), parts)
    assert len(dataset) == 7
    names = [dataset[0, number].frames[0].scenes[0] for number in range(7)]
    assert [names.index(name) for name in names] == [0, 0, 2, 2, 4, 4, 6]
    assert names[0].startswith("scene-0061") and dataset[1, 0].frames[0].scenes[0] != names[0]


def global_centres(clip: Clip) -> list[torch.Tensor]:
    return [
        transform_points(frame.global_from_vehicle, objects.boxes[..., :3].double())[0]
        for frame, objects in zip(clip.frames, clip.annotations, strict=True)
    ]


def test_frames_with_draws_of_their_own_share_one_map(index: NuScenesIndex) -> None:
    plain, varied = clips(index, clip_length=3), clips(index, clip_length=3, augmentation=EACH)
    for expected, found in zip(global_centres(plain[0]), global_centres(varied[0]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    poses = [frame.global_from_vehicle[0] for frame in varied[0].frames]
    scales = {round(float(pose[:3, :3].det().abs()), 6) for pose in poses}
    assert len(scales) == 3, "every frame has its own scale"
    for pose in poses:
        torch.testing.assert_close(invert_similarity(pose) @ pose, torch.eye(4).double(), rtol=0, atol=1e-9)
    # One draw for all cameras of a frame: where a point is seen, it is seen as without augmentation.
    assert len({float(camera[0, 0]) for camera in varied[0].frames[0].rig.image_from_camera[0]}) == 1


def test_a_map_cannot_be_shared_by_mirrored_frames() -> None:
    with pytest.raises(SynclError, match="must be 0 with each_frame"):
        dataclasses.replace(EACH, mirror_probability=0.5)


# Colours


def test_colours_change_within_their_limits_and_by_the_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    first, again = (distort_colours(image, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again) and first.dtype == np.float32 and first.shape == image.shape
    changed = [distort_colours(image, np.random.default_rng(seed)) for seed in range(40)]
    assert len({result.tobytes() for result in changed}) > 35
    # Nothing is rounded or cut off: bright images get brighter than white.
    white = np.full((2, 2, 3), 250, np.uint8)
    brightest = max(float(distort_colours(white, np.random.default_rng(seed)).max()) for seed in range(40))
    assert brightest > 255 and brightest % 1


def test_grey_stays_grey_and_moves_by_brightness_and_contrast_alone() -> None:
    grey = np.full((2, 2, 3), 100, np.uint8)
    values = {float(distort_colours(grey, np.random.default_rng(seed))[0, 0, 0]) for seed in range(400)}
    for seed in range(50):
        assert np.ptp(distort_colours(grey, np.random.default_rng(seed))) <= 1
    # (100 +- 32) * (0.5 to 1.5)
    assert 33.9 <= min(values) < 50 and 170 < max(values) <= 198.1


def test_every_image_has_colours_of_its_own(index: NuScenesIndex) -> None:
    quiet = Augmentation(resize_range=(1.0, 1.0))
    plain = clips(index, augmentation=quiet)[0].frames[0]
    coloured = clips(index, augmentation=dataclasses.replace(quiet, photometric=True))[0].frames[0]
    torch.testing.assert_close(coloured.rig.image_from_vehicle, plain.rig.image_from_vehicle)
    assert coloured.images.dtype == torch.float32 and plain.images.dtype == torch.uint8
    means = (coloured.images - plain.images.float()).mean((0, 2, 3, 4))
    assert len({round(float(mean), 2) for mean in means}) > 2


def test_an_image_of_the_wrong_size_names_its_camera(tmp_path: Path, tiny: Any) -> None:
    root = tiny.write(tmp_path)
    path = root / "samples" / "CAM_BACK_LEFT" / "scene-0061_t1.jpg"
    cv2.imwrite(str(path), np.zeros((45, 80, 3), np.uint8))
    index = open_nuscenes(root, "v1.0-mini", cache=False)
    with pytest.raises(SynclError, match=r"^CAM_BACK_LEFT: .*is 80x45 pixels, its calibration is for 160x90"):
        clips(index)[1]
