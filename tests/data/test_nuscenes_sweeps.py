"""Camera images between key frames: reading and checking them, and which of them are a frame's past."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syncl.commands.main import main
from syncl.commands.prepare import prepare
from syncl.data.augmentation import Augmentation
from syncl.data.loading import collate_frames
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset, SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.past import sweeps as module
from syncl.data.nuscenes.past.sources import (
    PastKeyFrames,
    PastSweeps,
    check_sweep_images,
    has_sweeps,
    image_sets,
)
from syncl.data.nuscenes.past.sweeps import open_camera_sweeps
from syncl.data.nuscenes.tables.categories import CAMERA_ORDER
from syncl.data.past_images import PastImages
from syncl.errors import SynclError
from syncl.geometry.poses import invert_pose
from syncl.recipes import find_recipe
from syncl.recipes.resolving import apply_changes
from syncl.runs.train.clips import training_clips

VERSION = "v1.0-mini"
STEP_S = 0.5 / 6
EGO_SPEED = 4.0
CAMERAS = CAMERA_ORDER
SCENE = "scene-0061"


def write(tiny: Any, root: Path) -> NuScenesIndex:
    return open_nuscenes(tiny.write(root), VERSION, cache=False)


@pytest.fixture
def swept(tiny: Any, tmp_path: Path) -> NuScenesIndex:
    tiny.add_sweeps()
    return write(tiny, tmp_path)


def files(index: NuScenesIndex, row: int) -> list[list[str]]:
    """File names of a sample's sets by camera, without folders and endings; "" without an image."""
    sweeps = open_camera_sweeps(index)
    return [
        ["" if image < 0 else Path(sweeps.files[image].decode()).stem for image in images]
        for images in image_sets(index, sweeps, row)
    ]


def test_sets_walk_back_image_by_image_and_over_key_frames(swept: NuScenesIndex) -> None:
    assert files(swept, 0) == []
    first, second = files(swept, 1), files(swept, 2)
    assert [names[0] for names in first] == [f"{SCENE}_t1_minus{n}_CAM_FRONT" for n in range(1, 6)] + [
        f"{SCENE}_t0"
    ]
    assert second[6:] == first and second[5] == [f"{SCENE}_t1"] * 6
    assert [len(files(swept, row)) for row in range(7)] == [0, 6, 12, 18, 0, 6, 12]
    assert all(name.endswith(camera) for name, camera in zip(second[2], CAMERAS, strict=True))


def test_a_camera_without_an_earlier_image_stops_all_until_the_key_frame(tiny: Any, tmp_path: Path) -> None:
    tiny.add_sweeps()
    data = tiny.tables["sample_data"]
    gone = {f"{SCENE}_t1_minus{n}_CAM_BACK" for n in range(3, 6)}
    tiny.tables["sample_data"] = [record for record in data if record["token"] not in gone]
    sets = files(write(tiny, tmp_path), 1)
    # CAM_BACK has two images in between: its third step is to the key frame, which others reach later.
    assert sets[2][3] == f"{SCENE}_t0" and sets[2][0] == f"{SCENE}_t1_minus3_CAM_FRONT"
    assert sets[3] == sets[4] == sets[2] and sets[5] == [f"{SCENE}_t0"] * 6


def test_a_camera_without_a_key_frame_joins_at_the_next(tiny: Any, tmp_path: Path) -> None:
    tiny.add_sweeps()
    data = tiny.tables["sample_data"]
    tiny.tables["sample_data"] = [r for r in data if r["token"] != f"data_{SCENE}_t2_CAM_BACK"]
    index = write(tiny, tmp_path)
    sets = files(index, 2)
    assert [names[3] for names in sets[:5]] == [""] * 5 and sets[5][3] == f"{SCENE}_t1"
    frame = list(stream(index))[2]
    assert frame.past is not None and frame.past.camera_valid.all() and not frame.camera_valid[0, 3]


def stream(index: NuScenesIndex, **changes: Any) -> SceneStream:
    options = ImageOptions(size=(40, 80), past=PastImages(**changes))
    return SceneStream(index, SCENE, options)


