"""Frames of several videos paired by time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from syncl.data.recording.rig_contents import Array, Calibration, Moment, RigCamera
from syncl.data.recording.video import VideoFrame, open_video_file
from syncl.errors import SynclError, shown
from syncl.geometry.poses import invert_pose

# A frame belongs to a moment if it is nearer than this share of the time between two moments.
_NEAR = 0.5
# As microseconds, times still fit into 64 bits.
_LATEST_S = 2.0**42


def video_moments(cameras: Sequence[RigCamera], rate_hz: float) -> tuple[Moment, ...]:
    """Moments at a rate, over the time that all videos cover; without images as yet.

    Raises:
        SynclError: a video cannot be read, or the videos share no time.
    """
    spans = {camera.name: _times_s(camera)[[0, -1]] for camera in cameras}
    first, last = max(span[0] for span in spans.values()), min(span[1] for span in spans.values())
    if last < first:
        told = "; ".join(f"{name} {span[0]:.3f} to {span[1]:.3f} s" for name, span in spans.items())
        raise SynclError(f"{cameras[0].video}: the videos share no time ({told}); set video_offset_s")
    count = int((last - first) * rate_hz + 1e-6) + 1
    return tuple(
        Moment(f"{number:06d}", float(first + number / rate_hz), np.eye(4), {}) for number in range(count)
    )


def with_videos(
    moments: tuple[Moment, ...], cameras: Sequence[RigCamera], has_poses: bool
) -> tuple[tuple[Moment, ...], tuple[str, ...]]:
    """The moments with the frame of each video that is nearest in time, and what was left out, in words.

    Where the vehicle's poses are known, a camera is placed where it was when its frame was taken.
    """
    filmed = [camera for camera in cameras if camera.video is not None]
    if not filmed or not moments:
        return moments, ()
    times_s = np.array([moment.timestamp_s for moment in moments])
    reach_s = _NEAR * float(np.median(np.diff(times_s))) if len(times_s) > 1 else np.inf
    made, remarks = list(moments), []
    for camera in filmed:
        assert camera.video is not None
        taken_s = _times_s(camera)
        free = np.ones(len(taken_s), np.bool_)
        # The nearest pairs first: a moment that is only near must not take another's own frame.
        for row in np.argsort([np.abs(taken_s - time_s).min() for time_s in times_s], kind="stable"):
            moment = made[row]
            apart_s = np.where(free, np.abs(taken_s - moment.timestamp_s), np.inf)
            number = int(apart_s.argmin())
            if apart_s[number] > reach_s or not free[number] or camera.name in moment.images:
                continue
            late_s = float(taken_s[number]) - moment.timestamp_s
            free[number] = False
            images = {**moment.images, camera.name: VideoFrame(camera.video, number)}
            calibrations = dict(moment.calibrations)
            if has_poses and abs(late_s) > 1e-6 and camera.name not in calibrations:
                moved = invert_pose(moment.global_from_vehicle) @ _pose_at(moments, times_s, taken_s[number])
                placed = moved @ camera.vehicle_from_camera
                calibrations[camera.name] = Calibration(vehicle_from_camera=placed)
            made[row] = replace(moment, images=images, calibrations=calibrations)
        if free.any():
            remarks.append(
                f"{camera.name}: {free.sum()} of {len(taken_s)} video frames dropped, which no moment is "
                "nearest to"
            )
    return tuple(made), tuple(remarks)


def _times_s(camera: RigCamera) -> Array:
    """When each frame of a camera's video was taken, seconds."""
    assert camera.video is not None
    own_s = open_video_file(camera.video).times_s
    return (own_s if camera.times is None else _read_times_s(camera.times, len(own_s))) + camera.offset_s


def _read_times_s(path: Path, frames: int) -> Array:
    """The times of a video's frames from a file: one a line, seconds; what follows a # is a remark.

    Raises:
        SynclError: it cannot be read, a line is no time or not later than the one before, or there are not as
            many as frames; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SynclError(f"{path}: the times of a video's frames cannot be read ({error})") from None
    times_s: list[float] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            time_s = float(text)
        except ValueError:
            time_s = np.nan
        if not abs(time_s) < _LATEST_S:
            raise SynclError(f"{path}, line {number}: {shown(text)} is no time; write one a line, in seconds")
        if times_s and time_s <= times_s[-1]:
            raise SynclError(
                f"{path}, line {number}: {text} is not later than the frame before ({times_s[-1]})"
            )
        times_s.append(time_s)
    if len(times_s) != frames:
        raise SynclError(
            f"{path}: has {len(times_s)} times, the video {frames} frames; one is needed for each"
        )
    return np.array(times_s)


def _pose_at(moments: Sequence[Moment], times_s: Array, time_s: float) -> Array:
    """[4, 4] the vehicle's pose at a time: between two moments, or on from the nearest two."""
    from scipy.spatial.transform import Rotation, Slerp

    if len(moments) < 2:
        return moments[0].global_from_vehicle
    row = int(np.clip(np.searchsorted(times_s, time_s), 1, len(moments) - 1))
    before, after = (moments[place].global_from_vehicle for place in (row - 1, row))
    share = (time_s - times_s[row - 1]) / (times_s[row] - times_s[row - 1])
    pose = np.eye(4)
    pose[:3, 3] = before[:3, 3] + share * (after[:3, 3] - before[:3, 3])
    turns = Rotation.from_matrix(np.stack([before[:3, :3], after[:3, :3]]))
    pose[:3, :3] = Slerp([0, 1], turns)(np.clip(share, 0, 1)).as_matrix()
    return pose
