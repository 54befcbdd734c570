"""What `syncl check-rig` says: each camera's place and direction in words, and what looks wrong."""

import numpy as np

from syncl.data.recording.recording import Recording
from syncl.data.recording.rig_contents import Array

# No car carries its cameras farther out than this.
_FARTHEST_M = 15.0
# Of the width; a principal point farther off the middle is that of images of another size.
_OFF_CENTRE = 0.3


def _pose(recording: Recording, number: int, name: str) -> Array:
    rig = recording.rig
    return rig.vehicle_from_camera(rig.moments[number], rig.camera(name))


def describe_camera(recording: Recording, number: int, name: str) -> str:
    """Where a camera is at a frame (from 0) and where it looks, in words."""
    camera = recording.rig.camera(name)
    pose = _pose(recording, number, name)
    x, y, z = pose[:3, 3]
    ahead, right = pose[:3, 2], pose[:3, 0]
    yaw = np.degrees(np.arctan2(ahead[1], ahead[0]))
    pitch, roll = (
        np.degrees(np.arcsin(np.clip(ahead[2], -1, 1))),
        np.degrees(np.arcsin(np.clip(-right[2], -1, 1))),
    )
    focal = recording.rig.intrinsics(recording.rig.moments[number], camera)[0, 0]
    view = 2 * np.degrees(np.arctan(camera.width / 2 / focal))
    return (
        f"at x {x:.2f} y {y:.2f} z {z:.2f} m, looks {_side(yaw)}, {abs(pitch):.1f} deg "
        f"{'up' if pitch > 0 else 'down'}, roll {round(float(roll), 1) + 0.0:.1f}, view {view:.0f} deg"
    )


def _side(yaw_deg: float) -> str:
    if abs(yaw_deg) < 0.5:
        return "ahead"
    return f"{abs(yaw_deg):.0f} deg {'left' if yaw_deg > 0 else 'right'}"


def find_doubts(recording: Recording, number: int, ground_z_m: float = 0.0) -> tuple[str, ...]:
    """What looks wrong in the rig's numbers at a frame (from 0); nothing if all seems well."""
    found = []
    for name in recording.cameras:
        pose = _pose(recording, number, name)
        if pose[2, 3] <= ground_z_m or np.abs(pose[:3, 3]).max() > _FARTHEST_M:
            found.append(
                f"cameras.{name}.vehicle_from_camera: the camera would sit at "
                f"{np.round(pose[:3, 3], 2).tolist()} m, the ground at z = {ground_z_m:g}; is this "
                "camera_from_vehicle, the inverse?"
            )
        elif abs(pose[2, 2]) > 0.9 or abs(pose[2, 0]) > 0.7:
            found.append(
                f"cameras.{name}.vehicle_from_camera: the camera would look at the sky, at the ground or lie "
                "on its side; camera axes are x right, y down, z ahead"
            )
        camera = recording.rig.camera(name)
        middle = recording.rig.intrinsics(recording.rig.moments[number], camera)[0, 2]
        if abs(middle / camera.width - 0.5) > _OFF_CENTRE:
            found.append(
                f"cameras.{name}.intrinsics: the optical axis would be at u = {middle:.0f} of {camera.width} "
                "pixels; are these intrinsics for images of another size?"
            )
    return tuple(found)
