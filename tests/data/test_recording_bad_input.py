"""Rig files and folders that are wrong: the message names file, field, value and what to do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from syncl.data.recording import open_recording
from syncl.errors import SynclError
from syncl.geometry.poses import quaternion_from_yaw

read_recording = partial(open_recording, quiet=True)

Rig = dict[str, Any]
FORWARD = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]


def rig_file() -> Rig:
    camera = {
        "image_size": [40, 30],
        "intrinsics": [[50.0, 0, 20], [0, 50, 15], [0, 0, 1]],
        "vehicle_from_camera": {"translation_m": [1, 0, 1.5], "rotation": FORWARD},
    }
    frames = [{"name": f"f{n}", "timestamp_s": n / 10} for n in range(3)]
    return {
        "format": "syncl-rig-1",
        "cameras": {"left": dict(camera), "right": dict(camera)},
        "frames": frames,
    }


def setting(*place: Any, value: Any) -> Callable[[Rig], None]:
    def change(rig: Rig) -> None:
        target: Any = rig
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = value

    return change


def dropping(*place: Any) -> Callable[[Rig], None]:
    def change(rig: Rig) -> None:
        target: Any = rig
        for step in place[:-1]:
            target = target[step]
        del target[place[-1]]

    return change


POSE = ("cameras", "left", "vehicle_from_camera")
LENS = ("cameras", "left", "distortion")

CASES: dict[str, tuple[Callable[[Rig], None], str]] = {
    "camera not described": (
        dropping("cameras", "right"),
        r"cameras: camera 'right' is missing, but .*images/right holds its images; describe it.*left",
    ),
    "camera of a frame unknown": (
        setting("frames", 1, "images", value={"middle": "images/left/f1.png"}),
        r"frames\[1\]\.images\.middle: camera 'middle' is missing in 'cameras'; described are left, right",
    ),
    "camera without images": (
        setting("cameras", "third", value=rig_file()["cameras"]["left"]),
        r"cameras\.third: no frame has an image of it in .*images/third; put its images .* there or remove",
    ),
    "folder of images not there": (
        setting("cameras", "left", "images", value="pictures"),
        r"cameras\.left\.images: is 'pictures', and there is no folder .*pictures",
    ),
    "scaled rotation": (
        setting(*POSE, "rotation", value=[[0, 0, 1.1], [-1, 0, 0], [0, -1, 0]]),
        r"cameras\.left\.vehicle_from_camera\.rotation: not a rotation: its rows.*off by 0\.21.*1\.1",
    ),
    "mirroring": (
        setting(*POSE, "rotation", value=[[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
        r"rotation: not a rotation but a mirroring \(determinant -1\.000\).*turned round",
    ),
    "quaternion without unit length": (
        setting(*POSE, "rotation", value=[0.5, 0.5, 0.5, 0.6]),
        r"quaternion \[0\.5, 0\.5, 0\.5, 0\.6\] has length 1\.0536, expected 1 \(w, x, y, z\)",
    ),
    "pose of a matrix with a wrong row": (
        setting(*POSE, value=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]),
        r"vehicle_from_camera: the last row is \[1\.0, 0\.0, 0\.0, 1\.0\]",
    ),
    "wrong image size": (
        setting("cameras", "left", "image_size", value=[80, 60]),
        r"f0\.png: 40x30 pixels, but .*rig\.yaml says cameras\.left\.image_size: \[80, 60\]; intrinsics hold",
    ),
    "image size of one number": (
        setting("cameras", "left", "image_size", value=[80]),
        r"cameras\.left\.image_size: is \[80\], expected \[width, height\]",
    ),
    "image size that is no number": (
        setting("cameras", "left", "image_size", value=["wide", 3]),
        r"image_size\[0\]: is 'wide', expected a whole number above 0",
    ),
    "time standing still": (
        setting("frames", 2, "timestamp_s", value=0.1),
        r"frames\[2\]: timestamp_s 0\.1 is not later than the frame before \(0\.1\); list frames in",
    ),
    "time running back": (
        setting("frames", 1, "timestamp_s", value=-5),
        r"frames\[1\]: timestamp_s -5\.0 is not later than the frame before \(0\.0\)",
    ),
    "time that is a text": (
        setting("frames", 1, "timestamp_s", value="noon"),
        r"frames\[1\]\.timestamp_s: is 'noon', expected a number",
    ),
    "time that is nan": (
        setting("frames", 1, "timestamp_s", value=float("nan")),
        r"frames\[1\]\.timestamp_s: is nan, expected a finite number",
    ),
    "name twice": (
        setting("frames", 2, "name", value="f0"),
        r"frames\[2\]: name 'f0' is already that of frames\[0\]",
    ),
    "name that is a number": (
        setting("frames", 0, "name", value=12),
        r"frames\[0\]\.name: is 12, expected a text \(write numbers in quotes\)",
    ),
    "one pose only": (
        setting("frames", 1, "global_from_vehicle", value=np.eye(4).tolist()),
        r"frames\[0\]: has no global_from_vehicle while other frames have one",
    ),
    "listed image missing": (
        setting("frames", 1, "images", value={"left": "images/left/gone.png"}),
        r"frames\[1\]\.images\.left: .*gone\.png: this image is missing; leave the camera out",
    ),
    "negative focal length": (
        setting("cameras", "left", "intrinsics", value=[[-50, 0, 20], [0, 50, 15], [0, 0, 1]]),
        r"cameras\.left\.intrinsics: focal lengths -50 and 50 must be positive",
    ),
    "transposed intrinsics": (
        setting("cameras", "left", "intrinsics", value=[[50, 0, 0], [0, 50, 0], [20, 15, 1]]),
        r"cameras\.left\.intrinsics: rows .* are not those of intrinsics",
    ),
    "intrinsics incomplete": (
        setting("cameras", "left", "intrinsics", value={"fx": 1, "fy": 1, "cx": 1}),
        r"cameras\.left\.intrinsics: field 'cy' is missing",
    ),
    "unknown field": (
        setting("cameras", "left", "intrinsic", value=1),
        r"cameras\.left: unknown field 'intrinsic'; known are image_size, intrinsics",
    ),
    "unknown lens": (
        setting(*LENS, value={"model": "omni", "coefficients": [0, 0, 0, 0]}),
        r"cameras\.left\.distortion\.model: is 'omni', expected 'pinhole' \(k1 k2 p1 p2 k3 \.\.\.\) or",
    ),
    "wrong number of coefficients": (
        setting(*LENS, value={"model": "fisheye", "coefficients": [0, 0, 0, 0, 0]}),
        r"cameras\.left\.distortion\.coefficients: is .*, expected a list of 4 numbers",
    ),
    "other format": (setting("format", value="kitti"), r"format: is 'kitti', expected 'syncl-rig-1'"),
    "no frames": (setting("frames", value=[]), r"frames: there is no frame"),
    "neither frames nor rate": (dropping("frames"), r"give either 'frames'.*or 'frame_rate_hz'"),
    "wrong number of coefficients of a rational lens": (
        setting(*LENS, value={"model": "pinhole", "coefficients": [0] * 7}),
        r"coefficients: is .*, expected a list of 4 or 5 or 8 or 12 or 14 numbers",
    ),
    "times in microseconds": (
        lambda rig: [frame.update(timestamp_s=1e6 * frame["timestamp_s"]) for frame in rig["frames"]],
        r"frames: timestamp_s: frames lie [\d,e+.]+ s apart \(median\); times are in seconds",
    ),
    "a rate that is none": (
        lambda rig: (rig.pop("frames"), rig.update(frame_rate_hz=1e9)),
        r"frame_rate_hz: is 1000000000\.0, expected frames a second, 0\.017 to 1,000",
    ),
    "poses as x y z w": (
        lambda rig: [
            frame.update(global_from_vehicle={"translation_m": [0, 0, 0], "rotation": [0, 0, 0.7071, 0.7071]})
            for frame in rig["frames"]
        ],
        r"frames\[0\]: global_from_vehicle: the vehicle's up axis does not point up but along \[0\.0, 1\.0",
    ),
    "a lidar that lies on its side": (
        setting(
            "vehicle_from_lidar", value={"translation_m": [0, 0, 2], "rotation": [0, 0, -0.7071, 0.7071]}
        ),
        r"vehicle_from_lidar: the lidar's up axis does not point up but along \[",
    ),
    "no cameras": (setting("cameras", value={}), r"cameras: there is no camera"),
}


def write(root: Path, rig: Rig) -> Path:
    (root / "rig.yaml").write_text(yaml.safe_dump(rig, sort_keys=False))
    for name in ("left", "right"):
        (root / "images" / name).mkdir(parents=True)
        for number in range(3):
            image = np.full((30, 40, 3), 50 + number, np.uint8)
            cv2.imwrite(str(root / "images" / name / f"f{number}.png"), image)
    return root


@pytest.mark.parametrize("case", CASES)
def test_bad_rig_files(case: str, tmp_path: Path) -> None:
    change, message = CASES[case]
    rig = rig_file()
    change(rig)
    with pytest.raises(SynclError, match=message) as raised:
        read_recording(write(tmp_path, rig))
    assert "rig.yaml" in str(raised.value)


def test_a_camera_upside_down_is_said(tmp_path: Path) -> None:
    rig = rig_file()
    setting(*POSE, "rotation", value=[[0, 0, 1], [1, 0, 0], [0, 1, 0]])(rig)
    assert [r for r in read_recording(write(tmp_path, rig)).remarks if r.startswith("left: hangs upside")]


@pytest.mark.parametrize(("heading_degrees", "sure"), [(10.0, True), (0.0, False)])
def test_quaternions_as_x_y_z_w_of_a_vehicle_that_heads_east(
    tmp_path: Path, heading_degrees: float, sure: bool
) -> None:
    rig, heading = rig_file(), np.deg2rad(heading_degrees)
    w, *axis = quaternion_from_yaw(heading).tolist()
    rig["frames"] = [
        {
            "name": f"f{n}",
            "timestamp_s": n / 10,
            "global_from_vehicle": {
                "translation_m": [n * float(np.cos(heading)), n * float(np.sin(heading)), 0.0],
                "rotation": [*axis, w],
            },
        }
        for n in range(4)
    ]
    rig["frames"][3]["images"] = {"left": "images/left/f0.png"}
    if sure:
        with pytest.raises(
            SynclError, match=r"backwards in 3 of 3 steps, and forwards by quaternions x, y, z, w"
        ):
            read_recording(write(tmp_path, rig))
    else:
        remarks = read_recording(write(tmp_path, rig)).remarks
        assert "by its poses (x ahead) the vehicle drives backwards in 3 of 3 steps" in remarks


def test_the_rig_they_are_made_from_is_sound(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path, rig_file()))
    assert len(recording) == 3
    assert repr(recording) == f"<Recording {recording.rig.name!r}: 3 frames of left, right>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  \n", r"rig\.yaml: is empty; docs/recordings\.md shows what it holds"),
        ("cameras: [", r"rig\.yaml: line \d: not valid YAML"),
        ("cameras: {a: 1, a: 2}", r"rig\.yaml: line 1: 'a' occurs twice"),
        ("- 1", r"rig\.yaml: is \[1\], expected a mapping"),
        ("1: 2", r"the name 1 is not a text"),
        ("format: syncl-rig-1", r"field 'cameras' is missing"),
        ("!!python/object/apply:os.getcwd []", r"not valid YAML"),
    ],
)
def test_files_that_are_no_rig_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(text)
    with pytest.raises(SynclError, match=message):
        read_recording(tmp_path)


def test_no_rig_file(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match=r"rig\.yaml: there is no such file; docs/recordings\.md"):
        read_recording(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"f0\.png: this image is empty \(0 bytes\); copy it again"),
        (b"<html>not found</html>", r"f0\.png: not an image or damaged \(no known format\); copy it again"),
    ],
)
def test_a_file_that_is_no_image(content: bytes, message: str, tmp_path: Path) -> None:
    root = write(tmp_path, rig_file())
    (root / "images" / "right" / "f0.png").write_bytes(content)
    with pytest.raises(SynclError, match=message):
        read_recording(root)


def test_an_image_of_another_size_or_damaged(tmp_path: Path) -> None:
    root = write(tmp_path, rig_file())
    path = root / "images" / "right" / "f2.png"
    cv2.imwrite(str(path), np.zeros((15, 20, 3), np.uint8))
    recording = read_recording(root)
    with pytest.raises(SynclError, match=r"f2\.png: 20x15 pixels, but .*cameras\.right\.image_size"):
        recording.check_images()
    path.write_bytes(b"not a picture")
    with pytest.raises(SynclError, match=r"f2\.png: not an image"):
        recording.check_images()
    with pytest.raises(SynclError, match=r"f2\.png: not an image"):
        list(recording)
    with pytest.warns(UserWarning, match=r"f2\.png.*left out"):
        frames = list(read_recording(root, damaged="skip"))
    assert [frame.camera_valid.tolist() for frame in frames] == [[[True, True]]] * 2 + [[[True, False]]]


def test_unknown_cameras(tmp_path: Path) -> None:
    root = write(tmp_path, rig_file())
    with pytest.raises(SynclError, match=r"no camera 'top'; it has left, right"):
        read_recording(root, cameras=("top",))
    with pytest.raises(SynclError, match=r"choose every camera once"):
        read_recording(root, cameras=("left", "left"))
