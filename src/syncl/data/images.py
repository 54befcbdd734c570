"""Decoding images and fitting them to the network's input size.

source            resized by `scale`        cropped to the output (and mirrored)
+-----------+     +---------+               +---------+
|           |     |         |  crop_y       |         |
|           | --> +---------+ ------->      +---------+
+-----------+     |  kept   |
                  +---------+
"""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from syncl.errors import SynclError

RGBImage = NDArray[np.uint8]
ResizeMethod = Literal["exact", "fast"]

MOST_PIXELS = 1 << 26
"""Of an image: more than any camera of a vehicle delivers, and 200 MB decoded."""

_MOST_BYTES = 1 << 29
_AHEAD = 0.2
"""Share of the output above the principal point that is kept."""

_SIDEWAYS = range(5, 9)
_ORIENTATION = 0x0112

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# What may follow a byte 0xff from a JPEG's last scan on: zero, restarts, segments, the end.
_FOLLOWS = np.isin(
    np.arange(256), (0, *range(0xD0, 0xD8), 0xC4, *range(0xD9, 0xDE), *range(0xE0, 0xF0), 0xFE, 0xFF)
)


@dataclass(frozen=True)
class ImageTransform:
    """Resize, crop and mirror.

    Attributes:
        scale: factor of the resize; sizes are rounded down as in the originals.
        crop_x: left edge of the crop in the resized image, pixels.
        crop_y: upper edge, pixels; negative crops leave black margins.
        flip: mirror left and right after the crop.
        output_size: (H, W) of the result.
    """

    scale: float
    crop_x: int
    crop_y: int
    flip: bool
    output_size: tuple[int, int]

    def matrix(self) -> NDArray[np.float64]:
        """[3, 3] output pixel from source pixel; multiply intrinsics by it from the left."""
        matrix = np.array([[self.scale, 0, -self.crop_x], [0, self.scale, -self.crop_y], [0, 0, 1.0]])
        if self.flip:
            matrix = np.array([[-1.0, 0, self.output_size[1]], [0, 1, 0], [0, 0, 1]]) @ matrix
        return matrix

    def resized(self, source_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) after the resize."""
        # The tolerance keeps 1600 * (704 / 1600) from becoming 703.
        return int(source_size[0] * self.scale + 1e-6), int(source_size[1] * self.scale + 1e-6)


def test_transform(
    source_size: tuple[int, int], output_size: tuple[int, int], horizon: float | None = None
) -> ImageTransform:
    """The transform for inference: fill the output, keep the bottom, centred left to right.

    Args:
        source_size: (height, width) of the image file.
        output_size: (H, W) of the network input.
        horizon: row of the principal point in the file; images much higher than the
            output keep what lies ahead by it.
    """
    scale = fitting_scale(source_size, output_size)
    transform = ImageTransform(scale, 0, 0, False, output_size)
    _, width = transform.resized(source_size)
    crop_x = int(max(0, width - output_size[1]) / 2)
    crop_y = _crop_top(source_size, output_size, horizon, scale)
    return ImageTransform(scale, crop_x, crop_y, False, output_size)


def _crop_top(
    source_size: tuple[int, int], output_size: tuple[int, int], horizon: float | None, scale: float
) -> int:
    """Upper edge of the crop: what keeps the bottom, or a fifth of the output above the principal point.

    The latter is for images much higher than the output, as upright cameras deliver, whose bottom is the road
    before the vehicle alone. It never is so of nuScenes' images at the published sizes.
    """
    bottom = int(source_size[0] * scale + 1e-6) - output_size[0]
    fitting, above = fitting_scale(source_size, output_size), _AHEAD * output_size[0]
    if horizon is None or source_size[0] * fitting - output_size[0] <= horizon * fitting - above:
        return bottom
    return min(bottom, max(0, int(horizon * scale - above)))


def draw_transform(
    rng: np.random.Generator,
    source_size: tuple[int, int],
    output_size: tuple[int, int],
    resize_range: tuple[float, float],
    flip_probability: float,
    horizon: float | None = None,
) -> ImageTransform:
    """Draw a training transform: random scale, bottom kept, random crop left to right, mirrored or not.

    Args:
        rng: three numbers are drawn from it, whatever the options.
        source_size: (height, width) of the image file.
        output_size: (H, W) of the network input.
        resize_range: limits of the scale relative to `test_transform`'s; (0.94, 1.25) are PETR's and
            PF-Track's 0.47 to 0.625 for 1600x900 to 800x320.
        flip_probability: how often to mirror.
        horizon: row of the principal point in the file; images much higher than the
            output keep what lies ahead by it.
    """
    relative, place, coin = rng.uniform(*resize_range), rng.uniform(), rng.uniform()
    scale = fitting_scale(source_size, output_size) * relative
    transform = ImageTransform(scale, 0, 0, False, output_size)
    _, width = transform.resized(source_size)
    crop_x = int(place * max(0, width - output_size[1]))
    crop_y = _crop_top(source_size, output_size, horizon, scale)
    return ImageTransform(scale, crop_x, crop_y, bool(coin < flip_probability), output_size)


def fitting_scale(source_size: tuple[int, int], output_size: tuple[int, int]) -> float:
    """The smallest scale at which the source covers the output."""
    return max(output_size[0] / source_size[0], output_size[1] / source_size[1])


def load_image(
    path: Path,
    transform: ImageTransform,
    method: ResizeMethod = "exact",
    source_size: tuple[int, int] | None = None,
    undistort: Callable[[RGBImage], RGBImage] | None = None,
) -> RGBImage:
    """Decode an image file and transform it.

    Args:
        path: JPEG or PNG file.
        transform: where each output pixel comes from.
        method: "exact" resizes as the original implementations do (Pillow, bicubic with antialiasing); "fast"
            decodes JPEGs at reduced resolution where that suffices and resizes bilinearly: three to six times
            as fast, pixels of real images differ by 0.4 to 0.9 of 255 on average.
        source_size: (height, width) the file must have, if known: calibration is for this size. The fast
            method needs it to decode at reduced resolution.
        undistort: what is done with the whole image before (`lenses.Undistortion`).

    Returns:
        [H, W, 3] uint8 RGB of `transform.output_size`.

    Raises:
        SynclError: the file is missing, cut off, not an image or of another size.
    """
    data = _read(path)
    size = _claimed_size(path, BytesIO(data))
    _check_size(path, size, source_size)
    factor, flags = 1, cv2.IMREAD_COLOR
    if method == "fast" and undistort is None and source_size is not None and data.startswith(_JPEG_START):
        factor, flags = _reduced_decoding(source_size, transform)
    image = _decode(path, data, flags, (size[0] // factor, size[1] // factor))
    if undistort is not None:
        image = undistort(image)
    return _crop(_resize(image, transform.resized(size), method), transform)


def fit_image(
    image: RGBImage,
    transform: ImageTransform,
    method: ResizeMethod = "exact",
    undistort: Callable[[RGBImage], RGBImage] | None = None,
    source_size: tuple[int, int] | None = None,
) -> RGBImage:
    """An image [h, w, 3] at hand transformed as `load_image` does with a file's.

    Args:
        image: whole, or already reduced by `reduction`.
        transform: of the whole image.
        method: see `load_image`.
        undistort: what is done with the whole image before.
        source_size: (height, width) of the whole image; None = that of `image`.
    """
    whole = image if undistort is None else undistort(image)
    size = transform.resized(source_size or (image.shape[0], image.shape[1]))
    return _crop(_resize(whole, size, method), transform)


def reduction(source_size: tuple[int, int], transform: ImageTransform) -> int:
    """By how much the fast method may reduce an image before it is resized."""
    return _reduced_decoding(source_size, transform)[0]


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) that an image file claims, as `load_image` turns it, without decoding it.

    Raises:
        SynclError: the file is missing, not an image, or claims more than `MOST_PIXELS`.
    """
    _refuse_irregular(path)
    return _claimed_size(path, path)


