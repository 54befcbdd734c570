"""Worlds in which every scene has a rig of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.mounts import RIG_CHANNELS, random_rig
from syncl.data.synthetic.world import WorldConfig

CONFIG = WorldConfig(train_scenes=2, val_scenes=0, keyframes=2, width=64, height=32, seed=9, rigs=True)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> NuScenesIndex:
    out = tmp_path_factory.mktemp("rigs") / "world"
    generate_world(out, CONFIG)
    return open_nuscenes(out, "v1.0-mini", cache=False)


def rigs(count: int = 200):
    return [random_rig(np.random.default_rng(seed), 352, 20) for seed in range(count)]


def test_rigs_have_three_to_eight_cameras_with_lenses_heights_and_shapes_of_their_own():
    found = rigs()
    assert {len(rig.mounts) for rig in found} == set(range(3, 9))
    assert all([m.channel for m in rig.mounts] == list(RIG_CHANNELS[: len(rig.mounts)]) for rig in found)
    views = np.array([mount.view_deg for rig in found for mount in rig.mounts])
    heights_m = np.array([np.mean([mount.place[2] for mount in rig.mounts]) for rig in found])
    shapes = np.array([352 / rig.height for rig in found])
    assert views.min() >= 45 and views.max() <= 120 and views.std() > 15
    assert 1.1 < heights_m.min() < 1.4 and 2.2 < heights_m.max() < 2.5
    assert 1.55 < shapes.min() < 1.8 and 2.6 < shapes.max() < 3.0


def test_a_rig_looks_all_round():
    for rig in rigs(50):
        bearings = np.arange(0, 360, 5.0)
        turns = (bearings[:, None] - [mount.yaw_deg for mount in rig.mounts] + 180) % 360 - 180
        seen = np.abs(turns) <= [mount.view_deg / 2 for mount in rig.mounts]
        assert seen.any(1).mean() > 0.7


def test_one_camera_is_silent_for_a_while_in_three_rigs_of_ten():
    silent = [rig.dropped for rig in rigs() if rig.dropped is not None]
    assert 40 < len(silent) < 80
    assert all(1 <= len(frames) <= 10 for _, frames in silent)
    rig = next(rig for rig in rigs() if rig.dropped is not None and 0 < rig.dropped[1].start < 15)
    channel, frames = rig.dropped or ("", range(0))
    assert rig.delivers(channel, frames.start - 1) and not rig.delivers(channel, frames.start)
    others = [mount.channel for mount in rig.mounts if mount.channel != channel]
    assert all(rig.delivers(other, frames.start) for other in others)


def test_frames_of_all_scenes_have_the_same_cameras_and_say_which_there_are(index: NuScenesIndex):
    index.check_images()
    counts = set()
    for scene in index.scene_names:
        for frame in SceneStream(index, scene, ImageOptions(size=(32, 64))):
            valid = frame.camera_valid[0]
            counts.add(int(valid.sum()))
            assert frame.rig.names == index.camera_names and valid.any()
            assert (frame.images[0, ~valid] == 0).all() and (frame.images[0, valid].float().std() > 0)
    assert len(counts) > 1, "scenes differ in their number of cameras"


def test_what_happens_is_what_six_cameras_would_see(index: NuScenesIndex, tmp_path: Path):
    generate_world(tmp_path / "six", replace(CONFIG, rigs=False))
    six = open_nuscenes(tmp_path / "six", "v1.0-mini", cache=False)
    for scene in index.scene_names:
        for row, other in zip(index.scene_samples(scene), six.scene_samples(scene), strict=True):
            mine, theirs = index.sample(row), six.sample(other)
            assert np.array_equal(mine.global_from_ego, theirs.global_from_ego)
            assert np.array_equal(mine.annotations.boxes[:, :7], theirs.annotations.boxes[:, :7])
