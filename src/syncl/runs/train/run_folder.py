"""The folder of a training run: whose it is, what it is made of, and starting anew in it."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import cast

import numpy as np
import orjson
from accelerate import Accelerator

from syncl.checkpoints.model_file import read_model_file
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.errors import system_errors_named
from syncl.files import atomic_write, check_output, parse_json, refuse_to_overwrite, refuse_what_is_no_file
from syncl.locks import only_one
from syncl.recipes import Recipe
from syncl.recipes.recipe import recipe_to_json
from syncl.runs.train.loggers import CALLED
from syncl.runs.train.validation import MEANWHILE
from syncl.training.resuming import check_resumable, checkpoint_folders, clean_checkpoints

_OLD = ".checkpoints.partial"
# What is known of a run, and would be taken for the new one's: the model first, the recipe last.
_KNOWN = (
    "model.safetensors", "best.safetensors", "training.png", "results.json", "detections.json",
    "metrics.json", "details.json", "log.jsonl", CALLED, "recipe.json",
)  # fmt: skip


@contextmanager
def run_folder(
    output: Path, accelerator: Accelerator, origin: Mapping[str, object], resume: bool, overwrite: bool
) -> Iterator[None]:
    """Have a run's folder for oneself, and make sure that the run may start or go on in it.

    Raises:
        SynclError: it cannot be written; another process is at work in it; it holds another run; or, where
            the run is to go on, see `check_resumable`.
    """
    main = accelerator.is_main_process
    check_output(output, True, "folder")
    with only_one(output) if main else nullcontext():
        if resume:
            check_resumable(output, origin)
        else:
            refuse_to_overwrite(output, overwrite)
        accelerator.wait_for_everyone()
        if main:
            clean_checkpoints(output / "checkpoints")
            for left in (output / _OLD, *output.glob(f"{MEANWHILE}*")):
                shutil.rmtree(left, ignore_errors=True)
        yield


def start_anew(output: Path, recipe: Recipe) -> None:
    """Remove what an earlier run left, and say what is trained now.

    Killed at any moment, it leaves no model, result or checkpoint beside a recipe that is not theirs.
    """
    with system_errors_named(output):
        for name in _KNOWN[:-1]:
            (output / name).unlink(missing_ok=True)
        if (output / "checkpoints").exists():
            (output / "checkpoints").rename(output / _OLD)
        (output / _KNOWN[-1]).unlink(missing_ok=True)
        for report in output.glob("nonfinite_step_*.json"):
            report.unlink()
        for folder in (output / _OLD, output / "tensorboard", *output.glob("*.json.scenes")):
            shutil.rmtree(folder, ignore_errors=True)
    atomic_write(output / "recipe.json", orjson.dumps(recipe_to_json(recipe), option=orjson.OPT_INDENT_2))


def run_origin(
    recipe: Recipe,
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    init: Path | None,
    init_parts: tuple[str, ...],
    stored_features: bool,
    precision: str,
) -> dict[str, object]:
    """What a run is made of, as JSON values: recipe, data and start. Files may have moved.

    Raises:
        SynclError: the file to start from is missing.
    """
    start = "from scratch"
    if init is not None:
        refuse_what_is_no_file(init, "model file (--init)")
        with system_errors_named(init), init.open("rb") as file:
            start = hashlib.file_digest(file, "sha256").hexdigest()
    written = cast(dict[str, object], recipe_to_json(recipe))
    return {
        "recipe": {name: written[name] for name in ("name", "model", "training")},
        "data": {"version": index.version, "scenes": len(scenes), "sha256": _digest(index, scenes)},
        "start": {"sha256": start, "parts": list(init_parts)},
        "encoder_features": "stored" if stored_features else "computed",
        "precision": precision,
    }


def _digest(index: NuScenesIndex, scenes: tuple[str, ...]) -> str:
    """Of the samples of these scenes and their annotated boxes."""
    columns, digest = index.columns, hashlib.sha256()
    for scene in scenes:
        rows = index.scene_samples(scene)
        boxes = slice(int(columns.annotation_start[rows.start]), int(columns.annotation_start[rows.stop]))
        for part in (
            columns.sample_tokens[rows.start : rows.stop],
            columns.annotation_tokens[boxes],
            columns.annotation_boxes[boxes],
        ):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def earlier_notes(output: Path) -> Mapping[str, str]:
    """The notes of the model file in the checkpoint that a run goes on from.

    Raises:
        SynclError: that file is missing or damaged.
    """
    path = checkpoint_folders(output)[-1] / "model.safetensors"
    notes = parse_json(read_model_file(path)[1].get("notes", "{}"), f"{path}: its entry 'notes'")
    texts = notes.items() if isinstance(notes, dict) else ()
    return {name: text for name, text in texts if isinstance(text, str)}


def carried_on(earlier: Mapping[str, str], notes: Mapping[str, str]) -> dict[str, str]:
    """A run's notes where earlier calls had a part in it: minutes add up, and what changed is said."""
    both = dict(notes)
    for name, value in notes.items():
        before = earlier.get(name, value)
        if name == "minutes":
            with suppress(ValueError):
                both[name] = f"{float(value) + (float(before) if earlier else 0):.1f}"
        elif before != value and not before.endswith(f", then {value}"):
            both[name] = f"{before}, then {value}"
        else:
            both[name] = before
    return both
