"""Kinds of datasets beside nuScenes' tables: each a reader that fills the columns which all else reads.

A new kind is a folder of code with a class that fulfils `DatasetSource`, and an entry in `FORMATS`
(docs/add-dataset.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from syncl.data.argoverse2.log_folders import is_argoverse2
from syncl.data.lenses import Lens
from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns
from syncl.dataset_description import DatasetDescription


class DatasetSource(Protocol):
    """A dataset's folder, opened; nothing has been read yet but what tells its kind.

    Attributes:
        folder: where `dataset.yaml` is looked for, and what messages name.
    """

    folder: Path

    def describe(self) -> DatasetDescription:
        """Classes and measures where no `dataset.yaml` says otherwise."""
        ...

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Split -> names of its scenes. "train" and "val" are what commands take if none is named.

        Raises:
            SynclError: a file that says so is damaged.
        """
        ...

    def fingerprint(self) -> str | None:
        """Text that changes whenever the files do; None = columns are not kept in a cache."""
        ...

    def scenes(self, dataset: DatasetDescription) -> SceneColumns:
        """Scenes, moments and annotations. Needs no image and no torch.

        Raises:
            SynclError: naming file, place and value of what is wrong.
        """
        ...

    def cameras(self, scenes: SceneColumns) -> CameraColumns:
        """Images, poses and calibrations of these moments, files as paths below the data root.

        Raises:
            SynclError: as `scenes`.
        """
        ...

    def lenses(self) -> tuple[Lens | None, ...]:
        """The lens of each calibration that is more than the columns' pinhole distortion; empty = none is."""
        ...


@dataclass(frozen=True)
class DatasetFormat:
    """A kind of dataset.

    Attributes:
        name: what people call it.
        recognises: whether a data root is of this kind; a look at names of files, no more.
        source: "module:Class"; the class takes the data root. Imported only where it is needed.
        results: "module:Class" of results in a layout of its own (`own_results.ResultsLayout`); "" = none.
        results_suffix: of the names of such files.
    """

    name: str
    recognises: Callable[[Path], bool]
    source: str
    results: str = ""
    results_suffix: str = ""


def _has_recordings(dataroot: Path) -> bool:
    return (dataroot / "rig.yaml").is_file() or next(dataroot.glob("*/rig.yaml"), None) is not None


FORMATS = [
    DatasetFormat(
        "Argoverse 2",
        is_argoverse2,
        "syncl.data.argoverse2.sensor_dataset:SensorDataset",
        "syncl.data.argoverse2.feather_results:FeatherResults",
        ".feather",
    ),
    DatasetFormat(
        "annotated recordings", _has_recordings, "syncl.data.recording.annotated:AnnotatedRecordings"
    ),
]


def find_source(dataroot: Path, version: str) -> DatasetSource | None:
    """The reader of a data root; None where it holds nuScenes' tables (or nothing that is known).

    Args:
        dataroot: folder of the dataset.
        version: nuScenes version folder; where it is there, the tables are what is meant.
    """
    if version and (dataroot / version).is_dir():
        return None
    for known in FORMATS:
        if known.recognises(dataroot):
            module, _, name = known.source.partition(":")
            return cast(DatasetSource, getattr(import_module(module), name)(dataroot))
    return None
