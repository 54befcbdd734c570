"""What `syncl check-rig` does: the picture, and each camera's place and direction in words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from syncl.data.recording.recording import Recording, open_recording
from syncl.data.recording.rig import Array
from syncl.errors import SynclError
from syncl.files import refuse_to_overwrite
from syncl.rendering import RenderStyle
from syncl.rendering.output import write_png
from syncl.rendering.recordings import draw_ready
from syncl.rendering.rig_picture import draw_rig

# No car carries its cameras farther out than this.
_FARTHEST_M = 15.0


@dataclass(frozen=True)
class RigCheck:
    """What came of checking a rig.

    Attributes:
        picture: the file that was drawn.
        cameras: where each camera is and looks, in words, by its name.
        remarks: what had to be assumed in reading the recording.
        doubts: what looks wrong in the rig's numbers; nothing if all seems well.
    """

    picture: Path
    cameras: dict[str, str]
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]


def check_recording(
    folder: Path,
    output: Path,
    *,
    frame: int = 1,
    ground_z_m: float = 0.0,
    width: int = 1920,
    overwrite: bool = False,
) -> RigCheck:
    """Draw a recording's rig and look at its numbers.

    Raises:
        SynclError: on an unusable rig file, a frame that does not exist or an existing picture.
    """
    refuse_to_overwrite(output, overwrite)
    style = RenderStyle(width=width)
    recording = open_recording(folder, resize="fast", quiet=True)
    if not 1 <= frame <= len(recording):
        raise SynclError(f"frame: {frame}; {recording.rig.path} has frames 1 to {len(recording)}")
    facts = {name: _describe(recording, frame - 1, name) for name in recording.cameras}
    drawn = draw_ready(recording, frame - 1, style)
    write_png(draw_rig(drawn, tuple(facts.values()), ground_z_m, style), output, overwrite)
    return RigCheck(output, facts, recording.remarks, _doubts(recording, frame - 1, ground_z_m))


def _pose(recording: Recording, number: int, name: str) -> Array:
    rig = recording.rig
    return rig.vehicle_from_camera(rig.moments[number], rig.camera(name))


def _describe(recording: Recording, number: int, name: str) -> str:
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


def _doubts(recording: Recording, number: int, ground_z_m: float) -> tuple[str, ...]:
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
    return tuple(found)
