"""Table records in the nuScenes schema.

Scenes are simulated in frames of their own and laid somewhere on the map, turned by some angle, here.
Tokens are digests of the seed and the record's place in the world, so they never depend on who made it when.
"""

from dataclasses import dataclass
from hashlib import md5

import numpy as np

from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL
from syncl.data.synthetic import own_data
from syncl.data.synthetic.actors import Actor
from syncl.data.synthetic.mounts import LIDAR_PLACE, LIDAR_YAW_DEG, Rig, channels_of, vehicle_from_camera
from syncl.data.synthetic.shapes import Array
from syncl.data.synthetic.world import WorldConfig
from syncl.geometry.poses import quaternion_from_rotation, quaternion_from_yaw

Record = dict[str, object]
Table = list[Record]

EPOCH_US = 1_532_402_927_600_000
SCENE_GAP_US = 3_600_000_000
MOVING_MPS = 0.25

CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}
ATTRIBUTES = {
    "vehicle.moving": "Vehicle is moving.",
    "vehicle.stopped": "Vehicle, with a driver, is not moving but could.",
    "vehicle.parked": "Vehicle is stationary and nobody drives it.",
    "cycle.with_rider": "There is a rider on the cycle.",
    "cycle.without_rider": "There is no rider on the cycle.",
    "pedestrian.sitting_lying_down": "The person sits or lies.",
    "pedestrian.standing": "The person stands.",
    "pedestrian.moving": "The person moves.",
}
VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


@dataclass(frozen=True)
class Shot:
    """One picture: channel, time after the first keyframe, vehicle pose [4, 4] (scene frame), intrinsics."""

    channel: str
    time_us: int
    pose: Array
    matrix: Array


@dataclass(frozen=True)
class Box:
    """One annotation in the scene frame: which actor, where, how fast, how well seen."""

    index: int
    actor: Actor
    place: Array
    heading: float
    speed: float
    visibility: int
    lidar_points: int


def token(seed: int, *parts: object) -> str:
    """A 32-digit hexadecimal token of a record."""
    text = "/".join(str(part) for part in ("syncl", seed, *parts))
    return md5(text.encode(), usedforsecurity=False).hexdigest()


