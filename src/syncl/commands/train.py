"""`syncl train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.runs.train.run import TrainingSummary


def train(
    recipe: str,
    /,
    *,
    data: Path,
    output: Path,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    validation_split: str | None = None,
    init: Path | None = None,
    init_parts: tuple[str, ...] = (),
    strategy: Literal["baseline", "syncl"] | None = None,
    freeze_encoder: bool = False,
    set: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    compile: bool = False,
    cache_features: Path | None = None,
    log_with: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = (),
) -> "TrainingSummary":
    """Train a recipe.

    Run it under `accelerate launch` or `torchrun` for several devices. Ctrl-C and SIGTERM let it finish the
    step and write a checkpoint; --resume goes on from there, to the same bits. After a kill at most the steps
    since the last checkpoint are lost. A folder takes one process at a time.

    Args:
        recipe: name of a recipe (`syncl recipes` lists them), a file of your own (my.yaml), or a function
            of your own that returns one (my_recipes.py:quick, my_package.recipes:quick).
        data: folder of a nuScenes-format dataset.
        output: the run's folder; model.safetensors is the result.
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: scenes to train on (default: the version's training split).
        validation_split: scenes for validation during training (default: the version's validation split).
        init: model to start from: file, run's folder, or name of a shipped one; what fits by name is taken
            over.
        init_parts: take over only these modules of it, such as detector.image_encoder detector.proposal_head.
        strategy: replaces the recipe's training strategy; its costs and loss weights stay.
        freeze_encoder: keep backbone and neck as they are (steps become cheaper).
        set: changed settings, such as training.steps=500 training.optimiser.learning_rate=1e-4.
        resume: go on from the latest checkpoint in output, with the options that the run was started with;
            threads, places of files, training.data.workers and prefetch, and how often is logged, validated
            and a checkpoint written may change.
        overwrite: start anew in an output folder that is not empty; model, checkpoints, log, results and
            metrics of the earlier run are removed.
        threads: CPU threads (default: torch's choice).
        compile: compile backbone, neck and decoder layers. The first steps wait for it, minutes the first
            time; the code is kept between runs. Sums are rounded otherwise. Needs a C++ compiler.
        cache_features: folder for features of the frozen encoder; they are computed once and serve every run
            with the same encoder, images and scenes. Steps then look at no image.
        log_with: experiment trackers that are told the figures too, each an extra of its name. Tensorboard's
            files are written without asking.

    Returns:
        Path of the model file, the recipe as it was trained, and the last losses.
    """
    from syncl.models import find_model
    from syncl.runs.train.run import train_recipe

    return train_recipe(
        recipe,
        data=data,
        output=output,
        version=version,
        dataset=dataset,
        split=split,
        validation_split=validation_split,
        init=None if init is None else find_model(init),
        init_parts=init_parts,
        strategy=strategy,
        freeze_encoder=freeze_encoder,
        changes=set,
        resume=resume,
        overwrite=overwrite,
        threads=threads,
        compile=compile,
        cache_features=cache_features,
        log_with=log_with,
    )