def test_tests_take_the_fifteenth_set_or_the_oldest(swept: NuScenesIndex) -> None:
    frames = list(stream(swept))
    ages = [float(frame.timestamp_s - frame.past.timestamp_s) for frame in frames if frame.past is not None]
    assert ages == pytest.approx([1.245, 6 * STEP_S, 12 * STEP_S, 15 * STEP_S], abs=2e-6)
    first = frames[0]
    assert first.past is not None and torch.equal(first.past.images, first.images)
    assert torch.equal(first.past.rig.camera_from_vehicle, first.rig.camera_from_vehicle)
    for frame in frames:
        assert frame.past is not None
        assert torch.equal(frame.past.global_from_vehicle, frame.global_from_vehicle)
    # The front camera was 4 m/s x its own age further back, its image 10 ms before the lidar's moment.
    past = frames[3].past
    assert past is not None
    centre = invert_pose(past.rig.camera_from_vehicle[0, 0].numpy())[:3, 3]
    assert centre == pytest.approx([1.5 - EGO_SPEED * (15 * STEP_S + 0.01), 0, 1.6], abs=1e-5)
    with_images = [frame.past.images.float().mean((0, 2, 3, 4)) for frame in frames[2:] if frame.past]
    assert not torch.equal(*with_images)


def test_the_age_is_the_mean_of_the_cameras_own(tiny: Any, tmp_path: Path) -> None:
    tiny.add_sweeps()
    for record in tiny.tables["sample_data"]:
        if record["token"] == f"{SCENE}_t1_minus3_CAM_BACK":
            record["timestamp"] += 12_000
    frame = list(stream(write(tiny, tmp_path)))[3]
    assert frame.past is not None
    age_s = float(frame.timestamp_s - frame.past.timestamp_s)
    assert age_s == pytest.approx(15 * STEP_S - 0.012 / 6, abs=2e-6)


def test_training_draws_from_the_fourth_on() -> None:
    choice = PastImages()
    rng = np.random.default_rng(0)
    drawn = {available: {choice.place(available, rng) for _ in range(500)} for available in (1, 3, 6, 18, 30)}
    assert drawn[1] == {0} and drawn[3] == {2} and drawn[6] == {3, 4, 5}
    assert drawn[18] == set(range(3, 18)) and drawn[30] == set(range(3, 27))
    with pytest.raises(SynclError, match="must be ascending"):
        PastImages(training=(5, 3))


def clips(index: NuScenesIndex, past: Any) -> ClipDataset:
    return ClipDataset(
        index,
        [SCENE],
        clip_length=1,
        images=ImageOptions(size=(40, 80)),
        annotations=AnnotationOptions(min_points=0),
        augmentation=Augmentation(flip_probability=0.5, rotation_rad=0.3, scale_range=(0.9, 1.1)),
        past=past,
    )


def test_one_draw_moves_present_and_past(swept: NuScenesIndex) -> None:
    dataset = clips(swept, PastSweeps(swept, CAMERAS, PastImages()))
    plain = ClipDataset(
        swept,
        [SCENE],
        clip_length=1,
        images=ImageOptions(size=(40, 80)),
        annotations=AnnotationOptions(min_points=0),
        past=PastSweeps(swept, CAMERAS, PastImages(training=(14, 14))),
    )
    fixed = clips(swept, PastSweeps(swept, CAMERAS, PastImages(training=(14, 14))))
    for epoch in range(3):
        frame, still = fixed[epoch, 3].frames[0], plain[epoch, 3].frames[0]
        assert frame.past is not None and still.past is not None
        assert torch.equal(frame.past.rig.image_from_camera, frame.rig.image_from_camera)
        # From past camera to present camera, nothing has changed but the common scale.
        moved, rigid = (
            f.rig.camera_from_vehicle @ f.past.rig.camera_from_vehicle.inverse() for f in (frame, still)
        )
        torch.testing.assert_close(moved[..., :3, :3], rigid[..., :3, :3])
    ages = {
        round(float(f.timestamp_s - f.past.timestamp_s), 3)
        for f in (dataset[epoch, 3].frames[0] for epoch in range(30))
        if f.past is not None
    }
    assert len(ages) > 6 and min(ages) > 0.33
    again, once = dataset[4, 3].frames[0], dataset[4, 3].frames[0]
    assert again.past is not None and once.past is not None
    assert torch.equal(again.past.images, once.past.images)


