"""What `syncl prepare` does: index the tables, look over the images, say what is there and what is wrong."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from syncl.data.dataset_file import DATASET_FILE
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions, count_learnable
from syncl.data.nuscenes.clips.image_files import survey_images
from syncl.data.nuscenes.index import CAMERAS, NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.past.sources import check_sweep_images
from syncl.data.nuscenes.past.sweeps import PART, open_camera_sweeps
from syncl.data.nuscenes.splits import OFFICIAL_SPLITS, own_splits
from syncl.data.nuscenes.tables.cache import cache_path
from syncl.data.nuscenes.tables.survey import Problem, survey_sweeps, survey_tables
from syncl.errors import SynclError
from syncl.geometry.poses import rigid_from_pose
from syncl.runs.check_rig import camera_doubts
from syncl.wording import counted


def prepare_dataset(
    data: Path,
    version: str,
    dataset: Path | None,
    sweeps: bool,
    files: bool,
    decode: bool,
    workers: int,
    say: Callable[[str], None],
) -> NuScenesIndex:
    """Index a version and check it; see `syncl.commands.prepare.prepare` for the arguments.

    `say` is told what is there, line by line, also before something is found to be wrong.

    Raises:
        SynclError: listing every kind of problem. Where only images are at fault, the index is there all the
            same, for work with the scenes that are complete.
    """
    if workers < 0:
        raise SynclError(f"workers: {workers}; must be 0 (as many as suit the machine) or more")
    started = time.perf_counter()
    index = _open(data, version, dataset)
    seconds = time.perf_counter() - started
    say(
        f"{data / index.version}: {counted(len(index.scene_names), 'scene')}, "
        f"{counted(index.sample_count, 'sample')}, "
        f"{counted(len(index.columns.image_files), 'image')} of "
        f"{counted(len(index.camera_names), 'camera')}, "
        f"{counted(index.annotation_count, 'annotation')}"
    )
    say(f"  splits: {_splits(index)}")
    for line in _classes(index):
        say(f"  {line}")
    if not index.annotation_count:
        say("  no annotations: these scenes can be tracked and drawn, but not evaluated")
    else:
        counts = count_learnable(index, index.scene_names, AnnotationOptions(index.dataset.classes))
        for line in filter(None, (str(counts), counts.remark)):
            say(f"  {line}")
    without_lidar = int((index.columns.sample_lidars < 0).sum())
    if without_lidar:
        say(f"  {without_lidar:,} samples without LIDAR_TOP: models in the lidar's frame cannot be used")
    for line in _doubts(index):
        say(f"  {line}")
    paths = [cache_path(data, version, part) for part in ("", CAMERAS)]
    if all(path.is_file() for path in paths):
        size = sum(path.stat().st_size for path in paths)
        say(f"  index: {paths[0]} ({size / 1e6:.0f} MB, {seconds:.1f} s)")
    if sweeps:
        _prepare_sweeps(index, say)
    if files or decode:
        problems = survey_images(index, decode, workers)
        if problems:
            missing = set(index.missing_images())
            complete = sum(missing.isdisjoint(index.scene_images(name)) for name in index.scene_names)
            raise SynclError(
                f"{_listed(data / index.version, problems)}\nThe tables are sound and indexed; of "
                f"{len(index.scene_names):,} scenes {complete:,} have all their image files"
            )
        if sweeps:
            check_sweep_images(index)
        say(f"  images: all {'open' if decode else 'there'}")
    return index


def _prepare_sweeps(index: NuScenesIndex, say: Callable[[str], None]) -> None:
    """Index the camera images between key frames and say how many there are.

    Raises:
        SynclError: listing every kind of problem with them. The key frames are indexed all the same.
    """
    started = time.perf_counter()
    folder = index.dataroot / index.version
    try:
        found = open_camera_sweeps(index)
    except SynclError:
        problems = survey_sweeps(folder)
        if not problems:
            raise
        raise SynclError(
            f"{_listed(folder, problems)}\nThe key frames are sound and indexed; what lies between is not"
        ) from None
    count = len(found.files) - len(found.key_rows)
    path = cache_path(index.dataroot, index.version, PART)
    size = f": {path} ({path.stat().st_size / 1e6:.0f} MB" if path.is_file() else " (not kept"
    seconds = time.perf_counter() - started
    say(f"  {count:,} camera images between key frames{size}, {seconds:.1f} s)")


def _open(data: Path, version: str, dataset: Path | None) -> NuScenesIndex:
    try:
        return open_nuscenes(data, version, dataset=dataset)
    except SynclError as first:
        folder = data / version
        if not folder.is_dir():
            raise
        problems = survey_tables(folder)
        if not problems:
            raise
        raise SynclError(f"{_listed(folder, problems)}\nNothing was indexed") from first


def _listed(folder: Path, problems: Sequence[Problem]) -> str:
    kinds = "one kind of problem" if len(problems) == 1 else f"{len(problems)} kinds of problems"
    return "\n".join([f"{folder}: {kinds}", *(f"  - {problem}" for problem in problems)])


def _classes(index: NuScenesIndex) -> list[str]:
    """Which categories are which class, with how many annotations, and which are none."""
    columns, dataset = index.columns, index.dataset
    counts = np.bincount(columns.annotation_categories, minlength=len(columns.category_names)).tolist()
    found = dict(zip([name.decode() for name in columns.category_names.tolist()], counts, strict=True))

    def listed(categories: Iterable[str]) -> str:
        return ", ".join(
            f"{name} ({found[name]:,})" if name in found else f"{name} (absent)" for name in categories
        )

    lines = []
    if not dataset.official:
        lines.append(f"classes of {dataset.name}:")
        for name in dataset.classes:
            own = [category for category, of in dataset.categories.items() if of == name]
            tracked = "" if name in dataset.tracked else ", not tracked"
            lines.append(f"  {name}, to {dataset.ranges_m[name]:g} m{tracked}: {listed(own)}")
        if dataset.left_out:
            lines.append(f"  left out: {listed(dataset.left_out)}")
    named = {*dataset.categories, *dataset.left_out}
    if strangers := [name for name, count in found.items() if name not in named and count]:
        where = "" if dataset.official else f" (name them in {DATASET_FILE}, among left_out if on purpose)"
        lines.append(f"categories of no class: {listed(strangers)}{where}")
    return lines


def _doubts(index: NuScenesIndex) -> list[str]:
    """What looks wrong in the cameras' calibrations, each doubt of a camera once, with its first case."""
    columns, lines = index.columns, []
    for number, channel in enumerate(columns.channels.tolist()):
        images = np.flatnonzero(columns.image_channels == number)
        rows, first = np.unique(columns.image_calibrations[images], return_index=True)
        poses = columns.calibration_poses[rows]
        found: dict[str, list[str]] = {}
        for pose, matrix, width in zip(
            rigid_from_pose(poses[:, :3], poses[:, 3:]),
            columns.intrinsics[rows],
            columns.image_sizes[images[first], 0].tolist(),
            strict=True,
        ):
            for field, doubt in camera_doubts(pose, matrix, width).items():
                found.setdefault(field, []).append(doubt)
        for doubts in found.values():
            lines.append(f"{channel.decode()}, {len(doubts)} of {len(rows)} calibrations: {doubts[0]}")
    return lines


def _splits(index: NuScenesIndex) -> str:
    own = own_splits(index.version, index.dataroot)
    if own:
        return ", ".join(f"{name} {len(scenes)}" for name, scenes in own.items())
    found = []
    for split in OFFICIAL_SPLITS:
        try:
            found.append(f"{split} {len(index.split_scenes(split))}")
        except SynclError:
            # The split belongs to another version, or none of its scenes are here.
            continue
    return ", ".join(found) or "none of the official ones"
