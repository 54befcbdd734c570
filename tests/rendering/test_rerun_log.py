"""Rerun recordings: written, and read back where the extra is installed."""

import dataclasses
import json
import sys

import cv2
import numpy as np
import pytest

from syncl.commands.render import render
from syncl.errors import SynclError
from syncl.geometry.poses import invert_pose
from syncl.rendering import RenderStyle
from syncl.rendering.palette import identity_colour
from syncl.rendering.rerun_log import split_projection, write_rerun

BOX = [8.0, 2, 0.8, 4.5, 1.9, 1.6, 0.5, 6, 0]


def column(path, entity, name):
    """The values of a component, one a logged moment, static ones left out."""
    values = []
    for chunk in reader(path).stream():
        if chunk.entity_path == f"/{entity}" and not chunk.is_static:
            batch = chunk.to_record_batch()
            if name in batch.schema.names:
                rows = zip(batch.column("frame").to_pylist(), batch.column(name).to_pylist())
                values += [row for row in rows if row[1] is not None]
    return [value for _, value in sorted(values, key=lambda row: row[0])]


def reader(path):
    return pytest.importorskip("rerun.chunk", reason="the extra 'rerun' is not installed").RrdReader(path)


@pytest.fixture
def needs_rerun():
    pytest.importorskip("rerun", reason="the extra 'rerun' is not installed")


