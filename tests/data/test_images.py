"""Decoding, resizing and cropping."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from syncl.data import images
from syncl.data.images import ImageTransform, draw_transform, image_size, load_image
from syncl.data.nuscenes.clips.image_files import inspect_image
from syncl.errors import SynclError

FULL = (900, 1600)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A smooth 180x320 colour picture without symmetry, as JPEG."""
    y, x = np.mgrid[:180, :320]
    pixels = np.stack([x * 0.7, y * 1.2, 120 + 80 * np.sin(x / 25.0) * np.cos(y / 19.0)], axis=-1)
    path = tmp_path / "picture.jpg"
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    return path


@pytest.mark.parametrize(
    ("output", "scale", "crop"),
    # The originals' numbers: (0, 140, 704, 396) and (0, 130, 800, 450) of the resized image.
    [((256, 704), 0.44, (0, 140)), ((320, 800), 0.5, (0, 130)), ((640, 1600), 1.0, (0, 260))],
)
def test_test_transform_of_published_sizes(
    output: tuple[int, int], scale: float, crop: tuple[int, int]
) -> None:
    transform = images.test_transform(FULL, output)
    assert transform.scale == pytest.approx(scale)
    assert (transform.crop_x, transform.crop_y) == crop
    assert not transform.flip


def test_test_transform_fills_a_narrow_output_from_the_centre() -> None:
    transform = images.test_transform((100, 400), (50, 100))
    assert transform == ImageTransform(0.5, 50, 0, False, (50, 100))


def test_a_file_of_output_size_is_left_alone(picture: Path) -> None:
    transform = images.test_transform((180, 320), (180, 320))
    assert transform == ImageTransform(1.0, 0, 0, False, (180, 320))
    for method in ("exact", "fast"):
        loaded = load_image(picture, transform, method)
        np.testing.assert_array_equal(loaded, cv2.imread(str(picture))[..., ::-1])


def test_resized_sizes_do_not_lose_a_pixel_to_rounding() -> None:
    for width in range(100, 1601, 7):
        transform = images.test_transform(FULL, (10, width))
        assert transform.resized(FULL)[1] == width


def test_drawn_transforms_keep_the_bottom_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_transform(rng, FULL, (320, 800), (0.94, 1.25), 0.5) for _ in range(300)]
    scales = np.array([transform.scale for transform in drawn])
    # PF-Track draws from U(0.47, 0.625).
    assert 0.47 <= scales.min() < 0.48 and 0.61 < scales.max() <= 0.625
    for transform in drawn:
        height, width = transform.resized(FULL)
        assert transform.crop_y == height - 320
        assert 0 <= transform.crop_x <= max(0, width - 800)
    assert 0.4 < np.mean([transform.flip for transform in drawn]) < 0.6
    assert max(transform.crop_x for transform in drawn) > 100


def test_draws_take_the_same_numbers_whatever_the_options() -> None:
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    draw_transform(first, FULL, (320, 800), (1.0, 1.0), 0.0)
    draw_transform(second, (90, 160), (32, 80), (0.5, 2.0), 1.0)
    assert first.uniform() == second.uniform()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("method", ["exact", "fast"])
def test_matrix_tells_where_pixels_go(tmp_path: Path, flip: bool, method: images.ResizeMethod) -> None:
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[120:124, 260:264] = 255
    path = tmp_path / "dot.png"
    Image.fromarray(pixels).save(path)
    transform = ImageTransform(0.6, 70, 20, flip, (100, 150))
    loaded = load_image(path, transform, method)
    # Pixel centres are at halves, so the dot's centre is at its edges' mean.
    expected = transform.matrix() @ [262, 122, 1]
    rows, columns = np.nonzero(loaded[..., 0] > 100)
    found = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    np.testing.assert_allclose(found, expected[:2], atol=0.5)


def test_exact_is_pillows_default_resize(picture: Path) -> None:
    transform = ImageTransform(0.37, 11, 20, False, (40, 90))
    decoded = Image.fromarray(np.ascontiguousarray(cv2.imread(str(picture))[..., ::-1]))
    resized = np.asarray(decoded.resize((int(320 * 0.37), int(180 * 0.37))))
    np.testing.assert_array_equal(load_image(picture, transform), resized[20:60, 11:101])


@pytest.mark.parametrize("scale", [0.11, 0.2, 0.37, 0.5, 0.8, 1.3])
def test_fast_stays_near_exact(picture: Path, scale: float) -> None:
    transform = ImageTransform(scale, 2, 3, False, (16, 30))
    exact = load_image(picture, transform).astype(int)
    for source_size in (None, (180, 320)):
        fast = load_image(picture, transform, "fast", source_size).astype(int)
        assert np.abs(exact - fast).mean() < 1.5


def test_crops_beyond_the_image_are_black(picture: Path) -> None:
    transform = ImageTransform(0.5, -10, -20, False, (120, 200))
    loaded = load_image(picture, transform)
    assert not loaded[:20].any() and not loaded[:, :10].any()
    assert not loaded[110:].any() and not loaded[:, 170:].any()
    assert loaded[20:110, 10:170].any(axis=-1).all()


