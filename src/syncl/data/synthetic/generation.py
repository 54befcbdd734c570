"""Making a whole data set: scenes in parallel, tables, and a folder that appears only when complete."""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import orjson

from syncl.data.argoverse2.feather import arrow
from syncl.data.argoverse2.log_writer import write_log
from syncl.data.dataset_file import DATASET_FILE
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.splits import official_scenes
from syncl.data.synthetic import own_data
from syncl.data.synthetic.mounts import channels_of
from syncl.data.synthetic.records import SCENE_TABLES, Table, shared_tables
from syncl.data.synthetic.scene import SceneJob, make_scene
from syncl.data.synthetic.world import WorldConfig
from syncl.errors import SynclError
from syncl.files import atomic_folder, check_replaced
from syncl.interrupts import serve_parent, signals_held_back
from syncl.progress import progress_bar

FORMAT = 1
_SCENES, _WORLD = ".scenes", ".world"
_DESCRIBED = "world.json"


@dataclass(frozen=True)
class GenerationReport:
    """What was written.

    Attributes:
        root: the data root.
        version: nuScenes version folder, or what else it is.
        train_scenes, val_scenes: scene names by split.
        samples: keyframes in all.
        annotations: boxes in all.
        seconds: time it took.
    """

    root: Path
    version: str
    train_scenes: tuple[str, ...]
    val_scenes: tuple[str, ...]
    samples: int
    annotations: int
    seconds: float


def generate_world(
    out: Path, config: WorldConfig, workers: int = 1, overwrite: bool = False
) -> GenerationReport:
    """Write a synthetic data set in the nuScenes schema, or in another layout.

    The result depends on `config` alone, not on `workers`. It is built beside `out` and moved there when
    complete.

    Args:
        out: data root to create.
        config: what to generate.
        workers: scenes made at the same time, a process each.
        overwrite: replace `out` if it holds a world.

    Raises:
        SynclError: `out` holds something else, or a world and `overwrite` is not set, or `workers` is not
            positive.
    """
    out = Path(out)
    if workers < 1:
        raise SynclError(f"workers: {workers} is not a positive number")
    check_replaced(out, overwrite, _DESCRIBED)
    if config.layout == "argoverse2":
        arrow()
    begin = time.monotonic()
    with atomic_folder(out) as building:
        root = building if config.layout != "argoverse2" else building / _WORLD
        root.mkdir(exist_ok=True)
        jobs = _jobs(root, config)
        for channel in channels_of(config.rigs, config.layout):
            (root / "samples" / channel).mkdir(parents=True)
        (root / _SCENES).mkdir()
        with _makers(min(workers, max(len(jobs), 1))) as make:
            for _ in progress_bar(make(jobs), "Generating scenes", len(jobs)):
                pass
        tables = _write_tables(root, config, jobs)
        if config.layout == "argoverse2":
            _lay_out_anew(root, building, config, jobs)
    return GenerationReport(
        root=out,
        version=config.version if config.layout != "argoverse2" else "Argoverse 2's layout",
        train_scenes=tuple(job.name for job in jobs if job.split == "train"),
        val_scenes=tuple(job.name for job in jobs if job.split == "val"),
        samples=len(tables["sample"]),
        annotations=len(tables["sample_annotation"]),
        seconds=time.monotonic() - begin,
    )


def _jobs(root: Path, config: WorldConfig) -> list[SceneJob]:
    prefix = "mini_" if config.version == "v1.0-mini" else ""
    return [
        SceneJob(root, config, split, number, name)
        for split, count in (("train", config.train_scenes), ("val", config.val_scenes))
        for number, name in enumerate(
            [f"yard-{split}-{number:03d}" for number in range(count)]
            if config.layout == "own"
            else official_scenes(prefix + split)[:count]
        )
    ]


def _make(job: SceneJob) -> None:
    """Make a scene and leave its tables in a file.

    Nothing large goes back through a pipe: of a killed process, others would wait for the rest of it.
    """
    (job.root / _SCENES / job.name).write_bytes(orjson.dumps(make_scene(job).tables))


@contextmanager
def _makers(count: int) -> Iterator[Callable[[list[SceneJob]], Iterator[None]]]:
    """What makes scenes in order, with so many processes, which are gone when the block ends, in any way.

    Raises:
        SynclError: one of them was killed.
    """
    if count == 1:
        yield lambda jobs: map(_make, jobs)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=serve_parent) as pool:

        def made(jobs: list[SceneJob]) -> Iterator[None]:
            with signals_held_back():
                return pool.map(_make, jobs)

        try:
            yield made
        except BaseException as error:
            # Nobody waits for the scenes that are under way.
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            if isinstance(error, BrokenProcessPool):
                raise SynclError(
                    "a process that made scenes was killed (out of memory?); take fewer workers"
                ) from error
            raise


def _write_tables(root: Path, config: WorldConfig, jobs: list[SceneJob]) -> dict[str, Table]:
    tables: dict[str, Table] = {name: [] for name in SCENE_TABLES}
    for job in jobs:
        for name, records in orjson.loads((root / _SCENES / job.name).read_bytes()).items():
            tables[name] += records
    shutil.rmtree(root / _SCENES)
    tables |= shared_tables(config, tables["log"])
    folder = root / config.version
    folder.mkdir()
    for name, records in tables.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(records, option=orjson.OPT_INDENT_2))
    if config.layout == "own":
        splits = {split: [job.name for job in jobs if job.split == split] for split in ("train", "val")}
        (folder / "splits.json").write_bytes(orjson.dumps(splits, option=orjson.OPT_INDENT_2))
        (folder / DATASET_FILE).write_text(own_data.DESCRIPTION)
    # The official devkit wants a map picture; nothing reads what is in it.
    maps = root / "maps"
    maps.mkdir()
    blank = cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1]
    (root / str(tables["map"][0]["filename"])).write_bytes(blank.tobytes())
    options = asdict(config)
    if config.layout == "nuscenes":
        # What older versions wrote, to the byte.
        del options["layout"]
    described = {"generator": "syncl", "format": FORMAT, "version": config.version, **options}
    (root / _DESCRIBED).write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2))
    return tables


def _lay_out_anew(world: Path, root: Path, config: WorldConfig, jobs: list[SceneJob]) -> None:
    """Make logs of Argoverse 2's layout of a world of tables, which is gone then."""
    index = open_nuscenes(world, config.version, cache=False)
    for job in progress_bar(jobs, "Writing logs"):
        write_log(index, job.name, root / job.split / job.name, Path.rename)
    (world / _DESCRIBED).rename(root / _DESCRIBED)
    shutil.rmtree(world)
