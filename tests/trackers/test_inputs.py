"""Images of the cameras' own size become the frame that a model wants."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from rig import DETECTORS, TRACKERS, make_frame
from syncl.data.recording import open_recording, open_rig
from syncl.errors import SynclError
from syncl.trackers.base import Tracker
from syncl.trackers.model import InputConfig, ModelConfig

NAMES = ("left", "right")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras of different sizes, one with distortion, two frames as PNG."""
    root = tmp_path_factory.mktemp("rig")
    noise = np.random.default_rng(0)
    cameras = {}
    for name, (width, height) in zip(NAMES, ((80, 60), (96, 48))):
        (root / "images" / name).mkdir(parents=True)
        for number in range(2):
            image = noise.integers(0, 255, (height, width, 3), np.uint8)
            cv2.imwrite(str(root / "images" / name / f"{number}.png"), image)
        pose = {"translation_m": [0.0, 0.0, 1.5], "rotation": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]}
        intrinsics = {"fx": 70.0, "fy": 70.0, "cx": width / 2, "cy": height / 2}
        cameras[name] = {"image_size": [width, height], "intrinsics": intrinsics, "vehicle_from_camera": pose}
    cameras["left"]["distortion"] = {"model": "pinhole", "coefficients": [0.1, 0, 0, 0]}
    content = {"format": "syncl-rig-1", "name": "r", "cameras": cameras, "frame_rate_hz": 10}
    (root / "rig.yaml").write_text(yaml.safe_dump(content))
    return root


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    torch.manual_seed(0)
    return ModelConfig(InputConfig((32, 64)), DETECTORS["petr"], TRACKERS["mutr3d"]).build().eval()


def images_of(folder: Path, number: int = 0) -> dict[str, np.ndarray]:
    return {name: np.array(Image.open(folder / "images" / name / f"{number}.png")) for name in NAMES}


def test_a_tracker_says_what_it_knows(tracker: Tracker) -> None:
    assert tracker.image_size == (32, 64) and tracker.cameras is None
    assert tracker.classes == tuple(tracker.detector.classes)
    detr3d = ModelConfig(InputConfig((32, 64)), DETECTORS["detr3d"], TRACKERS["mutr3d"]).build()
    assert detr3d.cameras == 2


@pytest.mark.parametrize("kind", ["mapping", "list", "tensors", "channels first"])
def test_a_frame_of_images_is_the_recordings_to_the_last_bit(tracker, folder, kind) -> None:
    images = images_of(folder, 1)
    given = {
        "mapping": images,
        "list": list(images.values()),
        "tensors": {name: torch.from_numpy(image) for name, image in images.items()},
        "channels first": {name: torch.from_numpy(image).permute(2, 0, 1) for name, image in images.items()},
    }[kind]
    frame = tracker.frame(given, open_rig(folder), 0.1, scene="r", name="1")
    expected = tracker.open(folder).frame(1)
    assert torch.equal(frame.images, expected.images) and frame.rig.names == expected.rig.names
    assert torch.equal(frame.rig.image_from_vehicle, expected.rig.image_from_vehicle)
    assert (frame.scenes, frame.samples) == (expected.scenes, expected.samples)
    assert frame.timestamp_s.item() == pytest.approx(expected.timestamp_s.item())


def test_a_camera_left_out_is_one_that_delivered_nothing(tracker: Tracker, folder: Path) -> None:
    images = {**images_of(folder), "right": None}
    frame = tracker.frame(images, open_rig(folder), 0.0)
    assert frame.camera_valid.tolist() == [[True, False]] and not frame.images[0, 1].any()
    objects, _ = tracker.step(frame, tracker.initial_state())
    assert objects.classes == tracker.classes


@pytest.mark.parametrize("time", [np.float32(1.7e9), torch.tensor(1.7e9)])
def test_times_that_are_rounded_already_are_refused(tracker: Tracker, folder: Path, time: object) -> None:
    with pytest.raises(SynclError, match=r"timestamp_s: .* to two minutes.*float64"):
        tracker.frame(images_of(folder), open_rig(folder), time)


def test_calibration_alone_takes_the_images_size(tracker: Tracker) -> None:
    seen = make_frame(size=(32, 64))
    given = list(seen.images[0])
    frame = tracker.frame(given, seen.rig, 0.0, seen.global_from_vehicle[0])
    assert torch.equal(frame.images, seen.images)
    assert torch.allclose(frame.rig.image_from_vehicle, seen.rig.image_from_vehicle, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda images: {"lefft": images["left"]},
            "the rig has left, right, no camera 'lefft'; did you mean 'left'",
        ),
        (lambda images: [*images.values(), None], "images: 3 of them for 2 cameras"),
        (lambda images: {**images, "left": images["left"][:50]}, "left is 80x50 pixels, its calibr.* 80x60"),
        (lambda images: {**images, "left": images["left"] / 255}, "left is float64 .*expected uint8 RGB"),
        (lambda images: {**images, "left": images["left"][..., 0]}, r"left is uint8 \(60, 80\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_name(tracker, folder, change, message) -> None:
    with pytest.raises(SynclError, match=message):
        tracker.frame(change(images_of(folder)), open_rig(folder), 0.0)


def test_frames_of_another_size_are_refused_with_the_remedy(tracker: Tracker, folder: Path) -> None:
    frame = open_recording(folder, quiet=True).frame(0)
    with pytest.raises(SynclError, match=r"images of 60x96 pixels .* sees 32x64; .*tracker.open\(folder\)"):
        tracker.step(frame, tracker.initial_state())
    with pytest.raises(SynclError, match="does not know its input"):
        bare = TRACKERS["mutr3d"].build(DETECTORS["petr"].build())
        bare.open(folder)
    with pytest.raises(SynclError, match=r"global_from_vehicle: shape \(3, 3\)"):
        tracker.frame(images_of(folder), open_rig(folder), 0.0, np.eye(3))
    with pytest.raises(SynclError, match=r"global_from_vehicle: .*up axis .* along \[0.0, 0.0, -1.0\]"):
        tracker.frame(images_of(folder), open_rig(folder), 0.0, np.diag([1.0, -1.0, -1.0, 1.0]))


def test_what_is_no_frame_or_no_state_is_refused_with_the_remedy(tracker: Tracker) -> None:
    with pytest.raises(SynclError, match=r"frame: ndarray; make one .* tracker.frame\(images, ...\)"):
        tracker.step(np.zeros((60, 80, 3)), tracker.initial_state())
    with pytest.raises(SynclError, match=r"state: NoneType; a stream begins with tracker.initial_state\(\)"):
        tracker.step(make_frame(size=(32, 64)), None)
