"""Undistortion against OpenCV's published formulas, written out once more here."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from syncl.data.images import ImageTransform, load_image
from syncl.data.lenses import COEFFICIENTS, Lens, Undistortion
from syncl.data.nuscenes.clips.frames import ImageOptions, build_frame
from syncl.data.nuscenes.index import open_nuscenes

INTRINSICS = np.array([[100.0, 0.0, 61.0], [0.0, 90.0, 41.0], [0.0, 0.0, 1.0]])
SIZE = (80, 120)
# Rational, thin prism and tilted lenses at once, each part large enough to be seen.
ALL = (-0.3, 0.08, 0.004, -0.006, 0.02, 0.05, 0.03, -0.01, 0.006, -0.004, 0.005, 0.003, 0.05, -0.04)


def distorted(x: np.ndarray, y: np.ndarray, coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where a point of the pinhole's image plane at distance 1 is seen."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = (*coefficients, *[0.0] * 14)[:14]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    x2 = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2**2
    y2 = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2
    about_x = np.array([[1, 0, 0], [0, np.cos(tau_x), np.sin(tau_x)], [0, -np.sin(tau_x), np.cos(tau_x)]])
    about_y = np.array([[np.cos(tau_y), 0, -np.sin(tau_y)], [0, 1, 0], [np.sin(tau_y), 0, np.cos(tau_y)]])
    turn = about_y @ about_x
    onto_plane = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    u, v, w = np.einsum("ij,j...->i...", onto_plane @ turn, np.stack([x2, y2, np.ones_like(x2)]))
    return u / w, v / w


@pytest.mark.parametrize("count", COEFFICIENTS["pinhole"])
def test_every_pixel_comes_from_where_opencvs_formulas_say(count: int) -> None:
    lens = Lens("pinhole", ALL[:count], focal_scale=0.9)
    first, second = Undistortion.of(lens, INTRINSICS).maps(SIZE)
    # Fixed point: whole pixels, and 32nds of them.
    found = first + np.stack([second % 32, second // 32], axis=-1) / 32
    target = lens.undistorted(INTRINSICS)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    plane = (u - target[0, 2]) / target[0, 0], (v - target[1, 2]) / target[1, 1]
    x, y = distorted(*plane, lens.coefficients)
    (fx, _, cx), (_, fy, cy), _ = INTRINSICS
    expected = np.stack([x * fx + cx, y * fy + cy], axis=-1)
    assert np.abs(found - expected).max() <= 1 / 32
    fewer = max((n for n in COEFFICIENTS["pinhole"] if n < count), default=0)
    without, _ = distorted(*plane, ALL[:fewer])
    assert np.abs(without - x).max() * fx > 0.2, "the last coefficients would not be seen"


def test_tables_with_distortion_give_undistorted_images(tiny: Any, tmp_path: Path) -> None:
    """As T4 data have it: `camera_distortion` k1 k2 p1 p2 k3 in calibrated_sensor."""
    root = tiny.write(tmp_path)
    options = ImageOptions((90, 160))
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 3), np.uint8)
    file = root / next(
        r["filename"] for r in tiny.tables["sample_data"] if r["token"][-12:] == "t1_CAM_FRONT"
    )
    cv2.imwrite(str(file), cv2.resize(noise, (160, 90), interpolation=cv2.INTER_CUBIC))
    straight = build_frame(open_nuscenes(root, "v1.0-mini").sample(1), ("CAM_FRONT", "CAM_BACK"), options)
    for entry in tiny.tables["calibrated_sensor"]:
        if entry["token"] == "k_CAM_FRONT":
            entry["camera_distortion"] = list(ALL[:5])
    tiny.write(tmp_path, images=False)
    sample = open_nuscenes(root, "v1.0-mini").sample(1)
    frame = build_frame(sample, ("CAM_FRONT", "CAM_BACK"), options)
    camera = sample.cameras[0]
    assert camera.lens == Lens("pinhole", (*ALL[:5], *[0.0] * 9)) and sample.cameras[-1].lens is None
    image = cv2.cvtColor(cv2.imread(str(camera.path)), cv2.COLOR_BGR2RGB)
    expected = cv2.undistort(image, camera.intrinsics, np.array(ALL[:5]))
    shown = frame.images[0].permute(0, 2, 3, 1).numpy()
    assert np.abs(shown[0].astype(int) - expected).mean() < 0.2
    assert np.abs(shown[0].astype(int) - image).mean() > 1
    assert (frame.images[0, 1] == straight.images[0, 1]).all()
    assert (frame.rig.image_from_camera == straight.rig.image_from_camera).all()


def test_fast_reading_undistorts_at_full_size(tmp_path: Path) -> None:
    """Decoding at a half would put the distortion at the wrong pixels."""
    image = np.random.default_rng(0).integers(0, 255, (5, 8, 3), np.uint8)
    path = tmp_path / "image.jpg"
    cv2.imwrite(str(path), cv2.resize(image, (128, 80), interpolation=cv2.INTER_CUBIC))
    undistort = Undistortion.of(Lens("pinhole", ALL), INTRINSICS)
    half = ImageTransform(0.5, 0, 0, False, (40, 64))
    exact, fast = (load_image(path, half, method, (80, 128), undistort) for method in ("exact", "fast"))
    assert np.abs(exact.astype(int) - fast).mean() < 1
