"""A hand-written nuScenes table set of two scenes, small enough to know every number in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest

from own_world import as_recordings
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
# Directions of the optical axes, degrees counter-clockwise from forward.
CAMERA_YAW = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_FRONT_LEFT": 55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}
SCENES = {"scene-0061": 4, "scene-0103": 3}
WIDTH, HEIGHT = 160, 90
FOCAL = 130.0
LIDAR_IN_EGO = [1.0, 0.0, 1.8]
KEYFRAME_US = 500_000
# Ego drives along +y of the map at 4 m/s, turned to the left by 90 degrees.
EGO_SPEED = 4.0

Table = list[dict[str, Any]]


@dataclass
class TinyTables:
    """The tables as python lists, to be spoilt by a test and then written."""

    tables: dict[str, Table] = field(default_factory=dict)

    def write(self, root: Path, version: str = "v1.0-mini", images: bool = True) -> Path:
        folder = root / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            (folder / f"{name}.json").write_bytes(orjson.dumps(table, option=orjson.OPT_INDENT_2))
        if images:
            for record in self.tables["sample_data"]:
                if record["filename"].endswith(".jpg"):
                    write_image(root / record["filename"])
        return root

    def add_sweeps(self, scenes: tuple[str, ...] = tuple(SCENES)) -> None:
        """Five images of every camera between any two key frames, ahead of the key frames and in no order."""
        data, poses = self.tables["sample_data"], self.tables["ego_pose"]
        keys = [record for record in data if record["is_key_frame"] and record["fileformat"] == "jpg"]
        for record in keys:
            scene, _, number = record["sample_token"].partition("_t")
            if scene not in scenes or number == "0":
                continue
            start_us = 1_000_000_000 * (1 + list(SCENES).index(scene))
            channel = record["filename"].split("/")[1]
            for step in (3, 1, 5, 2, 4):
                time_us = record["timestamp"] - round(step * KEYFRAME_US / 6)
                token = f"{record['sample_token']}_minus{step}_{channel}"
                poses.insert(
                    0,
                    {
                        "token": f"pose_{token}", "timestamp": time_us,
                        "translation": ego_translation(time_us - start_us),
                        "rotation": quaternion_about_z(90),
                    },
                )  # fmt: skip
                sweep = {"token": token, "ego_pose_token": f"pose_{token}", "is_key_frame": False}
                file = f"sweeps/{channel}/{token}.jpg"
                data.insert(0, {**record, **sweep, "timestamp": time_us, "filename": file})


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = [sum(path.name.encode()) % 200 + 20, 100, 180]
    image = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    image[: HEIGHT // 2, : WIDTH // 2] //= 2
    cv2.imwrite(str(path), image)


def quaternion_about_z(degrees: float) -> list[float]:
    half = np.deg2rad(degrees) / 2
    return [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))]


def camera_rotation(degrees: float) -> list[float]:
    """Ego from camera (x right, y down, z forward) for a level camera `degrees` left of forward."""
    from syncl.geometry.poses import quaternion_from_rotation

    yaw = np.deg2rad(degrees)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0])
    down = np.array([0.0, 0, -1])
    right = np.cross(down, forward)
    return quaternion_from_rotation(np.stack([right, down, forward], axis=1)).tolist()


def ego_translation(time_us: int) -> list[float]:
    return [100.0, 200.0 + EGO_SPEED * time_us * 1e-6, 0.0]


def make_tiny(scenes: dict[str, int] = SCENES) -> TinyTables:
    """Two scenes (4 and 3 key frames at 2 Hz) with a moving car, a parked truck, a pedestrian and a stroller.

    In ego coordinates of the first key frame the car starts 10 m ahead and drives off at 10 m/s (global +y);
    the truck stands 8 m to the left; the pedestrian is seen once only; the stroller is no detection class.
    """
    categories = ["vehicle.car", "vehicle.truck", "human.pedestrian.adult", "human.pedestrian.stroller"]
    tables: dict[str, Table] = {
        "category": [{"token": f"cat{i}", "name": name} for i, name in enumerate(categories)],
        "attribute": [{"token": "att0", "name": "vehicle.moving", "description": ""}],
        "visibility": [
            {"token": str(i + 1), "level": level, "description": ""}
            for i, level in enumerate(["v0-40", "v40-60", "v60-80", "v80-100"])
        ],
        "map": [{"token": "map0", "log_tokens": ["log0"], "category": "semantic_prior", "filename": ""}],
        "log": [{"token": "log0", "logfile": "", "vehicle": "", "date_captured": "", "location": "nowhere"}],
        "sensor": [{"token": f"s_{c}", "channel": c, "modality": "camera"} for c in CAMERAS[::-1]]
        + [{"token": "s_lidar", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "calibrated_sensor": [
            {
                "token": f"k_{c}",
                "sensor_token": f"s_{c}",
                "translation": [1.5, 0.0, 1.6],
                "rotation": camera_rotation(CAMERA_YAW[c]),
                "camera_intrinsic": [[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]],
            }
            for c in CAMERAS
        ]
        + [
            {
                "token": "k_lidar",
                "sensor_token": "s_lidar",
                "translation": LIDAR_IN_EGO,
                "rotation": quaternion_about_z(-90),
                "camera_intrinsic": [],
            }
        ],
        "scene": [], "sample": [], "sample_data": [], "ego_pose": [], "instance": [], "sample_annotation": [],
    }  # fmt: skip
    for number, (name, count) in enumerate(scenes.items()):
        _add_scene(tables, number, name, count)
    return TinyTables(tables)


def _add_scene(tables: dict[str, Table], number: int, name: str, count: int) -> None:
    tokens = [f"{name}_t{k}" for k in range(count)]
    tables["scene"].append(
        {
            "token": f"tok_{name}", "name": name, "description": "made by hand", "log_token": "log0",
            "nbr_samples": count, "first_sample_token": tokens[0], "last_sample_token": tokens[-1],
        }
    )  # fmt: skip
    start_us = 1_000_000_000 * (number + 1)
    for k, token in enumerate(tokens):
        time_us = k * KEYFRAME_US
        tables["sample"].append(
            {
                "token": token, "timestamp": start_us + time_us, "scene_token": f"tok_{name}",
                "prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < count else "",
            }
        )  # fmt: skip
        for c, channel in enumerate((*CAMERAS, "LIDAR_TOP")):
            # Cameras fire up to 60 ms before the lidar; the ego vehicle has moved in between.
            offset = -10_000 * (c + 1) if channel in CAMERAS else 0
            camera = channel in CAMERAS
            tables["ego_pose"].append(
                {
                    "token": f"pose_{token}_{channel}", "timestamp": start_us + time_us + offset,
                    "translation": ego_translation(time_us + offset), "rotation": quaternion_about_z(90),
                }
            )  # fmt: skip
            tables["sample_data"].append(
                {
                    "token": f"data_{token}_{channel}", "sample_token": token,
                    "ego_pose_token": f"pose_{token}_{channel}",
                    "calibrated_sensor_token": f"k_{channel}" if camera else "k_lidar",
                    "timestamp": start_us + time_us + offset, "fileformat": "jpg" if camera else "pcd",
                    "is_key_frame": True, "height": HEIGHT if camera else 0, "width": WIDTH if camera else 0,
                    "filename": f"samples/{channel}/{token}.{'jpg' if camera else 'pcd.bin'}",
                    "prev": "", "next": "",
                }
            )  # fmt: skip
    # A sweep between key frames, which the reader must leave out.
    sweep = dict(
        tables["sample_data"][-1], token=f"sweep_{name}", is_key_frame=False, ego_pose_token="no such"
    )
    tables["sample_data"].append(sweep)
    everywhere = range(count)
    _add_instance(tables, name, tokens, "car", 0, everywhere, [100.0, 210.0, 0.8], [0.0, 10.0], 90)
    _add_instance(tables, name, tokens, "truck", 1, everywhere, [92.0, 200.0, 1.5], [0.0, 0.0], 180)
    _add_instance(tables, name, tokens, "walker", 2, [1], [105.0, 205.0, 0.9], [0.0, 0.0], 0)
    _add_instance(tables, name, tokens, "stroller", 3, everywhere, [104.0, 205.0, 0.5], [0.0, 0.0], 0)


SIZES_WLH = {
    "car": [1.9, 4.6, 1.6],
    "truck": [2.5, 7.0, 3.0],
    "walker": [0.6, 0.7, 1.8],
    "stroller": [0.5, 0.9, 1.0],
}


def _add_instance(
    tables: dict[str, Table],
    scene: str,
    samples: list[str],
    kind: str,
    category: int,
    frames: Any,
    centre: list[float],
    velocity: list[float],
    yaw_degrees: float,
) -> None:
    frames = list(frames)
    instance = f"{scene}_{kind}"
    tokens = [f"ann_{instance}_{k}" for k in frames]
    tables["instance"].append(
        {
            "token": instance, "category_token": f"cat{category}", "nbr_annotations": len(frames),
            "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1],
        }
    )  # fmt: skip
    for place, k in enumerate(frames):
        time_s = k * KEYFRAME_US * 1e-6
        x, y, z = centre
        tables["sample_annotation"].append(
            {
                "token": tokens[place], "sample_token": samples[k], "instance_token": instance,
                "visibility_token": "4" if kind == "car" else "1" if kind == "truck" else "",
                "attribute_tokens": ["att0"] if kind == "car" else [],
                "translation": [x + velocity[0] * time_s, y + velocity[1] * time_s, z],
                "size": SIZES_WLH[kind], "rotation": quaternion_about_z(yaw_degrees),
                "prev": tokens[place - 1] if place else "",
                "next": tokens[place + 1] if place + 1 < len(tokens) else "",
                "num_lidar_pts": 0 if kind == "truck" and k == 0 else 12, "num_radar_pts": 0,
            }
        )  # fmt: skip


@pytest.fixture
def tiny() -> TinyTables:
    """The hand-written tables, not yet on disk; spoil them, then `tiny.write(folder)`."""
    return make_tiny()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the hand-written tables and images (version v1.0-mini); do not change it."""
    return make_tiny().write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of own data: one scene a split, three frames, small images."""
    root = tmp_path_factory.mktemp("own") / "yard"
    generate_world(root, WorldConfig(1, 1, keyframes=3, width=96, height=64, seed=2, layout="own"))
    return root


@pytest.fixture(scope="session")
def recordings(yard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_recordings(yard, tmp_path_factory.mktemp("recordings"))
