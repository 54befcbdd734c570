"""Writing H.264 video that browsers play."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from syncl.errors import SynclError
from syncl.files import atomic_path, refuse_to_overwrite
from syncl.rendering.frame_view import Image

ENCODER: Final = "libx264"
# The BT.709 code point of ITU-T H.273, for primaries, transfer and matrix alike.
_BT709 = 1
_THREADS = 4


class VideoWriter:
    """An open video; made by `open_video`.

    Args:
        container: an open MP4 container.
        fps: pictures a second.
    """

    def __init__(self, container: OutputContainer, fps: float) -> None:
        self._container = container
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream: VideoStream | None = None
        self.count = 0

    def write(self, image: Image) -> None:
        """Append a picture [H, W, 3] (uint8 RGB, even sizes, the same for all).

        Raises:
            SynclError: if the size is odd or differs from the first picture's.
        """
        height, width = image.shape[:2]
        if self._stream is None:
            if height % 2 or width % 2:
                raise SynclError(f"video frame: {width} x {height} pixels; H.264 (yuv420p) needs even sizes")
            self._stream = self._open_stream(width, height)
        if (width, height) != (self._stream.width, self._stream.height):
            raise SynclError(
                f"video frame {self.count}: {width} x {height} pixels, but the video is "
                f"{self._stream.width} x {self._stream.height}"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts = self.count
        frame.time_base = 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def finish(self) -> None:
        """Write what the encoder still holds.

        Raises:
            SynclError: if no picture was written.
        """
        if self._stream is None:
            raise SynclError("video: there is no frame to write")
        self._container.mux(self._stream.encode(None))

    def _open_stream(self, width: int, height: int) -> VideoStream:
        # Slower presets save a fifth of the size for half as much time again.
        options = {"crf": "23", "preset": "superfast"}
        stream = self._container.add_stream(ENCODER, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        # Short groups of pictures: seeking in a browser then lands where one clicks.
        # As many threads everywhere, since the bytes depend on their number.
        context.thread_count = _THREADS
        context.gop_size = max(2, round(5 * float(self._rate)))
        context.time_base = 1 / self._rate
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = ColorRange.MPEG
        return stream


@contextmanager
def open_video(target: Path, fps: float, overwrite: bool = False) -> Iterator[VideoWriter]:
    """Write an MP4 (H.264, yuv420p, index first so that it plays while loading).

    The file appears under its name only when the block has ended without an exception: an interrupted run
    leaves nothing behind and an earlier file untouched.

    Args:
        target: the file, whose name must end in .mp4.
        fps: pictures a second.
        overwrite: replace an existing file.

    Raises:
        SynclError: on a bad name or rate, an existing file, no picture, or a PyAV without the encoder.
    """
    target = Path(target)
    if target.suffix.lower() != ".mp4":
        raise SynclError(f"{target}: videos are written as MP4; choose a name that ends in .mp4")
    if not 0.01 <= fps <= 240:
        raise SynclError(f"fps: {fps}; choose a rate between 0.01 and 240 frames a second")
    if ENCODER not in av.codecs_available:
        raise SynclError(
            f"{target}: this PyAV {av.__version__} has no {ENCODER} encoder; install one that has, "
            "such as the wheel on PyPI (pip install --force-reinstall av), or write single pictures as PNG"
        )
    refuse_to_overwrite(target, overwrite)
    options = {"movflags": "+faststart"}
    with (
        atomic_path(target) as temporary,
        av.open(str(temporary), "w", format="mp4", options=options) as container,
    ):
        writer = VideoWriter(container, fps)
        yield writer
        writer.finish()
