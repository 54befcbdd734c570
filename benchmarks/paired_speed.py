"""This tree against another one, in turn, in one run: CPU seconds of a step, an index, an evaluation.

    git worktree add /tmp/before 93cebdc
    python benchmarks/paired_speed.py /tmp/before                                        # both steps
    python benchmarks/paired_speed.py /tmp/before --index tables --evaluation val        # and the others

Steps run in a process a side that stays; the sides take turns, frame after frame, and a ratio is the median
over pairs. The other tree steps in float32, which is all that it has; this one in `--precision`, with
BatchNorm folded, and compiled with `--compile`. Memory is held as by the commands of each. Weights of the
full-size recipe are fresh; the small model is the file that ships with the other tree, which both read.
`--index` is a folder of tables (`benchmarks/nuscenes_index.py FOLDER --sweeps 10` writes them),
`--evaluation` one of results and tables (`benchmarks/evaluation.py --work FOLDER`).
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

FULL_SIZE = "pf-track_petr_v99_320x800"

AS_COMMANDS = """
try:
    from syncl.allocation import keep_freed_memory
    keep_freed_memory()
except ImportError:
    pass
"""

STEPS = """
import sys, time, warnings
from pathlib import Path
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
what, precision, frames, compiles = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["compile"]
from syncl.structures import CameraRig, Frame
if Path(what).is_file():
    from syncl.checkpoints.model_file import load_model
    loaded = load_model(Path(what))
    tracker, (height, width) = loaded.tracker.eval(), loaded.config.input.image_size
else:
    from syncl.recipes import find_recipe
    torch.manual_seed(0)
    model = find_recipe(what).model
    tracker, (height, width) = model.build().eval(), model.input.image_size
if precision != "float32":
    from syncl.trackers.inference import for_inference
    tracker = for_inference(tracker, precision)
if compiles:
    from syncl.deployment.compiled import compiled
    tracker = compiled(tracker)
angles = torch.arange(6, dtype=torch.float64) * (torch.pi / 3)
cameras = torch.zeros(1, 6, 4, 4, dtype=torch.float64)
cameras[..., 0, 0], cameras[..., 0, 1], cameras[..., 3, 3] = angles.sin(), -angles.cos(), 1
cameras[..., 1, 2], cameras[..., 1, 3] = -1, 1.5
cameras[..., 2, 0], cameras[..., 2, 1] = angles.cos(), angles.sin()
rows = [[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]]
intrinsics = torch.tensor(rows, dtype=torch.float64)
names = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT", "CAM_FRONT_RIGHT")
state = tracker.initial_state()
for number in range(frames):
    sys.stdin.readline()
    torch.manual_seed(number)
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[:, 0, 3] = 2.0 * number
    frame = Frame(
        images=torch.randint(0, 256, (1, 6, 3, height, width), dtype=torch.uint8),
        rig=CameraRig(names, intrinsics.expand(1, 6, 3, 3), cameras),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, 6, 2),
        global_from_vehicle=pose,
        timestamp_s=torch.tensor([0.5 * number], dtype=torch.float64),
        scenes=("scene",),
        samples=(str(number),),
    )
    begin = time.process_time()
    objects, state = tracker.step(frame, state)
    print(time.process_time() - begin, flush=True)
"""

INDEX = """
import sys, time
from pathlib import Path
from syncl.data.nuscenes.index import open_nuscenes
begin = time.process_time()
count = open_nuscenes(Path(sys.argv[1]), "v1.0-trainval").annotation_count
print(time.process_time() - begin)
"""

DETECTION = """
import sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from syncl.evaluation import evaluate_detection
root = Path(sys.argv[1])
begin = time.process_time()
score = evaluate_detection(root / "det.json", root, "v1.0-trainval", "val").summary()["nd_score"]
print(time.process_time() - begin, score)
"""

HERE = Path(__file__).parents[1]


def started(tree: Path, code: str, *arguments: str) -> "subprocess.Popen[str]":
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-c", AS_COMMANDS + code, *arguments],
        env={**os.environ, **threads, "PYTHONPATH": str(tree / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def compare(label: str, before: list[float], after: list[float]) -> float:
    ratio = statistics.median(old / new for old, new in zip(before, after, strict=True))
    print(
        f"{label:<44}{statistics.median(before):9.3f} s {statistics.median(after):9.3f} s {ratio:6.2f} x  "
        f"({len(after)} pairs)",
        flush=True,
    )
    return ratio


def steps(other: Path, model: str, ways: tuple[str, ...], frames: int, label: str) -> float:
    """Seconds a step, frame after frame in turn, without the first frame of each side."""
    precision, *compiles = ways
    sides = [
        started(other, STEPS, model, "float32", str(frames)),
        started(HERE, STEPS, model, precision, str(frames), *compiles),
    ]
    times: list[list[float]] = [[], []]
    for _ in range(frames):
        for side, found in zip(sides, times, strict=True):
            cast(IO[str], side.stdin).write("\n")
            cast(IO[str], side.stdin).flush()
            line = cast(IO[str], side.stdout).readline()
            if not line:
                raise SystemExit(f"{label}: one side failed, see above")
            found.append(float(line))
    for side in sides:
        side.communicate()
    return compare(f"{label}, {' '.join(ways)}", times[0][1:], times[1][1:])


def whole(other: Path, code: str, root: Path, rounds: int, label: str, cache: bool) -> float:
    """Seconds of a command, in a process of its own each time."""
    times: list[list[float]] = [[], []]
    said: set[str] = set()
    for _ in range(rounds):
        for tree, found in zip((other, HERE), times, strict=True):
            stored = root / ".syncl"
            for file in stored.glob("*") if stored.is_dir() else ():
                file.unlink()
            if cache:
                started(tree, INDEX, str(root)).communicate()
            words = started(tree, code, str(root)).communicate()[0].split()
            if not words:
                raise SystemExit(f"{label}: one side failed, see above")
            found.append(float(words[0]))
            said.update(words[1:])
    if len(said) > 1:
        print(f"{label}: the two trees do not score alike: {', '.join(sorted(said))}")
    return compare(label, *times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="another tree of this repository, such as a worktree")
    parser.add_argument("--index", type=Path, help="folder of tables of trainval's size")
    parser.add_argument("--evaluation", type=Path, help="folder of tables and det.json of val's size")
    parser.add_argument("--precision", default="bfloat16", help="of this tree's steps")
    parser.add_argument("--compile", action="store_true", help="this tree's steps")
    parser.add_argument("--full-frames", type=int, default=4, help="of the full-size recipe; 0 leaves it out")
    parser.add_argument("--small-frames", type=int, default=16, help="of the small model; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=1, help="of index and evaluation")
    options = parser.parse_args()
    ways = (options.precision, "compile") if options.compile else (options.precision,)
    print(f"{'CPU seconds, one thread':<44}{'before':>11} {'now':>11}")
    if options.full_frames:
        label = "PF-Track on PETR V2-99, 320 x 800, a step"
        steps(options.other, FULL_SIZE, ways, options.full_frames, label)
    if options.small_frames:
        model = str(options.other / "src" / "syncl" / "models" / "demo.safetensors")
        label = "shipped model, a step"
        steps(options.other, model, ways, options.small_frames, label)
    if options.index:
        label = "index of trainval's size, with sweeps"
        whole(options.other, INDEX, options.index, options.rounds, label, cache=False)
    if options.evaluation:
        label = "detection evaluation of val"
        whole(options.other, DETECTION, options.evaluation, options.rounds, label, cache=True)


if __name__ == "__main__":
    main()
