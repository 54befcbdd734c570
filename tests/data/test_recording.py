"""Recordings of other rigs: reading, distortion, missing frames and poses, and the way back."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import syncl
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.recording import Recording, open_recording, write_recording
from syncl.errors import SynclError
from syncl.geometry.poses import quaternion_from_yaw
from syncl.structures import Frame

read_recording = partial(open_recording, quiet=True)

# Camera axes (x right, y down, z forward) in a vehicle (x forward, y left, z up).
FORWARD = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
BACKWARD = [[0, 0, -1], [1, 0, 0], [0, -1, 0]]


def camera(rotation: list[list[int]], size: tuple[int, int] = (120, 80)) -> dict[str, Any]:
    return {
        "image_size": list(size),
        "intrinsics": {"fx": 100.0, "fy": 90.0, "cx": size[0] / 2, "cy": size[1] / 2},
        "vehicle_from_camera": {"translation_m": [1.0, 0.5, 1.5], "rotation": rotation},
    }


def content(frames: int = 4) -> dict[str, Any]:
    turn = quaternion_from_yaw(0.1).tolist()
    return {
        "format": "syncl-rig-1",
        "cameras": {"front": camera(FORWARD), "rear": camera(BACKWARD)},
        "frames": [
            {
                "name": f"f{number}",
                "timestamp_s": 10 + number * 0.25,
                "global_from_vehicle": {"translation_m": [2.0 * number, 0.0, 0.0], "rotation": turn},
            }
            for number in range(frames)
        ],
    }


def write(root: Path, rig: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "rig.yaml").write_text(yaml.safe_dump(rig, sort_keys=False))
    for place, name in enumerate(("front", "rear")):
        folder = root / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(4):
            cv2.imwrite(str(folder / f"f{number}.png"), picture(10 * number + place, (120, 80)))
    return root


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 7, 3), np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "drive", content())


def test_frames_hold_images_calibration_pose_and_time(folder: Path) -> None:
    recording = syncl.open_recording(folder)
    assert isinstance(recording, Recording) and len(recording) == 4 and not recording.remarks
    frames = list(recording)
    assert [frame.samples for frame in frames] == [("f0",), ("f1",), ("f2",), ("f3",)]
    frame = frames[2]
    assert frame.rig.names == ("front", "rear") and frame.scenes == ("drive",)
    assert frame.images.shape == (1, 2, 3, 80, 120) and frame.images.dtype == torch.uint8
    np.testing.assert_array_equal(
        frame.images[0, 0].permute(1, 2, 0).numpy(), picture(20, (120, 80))[..., ::-1]
    )
    assert frame.camera_valid.all() and frame.timestamp_s.tolist() == [10.5]
    assert frame.content_size.tolist() == [[[80, 120], [80, 120]]]
    assert frame.global_from_vehicle[0, :3, 3].tolist() == [4, 0, 0]
    # 10 m ahead of the front camera, 2 m to its left, 1 m above it.
    pixel = frame.rig.image_from_vehicle[0, 0] @ torch.tensor([11.0, 2.5, 2.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        pixel[:3] / pixel[2], torch.tensor([60 - 20.0, 40 - 9.0, 1.0], dtype=torch.float64)
    )
    behind = frame.rig.image_from_vehicle[0, 1] @ torch.tensor([11.0, 2.5, 2.5, 1.0], dtype=torch.float64)
    assert behind[2] < 0


def test_images_are_scaled_and_cropped_with_their_intrinsics(folder: Path) -> None:
    frame = read_recording(folder, image_size=(30, 60)).frame(0)
    assert frame.image_size == (30, 60)
    # Half size, the lower 30 of 40 rows.
    expected = torch.tensor([[50, 0, 30], [0, 45, 10.0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(frame.rig.image_from_camera[0, 0], expected)


def test_cameras_of_different_size_are_padded(folder: Path) -> None:
    rig = content()
    rig["cameras"]["rear"] = camera(BACKWARD, (60, 40))
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    for number in range(4):
        cv2.imwrite(str(folder / "images" / "rear" / f"f{number}.png"), picture(number, (60, 40)))
    frame = read_recording(folder, cameras=("rear", "front")).frame(0)
    assert frame.image_size == (80, 120) and frame.content_size.tolist() == [[[40, 60], [80, 120]]]
    assert frame.images[0, 0, :, :40, :60].any() and not frame.images[0, 0, :, 40:].any()


def test_missing_frames_and_no_poses_are_said(folder: Path) -> None:
    rig = content()
    for entry in rig["frames"]:
        del entry["global_from_vehicle"]
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    (folder / "images" / "rear" / "f1.png").unlink()
    with pytest.warns(UserWarning) as warned:
        recording = syncl.open_recording(folder)
    said = " ".join(str(entry.message) for entry in warned)
    assert "assumed to stand still" in said and "rear: no image in 1 of 4 frames" in said
    frame = recording.frame(1)
    assert frame.camera_valid.tolist() == [[True, False]] and not frame.images[0, 1].any()
    torch.testing.assert_close(frame.global_from_vehicle[0], torch.eye(4, dtype=torch.float64))


def test_frames_found_by_number_keep_their_time(folder: Path) -> None:
    rig = content()
    del rig["frames"]
    rig["frame_rate_hz"] = 8
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    for name in ("front", "rear"):
        for number, place in enumerate((9, 10, 13, 14)):
            (folder / "images" / name / f"f{number}.png").rename(folder / "images" / name / f"{place}.png")
    recording = read_recording(folder)
    assert [moment.name for moment in recording.rig.moments] == ["9", "10", "13", "14"]
    assert [moment.timestamp_s for moment in recording.rig.moments] == [0, 0.125, 0.5, 0.625]


def found_by_name(folder: Path, names: dict[str, list[str]]) -> Path:
    """The recording with a rate in the place of frames, and its four images of each camera called so."""
    rig = content()
    del rig["frames"]
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig | {"frame_rate_hz": 8}))
    for camera, own in names.items():
        for number, name in enumerate(own):
            (folder / "images" / camera / f"f{number}.png").rename(folder / "images" / camera / f"{name}.png")
    return folder


@pytest.mark.parametrize("names", [["f_2", "f_9", "f_10", "f_11"], ["8.25", "8.5", "9.75", "10.0"]])
def test_frames_found_by_name_come_by_the_numbers_in_it(folder: Path, names: list[str]) -> None:
    recording = read_recording(found_by_name(folder, {"front": names, "rear": names}))
    assert [moment.name for moment in recording.rig.moments] == names


def test_names_that_do_not_tell_frames_are_refused(folder: Path) -> None:
    times = [f"{1532402927600000000 + 10**8 * number}" for number in range(4)]
    with pytest.raises(
        SynclError, match=r"go up by 100,000,000 .* are times .* list 'frames' with their timestamp_s"
    ):
        read_recording(found_by_name(folder, {"front": times, "rear": times}))


def test_cameras_that_never_share_a_name_are_refused(folder: Path) -> None:
    names = {camera: [f"{camera}_{number}" for number in range(4)] for camera in ("front", "rear")}
    with pytest.raises(SynclError, match="no two cameras have an image of one name"):
        read_recording(found_by_name(folder, names))


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_distortion_is_removed(folder: Path, model: str) -> None:
    """A point drawn where the lens shows it must end up where the pinhole projects it."""
    coefficients = [-0.3, 0.08, 0.002, -0.001, 0.01] if model == "pinhole" else [-0.1, 0.02, 0.0, 0.0]
    rig = content()
    rig["cameras"]["front"]["distortion"] = {"model": model, "coefficients": coefficients, "focal_scale": 0.9}
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    point = np.array([[[0.35, -0.2, 1.0]]])
    if model == "pinhole":
        x, y = 0.35, -0.2
        r2 = x * x + y * y
        k1, k2, p1, p2, k3 = coefficients
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        seen = np.array(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ]
        )
    else:
        radius = np.hypot(0.35, -0.2)
        angle = np.arctan(radius)
        seen = (
            np.array([0.35, -0.2])
            / radius
            * angle
            * (1 + coefficients[0] * angle**2 + coefficients[1] * angle**4)
        )
    u, v = seen * [100, 90] + [60, 40]
    image = np.zeros((80, 120, 3), np.uint8)
    y, x = np.mgrid[:80, :120]
    image[...] = (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8))[..., None]
    cv2.imwrite(str(folder / "images" / "front" / "f0.png"), image)
    frame = read_recording(folder).frame(0)
    matrix = frame.rig.image_from_camera[0, 0].numpy()
    np.testing.assert_allclose(matrix, np.array([[90.0, 0, 60], [0, 81, 40], [0, 0, 1]]))
    expected = (matrix @ point[0, 0])[:2]
    shown = frame.images[0, 0, 0].numpy().astype(float)
    found = np.array([(shown * x).sum(), (shown * y).sum()]) / shown.sum()
    np.testing.assert_allclose(found, expected, atol=0.15)
    assert np.linalg.norm(expected - [u, v]) > 1, "the test would pass without undistortion"


def test_lidar_frame_is_asked_for_by_name(folder: Path) -> None:
    with pytest.raises(SynclError, match=r"rig\.yaml: vehicle_from_lidar is missing.*translation_m"):
        read_recording(folder, vehicle_frame="lidar")
    rig = content()
    rig["vehicle_from_lidar"] = {
        "translation_m": [0.9, 0, 1.8],
        "rotation": quaternion_from_yaw(-np.pi / 2).tolist(),
    }
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    vehicle, lidar = read_recording(folder).frame(1), read_recording(folder, vehicle_frame="lidar").frame(1)
    # A point 3 m to the right of the vehicle's origin lies 3 m along the lidar's x axis.
    point_v = torch.tensor([0.9, -3.0, 0.8, 1], dtype=torch.float64)
    point_l = torch.tensor([3.0, 0.0, -1.0, 1], dtype=torch.float64)
    torch.testing.assert_close(
        lidar.rig.image_from_vehicle[0] @ point_l, vehicle.rig.image_from_vehicle[0] @ point_v
    )
    torch.testing.assert_close(
        lidar.global_from_vehicle[0] @ point_l, vehicle.global_from_vehicle[0] @ point_v
    )


def same(first: Frame, second: Frame) -> None:
    for name in ("images", "camera_valid", "content_size", "timestamp_s"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    for a, b in (
        (first.rig.image_from_camera, second.rig.image_from_camera),
        (first.rig.camera_from_vehicle, second.rig.camera_from_vehicle),
        (first.global_from_vehicle, second.global_from_vehicle),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    assert first.rig.names == second.rig.names
    assert (first.scenes, first.samples) == (second.scenes, second.samples)


def test_nuscenes_frames_become_a_recording_and_frames_again(tiny_root: Path, tmp_path: Path) -> None:
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    frames = list(SceneStream(index, "scene-0061", ImageOptions((40, 80))))
    assert write_recording(frames, tmp_path / "scene") == 4
    for before, after in zip(frames, read_recording(tmp_path / "scene"), strict=True):
        same(before, after)


def test_a_recording_survives_being_written(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "rear" / "f1.png").unlink()
    frames = list(read_recording(folder))
    write_recording(frames, tmp_path / "copy")
    for before, after in zip(frames, read_recording(tmp_path / "copy"), strict=True):
        same(before, after)
    with pytest.raises(SynclError, match=r"already exists"):
        write_recording(frames, tmp_path / "copy")
    write_recording(frames[:2], tmp_path / "copy", image_format="jpg", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep me")
    with pytest.raises(SynclError, match=r"holds other things .* \(it has no rig\.yaml\)"):
        write_recording(frames[:2], tmp_path / "mine", overwrite=True)
    smaller = list(read_recording(tmp_path / "copy"))
    assert len(smaller) == 2 and (smaller[0].images.int() - frames[0].images.int()).abs().float().mean() < 4


def test_frames_that_do_not_belong_together_leave_nothing(folder: Path, tmp_path: Path) -> None:
    frames = list(read_recording(folder))
    for bad, message in (
        ([frames[0], frames[0]], "f0' came twice"),
        ([frames[1], frames[0]], "not later than"),
        ([], "no frame"),
    ):
        with pytest.raises(SynclError, match=message):
            write_recording(bad, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive"]
