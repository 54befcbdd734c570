"""Recordings whose cameras are video files."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from syncl.data.frame_objects import FrameObjects
from syncl.data.recording import open_recording
from syncl.data.recording.video import Video
from syncl.errors import SynclError
from syncl.rendering import RenderStyle
from syncl.rendering.cameras import fill_tile
from syncl.rendering.recordings import recording_frames

SIZE = (48, 64)
POSE = {"translation_m": [1.0, 0.0, 1.5], "rotation": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]}


def film(path: Path, count: int, rate: int) -> None:
    """A video whose frames are as bright as their number: 8 more a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.gop_size = 4
        for number in range(count):
            image = np.full((*SIZE, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_rig(root: Path, front: dict, rear: dict, **fields: object) -> Path:
    size = {"image_size": [64, 48], "intrinsics": {"fx": 50.0, "fy": 50.0, "cx": 32, "cy": 24}}
    common = {**size, "vehicle_from_camera": POSE}
    cameras = {"front": common | front, "rear": common | rear}
    (root / "rig.yaml").write_text(yaml.safe_dump({"format": "syncl-rig-1", "cameras": cameras, **fields}))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera of 20 frames a second and one of 10 that began 0.05 s later."""
    root = tmp_path_factory.mktemp("filmed")
    film(root / "front.mp4", 20, 20)
    film(root / "rear.mp4", 9, 10)
    return root


def brightness(frame: object, row: int) -> float:
    return float(frame.images[0, row].float().mean()) / 8


def test_frames_come_in_any_order(folder: Path) -> None:
    video = Video(folder / "front.mp4")
    assert video.size == SIZE and len(video.times_s) == 20
    assert np.allclose(np.diff(video.times_s), 0.05)
    for number in (0, 1, 7, 3, 19, 18):
        assert video.frame(number).mean() / 8 == pytest.approx(number, abs=0.6)


# What a file's header has for frames that are shown turned clockwise, and numpy's turns of them.
TURNED = {
    90: ((0, 1, 0, -1, 0, 0, 48, 0), 3),
    180: ((-1, 0, 0, 0, -1, 0, 64, 48), 2),
    270: ((0, -1, 0, 1, 0, 0, 0, 64), 1),
}


@pytest.mark.parametrize("degrees", TURNED)
def test_frames_stand_as_players_show_them(tmp_path: Path, degrees: int) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:24, :32] = 240
    with av.open(str(tmp_path / "plain.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray((tmp_path / "plain.mp4").read_bytes())
    matrix, turns = TURNED[degrees]
    start = content.find(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *(65536 * number for number in matrix), 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    video = Video(tmp_path / "turned.mp4")
    shown = np.rot90(image, turns)
    assert video.size == shown.shape[:2]
    np.testing.assert_allclose(video.frame(0).astype(int), shown, atol=12)
    small = video.frame(0, reduced=4)
    np.testing.assert_allclose(small.astype(int), shown[::4, ::4], atol=12)


def test_a_frame_is_reduced_while_its_colours_are_converted(folder: Path) -> None:
    video = Video(folder / "front.mp4")
    whole, small = video.frame(9), video.frame(9, reduced=4)
    assert small.shape == (12, 16, 3)
    means = whole.reshape(12, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(small, means, atol=3)


def test_videos_are_paired_by_time_and_what_is_dropped_is_said(folder: Path) -> None:
    rear = {"video": "rear.mp4", "video_offset_s": 0.05}
    recording = open_recording(write_rig(folder, {"video": "front.mp4"}, rear, frame_rate_hz=10), quiet=True)
    recording.check_images()
    frames = list(recording)
    # From 0.05 s, when the rear camera began, to 0.85 s, when it ended.
    assert [frame.timestamp_s.item() for frame in frames] == pytest.approx(list(0.05 + np.arange(9) / 10))
    assert [brightness(frame, 0) for frame in frames] == pytest.approx(list(range(1, 19, 2)), abs=0.6)
    assert [brightness(frame, 1) for frame in frames] == pytest.approx(list(range(9)), abs=0.6)
    assert "front: 11 of 20 video frames dropped" in recording.remarks[0]
    assert not any("rear" in remark for remark in recording.remarks)


def test_a_moment_has_its_own_frame_where_moments_crowd(folder: Path) -> None:
    """The one before it once took the frame of 0.05 s, and left it without any."""
    times_s = (0.03, 0.05, 0.15, 0.25, 0.35)
    moments = [{"name": f"{time_s}", "timestamp_s": time_s} for time_s in times_s]
    recording = open_recording(
        write_rig(folder, {"video": "front.mp4"}, {"video": "rear.mp4"}, frames=moments), quiet=True
    )
    frames = [recording.frame(row) for row in range(len(times_s))]
    assert [brightness(frame, 0) for frame in frames] == pytest.approx([0, 1, 3, 5, 7], abs=0.6)


def test_a_camera_is_placed_where_it_was_when_its_frame_was_taken(folder: Path) -> None:
    moments = [
        {
            "name": f"{number}",
            "timestamp_s": number / 10,
            "global_from_vehicle": {"translation_m": [10.0 * number / 10, 0, 0], "rotation": [1, 0, 0, 0]},
        }
        for number in range(5)
    ]
    rear = {"video": "rear.mp4", "video_offset_s": 0.02}
    recording = open_recording(write_rig(folder, {"video": "front.mp4"}, rear, frames=moments), quiet=True)
    # At 10 m/s the rear camera, 0.02 s late, is 0.2 m farther ahead than where it is mounted.
    x_m = [np.linalg.inv(pose.numpy())[0, 3] for pose in recording.frame(2).rig.camera_from_vehicle[0]]
    assert x_m == pytest.approx([1.0, 1.2])


def test_a_slow_camera_keeps_its_image_until_the_next_is_due(folder: Path) -> None:
    rear = {"video": "rear.mp4"}
    recording = open_recording(write_rig(folder, {"video": "front.mp4"}, rear, frame_rate_hz=20), quiet=True)
    given = sum("rear" in moment.images for moment in recording.rig.moments)
    assert given < len(recording)
    nothing = [FrameObjects.empty()] * len(recording)
    drawn = list(recording_frames(recording, nothing, RenderStyle(width=320)))
    assert all(image is not None for frame in drawn for image in frame.images)


def test_images_of_another_shape_keep_it_in_their_tile() -> None:
    tile = np.zeros((90, 160, 3), np.uint8)
    filled = fill_tile(tile, np.full((100, 100, 3), 255, np.uint8), np.eye(4))
    assert filled is not None
    shown, shown_from_image = filled
    assert (tile[:, 35:125] == 255).all() and (tile[:, :35] < 100).all() and (tile[:, 125:] < 100).all()
    corners = shown_from_image[:2, :3] @ np.array([[0, 0, 1], [100, 100, 1]]).T
    np.testing.assert_allclose(corners.T, [[0, 0], [90, 90]])
    shown[:] = 7
    assert (tile[:, 35:125] == 7).all() and (tile[:, :35] > 7).all() and (tile[:, 125:] > 7).all()


@pytest.mark.parametrize(
    ("front", "fields", "message"),
    [
        ({"video": "none.mp4"}, {}, "none.mp4: there is no such video file"),
        ({"video": "rig.yaml"}, {}, "rig.yaml: cannot be read as a video"),
        ({"video": "../x.mp4"}, {}, "cameras.front"),
        ({"video": "front.mp4", "images": "front"}, {}, "front: give either 'video' .* or 'images'"),
        ({"video": "front.mp4", "video_offset_s": 99}, {}, "share no time .*set video_offset_s"),
        ({"video_offset_s": 1.0}, {}, "video_offset_s: goes with 'video'"),
        ({}, {}, "needs a video of every camera"),
        ({"video": "front.mp4", "image_size": [60, 48]}, {}, "64x48 pixels, but .* says cameras.front"),
    ],
)
def test_videos_that_cannot_be_used_are_refused_by_name(folder, front, fields, message) -> None:
    with pytest.raises(SynclError, match=message):
        open_recording(
            write_rig(folder, front, {"video": "rear.mp4"}, frame_rate_hz=10, **fields), quiet=True
        )


def test_a_video_that_is_cut_off_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("front.mp4", "rear.mp4"):
        whole = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole if name == "rear.mp4" else whole[: len(whole) // 2])
    rig = write_rig(tmp_path, {"video": "front.mp4"}, {"video": "rear.mp4"}, frame_rate_hz=10)
    with pytest.raises(SynclError, match=r"front\.mp4"):
        list(open_recording(rig, quiet=True))


def test_times_of_a_video_may_come_from_a_file(folder: Path) -> None:
    times = "# seconds\n" + "\n".join(f"{100 + number / 20}" for number in range(20))
    (folder / "front.txt").write_text(times)
    front = {"video": "front.mp4", "video_times": "front.txt"}
    rear = {"video": "rear.mp4", "video_offset_s": 100.0}
    recording = open_recording(write_rig(folder, front, rear, frame_rate_hz=10), quiet=True)
    assert [frame.timestamp_s.item() for frame in recording] == pytest.approx(list(100 + np.arange(9) / 10))
    for text, words in (
        (times + "\n7", r"front\.txt, line 22: 7 is not later than the frame before \(100\.95\)"),
        ("1.0\n2.0", r"has 2 times, the video 20 frames"),
        ("1.0\nnan", r"line 2: 'nan' is no time; write one a line, in seconds"),
    ):
        (folder / "front.txt").write_text(text)
        with pytest.raises(SynclError, match=words):
            open_recording(folder, quiet=True)
    (folder / "front.txt").unlink()
    with pytest.raises(SynclError, match=r"front\.txt: the times of a video's frames cannot be read"):
        open_recording(folder, quiet=True)
    write_rig(folder, {"video": "front.mp4"}, {"images": "x", "video_times": "a.txt"}, frame_rate_hz=10)
    with pytest.raises(SynclError, match=r"rear\.video_times: goes with 'video'"):
        open_recording(folder, quiet=True)
