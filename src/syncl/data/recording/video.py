"""Video files as the images of a camera: one file a camera, frames by number, times of their own."""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from syncl.data.images import MOST_PIXELS, RGBImage
from syncl.errors import SynclError

# Farther ahead than this, seeking is quicker than decoding on.
_FAR_FRAMES = 60
_MOST_FRAMES = 2_000_000


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video file: the image of a camera at a moment.

    Attributes:
        path: the file.
        number: of the frame, from 0, in the order in which they are shown.
    """

    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}, frame {self.number}"


class Video:
    """A video file, decoded frame by frame; going on is quick, going back seeks.

    Frames stand as players show them, and FFmpeg writes them to images: turned, where the file says so.

    Args:
        path: of the file.

    Raises:
        SynclError: it is no video, or without times.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._decoded: Iterator[av.VideoFrame] | None = None
        self._next = 0
        with self._opened() as container:
            stream = container.streams.video[0]
            if stream.codec_context is None or stream.time_base is None:
                raise SynclError(f"{path}: there is nothing that decodes its video, or it has no clock")
            self._stored = (stream.height, stream.width)
            if not 0 < stream.height * stream.width <= MOST_PIXELS:
                raise SynclError(f"{path}: {stream.width}x{stream.height} pixels; at most {MOST_PIXELS:,}")
            pts = sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None})
            if not pts or len(pts) > _MOST_FRAMES:
                raise SynclError(
                    f"{path}: has {len(pts):,} frames with times; 1 to {_MOST_FRAMES:,} are read"
                )
            self._pts = pts
            self._quarter_turns = self._turned()
            self.size = self._stored if self._quarter_turns % 2 == 0 else self._stored[::-1]
            self.times_s = np.array([float(value * Fraction(stream.time_base)) for value in pts])

    def frame(self, number: int, reduced: int = 1) -> RGBImage:
        """A frame [H, W, 3], uint8 RGB.

        Args:
            number: of the frame.
            reduced: by how much it is made smaller while its colours are converted, which is quicker than
                afterwards.

        Raises:
            SynclError: it cannot be decoded.
        """
        with self._lock:
            try:
                return self._frame(number, reduced)
            except av.FFmpegError as error:
                self._decoded = None
                raise SynclError(f"{self.path}: frame {number} cannot be decoded ({error})") from error

    def _frame(self, number: int, reduced: int) -> RGBImage:
        if self._decoded is None or not 0 <= number - self._next <= _FAR_FRAMES:
            container = self._opened()
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if number:
                container.seek(self._pts[number], stream=stream)
            self._decoded = container.decode(stream)
        for picture in self._decoded:
            found = bisect_left(self._pts, picture.pts) if picture.pts is not None else -1
            self._next = found + 1
            if found == number:
                if reduced > 1:
                    height, width = self._stored
                    picture = picture.reformat(
                        width // reduced, height // reduced, "rgb24", interpolation="AREA"
                    )
                pixels = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                return np.ascontiguousarray(np.rot90(pixels, self._quarter_turns))
            if found > number:
                break
        self._decoded = None
        raise SynclError(f"{self.path}: frame {number} is not there; the file is cut off or damaged")

    def _turned(self) -> int:
        """By how many quarter turns, counter-clockwise, frames are shown; 0 where the first is damaged."""
        with self._opened() as container:
            try:
                picture = next(container.decode(video=0), None)
            except av.FFmpegError:
                picture = None
        return 0 if picture is None else round(picture.rotation / 90) % 4

    def _opened(self) -> "av.container.InputContainer":
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, ValueError) as error:
            raise SynclError(f"{self.path}: cannot be read as a video ({error})") from error
        if not container.streams.video:
            container.close()
            raise SynclError(f"{self.path}: has no video in it")
        return container


def open_video_file(path: Path) -> Video:
    """The video of a path; opened once, so that one reader goes on where it was.

    Raises:
        SynclError: see `Video`.
    """
    if not path.is_file():
        raise SynclError(f"{path}: there is no such video file")
    status = path.stat()
    return _video(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _video(path: Path, changed_ns: int, size: int) -> Video:
    del changed_ns, size  # A file that changed is another video.
    return Video(path)
