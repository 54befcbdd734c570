"""Training checkpoints: whole folders that appear in one step, with no file that could run code.

RUN/checkpoints/step_00001000/
    model.safetensors               the tracker as it would be used (averaged weights, if there are)
    state/run.safetensors           weights with the strategy's, optimiser, schedule, average, loss scale
    state/process_0.safetensors     random state and streams of each process
    progress.json                   the step, the run's origin, size and SHA-256 of each file

Together they are everything needed to go on bit for bit. What is no tensor is JSON in a file's header.
"""

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from syncl.errors import SynclError, shown, system_errors_named
from syncl.files import atomic_write, parse_json, read_tensors, write_tensors
from syncl.training.optimiser import WeightAverage
from syncl.training.streaming import CarriedState

_PREFIX = "step_"
_FORMAT = "syncl-training-1"
_PARTIAL = ".partial"
MAY_CHANGE = (
    "training.data.workers", "training.data.prefetch", "training.log_every", "training.checkpoint_every",
    "training.keep_checkpoints", "training.validate_every", "training.validation_scenes", "training.best_by",
)  # fmt: skip
"""Settings that a run may go on with others of; so may threads and where its files are."""


@dataclass(frozen=True)
class RunState:
    """What changes from step to step.

    Attributes:
        module: what is trained, the strategy's parameters with it; not wrapped for several processes.
        optimiser: of its parameters.
        schedule: of the optimiser.
        average: of the tracker's weights, if there is one.
        streams: what streaming training carries from step to step.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: LambdaLR
    average: WeightAverage | None = None
    streams: CarriedState | None = None


def checkpoint_folders(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(folder for folder in (run / "checkpoints").glob(f"{_PREFIX}*") if folder.is_dir())


def checkpoint_step(folder: Path) -> int:
    """The step a checkpoint was written at.

    Raises:
        SynclError: if its progress.json is missing or damaged.
    """
    path = folder / "progress.json"
    content = parse_json(path)
    step = content.get("step") if isinstance(content, dict) else None
    if not isinstance(step, int) or step < 0:
        raise SynclError(f"{path}: 'step' is no whole number; the checkpoint is damaged")
    return step


# Of what a run is made of, what options say and people would not know by its name.
_OPTIONS = {"start.sha256": "--init (its SHA-256)", "start.parts": "--init-parts"}


def check_resumable(run: Path, origin: Mapping[str, object]) -> None:
    """Make sure before any work that a run can go on from its latest checkpoint, as the run that it is.

    Args:
        run: its folder.
        origin: what it is made of now: see `save_checkpoint`.

    Raises:
        SynclError: there is no checkpoint; a part of the latest is missing or damaged, which is named, and
            the whole one before it offered; or the run was started as another, with the differences.
    """
    folders = checkpoint_folders(run)
    if not folders:
        raise SynclError(f"{run}: no checkpoint to resume from; start without --resume")
    latest = folders[-1]
    try:
        _check_whole(latest)
    except SynclError as error:
        before = next((folder for folder in folders[-2::-1] if _is_whole(folder)), None)
        offer = "no whole one is before it: start anew with --overwrite"
        if before is not None:
            offer = f"move {latest} away to go on from {before.name}, which is whole"
        raise SynclError(f"{error}; {offer}") from error
    progress = parse_json(latest / "progress.json")
    known = progress.get("origin") if isinstance(progress, dict) else None
    if not isinstance(known, dict):
        return  # written by an earlier version
    was, now = _flat(known), _flat(origin)
    names = [name for name in {**was, **now} if name.removeprefix("recipe.") not in MAY_CHANGE]
    changed = [
        f"{_OPTIONS.get(name, name.removeprefix('recipe.'))} was {shown(was.get(name))}, "
        f"is {shown(now.get(name))}"
        for name in names
        if was.get(name) != now.get(name)
    ]
    if changed:
        raise SynclError(
            f"{run}: cannot go on as another run: {'; '.join(changed)}. Give the options that it was started "
            "with, or choose another --output. What may change: --threads, --compile, places of files, "
            f"{', '.join(MAY_CHANGE)}"
        )


def _flat(value: object, name: str = "") -> dict[str, object]:
    """Entries of nested objects by their dotted names."""
    if not isinstance(value, Mapping):
        return {name: list(value) if isinstance(value, tuple) else value}
    inner = (_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items())
    return {key: item for part in inner for key, item in part.items()}


def _check_whole(folder: Path) -> None:
    checkpoint_step(folder)
    progress = cast(dict[str, Any], parse_json(folder / "progress.json"))
    files = progress.get("files")  # not of an earlier version
    for name, facts in files.items() if isinstance(files, dict) else ():
        path = folder / name
        if not path.is_file():
            raise SynclError(f"{path}: this part of the checkpoint is missing")
        with system_errors_named(path):
            if [path.stat().st_size, _sha256(path)] != facts:
                raise SynclError(f"{path}: this part of the checkpoint is damaged")


def _is_whole(folder: Path) -> bool:
    try:
        _check_whole(folder)
    except SynclError:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(
    accelerator: Accelerator,
    state: RunState,
    run: Path,
    step: int,
    keep: int,
    save_model: Callable[[Path], None],
    origin: Mapping[str, object] | None = None,
) -> Path:
    """Write a checkpoint folder under a hidden name, rename it when complete, drop the oldest beyond `keep`.

    Called by all processes. Killed at any moment, it leaves earlier checkpoints as they were.

    Args:
        accelerator: of the run.
        state: of the run.
        run: its folder.
        step: that was done.
        keep: how many of the latest checkpoints stay.
        save_model: writes the model file.
        origin: JSON values that must be the same when the run goes on; settings of the recipe below `recipe`.

    Raises:
        SynclError: the folder cannot be written; path and reason are named.
    """
    target = run / "checkpoints" / f"{_PREFIX}{step:08d}"
    try:
        with system_errors_named(target):
            return _save(accelerator, state, target, step, keep, save_model, origin)
    except BaseException:
        if accelerator.is_main_process:
            clean_checkpoints(target.parent)
        raise


def _save(
    accelerator: Accelerator,
    state: RunState,
    target: Path,
    step: int,
    keep: int,
    save_model: Callable[[Path], None],
    origin: Mapping[str, object] | None,
) -> Path:
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    if accelerator.is_main_process:
        clean_checkpoints(target.parent)
        (partial / "state").mkdir(parents=True)
    accelerator.wait_for_everyone()
    _write(partial / "state" / f"process_{accelerator.process_index}.safetensors", *_process(state.streams))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _write(partial / "state" / "run.safetensors", *_shared(accelerator, state))
        save_model(partial / "model.safetensors")
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        facts = {str(path.relative_to(partial)): [path.stat().st_size, _sha256(path)] for path in files}
        content = {"step": step, "origin": origin, "files": facts}
        atomic_write(partial / "progress.json", orjson.dumps(content, option=orjson.OPT_INDENT_2))
        for file in files:
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        if target.exists():
            _drop(target)
        partial.rename(target)
        for old in checkpoint_folders(target.parent.parent)[:-keep]:
            _drop(old)
    accelerator.wait_for_everyone()
    return target


def clean_checkpoints(folder: Path) -> None:
    """Remove what was being written or removed there when a process was killed."""
    for left in folder.glob(f".{_PREFIX}*{_PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def _drop(folder: Path) -> None:
    """Remove a checkpoint so that it is whole or gone, whenever this process is killed."""
    hidden = folder.with_name(f".{folder.name}.old{_PARTIAL}")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def resume_checkpoint(accelerator: Accelerator, state: RunState, run: Path) -> int:
    """Load the latest checkpoint of a run; returns its step.

    Raises:
        SynclError: if there is none, it is damaged or of an earlier version, or does not fit the recipe or
            the number of processes.
    """
    folders = checkpoint_folders(run)
    if not folders:
        raise SynclError(f"{run}: no checkpoint to resume from; start without --resume")
    latest = folders[-1]
    shared, own = (
        latest / "state" / f"{name}.safetensors" for name in ("run", f"process_{accelerator.process_index}")
    )
    if not shared.exists() and (latest / "state").is_dir():
        raise SynclError(
            f"{latest}: was written by an earlier version, whose state could run code when it is read; start "
            f"a new run from its weights: --init {latest / 'model.safetensors'}"
        )
    step = checkpoint_step(latest)
    content, tensors = _read(shared)
    try:
        count = content["processes"]
        if count != accelerator.num_processes:
            raise SynclError(
                f"{latest}: a run of {count} processes cannot go on in {accelerator.num_processes}; start as "
                "many"
            )
        _restore_shared(accelerator, state, content, tensors)
        _restore_process(state.streams, *_read(own), str(own))
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SynclError(f"{latest}: does not fit this recipe: {error}") from error
    return step


def _shared(accelerator: Accelerator, state: RunState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What all processes have in common."""
    optimiser = state.optimiser.state_dict()
    tensors = {f"module.{name}": tensor for name, tensor in state.module.state_dict().items()}
    for number, values in optimiser["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in values.items()}
    if state.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.average.items()}
    content = {
        "processes": accelerator.num_processes,
        "groups": optimiser["param_groups"],
        "schedule": state.schedule.state_dict(),
        "updates": None if state.average is None else state.average.updates,
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }
    return content, tensors