class SceneRecords:
    """The records of one scene, by table.

    Args:
        config: the world's options.
        split: "train" or "val".
        number: index of the scene within its split.
        name: nuScenes scene name.
        rng: chooses where on the map the scene lies.
        rig: its cameras.
    """

    def __init__(
        self, config: WorldConfig, split: str, number: int, name: str, rng: np.random.Generator, rig: Rig
    ) -> None:
        self._rig = rig
        self._sizes = {mount.channel: rig.size(mount) for mount in rig.mounts}
        self.name = name
        self._config = config
        self._where = (split, number)
        self._start_us = EPOCH_US + SCENE_GAP_US * (number + (1000 if split == "val" else 0))
        self._turn = float(rng.uniform(-np.pi, np.pi))
        self._shift = np.append(rng.uniform(400, 1400, 2), 0.0)
        self.tables: dict[str, Table] = {name: [] for name in SCENE_TABLES}
        self._last_data: dict[str, Record] = {}
        self._instances: dict[int, tuple[Record, Record]] = {}
        self._counts: dict[int, int] = {}
        self._open()

    def filename(self, shot: Shot) -> str:
        """Path of a picture below the data root."""
        stem = f"{self._log}__{shot.channel}__{self._start_us + shot.time_us}"
        return f"samples/{shot.channel}/{stem}.jpg"

    def add_sample(self, time_us: int, pose: Array, shots: list[Shot], boxes: list[Box]) -> None:
        """Add a keyframe: the vehicle's pose at its time, its pictures and its annotations."""
        samples = self.tables["sample"]
        number = len(samples)
        key = self._token("sample", number)
        sample: Record = {
            "token": key,
            "timestamp": self._start_us + time_us,
            "prev": samples[-1]["token"] if samples else "",
            "next": "",
            "scene_token": self._scene["token"],
        }
        if samples:
            samples[-1]["next"] = key
        samples.append(sample)
        self._scene["nbr_samples"] = number + 1
        self._scene["last_sample_token"] = key
        if not number:
            self._scene["first_sample_token"] = key
        lidar = Shot(LIDAR_CHANNEL, time_us, pose, np.zeros((0, 0)))
        for shot in (lidar, *shots):
            self._add_data(shot, key, number)
        for box in boxes:
            self._add_annotation(box, key, number)

    def _open(self) -> None:
        seed = self._config.seed
        self._log = f"syncl-{seed}-{self._where[0]}-{self._where[1]:04d}"
        log: Record = {
            "token": self._token("log"),
            "logfile": self._log,
            "vehicle": "synthetic",
            "date_captured": "2018-07-24",
            "location": "synthetic-town",
        }
        self.tables["log"].append(log)
        self._scene: Record = {
            "token": self._token("scene"),
            "log_token": log["token"],
            "nbr_samples": 0,
            "first_sample_token": "",
            "last_sample_token": "",
            "name": self.name,
            "description": f"Synthetic streets, {self._config.difficulty} difficulty, seed {seed}",
        }
        self.tables["scene"].append(self._scene)
        for mount in self._rig.mounts:
            self._add_calibration(mount.channel, mount.place, vehicle_from_camera(mount)[:3, :3])
        yaw = np.radians(LIDAR_YAW_DEG)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
        self._add_calibration(LIDAR_CHANNEL, LIDAR_PLACE, turn)

    def _add_calibration(self, channel: str, place: tuple[float, float, float], rotation: Array) -> None:
        record: Record = {
            "token": self._token("calibrated_sensor", channel),
            "sensor_token": token(self._config.seed, "sensor", channel),
            "translation": list(place),
            "rotation": quaternion_from_rotation(rotation).tolist(),
            "camera_intrinsic": [],
        }
        self.tables["calibrated_sensor"].append(record)

    def _add_data(self, shot: Shot, sample: str, number: int) -> None:
        key = self._token("sample_data", shot.channel, number)
        camera = shot.channel != LIDAR_CHANNEL
        size = self._sizes.get(shot.channel, (0, 0))
        time_us = self._start_us + shot.time_us
        calibrations = self.tables["calibrated_sensor"]
        calibration = self._token("calibrated_sensor", shot.channel)
        if camera and shot.channel not in self._last_data:
            owner = next(record for record in calibrations if record["token"] == calibration)
            owner["camera_intrinsic"] = shot.matrix.tolist()
        name = self.filename(shot)
        before = self._last_data.get(shot.channel)
        record: Record = {
            "token": key,
            "sample_token": sample,
            "ego_pose_token": key,
            "calibrated_sensor_token": calibration,
            "timestamp": time_us,
            "fileformat": "jpg" if camera else "pcd",
            "is_key_frame": True,
            "height": size[1],
            "width": size[0],
            "filename": name if camera else name.removesuffix(".jpg") + ".pcd.bin",
            "prev": before["token"] if before else "",
            "next": "",
        }
        if before:
            before["next"] = key
        self._last_data[shot.channel] = record
        self.tables["sample_data"].append(record)
        heading = float(np.arctan2(shot.pose[1, 0], shot.pose[0, 0]))
        self.tables["ego_pose"].append(
            {"token": key, "timestamp": time_us, **self._on_map(shot.pose[:3, 3], heading)}
        )

    def _add_annotation(self, box: Box, sample: str, number: int) -> None:
        instance_key = self._token("instance", box.index)
        key = self._token("sample_annotation", box.index, number)
        actor = box.actor
        length, width, height = (float(v) for v in actor.size)
        attribute = attribute_of(actor, box.speed)
        seed = self._config.seed
        record: Record = {
            "token": key,
            "sample_token": sample,
            "instance_token": instance_key,
            "visibility_token": str(box.visibility),
            "attribute_tokens": [token(seed, "attribute", attribute)] if attribute else [],
            "size": [width, length, height],
            "prev": "",
            "next": "",
            "num_lidar_pts": box.lidar_points,
            "num_radar_pts": 0,
            **self._on_map(np.append(box.place, height / 2), box.heading),
        }
        self.tables["sample_annotation"].append(record)
        known = self._instances.get(box.index)
        if known is None:
            instance: Record = {
                "token": instance_key,
                "category_token": token(seed, "category", _categories(self._config)[actor.name]),
                "nbr_annotations": 0,
                "first_annotation_token": key,
                "last_annotation_token": "",
            }
            self.tables["instance"].append(instance)
            count = 0
        else:
            instance, before = known
            record["prev"] = before["token"]
            before["next"] = key
            count = self._counts[box.index]
        self._counts[box.index] = count + 1
        instance["nbr_annotations"] = count + 1
        instance["last_annotation_token"] = key
        self._instances[box.index] = (instance, record)

    def _on_map(self, place: Array, heading: float) -> Record:
        cos, sin = np.cos(self._turn), np.sin(self._turn)
        turned = np.array([place[0] * cos - place[1] * sin, place[0] * sin + place[1] * cos, place[2]])
        rotation = quaternion_from_yaw(heading + self._turn)
        return {"translation": (turned + self._shift).tolist(), "rotation": rotation.tolist()}

    def _token(self, *parts: object) -> str:
        return token(self._config.seed, *self._where, *parts)


SCENE_TABLES = (
    "log", "scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "instance", "sample_annotation"
)  # fmt: skip


def attribute_of(actor: Actor, speed: float) -> str:
    """nuScenes attribute name of an actor at a speed in m/s; "" for cones and barriers."""
    if actor.name in ("traffic_cone", "barrier"):
        return ""
    if actor.name == "pedestrian":
        if actor.posture == "sitting":
            return "pedestrian.sitting_lying_down"
        return "pedestrian.moving" if speed > MOVING_MPS else "pedestrian.standing"
    if actor.name in ("motorcycle", "bicycle"):
        return "cycle.with_rider" if actor.posture == "driving" else "cycle.without_rider"
    if actor.posture == "parked":
        return "vehicle.parked"
    return "vehicle.moving" if speed > MOVING_MPS else "vehicle.stopped"


def _categories(config: WorldConfig) -> dict[str, str]:
    return own_data.CATEGORIES if config.layout == "own" else CATEGORIES


def shared_tables(config: WorldConfig, logs: Table) -> dict[str, Table]:
    """The tables that describe the world, not one scene: attribute, category, map, sensor, visibility."""
    seed = config.seed
    channels = [(channel, "camera") for channel in channels_of(config.rigs, config.layout)] + [
        (LIDAR_CHANNEL, "lidar")
    ]
    return {
        "attribute": [
            {"token": token(seed, "attribute", name), "name": name, "description": text}
            for name, text in ATTRIBUTES.items()
        ],
        "category": [
            {"token": token(seed, "category", name), "name": name, "description": f"Synthetic {ours}."}
            for ours, name in _categories(config).items()
        ],
        "map": [
            {
                "token": token(seed, "map"),
                "category": "semantic_prior",
                "filename": f"maps/{token(seed, 'map')}.png",
                "log_tokens": [log["token"] for log in logs],
            }
        ],
        "sensor": [
            {"token": token(seed, "sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in channels
        ],
        "visibility": [
            {"token": key, "level": level, "description": f"visibility of whole object is {level[1:]} %"}
            for key, level in VISIBILITIES.items()
        ],
    }
