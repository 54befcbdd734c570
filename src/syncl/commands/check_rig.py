"""`syncl check-rig`."""

from pathlib import Path


def check_rig(
    recording: Path,
    /,
    *,
    output: Path | None = None,
    frame: int = 1,
    ground_z: float = 0.0,
    width: int = 1920,
    overwrite: bool = False,
) -> None:
    """Draw ground grid, vehicle axes and horizon into every camera of a recording.

    A wrong calibration is seen at a glance: the grid must lie on the road, the horizon where level ground
    ends, posts must stand upright, and what one camera shows must go on in the next.

    Args:
        recording: folder of a recording with its rig.yaml (docs/recordings.md).
        output: picture (.png) to write (default: RECORDING_rig.png).
        frame: which frame, counted from 1.
        ground_z: height of the ground in the vehicle frame, metres.
        width: of the picture, pixels.
        overwrite: replace an existing picture.
    """
    from syncl.runs.check_rig import check_recording

    target = output or Path(f"{recording.resolve().name}_rig.png")
    check_recording(recording, target, frame=frame, ground_z_m=ground_z, width=width, overwrite=overwrite)
