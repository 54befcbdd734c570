"""The vehicle's motion: nuScenes' CAN-bus extension, scenes without it, damage, augmentation, other rigs."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from syncl.data.augmentation import WorldTransform
from syncl.data.loading import collate_frames
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset, SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.odometry import OdometrySource, can_bus_remark, read_messages
from syncl.data.recording import open_recording, write_recording
from syncl.errors import SynclError

IMAGES = ImageOptions((64, 96), odometry=True)


def message(time_us, first):
    numbers = [first + n for n in range(9)]
    return {
        "utime": time_us, "accel": numbers[:3], "rotation_rate": numbers[3:6], "vel": numbers[6:],
        "orientation": [1, 0, 0, 0], "pos": [0, 0, 0],
    }  # fmt: skip


@pytest.fixture
def index(small_world, tmp_path):
    """A dataset whose first scene has readings 20 ms apart, from its first key frame to its third."""
    root = shutil.copytree(small_world, tmp_path / "world")
    opened = open_nuscenes(root, "v1.0-mini", cache=False)
    scene = opened.scene_names[0]
    rows = opened.scene_samples(scene)
    times = range(opened.sample(rows[0]).timestamp_us, opened.sample(rows[2]).timestamp_us + 1, 20_000)
    (root / "can_bus").mkdir()
    written = [message(time_us, number) for number, time_us in enumerate(times)]
    (root / "can_bus" / f"{scene}_pose.json").write_text(json.dumps(written))
    return opened


def test_readings_are_those_behind_the_sample_and_the_last_ones_at_the_end(index):
    scene = index.scene_names[0]
    source, rows = OdometrySource(index), index.scene_samples(scene)
    frames = list(SceneStream(index, scene, IMAGES))
    assert frames[0].odometry.readings[0].tolist() == [1.0 + n for n in range(9)]
    last = source.readings(scene, index.sample(rows[2]).timestamp_us)
    assert np.array_equal(frames[-1].odometry.readings[0].numpy(), last)
    assert torch.equal(
        frames[0].odometry.ego_rotation[0], torch.tensor(index.columns.sample_poses[rows[0], 3:])
    )


def test_scenes_without_readings_have_zeros_and_are_told_of_once(index):
    other = index.scene_names[1]
    (first, *_) = SceneStream(index, other, IMAGES)
    assert not first.odometry.readings.any()
    found = can_bus_remark(index, index.scene_names)
    assert "2 of 3 scenes" in found and other in found and "told as 0" in found
    assert "readings of the CAN-bus extension" in can_bus_remark(index, index.scene_names[:1])
    nothing = can_bus_remark(index, index.scene_names[1:])
    assert "has no readings of these scenes" in nothing and "can_bus" in nothing


def test_frames_say_where_the_lidar_is_on_the_vehicle(index):
    lidar = index.with_vehicle_frame("lidar")
    scene = index.scene_names[0]
    (frame, *_) = SceneStream(lidar, scene, IMAGES)
    (ego, *_) = SceneStream(index, scene, IMAGES)
    (plain, *_) = SceneStream(index, scene, dataclasses.replace(IMAGES, odometry=False))
    assert torch.allclose(ego.odometry.ego_from_vehicle, torch.eye(4, dtype=torch.float64))
    assert plain.odometry is None
    back = frame.global_from_vehicle @ torch.linalg.inv(frame.odometry.ego_from_vehicle)
    assert torch.allclose(back, ego.global_from_vehicle)
    mounted = frame.odometry.ego_from_vehicle[0]
    assert torch.atan2(mounted[1, 0], mounted[0, 0]).rad2deg().item() == pytest.approx(-90)


def test_training_clips_and_batches_carry_it(index):
    clips = ClipDataset(
        index,
        index.scene_names[:2],
        clip_length=2,
        images=IMAGES,
        annotations=AnnotationOptions(min_points=0),
    )
    first, other = clips[0].frames[0], clips[len(clips) - 1].frames[0]
    both = collate_frames([first, other])
    assert torch.equal(both.odometry.readings[:1], first.odometry.readings)
    assert both.odometry.ego_from_vehicle.shape == (2, 4, 4)
    with pytest.raises(SynclError, match="frames with and without odometry"):
        collate_frames([first, dataclasses.replace(other, odometry=None)])


def test_readings_turn_scale_and_mirror_with_the_world():
    readings = np.arange(1.0, 10)
    assert np.allclose(WorldTransform().move_readings(readings), readings)
    quarter = WorldTransform(rotation_rad=np.pi / 2).move_readings(readings)
    assert np.allclose(quarter, [-2, 1, 3, -5, 4, 6, -8, 7, 9])
    assert np.allclose(WorldTransform(scale=2).move_readings(readings), [2, 4, 6, 4, 5, 6, 14, 16, 18])
    # A turn to the left becomes one to the right.
    assert np.allclose(WorldTransform(mirror=True).move_readings(readings), [1, -2, 3, -4, 5, -6, 7, -8, 9])


@pytest.mark.parametrize("vehicle_frame", ["ego", "lidar"])
def test_velocity_in_a_changed_world_leads_where_the_changed_poses_do(index, vehicle_frame):
    index = index.with_vehicle_frame(vehicle_frame)
    row = index.scene_samples(index.scene_names[0])[0]
    sample = index.sample(row)
    world = WorldTransform(rotation_rad=0.4, scale=1.05, mirror=True)
    odometry = OdometrySource(index).of(row, sample, world)
    global_from_ego = world.move_pose(sample.global_from_vehicle) @ np.linalg.inv(
        odometry.ego_from_vehicle[0].numpy()
    )
    before = sample.global_from_ego[:3, :3] @ np.arange(7.0, 10)
    after = global_from_ego[:3, :3] @ odometry.readings[0, 6:].numpy()
    # The map is as much larger, and mirrored along y.
    assert np.allclose(after, 1.05 * before * [1, -1, 1])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "must be a list of messages, and not empty"),
        ({"utime": 1}, "must be a list of messages"),
        ([message(1, 0), {"utime": 2}], "message 1 needs utime"),
        ([message(1, 0) | {"vel": [1, 2]}], "message 0 needs utime"),
        ([message(1, 0) | {"accel": ["fast", 0, 0]}], "message 0 needs utime"),
        ([message("now", 0)], "message 0 needs utime"),
        ([message(2, 0), message(1, 0)], "not in time order"),
        ([7], "message 0 needs utime"),
        ([message(1, 0) | {"vel": ["1", "2", "3"]}], "message 0 needs utime"),
        ([message(1, 0) | {"vel": "123"}], "message 0 needs utime"),
        ([message(1, 0) | {"accel": [1, 2], "vel": [1, 2, 3, 4]}], "message 0 needs utime"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content, problem):
    path = tmp_path / "scene-0001_pose.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SynclError, match=f"scene-0001_pose.json: .*{problem}"):
        read_messages(path)


def test_readings_of_another_time_are_refused(index, tmp_path):
    scene = index.scene_names[0]
    path = index.dataroot / "can_bus" / f"{scene}_pose.json"
    times_us, _ = read_messages(path)
    path.write_text(json.dumps([message(time_us // 1000, 0) for time_us in times_us.tolist()]))
    with pytest.raises(SynclError, match=rf"{scene}_pose.json: its readings are .* s away .*'utime'"):
        next(iter(SceneStream(index, scene, IMAGES)))


def test_a_recording_in_the_lidars_frame_says_where_that_is(index, tmp_path):
    scene, lidar_index = index.scene_names[0], index.with_vehicle_frame("lidar")
    (mounted, *_) = (frame.odometry.ego_from_vehicle[0] for frame in SceneStream(lidar_index, scene, IMAGES))
    frames = [next(iter(SceneStream(index, scene, IMAGES)))]
    write_recording(frames, tmp_path / "rig", vehicle_from_lidar=mounted.numpy())
    lidar = open_recording(tmp_path / "rig", vehicle_frame="lidar", quiet=True).frame(0)
    plain = open_recording(tmp_path / "rig", quiet=True).frame(0)
    assert plain.odometry is None and not lidar.odometry.readings.any()
    back = lidar.global_from_vehicle @ torch.linalg.inv(lidar.odometry.ego_from_vehicle)
    assert torch.allclose(back, plain.global_from_vehicle, atol=1e-6)
