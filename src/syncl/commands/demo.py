"""`syncl demo`."""

from pathlib import Path


def demo(
    *,
    output: Path = Path("demo_output"),
    seed: int = 1000,
    scenes: int = 2,
    keyframes: int = 40,
    overwrite: bool = False,
) -> None:
    """Generate unseen scenes, track them with the model that ships with syncl, score and draw the tracks.

    Everything runs on the CPU and offline, in about a minute or two. The world is synthetic, and so are
    its figures.

    Args:
        output: folder for results.json, metrics.json, tracks.mp4, frame.png and the generated world.
        seed: of the world; the model was trained on other seeds.
        scenes: how many scenes, at most 2.
        keyframes: frames of a scene, two a second.
        overwrite: replace an earlier demo in the output folder.
    """
    from syncl.runs.demo import run_demo

    run_demo(output, seed=seed, scenes=scenes, keyframes=keyframes, overwrite=overwrite)
