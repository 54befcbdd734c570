"""`syncl train-motion`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.train_motion import TrainedMotion


def train_motion(
    model: Path,
    detections: Path,
    /,
    *,
    data: Path,
    output: Path,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    scenes: tuple[str, ...] = (),
    steps: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> "TrainedMotion":
    """Train VeloLSTM, CC-3DT's learned motion model, on a detector's boxes of annotated scenes.

    It learns to foresee an object's next box, and how far to trust a detection. Objects are followed by their
    annotations; where none of their class was detected within 2 m, the annotated box stands in. Runs on the
    CPU: a step takes a tenth of a second.

    Args:
        model: CC-3DT model file; a VeloLSTM that it has goes on from there, a Kalman filter makes way for it.
        detections: nuScenes detection results file of the scenes, as `syncl track --task detection` writes.
        data: folder of a nuScenes-format dataset.
        output: model file to write: the model with the trained motion model.
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: which scenes (default: the version's own training split).
        scenes: names of some of its scenes, where not all are wanted.
        steps: optimiser steps; as published, 100 epochs, are about 10,000.
        seed: of new weights and the order of windows.
        overwrite: replace an existing output file.

    Returns:
        The file that was written, how many trajectories were learned from, and the last losses.
    """
    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.nuscenes.splits import OFFICIAL_SPLITS, own_split
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.models import find_model
    from syncl.progress import plain_console
    from syncl.runs.train_motion import train_model_motion
    from syncl.training.motion_model import MotionTrainingConfig

    check_output(output, overwrite)
    index = open_nuscenes(data, version, dataset=dataset)
    split = split or own_split(version, data, training=True)
    chosen = index.choose_scenes(split, scenes)
    if steps < 1:
        raise SynclError(f"--steps: {steps}; at least one is needed")
    done = train_model_motion(
        find_model(model),
        detections,
        index,
        chosen,
        output,
        MotionTrainingConfig(steps=steps, seed=seed),
        others=bool(scenes) or split not in OFFICIAL_SPLITS,
        overwrite=overwrite,
    )
    losses = ", ".join(f"{name} {value:.3f}" for name, value in done.losses.items())
    plain_console().print(f"wrote {output}: VeloLSTM from {done.trajectories} trajectories ({losses})")
    return done
