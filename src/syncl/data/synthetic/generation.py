"""Making a whole data set: scenes in parallel, tables, and a folder that appears only when complete."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import orjson

from syncl.data.nuscenes.splits import official_scenes
from syncl.data.synthetic.config import WorldConfig
from syncl.data.synthetic.mounts import MOUNTS
from syncl.data.synthetic.records import SCENE_TABLES, SceneRecords, Table, shared_tables
from syncl.data.synthetic.scene import SceneJob, make_scene
from syncl.errors import SynclError
from syncl.files import refuse_to_overwrite
from syncl.progress import progress_bar

FORMAT = 1


@dataclass(frozen=True)
class GenerationReport:
    """What was written.

    Attributes:
        root: the data root.
        version: nuScenes version folder.
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
    """Write a synthetic data set in the nuScenes schema.

    The result depends on `config` alone, not on `workers`. It is built beside `out` and moved there when
    complete.

    Args:
        out: data root to create.
        config: what to generate.
        workers: scenes made at the same time, a process each.
        overwrite: replace `out` if it holds something.

    Raises:
        SynclError: `out` is not empty and `overwrite` is not set, or `workers` is not positive.
    """
    out = Path(out)
    if workers < 1:
        raise SynclError(f"workers: {workers} is not a positive number")
    if out.is_file():
        raise SynclError(f"{out}: is a file; the data set needs a folder")
    refuse_to_overwrite(out, overwrite)
    begin = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        jobs = _jobs(building, config)
        for mount in MOUNTS:
            (building / "samples" / mount.channel).mkdir(parents=True)
        scenes = list(progress_bar(_made(jobs, workers), "Generating scenes", len(jobs)))
        _write_tables(building, config, scenes)
        building.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        building.rename(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return GenerationReport(
        root=out,
        version=config.version,
        train_scenes=tuple(job.name for job in jobs if job.split == "train"),
        val_scenes=tuple(job.name for job in jobs if job.split == "val"),
        samples=sum(len(scene.tables["sample"]) for scene in scenes),
        annotations=sum(len(scene.tables["sample_annotation"]) for scene in scenes),
        seconds=time.monotonic() - begin,
    )


def _jobs(root: Path, config: WorldConfig) -> list[SceneJob]:
    prefix = "mini_" if config.version == "v1.0-mini" else ""
    return [
        SceneJob(root, config, split, number, name)
        for split, count in (("train", config.train_scenes), ("val", config.val_scenes))
        for number, name in enumerate(official_scenes(prefix + split)[:count])
    ]


def _made(jobs: list[SceneJob], workers: int) -> Iterator[SceneRecords]:
    if workers == 1 or len(jobs) == 1:
        yield from map(make_scene, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(make_scene, jobs)


def _write_tables(root: Path, config: WorldConfig, scenes: list[SceneRecords]) -> None:
    tables: dict[str, Table] = {name: [] for name in SCENE_TABLES}
    for scene in scenes:
        for name, records in scene.tables.items():
            tables[name] += records
    tables |= shared_tables(config.seed, tables["log"])
    folder = root / config.version
    folder.mkdir()
    for name, records in tables.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(records, option=orjson.OPT_INDENT_2))
    # The official devkit wants a map picture; nothing reads what is in it.
    maps = root / "maps"
    maps.mkdir()
    blank = cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1]
    (root / str(tables["map"][0]["filename"])).write_bytes(blank.tobytes())
    described = {"generator": "syncl", "format": FORMAT, "version": config.version, **asdict(config)}
    (root / "world.json").write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2))
