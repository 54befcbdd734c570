"""Training checkpoints: whole folders that appear in one step, with no file that could run code.

RUN/checkpoints/step_00001000/
    model.safetensors               the tracker as it would be used (averaged weights, if there are)
    state/run.safetensors           weights with the strategy's, optimiser, schedule, average, loss scale
    state/process_0.safetensors     random state and streams of each process
    progress.json                   the step

Together they are everything needed to go on bit for bit. What is no tensor is JSON in a file's header.
"""

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
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from syncl.errors import SynclError
from syncl.files import atomic_write, parse_json, read_tensors
from syncl.training.optimiser import WeightAverage
from syncl.training.streaming import CarriedState

_PREFIX = "step_"
_FORMAT = "syncl-training-1"


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


def save_checkpoint(
    accelerator: Accelerator,
    state: RunState,
    run: Path,
    step: int,
    keep: int,
    save_model: Callable[[Path], None],
) -> Path:
    """Write a checkpoint folder under a hidden name, rename it when complete, drop the oldest beyond `keep`.

    Called by all processes. Killed at any moment, it leaves earlier checkpoints as they were.
    """
    target = run / "checkpoints" / f"{_PREFIX}{step:08d}"
    partial = target.with_name(f".{target.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "state").mkdir(parents=True)
    accelerator.wait_for_everyone()
    _write(partial / "state" / f"process_{accelerator.process_index}.safetensors", *_process(state.streams))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _write(partial / "state" / "run.safetensors", *_shared(accelerator, state))
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
    # Copies, because the format allows no two tensors to share their memory.
    own = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    save_file(own, path, {"format": _FORMAT, "content": orjson.dumps(content).decode()})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors, metadata = read_tensors(path, "part of a checkpoint")
    if metadata.get("format") != _FORMAT:
        raise SynclError(f"{path}: a safetensors file, but not the state of a training run")
    content = parse_json(metadata.get("content", ""), str(path))
    if not isinstance(content, dict):
        raise SynclError(f"{path}: damaged: its header holds no object")
    return content, tensors
