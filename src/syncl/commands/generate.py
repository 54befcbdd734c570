"""`syncl generate`: write a synthetic data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.data.synthetic.generation import GenerationReport


def generate(
    out: Path,
    /,
    *,
    train_scenes: int = 8,
    val_scenes: int = 2,
    keyframes: int = 40,
    width: int = 352,
    height: int = 128,
    seed: int = 0,
    difficulty: Literal["easy", "default", "hard"] = "default",
    rigs: bool = False,
    layout: Literal["nuscenes", "argoverse2", "own"] = "nuscenes",
    workers: int = 0,
    overwrite: bool = False,
) -> "GenerationReport":
    """Generate synthetic drives in the nuScenes format: cameras, all tables, every command runs on them.

    Up to 8 training and 2 validation scenes are written as v1.0-mini (splits mini_train, mini_val), more as
    v1.0-trainval (train, val). The same options give the same bytes.

    Args:
        out: Folder to create; the data root for every other command.
        train_scenes: Scenes of the training split, up to 700.
        val_scenes: Scenes of the validation split, up to 150.
        keyframes: Annotated frames of a scene, two a second (other layouts than nuscenes: ten).
        width: Image width in pixels.
        height: Image height in pixels.
        seed: Chooses the world.
        difficulty: How dense, far, fast and hidden objects are.
        rigs: Give every scene a rig of its own: three to eight cameras (CAM_0 to CAM_7) with other lenses,
            places, heights and image shapes, one of them silent now and then.
        layout: nuScenes' tables, or Argoverse 2's logs (docs/argoverse2.md): seven cameras, the front one
            upright, ten keyframes a second. own is somebody's own data (docs/own-data.md): tables of version
            own, four classes that a dataset.yaml makes of other category names, seven cameras of three
            lenses, ten keyframes a second.
        workers: Processes; 0 takes one for each CPU core.
        overwrite: Replace an earlier world in that folder.

    Returns:
        What was written.

    Raises:
        SynclError: an option is out of range, or OUT is not empty.
    """
    import os

    from syncl.data.synthetic.generation import generate_world
    from syncl.data.synthetic.world import WorldConfig
    from syncl.progress import plain_console
    from syncl.wording import counted

    config = WorldConfig(train_scenes, val_scenes, keyframes, width, height, seed, difficulty, rigs, layout)
    report = generate_world(out, config, workers or len(os.sched_getaffinity(0)), overwrite)
    rate = report.samples / report.seconds
    plain_console().print(
        f"{report.root}: {report.version}, {counted(len(report.train_scenes), 'training scene')} and "
        f"{counted(len(report.val_scenes), 'validation scene')}, {counted(report.samples, 'keyframe')}, "
        f"{counted(report.annotations, 'box')}, "
        f"{report.seconds:.1f} s ({rate:.1f} keyframes/s)"
    )
    return report
