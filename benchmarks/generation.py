"""How fast synthetic scenes are made: six-camera keyframes per second of CPU time, one process.

    python benchmarks/generation.py [--scenes 2] [--keyframes 40]

There is no peer to compare with; the targets printed beside the figures are the project's own.
"""

import argparse
import tempfile
import time
from pathlib import Path

from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

TARGETS = {(256, 96): 15.0, (352, 128): None, (704, 256): 5.0}


def measure(width: int, height: int, scenes: int, keyframes: int) -> tuple[float, float]:
    """Keyframes per CPU second and megabytes per keyframe, everything included: layout, pictures, tables."""
    with tempfile.TemporaryDirectory() as folder:
        config = WorldConfig(scenes, 0, keyframes, width, height, seed=1)
        begin = time.process_time()
        report = generate_world(Path(folder) / "world", config)
        seconds = time.process_time() - begin
        size = sum(path.stat().st_size for path in (Path(folder) / "world").rglob("*") if path.is_file())
    return report.samples / seconds, size / report.samples / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--keyframes", type=int, default=40)
    options = parser.parse_args()
    measure(64, 32, 1, 2)  # first imports
    print(f"{'width x height':>16}{'keyframes/CPU s':>18}{'target':>10}{'MB/keyframe':>14}")
    for (width, height), target in TARGETS.items():
        rate, size = measure(width, height, options.scenes, options.keyframes)
        goal = "" if target is None else f">= {target:g}"
        print(f"{f'{width} x {height}':>16}{rate:>18.1f}{goal:>10}{size:>14.3f}")


if __name__ == "__main__":
    main()