def _claimed_size(path: Path, source: Path | BytesIO) -> tuple[int, int]:
    """What the header says; OpenCV turns images by their EXIF orientation, and Pillow does not."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            width, height = image.size
            if image.info.get("exif") and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        # What Pillow says of a format that it does not know is the address of our buffer.
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise SynclError(f"{path}: not an image or damaged ({reason}); copy it again") from error
    except Image.DecompressionBombError as error:
        raise SynclError(f"{path}: {error}; no camera's image is so large") from None
    if width * height > MOST_PIXELS:
        raise SynclError(
            f"{path}: claims {width}x{height} pixels, more than {MOST_PIXELS:,}; scale it down, and its "
            "calibration with it"
        )
    return height, width


def _refuse_irregular(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SynclError(f"{path}: this image is missing; copy or unpack it again") from None
    except OSError as error:
        raise SynclError(f"{path}: this image cannot be read ({error.strerror})") from error
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise SynclError(f"{path}: this image is empty (0 bytes); copy it again")
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        kind = "more than 512 MiB" if stat.S_ISREG(status.st_mode) else "a folder, pipe or device"
        raise SynclError(f"{path}: this is {kind}, not an image; remove it")


def _check_size(path: Path, size: tuple[int, int], expected: tuple[int, int] | None) -> None:
    if expected is not None and size != expected:
        raise SynclError(
            f"{path}: the image is {size[1]}x{size[0]} pixels, its calibration is for "
            f"{expected[1]}x{expected[0]}; bring the image or the calibration's size in line"
        )


def _read(path: Path) -> bytes:
    _refuse_irregular(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SynclError(f"{path}: this image cannot be read ({error.strerror})") from error
    # Decoders fill the missing part of a cut-off JPEG with grey and say nothing. An end marker before the
    # last scan is a thumbnail's.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN):
        raise SynclError(f"{path}: this JPEG is cut off after {len(data)} bytes; copy it again")
    if data.startswith(_JPEG_START) and (place := _stray_marker(data)) is not None:
        raise SynclError(f"{path}: this JPEG is damaged at byte {place}; copy it again")
    return data


def _stray_marker(data: bytes) -> int | None:
    """Where a JPEG's last scan has a marker that none has there: other data were written over it."""
    begin = max(data.rfind(_JPEG_SCAN), 0)
    scan = np.frombuffer(data, np.uint8, data.rfind(_JPEG_END) + 2 - begin, begin)
    marks = np.flatnonzero(scan[:-1] == 0xFF)
    stray = marks[~_FOLLOWS[scan[marks + 1]]]
    return begin + int(stray[0]) if len(stray) else None


