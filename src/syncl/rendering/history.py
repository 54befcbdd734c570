"""What pictures remember from frame to frame: trails of past positions and partners in the ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from syncl.data.frame_objects import FrameObjects
from syncl.geometry.poses import invert_pose, move_points
from syncl.rendering.frame import Floats


@dataclass(frozen=True)
class History:
    """The past of one scene.

    Attributes:
        scene: the scene it belongs to; a frame of another scene starts afresh.
        trails: for every identity [K, 4] float64: time (s) and position (m) of the middle of the box's lower
            face in the global frame, oldest first. Positions are kept in the global frame so that trails
            stay where the objects were while the vehicle moves on.
        partners: for annotated identities, the identity of the track that last found them.
    """

    scene: str = ""
    trails: Mapping[str, Floats] = field(default_factory=dict)
    partners: Mapping[str, str] = field(default_factory=dict)


def advance(
    history: History,
    scene: str,
    objects: FrameObjects,
    global_from_vehicle: Floats,
    timestamp_s: float,
    trail_s: float,
) -> History:
    """`history` with the positions of one more frame; positions older than `trail_s` seconds are dropped."""
    if history.scene != scene:
        history = History(scene)
    trails = {name: trail[trail[:, 0] >= timestamp_s - trail_s] for name, trail in history.trails.items()}
    trails = {name: trail for name, trail in trails.items() if len(trail)}
    if trail_s > 0 and objects.count:
        feet = objects.boxes[:, :3] - [0, 0, 0.5] * objects.boxes[:, 3:6]
        feet = move_points(global_from_vehicle, feet)
        for name, foot in zip(objects.identities, feet):
            if not name:  # detections have no identity and leave no trail
                continue
            point = np.array([[timestamp_s, *foot]])
            trails[name] = np.concatenate([trails[name], point]) if name in trails else point
    return History(scene, trails, history.partners)


def trails_in_vehicle(history: History, global_from_vehicle: Floats) -> dict[str, Floats]:
    """Trails as [K, 3] points (m) in the frame of a vehicle at the given pose."""
    back = invert_pose(global_from_vehicle)
    return {name: move_points(back, trail[:, 1:]) for name, trail in history.trails.items()}
