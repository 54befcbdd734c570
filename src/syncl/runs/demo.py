"""What `syncl demo` does: generate, track, evaluate, draw, and say where everything is."""

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from syncl.checkpoints.model_file import load_model
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import MINI_SCENES, WorldConfig
from syncl.errors import SynclError
from syncl.evaluation import TrackingMetrics, evaluate_tracking
from syncl.files import atomic_write, check_output
from syncl.models import find_model
from syncl.progress import plain_console
from syncl.rendering import RenderStyle, render_image, render_video
from syncl.rendering.nuscenes_scenes import open_results
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file
from syncl.trackers.inference import Precision
from syncl.wording import counted

_RESULTS = {
    "results.json": "tracks in the nuScenes submission format",
    "metrics.json": "metrics with the official keys",
    "tracks.mp4": "six cameras and bird's-eye view",
    "frame.png": "one frame of it",
}


@dataclass(frozen=True)
class Demo:
    """What a demo wrote and measured.

    Attributes:
        files: what each file shows, by its path.
        metrics: of the tracks, on the synthetic world.
        seconds: wall time of all.
    """

    files: dict[Path, str]
    metrics: TrackingMetrics
    seconds: float


def run_demo(
    output: Path,
    *,
    seed: int,
    scenes: int,
    keyframes: int,
    overwrite: bool,
    precision: Precision = "auto",
) -> Demo:
    """Run the demo; see `syncl.commands.demo.demo` for the arguments.

    Raises:
        SynclError: if the output folder is in use or an option is out of range.
    """
    if not 1 <= scenes <= MINI_SCENES[1]:
        raise SynclError(f"scenes: {scenes} is not between 1 and {MINI_SCENES[1]}")
    config = WorldConfig(train_scenes=0, val_scenes=scenes, keyframes=keyframes, seed=seed)
    check_output(output, overwrite, "folder")
    console = plain_console(stderr=True)
    started = time.perf_counter()
    world = output / "world"
    generate_world(world, config, workers=_cores(), overwrite=True)
    index = open_nuscenes(world, config.version)
    names = index.split_scenes("mini_val")
    console.print(
        f"generated {counted(len(names), 'unseen scene')} of {counted(keyframes, 'frame')} (seed {seed}) "
        f"in {world}"
    )

    model = load_model(find_model("demo"))
    results, metrics_file, video, picture = (output / name for name in _RESULTS)
    reports = Reports(results, overwrite=overwrite)
    report = track_to_file(model, index, names, reports, device="cpu", precision=precision)
    console.print(f"tracked {counted(report.frames, 'frame')}, {report.seconds_per_frame * 1000:.0f} ms each")

    with warnings.catch_warnings():
        # The remarks are printed below the table.
        warnings.simplefilter("ignore", UserWarning)
        metrics = evaluate_tracking(results, world, config.version, "mini_val")
    atomic_write(metrics_file, json.dumps(metrics.summary(), indent=2).encode() + b"\n")

    style = RenderStyle()
    source = open_results(index, results, names, 0.3, title="syncl demo, synthetic world")
    render_video(source.frames(style), video, style, 4.0, overwrite)
    frame, history = source.frame(names[0], max(1, keyframes // 2), style)
    render_image(frame, picture, style, history, overwrite)

    files = {output / name: what for name, what in _RESULTS.items()}
    return Demo(files, metrics, time.perf_counter() - started)


def metrics_table(metrics: TrackingMetrics) -> Table:
    """The figures a reader looks for first, overall and for each class."""
    shown = ("amota", "amotp", "recall", "mota", "tp", "fp", "fn", "ids")
    table = Table(title="tracking on unseen synthetic scenes (official definitions)")
    table.add_column("class")
    for name in shown:
        table.add_column(name.upper(), justify="right", no_wrap=True)

    def cell(name: str, value: float) -> str:
        if value != value:
            return "-"
        return f"{value:.0f}" if name in ("tp", "fp", "fn", "ids") else f"{value:.3f}"

    for label in metrics.curves:
        values = [metrics.label_metrics[name][label] for name in shown]
        table.add_row(label, *(cell(name, value) for name, value in zip(shown, values)))
    table.add_section()
    table.add_row("all", *(cell(name, metrics.overall(name)) for name in shown), style="bold")
    return table


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
