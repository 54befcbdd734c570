"""`syncl check-rig`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.check_rig import RigCheck


def check_rig(
    recording: Path,
    /,
    *,
    output: Path | None = None,
    frame: int = 1,
    ground_z: float = 0.0,
    width: int = 1920,
    overwrite: bool = False,
) -> "RigCheck":
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

    Returns:
        The picture's path, each camera's place and direction in words, and what looks wrong.
    """
    from rich.console import Console

    from syncl.runs.check_rig import check_recording

    target = output or Path(f"{recording.resolve().name}_rig.png")
    check = check_recording(
        recording, target, frame=frame, ground_z_m=ground_z, width=width, overwrite=overwrite
    )
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in check.cameras.items():
        console.print(f"{name}: {fact}")
    for remark in (*check.remarks, *check.doubts):
        console.print(f"note: {remark}", style="yellow")
    console.print(f"wrote {target}: the grid must lie on the ground, and blue posts stand upright")
    return check
