"""`syncl track --recording` and `syncl check-rig`, on rigs that are not nuScenes'."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
import yaml

from rig import DETECTORS
from syncl.checkpoints.model_file import load_model, save_model
from syncl.classes import TRACKING_CLASSES
from syncl.commands.check_rig import check_rig
from syncl.commands.main import main
from syncl.commands.track import track
from syncl.data.recording import open_recording
from syncl.errors import SynclError
from syncl.geometry.poses import quaternion_from_yaw
from syncl.runs.track.on_recording import recording_for, track_recording
from syncl.runs.track.run import BY_DETECTION
from syncl.trackers import GreedyConfig, PfTrackConfig, SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

from .conftest import DETECTOR, SMALL_MODEL, TRACKER

FORWARD = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
SIZES = {"front": (96, 64), "left": (64, 64), "rear": (80, 48)}
YAW = {"front": 0.0, "left": np.pi / 2, "rear": np.pi}


def turned(yaw: float) -> list[list[float]]:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return (np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ FORWARD).tolist()


def rig(frames: int = 5, poses: bool = True) -> dict[str, Any]:
    cameras = {
        name: {
            "image_size": list(size),
            "intrinsics": {"fx": 60.0, "fy": 60.0, "cx": size[0] / 2, "cy": size[1] / 2},
            "vehicle_from_camera": {"translation_m": [1.0, 0.0, 1.6], "rotation": turned(YAW[name])},
        }
        for name, size in SIZES.items()
    }
    moments: list[dict[str, Any]] = [{"name": f"f{n}", "timestamp_s": 100 + n / 5} for n in range(frames)]
    if poses:
        for number, moment in enumerate(moments):
            rotation = quaternion_from_yaw(np.pi / 2).tolist()
            moment["global_from_vehicle"] = {"translation_m": [7.0, 2.0 * number, 0], "rotation": rotation}
    return {"format": "syncl-rig-1", "name": "three cameras", "cameras": cameras, "frames": moments}


def write(root: Path, content: dict[str, Any]) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir()
    (root / "rig.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for name, (width, height) in SIZES.items():
        (root / "images" / name).mkdir(parents=True)
        for number in range(5):
            coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
            image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / "images" / name / f"f{number}.jpg"), image)
    return root


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    root = write(tmp_path / "drive", rig())
    (root / "images" / "left" / "f2.jpg").unlink()
    return root


def test_a_recording_of_three_cameras_is_tracked(
    drive: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tracks"
    main(["track", str(model_file), "--recording", str(drive), "--output", str(output), "--device", "cpu"])
    said = capsys.readouterr()
    assert "left: no image in 1 of 5 frames" in said.err and "5 frames" in said.out
    content = json.loads((output / "tracks.json").read_text())
    assert content["format"] == "syncl-tracks-1" and content["recording"] == "three cameras"
    assert [frame["name"] for frame in content["frames"]] == ["f0", "f1", "f2", "f3", "f4"]
    objects = [entry for frame in content["frames"] for entry in frame["objects"]]
    assert objects
    for frame in content["frames"]:
        pose = np.array(frame["global_from_vehicle"])
        for entry in frame["objects"]:
            expected = pose[:3, :3] @ entry["center_m"] + pose[:3, 3]
            np.testing.assert_allclose(entry["global_center_m"], expected, atol=1e-9)
            turn = entry["global_yaw_rad"] - entry["yaw_rad"] - np.pi / 2
            assert abs(np.sin(turn)) < 1e-6 and np.cos(turn) > 0
    with (output / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(objects)
    assert rows[0]["frame"] == "f0" and float(rows[0]["x_m"]) == pytest.approx(
        objects[0]["center_m"][0], abs=1e-4
    )
    assert int(rows[0]["identity"]) == objects[0]["identity"] and rows[0]["class"] in DETECTOR.classes
    with av.open(str(output / "tracks.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and float(stream.average_rate) == pytest.approx(5, abs=0.1)
        assert sum(1 for _ in container.decode(video=0)) == 5
    with pytest.raises(SynclError, match=r"tracks\.json: this file already exists.*--overwrite"):
        track(model_file, recording=drive, output=output, device="cpu")


def test_of_several_processes_none_tracks_a_recording(
    model_file: Path, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SynclError, match="--recording: is one scene, which one process tracks"):
        track(model_file, recording=drive, output=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_forecasts_of_a_recording_in_the_vehicle_and_the_global_frame(drive: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    foreseeing = PfTrackConfig(
        heads=4,
        hidden=32,
        layers=1,
        birth_score=0.0,
        record_score=0.0,
        output_score=0.0,
        future=3,
        untracked=(),
    )
    config = ModelConfig(InputConfig((64, 96), vehicle_frame="lidar"), DETECTOR, foreseeing)
    path = tmp_path / "pf_track.safetensors"
    tracker = config.build()
    # Fresh forecasts stand still.
    torch.nn.init.normal_(tracker.get_submodule("future.motion_branch")[-1].weight)
    save_model(path, tracker.state_dict(), config)
    content = rig()
    content["vehicle_from_lidar"] = {
        "translation_m": [0.9, 0, 1.8],
        "rotation": quaternion_from_yaw(-np.pi / 2).tolist(),
    }
    (drive / "rig.yaml").write_text(yaml.safe_dump(content))
    track_recording(load_model(path), drive, tmp_path / "out", device="cpu")
    written = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert written["forecast_step_s"] == 0.5
    model = load_model(path)
    recording = recording_for(model.config.input, drive)
    objects, _ = model.tracker.step(recording.frame(0), model.tracker.initial_state())
    frame = written["frames"][0]
    entry, ahead = frame["objects"][0], objects.forecasts[0, 0].double().numpy()
    assert ahead.shape == (3, 2) and np.abs(ahead - objects.boxes[0, 0, :2].numpy()).max() > 1e-3
    # The lidar's x points to the vehicle's right, its y ahead.
    expected = np.stack([0.9 + ahead[:, 1], -ahead[:, 0]], axis=1)
    np.testing.assert_allclose(entry["forecast_m"], expected, atol=1e-5)
    # The rig drives along the global y axis, from (7, 0).
    moved = np.stack([7 - expected[:, 1], expected[:, 0]], axis=1)
    np.testing.assert_allclose(entry["global_forecast_m"], moved, atol=1e-5)


@pytest.mark.parametrize("own_classes", [False, True])
def test_a_detector_alone_tracks_a_recording_by_greedy_association(
    own_classes: bool, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = dataclasses.replace(DETECTOR, classes=("goat", "sheep")) if own_classes else DETECTOR
    config = ModelConfig(SMALL_MODEL.input, detector, SingleFrameConfig())
    path = tmp_path / "detector.safetensors"
    torch.manual_seed(3)
    save_model(path, config.build().state_dict(), config)
    with pytest.raises(SynclError, match="cannot track; tie its detections together with --tracker greedy"):
        track(path, recording=drive, output=tmp_path / "out", device="cpu")
    # Fresh weights are sure of nothing.
    monkeypatch.setitem(BY_DETECTION, "greedy", lambda tracked: GreedyConfig(min_score=0.0, classes=tracked))
    track(path, recording=drive, output=tmp_path / "out", tracker="greedy", device="cpu")
    frames = json.loads((tmp_path / "out" / "tracks.json").read_text())["frames"]
    seen = [{entry["identity"] for entry in frame["objects"]} for frame in frames]
    assert seen[0] & seen[-1], "tracks last"
    kinds = {entry["class"] for frame in frames for entry in frame["objects"]}
    assert kinds <= ({"goat", "sheep"} if own_classes else {*TRACKING_CLASSES}) and kinds


def test_no_poses_are_said_and_the_default_folder_is_named_after_the_recording(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "still", rig(poses=False))
    monkeypatch.chdir(tmp_path)
    track(model_file, recording=root, device="cpu")
    assert "assumed to stand still" in capsys.readouterr().err
    content = json.loads((tmp_path / "still_tracks" / "tracks.json").read_text())
    assert any("stand still" in remark for remark in content["remarks"])


def test_boxes_of_a_lidar_frame_model_come_back_in_the_vehicle_frame(drive: Path, tmp_path: Path) -> None:
    lidar = ModelConfig(InputConfig((64, 96), vehicle_frame="lidar"), DETECTOR, TRACKER)
    torch.manual_seed(3)
    path = tmp_path / "lidar.safetensors"
    save_model(path, lidar.build().state_dict(), lidar)
    with pytest.raises(SynclError, match="vehicle_from_lidar is missing"):
        track(path, recording=drive, output=tmp_path / "out", device="cpu")
    content = rig()
    content["vehicle_from_lidar"] = {
        "translation_m": [0.9, 0, 1.8],
        "rotation": quaternion_from_yaw(-np.pi / 2).tolist(),
    }
    (drive / "rig.yaml").write_text(yaml.safe_dump(content))
    track_recording(load_model(path), drive, tmp_path / "out", device="cpu")
    frames = json.loads((tmp_path / "out" / "tracks.json").read_text())["frames"]
    model = load_model(path)
    recording = recording_for(model.config.input, drive)
    objects, _ = model.tracker.step(recording.frame(0), model.tracker.initial_state())
    box, found = objects.boxes[0, 0].double(), frames[0]["objects"][0]
    # The lidar's x points to the vehicle's right, its y ahead.
    expected = [0.9 + float(box[1]), -float(box[0]), 1.8 + float(box[2])]
    np.testing.assert_allclose(found["center_m"], expected, atol=1e-5)
    np.testing.assert_allclose(found["velocity_m_s"], [float(box[8]), -float(box[7])], atol=1e-5)
    assert np.cos(found["yaw_rad"] - (float(box[6]) - np.pi / 2)) == pytest.approx(1)


def test_detr3d_says_how_many_cameras_its_weights_are_for(drive: Path, tmp_path: Path) -> None:
    config = ModelConfig(
        InputConfig((64, 96)),
        dataclasses.replace(DETECTORS["detr3d"], cameras=6),
        TRACKER,
    )
    path = tmp_path / "detr3d.safetensors"
    save_model(path, config.build().state_dict(), config)
    with pytest.raises(SynclError, match=r"weights for 6 cameras, the frame has 3 .* such as any-rig"):
        track(path, recording=drive, output=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_cameras_are_read_in_the_models_order_where_names_agree(drive: Path) -> None:
    config = InputConfig((64, 96), cameras=("rear", "front", "left"))
    assert recording_for(config, drive).cameras == ("rear", "front", "left")
    other = InputConfig((64, 96), cameras=("CAM_FRONT", "CAM_BACK"))
    assert recording_for(other, drive).cameras == ("front", "left", "rear")
    assert SMALL_MODEL.input.cameras is None and recording_for(SMALL_MODEL.input, drive).cameras[0] == "front"


def test_damaged_images_are_found_before_tracking(drive: Path, model_file: Path, tmp_path: Path) -> None:
    (drive / "images" / "rear" / "f4.jpg").write_bytes(b"oops")
    with pytest.raises(SynclError, match=r"f4\.jpg: not an image"):
        track(model_file, recording=drive, output=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_requests_that_make_no_sense(drive: Path, model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SynclError, match="pass --data and --output"):
        track(model_file, output=tmp_path / "out")
    with pytest.raises(SynclError, match=r"goes without --data$"):
        track(model_file, recording=drive, data=drive)
    with pytest.raises(SynclError, match=r"goes without --version, --split, --scenes, --task detection$"):
        track(model_file, recording=drive, version="v", split="val", scenes=("s",), task="detection")


def test_check_rig_draws_and_describes(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rig.png"
    check_rig(drive, output=output, width=640, frame=3)
    said = capsys.readouterr().out
    assert "front: at x 1.00 y 0.00 z 1.60 m, looks ahead, 0.0 deg" in said and "view 77 deg" in said
    assert "left: at" in said and "90 deg left" in said and "left: no image in 1 of 5 frames" in said
    picture = cv2.imread(str(output))
    assert picture.shape[1] == 640 and picture.std() > 20
    with pytest.raises(SynclError, match="--overwrite"):
        check_rig(drive, output=output)
    with pytest.raises(SynclError, match=r"frame: 6; .*has frames 1 to 5"):
        check_rig(drive, output=tmp_path / "x.png", frame=6)


def test_check_rig_doubts_inverted_poses(drive: Path, tmp_path: Path) -> None:
    assert check_rig(drive, output=tmp_path / "right.png", width=640).doubts == ()
    content = rig()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned(0.0), [1, 0, 1.6]
    content["cameras"]["front"]["vehicle_from_camera"] = np.linalg.inv(pose).tolist()
    content["cameras"]["rear"]["vehicle_from_camera"]["rotation"] = np.eye(3).tolist()
    (drive / "rig.yaml").write_text(yaml.safe_dump(content))
    front, rear = check_rig(drive, output=tmp_path / "wrong.png", width=640).doubts
    assert "cameras.front.vehicle_from_camera" in front and "the inverse?" in front
    assert "cameras.rear.vehicle_from_camera" in rear and "sky" in rear
    assert open_recording(drive, quiet=True).cameras == ("front", "left", "rear")


def test_intrinsics_of_another_size_are_doubted_before_tracking_too(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rig()
    own = content["cameras"]["front"]["intrinsics"]
    content["cameras"]["front"]["intrinsics"] = {name: 2 * value for name, value in own.items()}
    (drive / "rig.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    # Named by its file, a recording keeps its folder's name.
    (doubt,) = check_rig(drive / "rig.yaml", width=640).doubts
    assert "cameras.front.intrinsics: the optical axis would be at u = " in doubt and "another size?" in doubt
    assert (tmp_path / f"{drive.name}_rig.png").is_file()
    capsys.readouterr()
    track(Path("any-rig"), recording=drive / "rig.yaml")
    assert f"{doubt} (syncl check-rig draws it)" in capsys.readouterr().err
    assert (tmp_path / f"{drive.name}_tracks" / "tracks.json").is_file()
