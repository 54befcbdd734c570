"""Results in the layout that a kind of dataset has for them, beside nuScenes' JSON."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, cast

from syncl.data.dataset_sources import FORMATS
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError


class ResultsLayout(Protocol):
    """How results of one kind of dataset are written; made with the data root."""

    def write(self, index: NuScenesIndex, written: Mapping[str, bytes], path: Path, overwrite: bool) -> None:
        """Write results in one step.

        Args:
            index: of the dataset.
            written: boxes of each sample as nuScenes' JSON has them (`results.submission`).
            path: of the file.
            overwrite: replace an existing one.

        Raises:
            SynclError: the file exists and `overwrite` is not set.
        """
        ...

    def read(self, path: Path, split: str, dataset: DatasetDescription) -> bytes:
        """The same results as nuScenes' JSON, with every sample of a split.

        Raises:
            SynclError: the file is damaged or of other data; file, place and value are named.
        """
        ...


def own_layout(dataroot: Path, path: Path) -> ResultsLayout | None:
    """The layout of a dataset's own that a file's name asks for; None = nuScenes' JSON."""
    for known in FORMATS:
        if known.results and path.suffix == known.results_suffix and known.recognises(Path(dataroot)):
            module, _, name = known.results.partition(":")
            return cast(ResultsLayout, getattr(import_module(module), name)(Path(dataroot)))
    return None


@contextmanager
def as_json(path: Path, dataroot: Path, split: str, dataset: DatasetDescription) -> Iterator[Path]:
    """A results file of any layout as one of nuScenes' JSON, which is gone when the block ends.

    Args:
        path: the file.
        dataroot: folder of the dataset.
        split: whose samples the results are of.
        dataset: its classes.

    Raises:
        SynclError: as `ResultsLayout.read`; what the block raises names the file itself.
    """
    layout = own_layout(dataroot, path)
    if layout is None:
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.json"
        copy.write_bytes(layout.read(path, split, dataset))
        try:
            yield copy
        except SynclError as error:
            raise SynclError(str(error).replace(str(copy), str(path))) from error