def test_grey_images_become_colour(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(path)
    loaded = load_image(path, images.test_transform((20, 30), (20, 30)))
    assert loaded.shape == (20, 30, 3) and (loaded == 77).all()


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_bad_files_are_named(picture: Path, tmp_path: Path, method: images.ResizeMethod) -> None:
    transform = images.test_transform((180, 320), (90, 160))
    data = picture.read_bytes()
    cases = {
        "cut off": data[: len(data) // 2],
        "cut off after": data[:2] + b"\xff\xfe\x00\x04\xff\xd9" + data[2 : len(data) // 2],
        "not an image": b"<html>not found</html>",
        "is empty": b"",
    }
    for problem, content in cases.items():
        path = tmp_path / "bad.jpg"
        path.write_bytes(content)
        with pytest.raises(SynclError, match=rf"bad\.jpg: .*{problem}.*; copy it again"):
            load_image(path, transform, method)
    with pytest.raises(SynclError, match=r"gone\.jpg: this image is missing; copy or unpack it again"):
        load_image(tmp_path / "gone.jpg", transform, method)
    with pytest.raises(SynclError, match="320x180 pixels, its calibration is for 1600x900"):
        load_image(picture, ImageTransform(0.1, 0, 0, False, (90, 160)), "exact", source_size=FULL)


def test_odd_sizes_are_not_stretched_by_reduced_decoding(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    Image.fromarray(np.tile(np.arange(163, dtype=np.uint8)[None, :, None], (91, 1, 3))).save(path, quality=95)
    transform = images.test_transform((91, 163), (20, 40))
    fast = load_image(path, transform, "fast", source_size=(91, 163)).astype(int)
    assert np.abs(fast - load_image(path, transform)).max() <= 3


def test_image_size_without_decoding(picture: Path, tmp_path: Path) -> None:
    assert image_size(picture) == (180, 320)
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(SynclError, match="not an image"):
        image_size(tmp_path / "text.jpg")
    with pytest.raises(SynclError, match="missing"):
        image_size(tmp_path / "gone.jpg")


def claiming(path: Path, width: int, height: int) -> Path:
    """A small image file whose header claims another size."""
    Image.new("RGB", (32, 16)).save(path)
    data = bytearray(path.read_bytes())
    if path.suffix == ".png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    else:
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    path.write_bytes(data)
    return path


def decode(path: Path, size: tuple[int, int]) -> images.RGBImage:
    return load_image(path, images.test_transform(size, size), source_size=size)


def test_jpegs_with_other_data_written_over_them_are_refused_or_found(tmp_path: Path) -> None:
    path, rough = tmp_path / "over.jpg", np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    picture = cv2.resize(rough, (320, 240))
    for options in ([], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]):
        cv2.imwrite(str(path), picture, options)
        decode(path, (240, 320))
        assert inspect_image(path, (320, 240)) is None
    cv2.imwrite(str(path), picture)
    whole = path.read_bytes()
    # The decoder draws over both and says nothing that we could hear.
    path.write_bytes(whole[:2000] + np.random.default_rng(1).bytes(2000) + whole[4000:])
    with pytest.raises(SynclError, match=r"over\.jpg: this JPEG is damaged at byte 2\d\d\d; copy it again"):
        decode(path, (240, 320))
    path.write_bytes(whole[:2000] + bytes(2000) + whole[4000:])
    decode(path, (240, 320))
    assert inspect_image(path, (320, 240)) == "damaged"


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("size", [(30_000, 30_000), (12_000, 6_000)])
def test_a_claimed_size_costs_no_memory(
    tmp_path: Path, name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr(images.cv2, "imdecode", refuse)
    path = claiming(tmp_path / name, *size)
    transform = images.test_transform(size, (32, 48))
    for read in (image_size, lambda path: load_image(path, transform)):
        with pytest.raises(SynclError, match=rf"{name}: .*(pixels|large)"):
            read(path)
    assert inspect_image(path, size) == "damaged"


def test_header_and_picture_have_the_same_size_however_a_camera_was_held(tmp_path: Path) -> None:
    path = tmp_path / "held.jpg"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (32, 16)).save(path, exif=exif)
        size = image_size(path)
        assert size == ((16, 32) if orientation < 5 else (32, 16))
        assert decode(path, size).shape[:2] == size


def test_header_and_picture_that_disagree_are_refused(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_claimed_size", lambda path, source: (180, 319))
    with pytest.raises(SynclError, match="the header says 319x180 pixels, the picture has 320x180"):
        decode(picture, (180, 319))


def test_upright_images_keep_what_lies_ahead_and_wide_ones_their_bottom() -> None:
    size, horizon, output = (2048, 1550), 1024.0, (128, 352)
    whole = images.test_transform(size, output, horizon)
    drawn = draw_transform(np.random.default_rng(1), size, output, (1.25, 1.25), 0.0, horizon)
    for transform in (whole, drawn):
        assert horizon * transform.scale - transform.crop_y == pytest.approx(0.2 * 128, abs=1)
    assert images.test_transform(size, output).crop_y > whole.crop_y
    for published in ((256, 704), (320, 800), (640, 1600), (900, 1600), (128, 352)):
        for row in (460.0, 520.0):
            kept = images.test_transform((900, 1600), published)
            assert images.test_transform((900, 1600), published, row) == kept
