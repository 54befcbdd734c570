import os
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from syncl.errors import SynclError
from syncl.rendering import draw_frame, render_video
from syncl.rendering.video_writer import open_video


def pictures(count, height=96, width=128):
    """Frames that are told apart by the place and colour of a square."""
    for number in range(count):
        picture = np.full((height, width, 3), (40, 80, 160), np.uint8)
        picture[20:60, 10 * number : 10 * number + 40] = (230, 200, 40)
        yield picture


def test_video_decodes_back_to_what_was_written(tmp_path):
    target = tmp_path / "new" / "tracks.mp4"
    with open_video(target, fps=5) as video:
        for picture in pictures(7):
            video.write(picture)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate)) == (128, 96, 5.0)
        assert float(container.duration / av.time_base) == pytest.approx(7 / 5, abs=0.02)
        # Older libraries take BT.601 for granted unless they are told.
        told = {"src_colorspace": Colorspace.ITU709, "dst_colorspace": Colorspace.ITU709}
        told |= {"src_color_range": ColorRange.MPEG, "dst_color_range": ColorRange.JPEG}
        frames = [frame.reformat(format="rgb24", **told) for frame in container.decode(stream)]
        decoded = [frame.to_ndarray() for frame in frames]
    assert len(decoded) == 7
    for number, (found, written) in enumerate(zip(decoded, pictures(7))):
        middle = found[40, 10 * number + 20].astype(int)
        assert np.abs(middle - written[40, 10 * number + 20]).max() <= 12
        assert np.abs(found.astype(int) - written).mean() < 4


def test_index_stands_before_the_pictures(tmp_path):
    # Browsers start playing a video before it is loaded only if its index comes first.
    target = tmp_path / "tracks.mp4"
    with open_video(target, fps=2) as video:
        for picture in pictures(3):
            video.write(picture)
    content = target.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_rendered_frames_come_back_from_the_video(rig, tmp_path):
    car = rig.objects([8.0, 0, 0.8, 4.5, 1.9, 1.6, 0, 0, 0])
    frames = [rig.frame(car, number=number + 1) for number in range(3)]
    assert render_video(iter(frames), tmp_path / "tracks.mp4", fps=2) == 3
    with av.open(str(tmp_path / "tracks.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = draw_frame(frames[0])[0]
    assert len(decoded) == 3 and decoded[0].shape == expected.shape
    assert np.abs(decoded[0].astype(int) - expected).mean() < 4


def test_fractional_rates_are_kept(tmp_path):
    with open_video(tmp_path / "tracks.mp4", fps=12.5) as video:
        for picture in pictures(5):
            video.write(picture)
    with av.open(str(tmp_path / "tracks.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(12.5)


def test_interrupted_video_leaves_no_file(rig, tmp_path):
    def broken():
        yield rig.frame()
        raise RuntimeError("out of images")

    with pytest.raises(RuntimeError, match="out of images"):
        render_video(broken(), tmp_path / "tracks.mp4")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_video_leaves_the_earlier_one(rig, tmp_path):
    target = tmp_path / "tracks.mp4"
    target.write_bytes(b"earlier")

    def broken():
        yield rig.frame()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_video(broken(), target, overwrite=True)
    assert target.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [target]


def test_killed_run_leaves_no_video_under_its_name(tmp_path):
    script = (
        "import sys, time, numpy as np; from pathlib import Path\n"
        "from syncl.rendering.video_writer import open_video\n"
        "with open_video(Path(sys.argv[1]), 2) as video:\n"
        "    video.write(np.zeros((64, 64, 3), np.uint8)); print('writing', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "tracks.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, env=os.environ
    ) as child:
        assert child.stdout.readline().strip() == b"writing"
        child.kill()
        child.wait()
    time.sleep(0.05)
    assert not target.exists()


def test_existing_videos_are_kept_unless_told_otherwise(rig, tmp_path):
    target = tmp_path / "tracks.mp4"
    target.write_bytes(b"earlier")
    with pytest.raises(SynclError, match=r"tracks\.mp4: this file already exists.*--overwrite"):
        render_video([rig.frame()], target)
    assert target.read_bytes() == b"earlier"
    assert render_video([rig.frame()], target, overwrite=True) == 1
    assert target.read_bytes()[4:8] == b"ftyp"


def test_a_video_of_nothing_is_refused(tmp_path):
    with pytest.raises(SynclError, match="no frame to write"):
        render_video([], tmp_path / "tracks.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("tracks.avi", 2, r"tracks\.avi: videos are written as MP4"),
        ("tracks.mp4", 0, "fps: 0"),
        ("tracks.mp4", float("nan"), "fps: nan"),
        ("tracks.mp4", -3, "fps: -3"),
        ("tracks.mp4", 0.0003, r"fps: 0\.0003; choose a rate between 0\.01 and 240"),
    ],
)
def test_bad_names_and_rates_are_refused(rig, tmp_path, name, fps, message):
    with pytest.raises(SynclError, match=message):
        render_video([rig.frame()], tmp_path / name, fps=fps)


def test_sizes_that_h264_cannot_hold_are_refused(tmp_path):
    with (
        pytest.raises(SynclError, match=r"129 x 96 pixels.*even"),
        open_video(tmp_path / "tracks.mp4", fps=2) as video,
    ):
        video.write(np.zeros((96, 129, 3), np.uint8))
    with (
        pytest.raises(SynclError, match=r"frame 1: 64 x 64 pixels, but the video is 128 x 96"),
        open_video(tmp_path / "tracks.mp4", fps=2) as video,
    ):
        video.write(np.zeros((96, 128, 3), np.uint8))
        video.write(np.zeros((64, 64, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_missing_encoder_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with (
        pytest.raises(SynclError, match=r"has no libx264 encoder; install"),
        open_video(tmp_path / "tracks.mp4", fps=2),
    ):
        pass