def _restore_shared(
    accelerator: Accelerator, state: RunState, content: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    state.module.load_state_dict(_part(tensors, "module"))
    values: dict[int, dict[str, Tensor]] = {}
    for place, tensor in _part(tensors, "optimiser").items():
        number, _, name = place.partition(".")
        values.setdefault(int(number), {})[name] = tensor
    groups = [{**group, "betas": tuple(group["betas"])} for group in content["groups"]]
    _check_optimiser(state.optimiser, groups, values)
    state.optimiser.load_state_dict({"state": values, "param_groups": groups})
    state.schedule.load_state_dict(content["schedule"])
    if (state.average is None) != (content["updates"] is None):
        raise ValueError("one of the two averages weights, the other does not (training.ema)")
    if state.average is not None:
        state.average.load_state_dict(_part(tensors, "average"), int(content["updates"]))
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(content["scaler"])


def _check_optimiser(
    optimiser: torch.optim.Optimizer, groups: list[dict[str, Any]], values: dict[int, dict[str, Tensor]]
) -> None:
    """Torch itself compares neither shapes nor which parameter is which."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if [group["params"] for group in groups] != [
        group["params"] for group in optimiser.state_dict()["param_groups"]
    ]:
        raise ValueError("the optimiser's groups of parameters are others")
    for number, named in values.items():
        for name, tensor in named.items():
            if name != "step" and tensor.shape != parameters[number].shape:
                raise ValueError(
                    f"the optimiser's {name} of parameter {number} has shape {tuple(tensor.shape)}"
                )


def _process(streams: CarriedState | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is a process' own."""
    kind, keys, position, has_gauss, gauss = cast(Any, np.random.get_state())  # noqa: NPY002
    content: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), position, has_gauss, gauss],
    }
    tensors = {"random.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        tensors |= {f"random.cuda.{number}": state for number, state in enumerate(states)}
    if streams is not None:
        content["streams"], carried = streams.take_apart()
        tensors |= carried
    return content, tensors


def _restore_process(
    streams: CarriedState | None, content: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
) -> None:
    if streams is not None:
        streams.put_together(content["streams"], tensors, source)
    version, words, gauss = content["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(content["numpy"]))  # noqa: NPY002
    torch.set_rng_state(tensors["random.torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([*_part(tensors, "random.cuda").values()])


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _write(path: Path, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    write_tensors(path, tensors, {"format": _FORMAT, "content": orjson.dumps(content).decode()})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors, metadata = read_tensors(path, "part of a checkpoint")
    if metadata.get("format") != _FORMAT:
        raise SynclError(f"{path}: a safetensors file, but not the state of a training run")
    content = parse_json(metadata.get("content", ""), str(path))
    if not isinstance(content, dict):
        raise SynclError(f"{path}: damaged: its header holds no object")
    return content, tensors
