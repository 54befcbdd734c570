"""The moments of a recording: listed in `rig.yaml` with times and poses, or found by their image files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from syncl.data.driving import Driving, how_driven
from syncl.data.folder_listing import FolderListing
from syncl.data.recording.calibration import read_intrinsics, read_pose
from syncl.data.recording.rig_contents import Array, Calibration, Moment, RigCamera, find_images
from syncl.data.recording.video_moments import video_moments
from syncl.data.yaml_node import Node
from syncl.files import inside
from syncl.geometry.poses import quaternion_from_rotation

_STEEPEST = 0.5
"""Cosine of the steepest tilt of a vehicle or its lidar, 60 degrees."""

# Median of the time between frames.
_SHORTEST_S, _LONGEST_S = 1e-3, 60.0
# Median of that between the numbers of frames.
_LARGEST_STEP = 1000


def read_moments(
    node: Node,
    fields: Mapping[str, Node],
    cameras: tuple[RigCamera, ...],
    listing: FolderListing,
) -> tuple[tuple[Moment, ...], bool]:
    """The moments in time order, and whether they have poses.

    Raises:
        SynclError: no moment, times out of order or not in seconds, a vehicle that does not stand upright, a
            name twice, poses in some moments only, or a listed image that is missing.
    """
    by_name = {camera.name: find_images(listing, camera.folder) for camera in cameras}
    if ("frames" in fields) == ("frame_rate_hz" in fields):
        node.fail(
            "give either 'frames' (a list with times) or 'frame_rate_hz' (frames are found by image name)"
        )
    if "frame_rate_hz" in fields and any(camera.video is not None for camera in cameras):
        if any(camera.video is None for camera in cameras):
            node.fail("'frame_rate_hz' with videos needs a video of every camera; list 'frames' otherwise")
        return video_moments(cameras, _rate(fields["frame_rate_hz"])), False
    if "frame_rate_hz" in fields:
        return _found(fields["frame_rate_hz"], by_name), False
    entries = list(fields["frames"].items())
    if not entries:
        fields["frames"].fail("there is no frame")
    moments = [_moment(entry, cameras, by_name, listing) for entry in entries]
    posed = [pose is not None for _, pose in moments]
    if any(posed) and not all(posed):
        number = posed.index(False)
        entries[number].fail(
            "has no global_from_vehicle while other frames have one; give all frames a pose or none"
        )
    seen: dict[str, int] = {}
    for number, (moment, _) in enumerate(moments):
        before = moments[number - 1][0] if number else None
        if before is not None and moment.timestamp_s <= before.timestamp_s:
            entries[number].fail(
                f"timestamp_s {moment.timestamp_s!r} is not later than the frame before "
                f"({before.timestamp_s!r}); list frames in time order, in seconds"
            )
        if moment.name in seen:
            entries[number].fail(f"name '{moment.name}' is already that of frames[{seen[moment.name]}]")
        seen[moment.name] = number
        if tipped := tipped_over(moment.global_from_vehicle, "vehicle"):
            entries[number].fail(
                f"global_from_vehicle: {tipped}; the global frame has z up, and quaternions are w, x, y, z"
            )
    _check_pace(fields["frames"], [moment.timestamp_s for moment, _ in moments])
    found = driven([moment for moment, _ in moments])
    if found.always_backwards and found.swapped:
        fields["frames"].fail(
            f"global_from_vehicle: the vehicle drives backwards in {found.backwards} of {found.steps} steps, "
            "and forwards by quaternions x, y, z, w; write them as w, x, y, z"
        )
    return tuple(moment for moment, _ in moments), posed[0]


def tipped_over(pose: Array, whose: str) -> str | None:
    """What is wrong with a pose [4, 4] to a frame with z up that stands on its side or head, if it does."""
    if not pose[2, 2] < _STEEPEST:  # What is no number is told elsewhere.
        return None
    return f"the {whose}'s up axis does not point up but along {np.round(pose[:3, 2], 2).tolist()}"


def driven(moments: Sequence[Moment]) -> Driving:
    """How the vehicle drives by its poses."""
    poses = np.stack([moment.global_from_vehicle for moment in moments])
    quaternions = quaternion_from_rotation(poses[:, :3, :3])
    return how_driven(np.concatenate([poses[:, :3, 3], quaternions], axis=1), np.ones(len(poses) - 1, bool))


def _check_pace(node: Node, times_s: list[float]) -> None:
    """Refuse times that cannot be seconds."""
    gaps_s = np.diff(times_s)
    if gaps_s.size and not _SHORTEST_S <= (median_s := float(np.median(gaps_s))) <= _LONGEST_S:
        node.fail(f"timestamp_s: frames lie {median_s:,.6g} s apart (median); times are in seconds")


def _moment(
    node: Node,
    cameras: tuple[RigCamera, ...],
    by_name: Mapping[str, Mapping[str, Path]],
    listing: FolderListing,
) -> tuple[Moment, Array | None]:
    fields = node.fields(("name", "timestamp_s"), ("global_from_vehicle", "images", "cameras"))
    name = fields["name"].text()
    pose = read_pose(fields["global_from_vehicle"]) if "global_from_vehicle" in fields else None
    images = {camera: files[name] for camera, files in by_name.items() if name in files}
    if "images" in fields:
        images = {}
        for camera, entry in _known(fields["images"], cameras):
            path = inside(node.path.parent, entry.text(), f"{entry.path}: {entry.place}")
            if not listing.has(path):
                entry.fail(f"{path}: this image is missing; leave the camera out if it delivered nothing")
            images[camera.name] = path
    calibrations = {}
    for camera, entry in _known(fields["cameras"], cameras) if "cameras" in fields else ():
        own = entry.fields((), ("intrinsics", "vehicle_from_camera"))
        if camera.lens is not None and "intrinsics" in own:
            own["intrinsics"].fail("intrinsics of a camera with distortion cannot differ from frame to frame")
        calibrations[camera.name] = Calibration(
            read_intrinsics(own["intrinsics"]) if "intrinsics" in own else None,
            read_pose(own["vehicle_from_camera"]) if "vehicle_from_camera" in own else None,
        )
    time_s = fields["timestamp_s"].number()
    placed = np.eye(4) if pose is None else pose
    return Moment(name, time_s, placed, images, calibrations), pose


def _known(node: Node, cameras: tuple[RigCamera, ...]) -> list[tuple[RigCamera, Node]]:
    known = {camera.name: camera for camera in cameras}
    found = []
    for name, entry in node.entries().items():
        if name not in known:
            entry.fail(f"camera '{name}' is missing in 'cameras'; described are {', '.join(known)}")
        found.append((known[name], entry))
    return found


def _found(node: Node, by_name: Mapping[str, Mapping[str, Path]]) -> tuple[Moment, ...]:
    """A moment for every image name; numbers in names are counted by, so that gaps keep their time."""
    rate = _rate(node)
    names = {name for files in by_name.values() for name in files}
    if not names:
        node.fail("no camera's folder holds an image")
    numbered = all(name.isdigit() for name in names)
    ordered = sorted(names, key=int if numbered else _by_number)
    delivering = [files for files in by_name.values() if files]
    if len(delivering) > 1 and sum(map(len, delivering)) == len(names):
        node.fail(
            "no two cameras have an image of one name, so that every frame would have a camera alone; name "
            "images of one moment alike in all folders, or list 'frames' with their 'images'"
        )
    steps = np.diff([int(name) for name in ordered]) if numbered else np.ones(0)
    if steps.size and (step := float(np.median(steps))) > _LARGEST_STEP:
        node.fail(
            f"image names such as {ordered[0]} go up by {step:,.0f} (median), so they are times and do not "
            "number frames; list 'frames' with their timestamp_s"
        )
    if numbered and len({int(name) for name in names}) < len(names):
        node.fail("image names such as 7 and 007 are the same number; name images alike in all folders")
    first = int(ordered[0]) if numbered else 0
    return tuple(
        Moment(
            name,
            (int(name) - first if numbered else place) / rate,
            np.eye(4),
            {camera: files[name] for camera, files in by_name.items() if name in files},
        )
        for place, name in enumerate(ordered)
    )


def _by_number(name: str) -> tuple[str | int | float, ...]:
    """Orders names by the numbers in them: frame_2 goes before frame_10, and 0.25 before 0.5."""
    if re.fullmatch(r"\d+\.\d+", name):
        return "", float(name)
    # Texts and numbers take turns, beginning with a text.
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def _rate(node: Node) -> float:
    rate = node.number()
    if not 1 / _LONGEST_S <= rate <= 1 / _SHORTEST_S:
        node.expected(f"frames a second, {1 / _LONGEST_S:.3f} to {1 / _SHORTEST_S:,.0f}")
    return rate
