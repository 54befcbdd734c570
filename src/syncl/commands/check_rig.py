"""`syncl check-rig`."""

from dataclasses import dataclass
from pathlib import Path


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


def check_rig(
    recording: Path,
    /,
    *,
    output: Path | None = None,
    frame: int = 1,
    ground_z: float = 0.0,
    width: int = 1920,
    overwrite: bool = False,
) -> RigCheck:
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
    from syncl.data.recording.recording import open_recording
    from syncl.data.recording.rig_file import folder_of
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.progress import plain_console
    from syncl.rendering import RenderStyle
    from syncl.rendering.output import write_png
    from syncl.rendering.recordings import draw_ready
    from syncl.rendering.rig_picture import draw_rig
    from syncl.runs.check_rig import describe_camera, find_doubts

    target = output or Path(f"{folder_of(recording).name}_rig.png")
    check_output(target, overwrite)
    style = RenderStyle(width=width)
    read = open_recording(recording, resize="fast", quiet=True)
    if not 1 <= frame <= len(read):
        raise SynclError(f"frame: {frame}; {read.rig.path} has frames 1 to {len(read)}")
    facts = {name: describe_camera(read, frame - 1, name) for name in read.cameras}
    drawn = draw_ready(read, frame - 1, style)
    write_png(draw_rig(drawn, tuple(facts.values()), ground_z, style), target, overwrite)
    check = RigCheck(target, facts, read.remarks, find_doubts(read, frame - 1, ground_z))
    console = plain_console()
    for name, fact in check.cameras.items():
        console.print(f"{name}: {fact}")
    for remark in (*check.remarks, *check.doubts):
        console.print(f"note: {remark}", style="yellow")
    console.print(f"wrote {target}: the grid must lie on the ground, and blue posts stand upright")
    return check
