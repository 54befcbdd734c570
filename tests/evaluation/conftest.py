"""Builders of small ground truths and results, as arrays and as files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES
from syncl.dataset_description import NUSCENES
from syncl.evaluation import EvaluationBoxes, GroundTruth, Racks, Samples


@dataclass
class Toy:
    """A few frames half a second apart, the vehicle at rest in the origin of each scene."""

    frames: int
    scenes: int = 1
    timestamps_us: Sequence[int] | None = None
    truth: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)

    def annotate(self, name: str, frame: int, x: float, y: float = 0.0, **more: Any) -> None:
        self.truth.append({"name": name, "sample": frame, "x": x, "y": y, "points": 5, **more})

    def find(self, name: str, frame: int, x: float, y: float = 0.0, **more: Any) -> None:
        self.found.append({"name": name, "sample": frame, "x": x, "y": y, "score": 0.9, **more})

    def samples(self) -> Samples:
        count = self.frames * self.scenes
        times = self.timestamps_us or [500_000 * (number % self.frames) for number in range(count)]
        return Samples(
            tokens=tuple(f"sample-{number}" for number in range(count)),
            scene=np.arange(count) // self.frames,
            timestamp_us=np.array(times, np.int64),
            ego_xy=np.zeros((count, 2)),
        )

    def ground_truth(self) -> GroundTruth:
        racks = Racks(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 4)))
        visibility = np.array([row.get("visibility", 0) for row in self.truth], np.int64)
        return GroundTruth(self.samples(), _boxes(self.truth), racks, visibility)

    def results(self) -> EvaluationBoxes:
        return _boxes(self.found)


def _boxes(rows: list[dict[str, Any]]) -> EvaluationBoxes:
    identities: dict[Any, int] = {}
    count = len(rows)

    def column(name: str, default: Any) -> list[Any]:
        return [row.get(name, default) for row in rows]

    attributes = [NUSCENES.attributes.index(name) if name else -1 for name in column("attribute", "")]
    sample = np.array(column("sample", 0), np.int64)
    return EvaluationBoxes(
        sample=sample,
        label=np.array([DETECTION_CLASSES.index(row["name"]) for row in rows], np.int64),
        centre=np.array([[row["x"], row["y"], row.get("z", 0.0)] for row in rows]).reshape(count, 3),
        size=np.array(column("size", (1.0, 1.0, 1.0)), float).reshape(count, 3),
        rotation=np.array(column("rotation", (1.0, 0.0, 0.0, 0.0)), float).reshape(count, 4),
        velocity=np.array(column("velocity", (0.0, 0.0)), float).reshape(count, 2),
        points=np.array(column("points", -1), np.int64),
        score=np.array(column("score", -1.0), float),
        attribute=np.array(attributes, np.int64),
        identity=np.array(
            [identities.setdefault(key, len(identities)) for key in column("id", "x")], np.int64
        ),
        matched_sample=sample,
    )


@pytest.fixture
def toy() -> Callable[..., Toy]:
    return Toy


@dataclass
class Dataset:
    """A nuScenes folder with one scene of `scene-0103` and results files that fit it."""

    root: Path
    tokens: list[str]

    def box(self, task: str, frame: int = 0, **changes: Any) -> dict[str, Any]:
        box: dict[str, Any] = {
            "sample_token": self.tokens[frame],
            "translation": [110.0, 50.0, 1.0],
            "size": [2.0, 4.0, 1.5],
            "rotation": [1.0, 0.0, 0.0, 0.0],
            "velocity": [0.0, 0.0],
            f"{task}_name": "car",
            f"{task}_score": 0.9,
        }
        box |= {"attribute_name": "vehicle.parked"} if task == "detection" else {"tracking_id": "1"}
        return box | changes

    def good(self, task: str) -> dict[str, Any]:
        results = {token: [self.box(task, frame)] for frame, token in enumerate(self.tokens)}
        return {"meta": {"use_camera": True}, "results": results}

    def write(self, content: dict[str, Any] | str, name: str = "results.json") -> Path:
        path = self.root / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """One car, standing at (110, 50) in three frames, seen from a vehicle at (100, 50)."""
    tokens = ["s0", "s1", "s2"]
    tables: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": "c0", "name": "vehicle.car"}, {"token": "c1", "name": "animal"}],
        "attribute": [{"token": "a0", "name": "vehicle.parked"}],
        "instance": [{"token": "i0", "category_token": "c0"}, {"token": "i1", "category_token": "c1"}],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP"}, {"token": "cam", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            {"token": "k0", "sensor_token": "lidar"},
            {"token": "k1", "sensor_token": "cam"},
        ],
        "scene": [{"token": "scene", "name": "scene-0103"}, {"token": "other", "name": "scene-0061"}],
        "sample": [
            {"token": token, "scene_token": "scene", "timestamp": 500_000 * number}
            for number, token in enumerate(tokens)
        ],
        "sample_data": [
            {
                "token": f"{token}-{sensor}",
                "sample_token": token,
                "ego_pose_token": f"{token}-{sensor}",
                "calibrated_sensor_token": sensor,
                "is_key_frame": True,
            }
            for token in tokens
            for sensor in ("k0", "k1")
        ],
        "ego_pose": [
            {"token": f"{token}-{sensor}", "translation": [100.0 if sensor == "k0" else 0.0, 50.0, 0.0]}
            for token in tokens
            for sensor in ("k0", "k1")
        ],
        "sample_annotation": [
            {
                "token": f"n{number}",
                "sample_token": token,
                "instance_token": "i0",
                "attribute_tokens": ["a0"],
                "translation": [110.0, 50.0, 1.0],
                "size": [2.0, 4.0, 1.5],
                "rotation": [1.0, 0.0, 0.0, 0.0],
                "prev": f"n{number - 1}" if number else "",
                "next": f"n{number + 1}" if number < 2 else "",
                "num_lidar_pts": 3,
                "num_radar_pts": 0,
            }
            for number, token in enumerate(tokens)
        ],
    }
    folder = tmp_path / "v1.0-mini"
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return Dataset(tmp_path, tokens)
