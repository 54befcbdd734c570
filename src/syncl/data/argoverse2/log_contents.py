"""One log: sweeps with their poses and boxes, and the images beside them.

Letters: N sweeps, A annotations, C cameras, I images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from syncl.data.argoverse2.feather import SIZE, Integers, Numbers, Table
from syncl.data.argoverse2.log_folders import (
    ANNOTATIONS,
    APART_NS,
    CAMERAS,
    EXTRINSICS,
    INTRINSICS,
    LIDAR,
    POSES,
    RING_CAMERAS,
)
from syncl.errors import SynclError, system_errors_named

_FOCAL = ("fx_px", "fy_px", "cx_px", "cy_px")
_LONGEST_SIDE = 65_535
_LATEST_NS = 2**62


@dataclass(frozen=True)
class Sweeps:
    """What annotations and poses say.

    Attributes:
        times_ns: [N] ascending.
        poses: [N, 7] (x, y, z, qw, qx, qy, qz) city from ego.
        sweep: [A] to which each annotation belongs, ascending.
        boxes: [A, 10] (x, y, z, l, w, h, qw, qx, qy, qz) ego frame of the sweep.
        track: [A] index into `tracks`.
        category: [A] index into `categories`.
        points: [A] lidar points inside.
        tracks: names of the tracks.
        categories: names of the categories that occur.
    """

    times_ns: Integers
    poses: Numbers
    sweep: Integers
    boxes: Numbers
    track: Integers
    category: Integers
    points: Integers
    tracks: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """The ring cameras of a log, and of every sweep the image of each that is nearest in time.

    Attributes:
        extrinsics: [C, 7] ego from camera.
        intrinsics: [C, 3, 3] pixels.
        sizes: [C, 2] (width, height) pixels; cameras may differ.
        sweep: [I] ascending.
        camera: [I] index into `RING_CAMERAS`, ascending within a sweep.
        times_ns: [I].
        poses: [I, 7] city from ego at the time of the image.
    """

    extrinsics: Numbers
    intrinsics: Numbers
    sizes: Integers
    sweep: Integers
    camera: Integers
    times_ns: Integers
    poses: Numbers


def read_sweeps(log: Path) -> Sweeps:
    """Sweeps, their poses and annotations.

    Sweeps are the files of `sensors/lidar` and the times that are annotated; either may be all there is.

    Raises:
        SynclError: a table is missing or damaged, a sweep has no pose, a box is none, a track has two boxes
            in a sweep, or there is neither a sweep nor an annotation; file, column and row are named.
    """
    lidar = _times_in(log / LIDAR, ".feather")
    if not (log / ANNOTATIONS).exists() and log.parent.name == "test":
        if not len(lidar):
            raise SynclError(
                f"{log / LIDAR}: holds no sweep, and a log of the test split has no annotations that name "
                "its times; unpack the lidar sweeps too (only their names are looked at)"
            )
        nothing, no_boxes = np.zeros(0, np.int64), np.zeros((0, 10))
        return Sweeps(
            lidar, poses_at(lidar, log, "a sweep"), nothing, no_boxes, nothing, nothing, nothing, (), ()
        )
    table = Table(log / ANNOTATIONS)
    box_times = table.integers("timestamp_ns")
    times = np.union1d(lidar, box_times)
    if not len(times):
        raise table.error("no annotation, and no sweep in sensors/lidar either")
    found = _annotations(table, np.searchsorted(times, box_times))
    return Sweeps(times, poses_at(times, log, "a sweep"), *found)


def _annotations(
    table: Table, sweep: Integers
) -> tuple[Integers, Numbers, Integers, Integers, Integers, tuple[str, ...], tuple[str, ...]]:
    poses, sizes = table.poses(), table.matrix(SIZE)
    flat = np.flatnonzero(~(sizes > 0).all(axis=1))
    if flat.size:
        raise table.error(
            f"row {flat[0]}: size {sizes[flat[0]].tolist()} is not positive ({flat.size} such rows)"
        )
    track, tracks = table.texts("track_uuid")
    category, categories = table.texts("category")
    points = table.integers("num_interior_pts")
    order = np.argsort(sweep, kind="stable")
    keys = np.sort(sweep * max(len(tracks), 1) + track)
    twice = keys[1:][np.diff(keys) == 0]
    if twice.size:
        name = tracks[int(twice[0]) % len(tracks)]
        raise table.error(f"track '{name}' has two boxes in one sweep ({twice.size} such boxes)")
    boxes = np.concatenate([poses[:, :3], sizes, poses[:, 3:]], axis=1)
    return sweep[order], boxes[order], track[order], category[order], points[order], tracks, categories


def read_images(log: Path, sweep_times_ns: Integers) -> Images:
    """Calibrations, and the images nearest to the sweeps.

    A camera of which no image is within `APART_NS` of a sweep has none there.

    Raises:
        SynclError: a table is missing or damaged, a ring camera has no calibration or no folder, or an image
            no pose; file, column and camera are named.
    """
    extrinsics, intrinsics, sizes = _calibrations(log)
    sweeps, cameras, times = [], [], []
    for number, name in enumerate(RING_CAMERAS):
        folder = log / CAMERAS / name
        if not folder.is_dir():
            raise SynclError(
                f"{folder}: there is no such folder of a ring camera's images; unpack this log again"
            )
        own = _times_in(folder, ".jpg")
        if not len(own):
            raise SynclError(f"{folder}: holds no image; unpack this log again")
        # The later of two that are equally near, as the first behind the middle is.
        after = np.clip(np.searchsorted(own, sweep_times_ns), 1, max(len(own) - 1, 1))
        before, after = own[after - 1], own[np.minimum(after, len(own) - 1)]
        nearest = np.where(sweep_times_ns - before < after - sweep_times_ns, before, after)
        near = np.flatnonzero(np.abs(nearest - sweep_times_ns) <= APART_NS)
        sweeps.append(near)
        cameras.append(np.full(len(near), number))
        times.append(nearest[near])
    sweep, camera, time = (np.concatenate(parts).astype(np.int64) for parts in (sweeps, cameras, times))
    order = np.lexsort((camera, sweep))
    sweep, camera, time = sweep[order], camera[order], time[order]
    return Images(extrinsics, intrinsics, sizes, sweep, camera, time, poses_at(time, log, "an image"))


def _calibrations(log: Path) -> tuple[Numbers, Numbers, Integers]:
    mounted, lenses = Table(log / EXTRINSICS), Table(log / INTRINSICS)
    poses, focal = mounted.poses(), lenses.matrix(_FOCAL)
    sizes = lenses.matrix(("width_px", "height_px"))
    rows = {table: _rows(table) for table in (mounted, lenses)}
    for name in RING_CAMERAS:
        row = rows[lenses][name]
        size, lengths = sizes[row], focal[row, :2]
        whole = (size > 0) & (size <= _LONGEST_SIDE) & (size == np.rint(size))
        if not (whole.all() and (lengths > 0).all()):
            raise lenses.error(
                f"camera '{name}': width_px {size[0]:g}, height_px {size[1]:g}, fx_px {lengths[0]:g}, "
                f"fy_px {lengths[1]:g} are not those of a camera"
            )
    chosen = [rows[lenses][name] for name in RING_CAMERAS]
    matrices = np.tile(np.eye(3), (len(chosen), 1, 1))
    matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]] = focal[chosen]
    return poses[[rows[mounted][name] for name in RING_CAMERAS]], matrices, sizes[chosen].astype(np.int64)


def _rows(table: Table) -> dict[str, int]:
    places, names = table.texts("sensor_name")
    rows: dict[str, int] = {}
    for row, place in enumerate(places.tolist()):
        if names[place] in rows:
            raise table.error(f"column 'sensor_name' has '{names[place]}' twice")
        rows[names[place]] = row
    for name in RING_CAMERAS:
        if name not in rows:
            raise table.error(f"no ring camera '{name}' in column 'sensor_name'; there are {', '.join(rows)}")
    return rows


def poses_at(times_ns: Integers, log: Path, what: str) -> Numbers:
    """[., 7] poses at some times, each of which the table must have."""
    table = Table(log / POSES)
    known, poses = table.integers("timestamp_ns"), table.poses()
    order = np.argsort(known, kind="stable")
    known, poses = known[order], poses[order]
    twice = np.flatnonzero(np.diff(known) == 0)
    if twice.size:
        raise table.error(f"column 'timestamp_ns' has {known[twice[0]]} twice ({twice.size} such rows)")
    lost = np.flatnonzero(~np.isin(times_ns, known))
    if lost.size:
        raise table.error(
            f"column 'timestamp_ns' lacks {times_ns[lost[0]]}, the time of {what} ({lost.size} such of "
            f"{len(times_ns)}): the files are not of one log, or this one is incomplete"
        )
    return poses[np.searchsorted(known, times_ns)]


def _times_in(folder: Path, suffix: str) -> Integers:
    """Times [.] in nanoseconds, ascending, that name the files of a folder; none without the folder."""
    times = []
    with system_errors_named(folder):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    for name in names:
        stem, dot, end = name.rpartition(".")
        if f"{dot}{end}" != suffix or name.startswith("."):
            continue
        if not (stem.isascii() and stem.isdigit() and len(stem) < 20 and int(stem) <= _LATEST_NS):
            raise SynclError(
                f"{folder / name}: the name is not a time in nanoseconds; take the file out or name it again"
            )
        times.append(int(stem))
    return np.sort(np.array(times, np.int64))
