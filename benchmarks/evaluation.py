"""CPU seconds and peak memory of the metrics, ours and the official devkit's, on the same files in one run.

    python benchmarks/evaluation.py --official-python venv/bin/python

The official side needs an environment of its own (`pip install nuscenes-devkit==1.2.0 motmetrics==1.4.0
"pandas<3.1"`) and much patience: ten minutes of CPU for tracking on 30 scenes, more than an hour for 150,
so it runs on the sizes named by --official-tracking and --official-detection only. Every measurement is a
process of its own with one thread. CPU seconds leave the imports out, on both sides.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = """
import json, resource, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from syncl.evaluation import evaluate_detection, evaluate_tracking
task, results, root = sys.argv[1:4]
marks = []
begin = time.process_time()
function = evaluate_tracking if task == "tracking" else evaluate_detection
metrics = function(Path(results), Path(root), "v1.0-trainval", "val",
                   progress=lambda step: marks.append((step, time.process_time())))
end = time.process_time()
times = [mark[1] for mark in marks] + [end]
stages = {"tables": times[1] - times[0], "results": times[2] - times[1], "metrics": end - times[2]}
summary = metrics.summary()
print(json.dumps({"cpu": end - begin, "stages": stages,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "value": summary["amota" if task == "tracking" else "nd_score"]}))
"""

OFFICIAL = """
import contextlib, io, json, resource, sys, tempfile, time, warnings
warnings.simplefilter("ignore")
task, results, root = sys.argv[1:4]
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
if task == "tracking":
    from nuscenes.eval.tracking.evaluate import TrackingEval
else:
    from nuscenes.eval.detection.evaluate import DetectionEval
begin = time.process_time()
with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
    if task == "tracking":
        config = config_factory("tracking_nips_2019")
        evaluation = TrackingEval(config, results, "val", out, "v1.0-trainval", root, False)
        summary = evaluation.main(render_curves=False)
    else:
        tables = NuScenes("v1.0-trainval", root, verbose=False)
        evaluation = DetectionEval(tables, config_factory("detection_cvpr_2019"), results, "val", out, False)
        summary = evaluation.main(plot_examples=0, render_curves=False)
print(json.dumps({"cpu": time.process_time() - begin,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "value": summary["amota" if task == "tracking" else "nd_score"]}))
"""

FLOOR = """
import gc, json, sys, time
from pathlib import Path
from syncl.data.json_stream import convert_records, convert_results
results, root = Path(sys.argv[2]), Path(sys.argv[3]) / "v1.0-trainval"
gc.disable()
begin = time.process_time()
for name in ("scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance"):
    convert_records(root / f"{name}.json", len)
convert_results(results, len)
print(json.dumps({"cpu": time.process_time() - begin}))
"""


def measure(python: str, code: str, task: str, root: Path) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    results = root / ("trk.json" if task == "tracking" else "det.json")
    command = [python, "-c", code, task, str(results), str(root)]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{task} on {root} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def generate(generator: Path, folder: Path, scenes: int, sweeps: bool) -> Path:
    root = folder / f"{scenes}-scenes"
    if not (root / "args.json").is_file():
        print(f"generating {scenes} scenes in {root}", flush=True)
        options = ["--scenes", str(scenes), *(["--sweeps"] if sweeps else [])]
        subprocess.run([sys.executable, generator, "--case", "val", "--out", root, *options], check=True)
    return root


def official_missing(python: str | None) -> str | None:
    """Why the official side cannot run, or None."""
    if python is None:
        return "no --official-python given"
    check = "import nuscenes.eval.tracking.evaluate, nuscenes.eval.detection.evaluate"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, text=True)
    except OSError as error:
        return f"{python}: {error.strerror}"
    if done.returncode:
        return f"{python} cannot import the devkit ({done.stderr.strip().splitlines()[-1]})"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parents[1] / "tests" / "goldens" / "eval" / "gen.py"
    parser.add_argument("--generator", type=Path, default=default, help="script that makes the inputs")
    parser.add_argument("--work", type=Path, help="folder to keep generated inputs in (default: temporary)")
    parser.add_argument("--scenes", type=int, nargs="+", default=[30, 150])
    parser.add_argument("--sweeps", action="store_true", help="tables with all sweeps, as the real ones have")
    parser.add_argument("--official-python", help="python of an environment with the official devkit")
    parser.add_argument("--official-tracking", type=int, nargs="*", default=[30], help="sizes in scenes")
    parser.add_argument(
        "--official-detection", type=int, nargs="*", default=[30, 150], help="sizes in scenes"
    )
    options = parser.parse_args()
    if not options.generator.is_file():
        sys.exit(f"skipped: no input generator at {options.generator}; give one with --generator")
    missing = official_missing(options.official_python)
    if missing:
        print(f"official side skipped: {missing}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        roots = {
            scenes: generate(options.generator, folder, scenes, options.sweeps) for scenes in options.scenes
        }
        for task in ("tracking", "detection"):
            run_task(task, roots, options, missing is None)


def run_task(task: str, roots: dict[int, Path], options: argparse.Namespace, official: bool) -> None:
    print(f"\n{task}\n{'scenes':>7} {'side':>9} {'CPU s':>8} {'peak MB':>8} {'value':>9}   notes", flush=True)
    sizes = options.official_tracking if task == "tracking" else options.official_detection
    ours = {}
    for scenes, root in roots.items():
        shutil.rmtree(root / ".syncl", ignore_errors=True)
        cold = measure(sys.executable, OURS, task, root)
        own = ours[scenes] = measure(sys.executable, OURS, task, root)
        floor = measure(sys.executable, FLOOR, task, root)
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in own["stages"].items())
        print(
            f"{scenes:>7} {'syncl':>9} {own['cpu']:>8.2f} {own['peak']:>8.0f} {own['value']:>9.6f}   "
            f"{stages}; {cold['cpu'] / own['cpu']:.2f} x where the index is made first; "
            f"parsing JSON alone {floor['cpu']:.2f}",
            flush=True,
        )
        if official and scenes in sizes:
            other = measure(options.official_python, OFFICIAL, task, root)
            ratios = f"{other['cpu'] / own['cpu']:.0f} x CPU, {other['peak'] / own['peak']:.1f} x memory"
            numbers = f"{other['cpu']:>8.2f} {other['peak']:>8.0f} {other['value']:>9.6f}"
            print(f"{scenes:>7} {'official':>9} {numbers}   {ratios}", flush=True)
    first, last = min(roots), max(roots)
    if first < last:
        growth = ours[last]["cpu"] / ours[first]["cpu"]
        print(f"CPU time grows {growth:.1f} x for {last / first:.1f} x the scenes")


if __name__ == "__main__":
    main()
