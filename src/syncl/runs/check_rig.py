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
    moment, rig = recording.rig.moments[number], recording.rig
    return tuple(
        f"cameras.{name}.{field}: {doubt}"
        for name in recording.cameras
        for field, doubt in camera_doubts(
            _pose(recording, number, name),
            rig.intrinsics(moment, rig.camera(name)),
            rig.camera(name).width,
            ground_z_m,
        ).items()
    )


def camera_doubts(
    vehicle_from_camera: Array, intrinsics: Array, width: int, ground_z_m: float = 0.0
) -> dict[str, str]:
    """What looks wrong in a camera's calibration: field of a rig file -> words.

    Args:
        vehicle_from_camera: [4, 4].
        intrinsics: [3, 3] pixels.
        width: of its images, pixels.
        ground_z_m: height of the ground in the vehicle frame.
    """
    found, pose = {}, vehicle_from_camera
    if pose[2, 3] <= ground_z_m or np.abs(pose[:3, 3]).max() > _FARTHEST_M:
        found["vehicle_from_camera"] = (
            f"the camera would sit at {np.round(pose[:3, 3], 2).tolist()} m, the ground at z = "
            f"{ground_z_m:g}; is this camera_from_vehicle, the inverse?"
        )
    elif abs(pose[2, 2]) > 0.9 or abs(pose[2, 0]) > 0.7:
        found["vehicle_from_camera"] = (
            "the camera would look at the sky, at the ground or lie on its side; camera axes are x right, y "
            "down, z ahead"
        )
    if abs(intrinsics[0, 2] / width - 0.5) > _OFF_CENTRE:
        found["intrinsics"] = (
            f"the optical axis would be at u = {intrinsics[0, 2]:.0f} of {width} pixels; are these "
            "intrinsics for images of another size?"
        )
    return found
