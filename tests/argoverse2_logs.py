"""A log of Argoverse 2's sensor dataset, written by hand with pyarrow."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from pyarrow import feather

from syncl.data.argoverse2.log_folders import CAMERAS, RING_CAMERAS
from syncl.geometry.poses import quaternion_from_yaw

Tables = dict[str, dict[str, list[object]]]
LOG = "02a00399-3857-444e-8db3-a8f58489c394"
START = 315_966_000_000_000_123
SWEEPS = [START + 100_000_000 * number for number in range(3)]
POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
ANNOTATIONS, POSES = "annotations.feather", "city_SE3_egovehicle.feather"
EXTRINSICS, INTRINSICS = "calibration/egovehicle_SE3_sensor.feather", "calibration/intrinsics.feather"


def image_times(camera: int) -> list[int]:
    """20 Hz, each camera with an offset of its own; the last camera is silent at the last sweep."""
    times = [START + (camera - 3) * 5_000_000 + 50_000_000 * number for number in range(5)]
    return times[:3] if camera == 6 else times


def pose(yaw: float, *place: float) -> dict[str, float]:
    return dict(zip(POSE, [*quaternion_from_yaw(yaw).tolist(), *place]))


def columns(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def box(sweep: int, track: str, x: float, points: int = 5, name: str = "BUS") -> dict[str, object]:
    size = {"length_m": 10.0, "width_m": 3.0, "height_m": 3.5}
    about = {"timestamp_ns": SWEEPS[sweep], "track_uuid": track, "category": name}
    return {**about, **size, **pose(np.pi / 2, x, 0.0, 1.0), "num_interior_pts": points}


def written_log() -> Tables:
    """A vehicle that looks along y and drives that way at 10 m/s, with a bus 20 m ahead of it."""
    times = sorted({*SWEEPS, *(time for camera in range(7) for time in image_times(camera))})
    moving = [{"timestamp_ns": t, **pose(np.pi / 2, 5.0, 1e-8 * (t - START), 0.3)} for t in times]
    boxes = [box(sweep, "bus", 20.0) for sweep in range(3)] + [box(1, "dog", 4.0, 0, "DOG")]
    upright = {"fx_px": 50.0, "fy_px": 50.0, "cx_px": 24.0, "cy_px": 32.0, "height_px": 64, "width_px": 48}
    wide = upright | {"cx_px": 32.0, "cy_px": 24.0, "height_px": 48, "width_px": 64}
    lens = {"k1": 0.0, "k2": 0.0, "k3": 0.0}
    sensors = (*RING_CAMERAS, "up_lidar")
    # Cameras look along x: right is -y, down is -z.
    ahead = dict(zip(POSE, [0.5, -0.5, 0.5, -0.5, 1.5, 0.0, 1.4]))
    return {
        ANNOTATIONS: columns(boxes),
        POSES: columns(moving),
        EXTRINSICS: columns([{"sensor_name": name, **ahead} for name in sensors]),
        INTRINSICS: columns(
            [
                {"sensor_name": name, **(wide if place else upright), **lens}
                for place, name in enumerate(RING_CAMERAS)
            ]
        ),
    }


def write_tables(root: Path, tables: Tables, split: str = "val") -> Path:
    log = root / split / LOG
    for place, camera in enumerate(RING_CAMERAS):
        (log / CAMERAS / camera).mkdir(parents=True)
        shape = (48, 64, 3) if place else (64, 48, 3)
        data = cv2.imencode(".jpg", np.full(shape, 20 * place, np.uint8))[1].tobytes()
        for time in image_times(place):
            (log / CAMERAS / camera / f"{time}.jpg").write_bytes(data)
    (log / "calibration").mkdir()
    for name, table in tables.items():
        feather.write_feather(pa.table(table), str(log / name))
    return root
