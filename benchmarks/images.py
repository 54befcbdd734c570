"""Time to decode, resize and crop the six 1600x900 JPEGs of a frame to 320x800, and what it costs in pixels.

`exact` resizes as the original implementations do and is what published weights get; `fast` decodes JPEGs at
half their size first. The peer in the same run is the exact path. With --loader also how long a training step
waits for data with 0, 1 and 2 workers, for a step of the given length.

    python benchmarks/images.py                      # generated images
    python benchmarks/images.py --images FOLDER      # real ones
    python benchmarks/images.py --loader 0.2
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from syncl.data.images import ResizeMethod, load_image, test_transform
from syncl.data.loading import clip_loader
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

SOURCE, TARGET = (900, 1600), (320, 800)
REPEATS = 15


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of the quickest of several calls."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1e3


def frame(paths: list[Path], method: ResizeMethod, source: tuple[int, int] | None) -> np.ndarray:
    transform = test_transform(SOURCE, TARGET)
    return np.stack([load_image(path, transform, method, source) for path in paths])


def differ(first: np.ndarray, second: np.ndarray) -> str:
    difference = np.abs(first.astype(int) - second.astype(int))
    limit = np.percentile(difference, 99)
    return f"mean {difference.mean():.2f}, 99 % within {limit:.0f}, most {difference.max()}"


def measure_decoding(paths: list[Path]) -> None:
    cases: dict[str, tuple[ResizeMethod, tuple[int, int] | None]] = {
        "exact (full decode, Pillow bicubic)": ("exact", SOURCE),
        "full decode, bilinear": ("fast", None),
        "fast (decode at a half)": ("fast", SOURCE),
    }
    pictures = {name: frame(paths, *options) for name, options in cases.items()}
    times = {name: milliseconds(lambda o=options: frame(paths, *o)) for name, options in cases.items()}
    exact, full, fast = cases
    for name, spent in times.items():
        ratio = times[exact] / spent
        print(f"{name:<38}{spent:7.1f} ms CPU a frame of six, {ratio:4.1f} times the speed of exact")
    print(f"fast against exact, of 255:        {differ(pictures[fast], pictures[exact])}")
    print(f"fast against full decode, of 255:  {differ(pictures[fast], pictures[full])}")


def measure_loader(root: Path, version: str, step_s: float) -> None:
    index = open_nuscenes(root, version)
    dataset = ClipDataset(
        index,
        index.scene_names,
        clip_length=3,
        images=ImageOptions(TARGET, resize="fast"),
        annotations=AnnotationOptions(),
    )
    for workers in (0, 1, 2):
        batches = iter(clip_loader(dataset, 1, seed=0, workers=workers))
        next(batches)
        waited, steps = 0.0, 0
        started = time.perf_counter()
        for _ in range(len(dataset) - 1):
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
            steps += 1
            time.sleep(step_s)
        share = waited / (time.perf_counter() - started)
        print(
            f"clips of 3 frames, {workers} workers: {waited / steps * 1e3:6.1f} ms wait a step ({share:.0%})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of six real 1600x900 JPEGs")
    parser.add_argument(
        "--loader", type=float, help="seconds a training step takes; measures waiting for data"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(arguments.images.glob("*.jpg"))[:6] if arguments.images else []
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        config = WorldConfig(
            train_scenes=1, val_scenes=0, keyframes=12, width=SOURCE[1], height=SOURCE[0], seed=0
        )
        if len(paths) < 6 or arguments.loader:
            generate_world(world, config, workers=1)
        if len(paths) < 6:
            paths = [sorted(camera.iterdir())[0] for camera in sorted((world / "samples").glob("CAM_*"))]
            print("generated images (no --images)")
        else:
            print(f"real images: {arguments.images.name}")
        measure_decoding(paths)
        if arguments.loader:
            measure_loader(world, config.version, arguments.loader)


if __name__ == "__main__":
    main()
