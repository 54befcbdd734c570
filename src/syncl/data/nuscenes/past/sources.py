"""Which earlier images a frame is looked at together with (PETRv2).

The original walks back from a key frame, all cameras together: five steps of one image each, then the key
frame before, and so over five key frames. That makes up to 30 sets of images, 1/12 s apart where no image is
missing. Training draws one of the 4th to the 27th, tests take the 15th, the oldest where there are fewer. The
first key frame of a scene has none and is looked at twice, as if 1.245 s had passed.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from syncl.data.folder_listing import FolderListing
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.past.sweeps import CameraSweeps, open_camera_sweeps
from syncl.data.nuscenes.samples import CameraImage, Sample
from syncl.data.past_images import PastImages
from syncl.errors import SynclError
from syncl.files import inside

_KEY_FRAMES = 5
_STEPS_BETWEEN = 5


class PastSource(Protocol):
    """Where the past of a sample comes from."""

    def of(self, row: int, present: Sample, rng: np.random.Generator | None = None) -> Sample:
        """The past cameras as seen from the present vehicle, under the present sample's token.

        Its time is the present one's less the mean over cameras of the time between their two images.

        Args:
            row: row of the present sample.
            present: the sample.
            rng: of a draw in training; None takes the fixed choice of tests.
        """
        ...


class PastSweeps:
    """The original's choice, among all camera images.

    Args:
        index: the dataset.
        cameras: names of the cameras whose images count.
        choice: which images.
    """

    def __init__(self, index: NuScenesIndex, cameras: Sequence[str], choice: PastImages) -> None:
        self._index, self._cameras, self._choice = index, frozenset(cameras), choice
        self._sweeps = open_camera_sweeps(index)

    def of(self, row: int, present: Sample, rng: np.random.Generator | None = None) -> Sample:
        """See `PastSource.of`."""
        sets = image_sets(self._index, self._sweeps, row)
        if not sets:
            return repeated(present, self._choice.repeat_age_s)
        images = sets[self._choice.place(len(sets), rng)]
        channels = np.flatnonzero(images >= 0)
        past = self._index.camera_images(
            self._sweeps, channels.astype(np.int32), images[channels], present.global_from_vehicle
        )
        return seen_before(present, past, self._cameras, self._choice.repeat_age_s)


class PastKeyFrames:
    """An earlier key frame, for datasets that have no images between key frames.

    Args:
        index: the dataset.
        cameras: names of the cameras whose images count.
        gap: fewest and most key frames between the two; fewer near the scene's start.
        repeat_age_s: see `PastImages`.

    Raises:
        SynclError: a gap that is not positive and ascending.
    """

    def __init__(
        self, index: NuScenesIndex, cameras: Sequence[str], gap: tuple[int, int], repeat_age_s: float
    ) -> None:
        if not 1 <= gap[0] <= gap[1]:
            raise SynclError(f"gap {gap} between a frame and its past: must be positive and ascending")
        self._index, self._cameras = index, frozenset(cameras)
        self._gap, self._repeat_age_s = gap, repeat_age_s

    def of(self, row: int, present: Sample, rng: np.random.Generator | None = None) -> Sample:
        """See `PastSource.of`; the fixed choice is the nearest allowed key frame."""
        columns = self._index.columns
        scene = int(np.searchsorted(columns.scene_start, row, side="right")) - 1
        wanted = self._gap[0] if rng is None else int(rng.integers(self._gap[0], self._gap[1] + 1))
        gap = min(wanted, row - int(columns.scene_start[scene]))
        if not gap:
            return repeated(present, self._repeat_age_s)
        images = np.arange(columns.image_start[row - gap], columns.image_start[row - gap + 1])
        past = self._index.camera_images(
            columns.images, columns.image_channels[images], images, present.global_from_vehicle
        )
        return seen_before(present, past, self._cameras, self._repeat_age_s)


def image_sets(index: NuScenesIndex, sweeps: CameraSweeps, row: int) -> list[NDArray[np.int64]]:
    """The sets of earlier images of a sample, newest first: [C] rows of `sweeps`, -1 without an image.

    Where a camera has no earlier image to step to, the last set is repeated up to the next key frame.
    """
    columns = index.columns
    cameras = len(columns.channels)
    scene = int(np.searchsorted(columns.scene_start, row, side="right")) - 1
    first = sweeps.start[scene * cameras : (scene + 1) * cameras]

    def key_frame(sample: int) -> NDArray[np.int64]:
        images = slice(columns.image_start[sample], columns.image_start[sample + 1])
        found = np.full(cameras, -1, np.int64)
        found[columns.image_channels[images]] = sweeps.key_rows[images]
        return found

    here, sets = key_frame(row), []
    for sample in range(row - 1, max(int(columns.scene_start[scene]), row - _KEY_FRAMES) - 1, -1):
        for _ in range(_STEPS_BETWEEN):
            seen = here >= 0
            if (here > first)[seen].all():
                here = np.where(seen, here - 1, -1)
                sets.append(here)
            elif sets:
                sets.append(sets[-1])
        here = key_frame(sample)
        sets.append(here)
    return sets


def repeated(present: Sample, age_s: float) -> Sample:
    """A sample that stands in for its own past."""
    return dataclasses.replace(present, timestamp_us=present.timestamp_us - round(age_s * 1e6))


def seen_before(
    present: Sample, past: tuple[CameraImage, ...], cameras: frozenset[str], repeat_age_s: float
) -> Sample:
    """The past cameras under the present sample's token, at their mean age."""
    now = {camera.channel: camera.timestamp_us for camera in present.cameras if camera.channel in cameras}
    ages_us = [now[camera.channel] - camera.timestamp_us for camera in past if camera.channel in now]
    age_us = float(np.mean(ages_us)) if ages_us else repeat_age_s * 1e6
    return dataclasses.replace(present, cameras=past, timestamp_us=present.timestamp_us - round(age_us))


def has_sweeps(index: NuScenesIndex, scenes: Iterable[str]) -> bool:
    """Whether all of some scenes have camera images between their key frames; only tables tell of any."""
    if not index.version:
        return False
    sweeps = open_camera_sweeps(index)
    numbers = {name: number for number, name in enumerate(index.scene_names)}
    return all(sweeps.between_key_frames(index.columns, numbers[name]) for name in scenes)


def check_sweep_images(index: NuScenesIndex, scenes: Iterable[str] | None = None) -> None:
    """Make sure that the camera images of the given scenes (all by default) exist, between key frames too.

    Raises:
        SynclError: naming the first missing file and how many there are.
    """
    missing = missing_sweep_images(index, scenes)
    if missing:
        raise SynclError(
            f"{missing[0]}: this image is missing ({len(missing):,} missing in all), and this model looks at "
            "images between key frames; unpack the archives that hold sweeps/ into the data root, or let the "
            "model make do with key frames: `syncl track --past key-frames`, "
            "`syncl train --set model.input.past=null`"
        )


def missing_sweep_images(index: NuScenesIndex, scenes: Iterable[str] | None = None) -> list[Path]:
    """Camera images of the given scenes (all by default) that do not exist."""
    sweeps, cameras = open_camera_sweeps(index), len(index.camera_names)
    wanted = set(index.scene_names if scenes is None else scenes)
    listing = FolderListing()
    paths = (
        inside(index.dataroot, file.decode(), links=False)
        for scene, name in enumerate(index.scene_names)
        if name in wanted
        for file in sweeps.files[sweeps.start[scene * cameras] : sweeps.start[(scene + 1) * cameras]].tolist()
    )
    return [path for path in paths if not listing.has(path)]
