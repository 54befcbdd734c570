"""`syncl demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.runs.demo import Demo


def demo(
    *,
    output: Path = Path("demo_output"),
    seed: int = 1000,
    scenes: int = 2,
    keyframes: int = 40,
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    overwrite: bool = False,
) -> "Demo":
    """Generate unseen scenes, track them with the model that ships with syncl, score and draw the tracks.

    Everything runs on the CPU and offline, in about a minute or two. The world is synthetic, and so are
    its figures.

    Args:
        output: folder for results.json, metrics.json, tracks.mp4, frame.png and the generated world.
        seed: of the world; the model was trained on other seeds.
        scenes: how many scenes, at most 2.
        keyframes: frames of a scene, two a second.
        precision: of the model's layers (`syncl track`).
        overwrite: replace an earlier demo in the output folder.

    Returns:
        The files that were written, the metrics, and how long all took.
    """
    from syncl.progress import plain_console, print_whole
    from syncl.runs.demo import metrics_table, run_demo

    done = run_demo(
        output, seed=seed, scenes=scenes, keyframes=keyframes, precision=precision, overwrite=overwrite
    )
    print_whole(plain_console(), metrics_table(done.metrics))
    console = plain_console(stderr=True)
    console.print("Figures are of a synthetic world; they say nothing about nuScenes.")
    for file, what in done.files.items():
        console.print(f"  {file}  {what}")
    for remark in done.metrics.remarks:
        console.print(f"note: {remark}")
    console.print(f"done in {done.seconds:.0f} s")
    return done
