"""The rig file shown in docs/recordings.md can be used as it stands."""

import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from syncl.data.recording import open_recording

read_recording = partial(open_recording, quiet=True)

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


def test_the_documented_rig_file_is_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    images, videos, lidar = blocks
    assert "video:" in videos
    (tmp_path / "rig.yaml").write_text(images + lidar)
    for name in ("front", "rear"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            image = np.full((180, 320, 3), 100, np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name / f"{number:06d}.jpg"), image)
    recording = read_recording(tmp_path, vehicle_frame="lidar")
    assert recording.cameras == ("front", "rear") and recording.rig.name == "ring road, morning"
    assert recording.remarks == ("rear: no image in 1 of 2 frames",)
    first, second = recording
    assert first.camera_valid.tolist() == [[True, True]] and second.camera_valid.tolist() == [[True, False]]
    assert abs(float(second.timestamp_s - first.timestamp_s) - 0.1) < 1e-6


def test_frames_by_rate_alone(tmp_path: Path) -> None:
    block = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (tmp_path / "rig.yaml").write_text(block.partition("frames:")[0] + "frame_rate_hz: 10\n")
    for name in ("front", "rear"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in (7, 9):
            image = np.full((180, 320, 3), 100, np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name / f"{number:06d}.jpg"), image)
    times = [moment.timestamp_s for moment in read_recording(tmp_path).rig.moments]
    assert np.allclose(times, [0, 0.2])
