"""One scene from seed to pictures and table records."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from syncl.data.synthetic.actors import Cast, cast_scene
from syncl.data.synthetic.camera import Lens, see
from syncl.data.synthetic.ground import paint_ground
from syncl.data.synthetic.mounts import random_rig, rig_of_layout, vehicle_from_camera
from syncl.data.synthetic.movement import LEAD_S, STEP_S, Motion
from syncl.data.synthetic.records import Box, SceneRecords, Shot
from syncl.data.synthetic.scenery import build_scenery, choose_light
from syncl.data.synthetic.shapes import Array
from syncl.data.synthetic.stage import Stage
from syncl.data.synthetic.streets import lay_streets
from syncl.data.synthetic.visibility import Visibility
from syncl.data.synthetic.world import POPULATIONS, WorldConfig

ANNOTATED_M = 60.0
JPEG_QUALITY = 92
TOP_EGO_SPEED = 6.0
_RIG = 1


@dataclass(frozen=True)
class SceneJob:
    """A scene to make.

    Attributes:
        root: folder the pictures go into.
        config: the world's options.
        split: "train" or "val".
        number: index within the split; with the seed it fixes the content.
        name: nuScenes scene name.
    """

    root: Path
    config: WorldConfig
    split: str
    number: int
    name: str


def make_scene(job: SceneJob) -> SceneRecords:
    """Write a scene's pictures and return its table records."""
    cv2.setNumThreads(1)
    config = job.config
    key = [config.seed, 0 if job.split == "train" else 1, job.number]
    rng = np.random.default_rng(key)
    # A generator of its own, so that the scene is the one that six cameras would see.
    rig = rig_of_layout(config.layout, config.width, config.height)
    if config.rigs:
        rig = random_rig(np.random.default_rng([*key, _RIG]), config.width, config.keyframes)
    sizes = {mount.channel: rig.size(mount) for mount in rig.mounts}
    widest, highest = (max(size[side] for size in sizes.values()) for side in (0, 1))
    people = POPULATIONS[config.difficulty]
    streets = lay_streets(rng, TOP_EGO_SPEED * config.duration_s, people.through_streets)
    cast = cast_scene(rng, streets, people, config.duration_s)
    light = choose_light(rng)
    scenery = build_scenery(rng, streets, people.occluders, cast.ego.places)
    ground = paint_ground(rng, streets, scenery, light, cast.ego.places)
    stage = Stage(scenery, cast.actors, light)
    records = SceneRecords(config, job.split, job.number, job.name, rng, rig)
    grain = rng.normal(128, rng.uniform(2.0, 5.0), (2 * highest, 2 * widest, 3))
    noise = np.clip(grain, 0, 255).astype(np.uint8)
    lenses = {mount.channel: (mount, rig.intrinsics(mount)) for mount in rig.mounts}
    present = _presence(cast, config)
    for frame in range(config.keyframes):
        time_s = frame * config.period_s
        sight = Visibility(len(cast.actors), rig.width * rig.height, people.lidar_range_m)
        shots = []
        for channel, (mount, matrix) in lenses.items():
            if not rig.delivers(channel, frame):
                continue
            moment = time_s + mount.delay_us * 1e-6
            width, height = sizes[channel]
            pose = pose_at(cast.ego, moment)
            lens = Lens(matrix, pose @ vehicle_from_camera(mount), width, height)
            x, y = int(rng.integers(width)), int(rng.integers(height))
            view = see(stage, ground, lens, moment, noise[y : y + height, x : x + width])
            sight.add(view)
            shot = Shot(channel, round(moment * 1e6), pose, matrix)
            file = job.root / records.filename(shot)
            done, data = cv2.imencode(".jpg", view.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            if not done:
                raise OSError(f"{file}: could not be encoded")
            file.write_bytes(data.tobytes())
            shots.append(shot)
        pose = pose_at(cast.ego, time_s)
        boxes = [_box(cast, int(k), time_s, pose, sight) for k in np.flatnonzero(present[:, frame])]
        records.add_sample(round(time_s * 1e6), pose, shots, boxes)
    return records


def pose_at(motion: Motion, time_s: float) -> Array:
    """Rigid transform [4, 4] of something that moves on the ground, scene frame."""
    place, heading, _ = state_at(motion, time_s)
    pose = np.eye(4)
    cos, sin = np.cos(heading), np.sin(heading)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:2, 3] = place
    return pose


def state_at(motion: Motion, time_s: float) -> tuple[Array, float, float]:
    """Place [2] in metres, heading in radians and speed in m/s."""
    position = (time_s + LEAD_S) / STEP_S
    index = min(max(int(position), 0), len(motion.headings) - 2)
    part = position - index
    place = motion.places[index] * (1 - part) + motion.places[index + 1] * part
    heading = motion.headings[index] * (1 - part) + motion.headings[index + 1] * part
    speed = (motion.travelled[index + 1] - motion.travelled[index]) / STEP_S
    return place, float(heading), float(speed)


def _presence(cast: Cast, config: WorldConfig) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Whether each actor is annotated in each keyframe: from its first to its last within 60 m."""
    times = np.arange(config.keyframes) * config.period_s
    rows = np.round((times + LEAD_S) / STEP_S).astype(int)
    present = np.zeros((len(cast.actors), config.keyframes), bool)
    for k, actor in enumerate(cast.actors):
        distance = np.linalg.norm(actor.motion.places[rows] - cast.ego.places[rows], axis=-1)
        near = np.flatnonzero(distance < ANNOTATED_M)
        if len(near):
            present[k, near[0] : near[-1] + 1] = True
    return present


def _box(cast: Cast, index: int, time_s: float, ego: Array, sight: Visibility) -> Box:
    actor = cast.actors[index]
    place, heading, speed = state_at(actor.motion, time_s)
    points = sight.lidar_points(index, place, heading, actor.size, ego)
    return Box(index, actor, place, heading, speed, sight.level(index), points)