def test_pairs_of_key_frames(tiny_root: Path) -> None:
    index = open_nuscenes(tiny_root, VERSION, cache=False)
    dataset = clips(index, PastKeyFrames(index, CAMERAS, (1, 2), 1.245))
    ages = {
        row: {
            round(float(f.timestamp_s - f.past.timestamp_s), 3)
            for f in (dataset[epoch, row].frames[0] for epoch in range(12))
            if f.past is not None
        }
        for row in (0, 1, 3)
    }
    assert ages == {0: {1.245}, 1: {0.5}, 3: {0.5, 1.0}}
    with pytest.raises(SynclError, match="positive and ascending"):
        PastKeyFrames(index, CAMERAS, (0, 2), 1.245)


def test_recipes_fall_back_to_key_frames_where_there_is_nothing_between(
    swept: NuScenesIndex, tiny_root: Path
) -> None:
    bare = open_nuscenes(tiny_root, VERSION, cache=False)
    changes = ("model.input.image_size=[32,64]",)
    pairs = apply_changes(find_recipe("petrv2_v99_320x800"), changes)
    tracker = apply_changes(find_recipe("pf-track_petrv2_v99_320x800"), changes)
    assert has_sweeps(swept, [SCENE]) and not has_sweeps(bare, [SCENE])

    def past(index: NuScenesIndex, recipe: Any) -> list[bool]:
        frames = training_clips(index, (SCENE,), recipe)[0].frames
        return [frame.past is not None for frame in frames]

    assert past(swept, pairs) == [True] and past(swept, tracker) == [True] * 3
    assert past(bare, pairs) == [True] and past(bare, tracker) == [False] * 3
    assert all(frame.past is None for frame in stream(bare))


def test_one_scene_without_sweeps_is_enough_since_batches_mix_scenes(tiny: Any, tmp_path: Path) -> None:
    tiny.add_sweeps((SCENE,))
    mixed = write(tiny, tmp_path)
    assert has_sweeps(mixed, [SCENE]) and not has_sweeps(mixed, mixed.scene_names)


def test_frames_with_and_without_past_do_not_mix(swept: NuScenesIndex) -> None:
    frame = next(iter(stream(swept)))
    both = collate_frames([frame, frame])
    assert both.past is not None and both.past.images.shape[0] == 2
    with pytest.raises(SynclError, match="with and without past"):
        collate_frames([frame, dataclasses.replace(frame, past=None)])


# Reading and checking


def test_sweeps_are_read_when_asked_for_and_then_kept(
    swept: NuScenesIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = swept.dataroot
    prepare(root)
    assert not list(root.glob(".syncl/*sweeps*"))
    prepare(root, sweeps=True)
    assert "150 camera images between key frames" in capsys.readouterr().out
    module._LAST_OPENED.clear()
    monkeypatch.setattr(module, "build_camera_sweeps", None)
    index = open_nuscenes(root, VERSION)
    again = open_camera_sweeps(index)
    assert len(again.files) == 150 + 42 and open_camera_sweeps(index) is again


@pytest.mark.parametrize(
    ("field", "target"),
    [
        ("ego_pose_token", "ego_pose"),
        ("sample_token", "sample"),
        ("calibrated_sensor_token", "calibrated_sensor"),
    ],
)
def test_references_of_sweeps_are_checked(
    tiny: Any, tmp_path: Path, field: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.add_sweeps()
    for record in tiny.tables["sample_data"][:2]:
        record[field] = "nowhere"
    index = write(tiny, tmp_path)
    token = tiny.tables["sample_data"][0]["token"]
    with pytest.raises(SynclError, match=rf"record '{token}': {field} 'nowhere' is not in {target}\.json"):
        open_camera_sweeps(index)
    prepare(tmp_path)
    with pytest.raises(SystemExit):
        main(["prepare", str(tmp_path), "--sweeps"])
    error = capsys.readouterr().err
    assert f"{field} 'nowhere' is not in {target}.json (2 in all)" in error
    assert "one kind of problem" in error and "key frames are sound" in error


def test_a_missing_sweep_image_says_what_to_do(swept: NuScenesIndex) -> None:
    check_sweep_images(swept)
    shutil.rmtree(swept.dataroot / "sweeps" / "CAM_BACK")
    with pytest.raises(SynclError, match=r"CAM_BACK.*25 missing in all.*--past key-frames"):
        check_sweep_images(swept)
    with pytest.raises(SynclError, match="15 missing in all"):
        check_sweep_images(swept, [SCENE])