def test_projections_are_taken_apart_exactly(rig):
    rng = np.random.default_rng(3)
    for _ in range(50):
        quaternion = rng.normal(size=4)
        w, x, y, z = quaternion / np.linalg.norm(quaternion)
        pose = np.eye(4)
        pose[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        pose[:3, 3] = rng.normal(size=3) * 3
        intrinsics = np.array([[rng.uniform(100, 2000), 0, 320], [0, rng.uniform(100, 2000), 200], [0, 0, 1]])
        projection = np.eye(4)
        projection[:3, :3] = intrinsics
        found, camera_from_vehicle = split_projection(projection @ pose)
        np.testing.assert_allclose(found, intrinsics, rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(camera_from_vehicle, pose, atol=1e-9)


def test_a_recording_holds_what_was_tracked(rig, tmp_path, needs_rerun):
    ahead = np.array([[[11.0, 2.0], [14.0, 2.0]]])
    tracks = dataclasses.replace(rig.objects(BOX, identities=["7"]), forecasts=ahead)
    truth = rig.objects(BOX, [20.0, -5, 0.8, 4.5, 1.9, 1.6, 0, 0, 0], identities=["a", "b"])
    frames = [
        rig.frame(tracks, truth, number=1),
        rig.frame(tracks, truth, number=2, ego_x=3.0, ego_yaw=0.1),
        rig.frame(number=1, scene="scene-0002", truth=truth),
    ]
    path = tmp_path / "new" / "tracks.rrd"
    assert write_rerun(frames, path, RenderStyle(mark_errors=True)) == 3
    vehicle = "world/vehicle"
    centers = column(path, f"{vehicle}/tracks", "Boxes3D:centers")
    np.testing.assert_allclose(centers[0], [BOX[:3]], atol=1e-6)
    assert len(centers) == 3 and centers[2] == []
    np.testing.assert_allclose(
        column(path, f"{vehicle}/tracks", "Boxes3D:half_sizes")[0], [[2.25, 0.95, 0.8]], atol=1e-6
    )
    np.testing.assert_allclose(
        column(path, f"{vehicle}/tracks", "Boxes3D:quaternions")[0],
        [[0, 0, np.sin(0.25), np.cos(0.25)]],
        atol=1e-6,
    )
    assert column(path, f"{vehicle}/tracks", "Boxes3D:labels")[0] == ["7 car"]
    red, green, blue = identity_colour("7")
    assert column(path, f"{vehicle}/tracks", "Boxes3D:colors")[0] == [
        (red << 24) | (green << 16) | (blue << 8) | 255
    ]
    assert column(path, f"{vehicle}/missed", "Boxes3D:labels")[0] == ["missed car"]
    assert len(column(path, f"{vehicle}/ground_truth", "Boxes3D:centers")[0]) == 1
    trails = column(path, f"{vehicle}/trails", "LineStrips3D:strips")
    assert trails[0] == [] and len(trails[1][0]) == 2
    np.testing.assert_allclose(
        column(path, f"{vehicle}/forecasts", "LineStrips3D:strips")[0],
        [[[8, 2, 0], [11, 2, 0], [14, 2, 0]]],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        column(path, f"{vehicle}/velocities", "Arrows3D:vectors")[0], [[6, 0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(
        column(path, vehicle, "Transform3D:translation"),
        [[frame.global_from_vehicle[:3, 3]] for frame in frames],
        atol=1e-4,
    )
    assert column(path, "scene", "TextLog:text") == [["scene-0001"], ["scene-0002"]]


def test_cameras_of_a_recording_see_what_ours_see(rig, tmp_path, needs_rerun):
    frame = rig.frame(rig.objects(BOX))
    lost = dataclasses.replace(frame, images=(None, *frame.images[1:]))
    path = tmp_path / "tracks.rrd"
    write_rerun([frame, lost], path)
    for row, name in enumerate(frame.cameras):
        entity = f"world/vehicle/cameras/{name}"
        intrinsics = np.reshape(column(path, entity, "Pinhole:image_from_camera")[0], (3, 3)).T
        pose = np.eye(4)
        # Columns follow one another in rerun's matrices.
        pose[:3, :3] = np.reshape(column(path, entity, "Transform3D:mat3x3")[0], (3, 3)).T
        pose[:3, 3] = column(path, entity, "Transform3D:translation")[0][0]
        ours = frame.image_from_vehicle[row] @ [*BOX[:3], 1]
        theirs = intrinsics @ (invert_pose(pose) @ [*BOX[:3], 1])[:3]
        np.testing.assert_allclose(theirs, ours[:3], atol=2e-3)
        (blob,) = column(path, entity, "EncodedImage:blob")[0]
        picture = cv2.imdecode(np.frombuffer(bytes(blob), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (128, 352, 3) and abs(int(picture.mean()) - 90) <= 1
        assert len(column(path, entity, "EncodedImage:blob")) == (1 if row == 0 else 2)


def test_cameras_of_another_rig_end_with_its_scene(rig, tmp_path, needs_rerun):
    path = tmp_path / "tracks.rrd"
    first = rig.frame(cameras={"CAM_0": 0, "CAM_1": 90})
    second = rig.frame(cameras={"CAM_0": 0, "CAM_2": 180}, scene="scene-0002")
    write_rerun([first, second], path)
    paths = {chunk.entity_path for chunk in reader(path).stream()}
    assert {f"/world/vehicle/cameras/CAM_{n}" for n in range(3)} <= paths
    cleared = {n: column(path, f"world/vehicle/cameras/CAM_{n}", "Clear:is_recursive") for n in range(3)}
    assert cleared == {0: [], 1: [[False]], 2: []}


def test_a_recording_is_kept_or_not_begun(rig, tmp_path, needs_rerun):
    path = tmp_path / "tracks.rrd"
    with pytest.raises(SynclError, match="no frame to write"):
        write_rerun([], path)

    def interrupted():
        yield rig.frame()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rerun(interrupted(), path)
    assert not list(tmp_path.iterdir())
    write_rerun([rig.frame()], path)
    before = path.read_bytes()
    with pytest.raises(SynclError, match=r"tracks\.rrd: this file already exists"):
        write_rerun([rig.frame()], path)
    assert path.read_bytes() == before


def test_without_rerun_the_message_says_what_to_install(rig, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(SynclError, match=r"--rerun: the rerun SDK.*pip install 'syncl\[rerun\]'"):
        render(tmp_path / "results.json", data=tmp_path, rerun=tmp_path / "tracks.rrd")
    assert not list(tmp_path.iterdir())


def test_requests_that_make_no_sense(tmp_path):
    results = tmp_path / "results.json"
    with pytest.raises(SynclError, match=r"tracks\.mcap: rerun recordings are written as RRD"):
        render(results, data=tmp_path, rerun=tmp_path / "tracks.mcap")
    with pytest.raises(SynclError, match=r"--rerun: a recording is of whole scenes"):
        render(results, data=tmp_path, output=tmp_path / "f.png", rerun=tmp_path / "tracks.rrd", frame=2)
    with pytest.raises(SynclError, match=r"--output: name the video to write \(or --rerun\)"):
        render(results, data=tmp_path)


def test_the_command_writes_one(tiny_nuscenes, tmp_path, capsys, needs_rerun):
    results = tmp_path / "results.json"
    results.write_bytes(b'{"meta": {}, "results": {}}')
    with pytest.raises(SynclError, match="no results for sample"):
        render(results, data=tiny_nuscenes, rerun=tmp_path / "tracks.rrd")
    tokens = [f"scene-0103_t{number}" for number in range(3)]
    results.write_text(json.dumps({"meta": {}, "results": {token: [] for token in tokens}}))
    render(results, data=tiny_nuscenes, rerun=tmp_path / "tracks.rrd")
    assert "tracks.rrd: 3 frames of 1 scene" in capsys.readouterr().out
    assert len(column(tmp_path / "tracks.rrd", "world/vehicle", "Transform3D:translation")) == 3
