"""Training checkpoints: whole folders that appear in one step.

RUN/checkpoints/step_00001000/
    model.safetensors   the tracker as it would be used (averaged weights where there is an average)
    state/              everything needed to go on bit for bit: weights, optimiser, schedule, random state
    progress.json       the step
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
from accelerate import Accelerator

from syncl.errors import SynclError
from syncl.files import atomic_write

_PREFIX = "step_"


def checkpoint_folders(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(folder for folder in (run / "checkpoints").glob(f"{_PREFIX}*") if folder.is_dir())


def save_checkpoint(
    accelerator: Accelerator, run: Path, step: int, keep: int, save_model: Callable[[Path], None]
) -> Path:
    """Write a checkpoint folder under a hidden name, rename it when complete, drop the oldest beyond `keep`.

    Called by all processes. Killed at any moment, it leaves earlier checkpoints as they were.
    """
    target = run / "checkpoints" / f"{_PREFIX}{step:08d}"
    partial = target.with_name(f".{target.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial / "state"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_model(partial / "model.safetensors")
        atomic_write(partial / "progress.json", orjson.dumps({"step": step}))
        for file in partial.rglob("*"):
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        for old in checkpoint_folders(run)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return target


def resume_checkpoint(accelerator: Accelerator, run: Path) -> int:
    """Load the latest checkpoint of a run into everything prepared or registered; returns its step.

    Raises:
        SynclError: if there is none, or it does not fit the recipe.
    """
    folders = checkpoint_folders(run)
    if not folders:
        raise SynclError(f"{run}: no checkpoint to resume from; start without --resume")
    latest = folders[-1]
    step = int(orjson.loads((latest / "progress.json").read_bytes())["step"])
    try:
        accelerator.load_state(str(latest / "state"))
    except (RuntimeError, ValueError, KeyError) as error:
        if "cross_attentions." in str(error):
            raise SynclError(
                f"{latest}: was written by an earlier version, whose optimiser had the parameters in another "
                f"order; start a new run from its weights: --init {latest / 'model.safetensors'}"
            ) from error
        raise SynclError(f"{latest}: does not fit this recipe: {error}") from error
    return step
