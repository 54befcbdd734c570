"""Argoverse 2's sensor dataset as a dataset like any other (`syncl.data.dataset_sources`)."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import orjson

from syncl.data.argoverse2.argoverse2_classes import ARGOVERSE2
from syncl.data.argoverse2.log_columns import build_cameras, build_scenes
from syncl.data.argoverse2.log_folders import (
    ANNOTATIONS,
    CAMERAS,
    EXTRINSICS,
    INTRINSICS,
    LIDAR,
    POSES,
    RING_CAMERAS,
    SPLITS,
    logs_of,
)
from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError

# Part of the fingerprint: another number, and indexes are built anew.
_FORMAT = 1
_TABLES = (ANNOTATIONS, POSES, EXTRINSICS, INTRINSICS)
_SOURCES = (*_TABLES, LIDAR, *(f"{CAMERAS}/{name}" for name in RING_CAMERAS))


class SensorDataset:
    """See `syncl.data.dataset_sources.DatasetSource`. Logs are scenes, sweeps samples, folders splits.

    Args:
        dataroot: folder of train, val and test; some may be missing.
    """

    def __init__(self, dataroot: Path) -> None:
        self.folder = dataroot

    def describe(self) -> DatasetDescription:
        """The 26 classes that are scored, to 150 m."""
        return ARGOVERSE2

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Those that hold logs.

        Raises:
            SynclError: none does, or a log lies in two.
        """
        found: dict[str, list[str]] = {}
        for split, name in self._logs:
            found.setdefault(split, []).append(name)
        return {split: tuple(names) for split, names in found.items()}

    def fingerprint(self) -> str:
        """Sizes and times of all tables and folders of images."""
        files = []
        for split, name in self._logs:
            for source in _SOURCES:
                path = self.folder / split / name / source
                status = path.stat() if path.exists() else None
                files.append([status.st_size, status.st_mtime_ns] if status else None)
        return orjson.dumps([_FORMAT, RING_CAMERAS, self._logs, files]).decode()

    def scenes(self, dataset: DatasetDescription) -> SceneColumns:
        """See `log_columns.build_scenes`."""
        return build_scenes(self.folder, self._logs, dataset)

    def cameras(self, scenes: SceneColumns) -> CameraColumns:
        """See `log_columns.build_cameras`."""
        return build_cameras(self.folder, self._logs, scenes)

    def lenses(self) -> tuple[None, ...]:
        """None: images have no distortion left, whatever `k1`, `k2` and `k3` say of the lenses."""
        return ()

    @cached_property
    def _logs(self) -> list[tuple[str, str]]:
        """(split, name) of every log."""
        logs = [(split, name) for split in SPLITS for name in logs_of(self.folder, split)]
        if not logs:
            problem = "no log of Argoverse 2's sensor dataset in train, val or test"
            raise SynclError(f"{self.folder}: {problem}; name the folder that holds these three")
        seen: dict[str, str] = {}
        for split, name in logs:
            if name in seen:
                raise SynclError(
                    f"{self.folder / split / name}: this log lies in {seen[name]} too; take one out"
                )
            if not name.isprintable():
                raise SynclError(f"{self.folder / split}: a log's name cannot be used: {name!r}")
            seen[name] = split
        return logs
