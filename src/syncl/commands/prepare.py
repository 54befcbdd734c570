"""`syncl prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.data.nuscenes.index import NuScenesIndex


def prepare(
    data: Path,
    /,
    *,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    sweeps: bool = False,
    files: bool = True,
    images: bool = False,
    workers: int = 0,
) -> "NuScenesIndex":
    """Check a nuScenes-format dataset and index it, so that every later command opens it in a moment.

    Tables, foreign keys and image files are checked; each kind of problem is listed once, with its first
    case and how often it occurs. The index is a file in DATA/.syncl, made anew when a table changes. Lidar
    and radar files are not needed.

    Args:
        data: folder of the dataset, with samples/ and the version folder.
        version: nuScenes version folder inside data: v1.0-mini, v1.0-trainval or v1.0-test.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        sweeps: check and index the camera images between key frames too, which PETRv2 looks at. Without,
            they are indexed when they are first needed.
        files: look whether every image of a key frame (with sweeps, every camera image) exists.
        images: open every image of a key frame as well, with a decoder that tells of damage which the usual
            ones fill up and pass over (half an hour of CPU time for the whole of nuScenes).
        workers: threads for opening images; 0 = as many as suit the machine.

    Returns:
        The index, which `syncl.data.nuscenes` reads frames with.
    """
    from syncl.progress import plain_console
    from syncl.runs.prepare import prepare_dataset

    say = plain_console().print
    return prepare_dataset(data, version, dataset, sweeps, files or images, images, workers, say)