def _decode(path: Path, data: bytes, flags: int, size: tuple[int, int]) -> RGBImage:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise SynclError(f"{path}: not an image or damaged ({len(data)} bytes); copy it again")
    if image.shape[:2] != size:
        raise SynclError(
            f"{path}: the header says {size[1]}x{size[0]} pixels, the picture has {image.shape[1]}x"
            f"{image.shape[0]}; write it again"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


# Decoding JPEG at a half, a quarter or an eighth skips most of the work of the inverse transform.
_REDUCED_DECODING = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)


def _reduced_decoding(source_size: tuple[int, int], transform: ImageTransform) -> tuple[int, int]:
    """By how much an image may be reduced while decoding, and the decoder's flag for it."""
    for factor, flags in _REDUCED_DECODING:
        # Sizes that do not divide would be rounded up and the picture stretched.
        if transform.scale * factor <= 1 and all(length % factor == 0 for length in source_size):
            return factor, flags
    return 1, cv2.IMREAD_COLOR


def _resize(image: RGBImage, size: tuple[int, int], method: ResizeMethod) -> RGBImage:
    height, width = size
    if image.shape[:2] == size:
        return image
    if method == "exact":
        from PIL import Image

        return np.asarray(Image.fromarray(image).resize((width, height)))
    # Down to a half, the two pixels bilinear sampling looks at are all there are; below, it would alias.
    interpolation = cv2.INTER_LINEAR if 2 * height >= image.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _crop(image: RGBImage, transform: ImageTransform) -> RGBImage:
    height, width = transform.output_size
    top, left = transform.crop_y, transform.crop_x
    if (top, left) == (0, 0) and image.shape[:2] == (height, width):
        output = image
    else:
        output = np.zeros((height, width, 3), np.uint8)
        rows = slice(max(0, top), min(image.shape[0], top + height))
        columns = slice(max(0, left), min(image.shape[1], left + width))
        kept = image[rows, columns]
        y, x = rows.start - top, columns.start - left
        output[y : y + kept.shape[0], x : x + kept.shape[1]] = kept
    return np.ascontiguousarray(output[:, ::-1]) if transform.flip else output
