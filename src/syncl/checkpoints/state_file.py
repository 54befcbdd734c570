"""Saving what a tracker remembers, to go on with a stream later or elsewhere.

    save_state(path, state)
    state = load_state(path, device)

One safetensors file holds the tensors; which structures they belong to, and everything that is no tensor, is
JSON in its header.
"""

import dataclasses
from pathlib import Path

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from syncl.checkpoints.codec import Json
from syncl.errors import SynclError
from syncl.files import atomic_path
from syncl.structures.tensors import TensorStructure
from syncl.trackers.base import TrackState

_FORMAT = "syncl-state-1"
_TYPE = "type"
_TENSOR = "tensor"


def save_state(path: Path, state: TrackState) -> None:
    """Write a state in one step; the detector's memory is part of it."""
    tensors: dict[str, Tensor] = {}
    content = _flatten(state, "state", tensors)
    metadata = {"format": _FORMAT, "content": orjson.dumps(content).decode()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_state(path: Path, device: torch.device | str = "cpu") -> TrackState:
    """The state that `save_state` wrote, with its tensors on `device`.

    Stepping on from it with the same model gives what stepping on without the detour gives, to the last bit.

    Raises:
        SynclError: if the file is missing, damaged, or no state that this version knows.
    """
    path = Path(path)
    if not path.is_file():
        raise SynclError(f"{path}: there is no such state file")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise SynclError(f"{path}: not a complete safetensors file ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise SynclError(f"{path}: a safetensors file, but not a tracker's state")
    state = _restore(orjson.loads(metadata["content"]), tensors, _structures(TensorStructure), str(path))
    if not isinstance(state, TrackState):
        raise SynclError(f"{path}: holds a {type(state).__name__}, not a tracker's state")
    return state


def _flatten(value: object, name: str, tensors: dict[str, Tensor]) -> Json:
    """JSON values for what is no tensor; tensors go to `tensors` under a dotted name."""
    if isinstance(value, Tensor):
        # Copies, because the format allows no two tensors to share their memory.
        tensors[name] = value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        return {_TYPE: _TENSOR, "name": name}
    if isinstance(value, TensorStructure):
        fields: dict[str, Json] = {_TYPE: type(value).__name__}
        for field in dataclasses.fields(value):  # type: ignore[arg-type]
            fields[field.name] = _flatten(getattr(value, field.name), f"{name}.{field.name}", tensors)
        return fields
    if isinstance(value, tuple):
        return [_flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__} ({name})")


def _restore(value: Json, tensors: dict[str, Tensor], known: dict[str, type], source: str) -> object:
    if isinstance(value, list):
        return tuple(_restore(item, tensors, known, source) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value[_TYPE]
    if kind == _TENSOR:
        return tensors[str(value["name"])]
    structure = known.get(str(kind))
    fields = {name: _restore(item, tensors, known, source) for name, item in value.items() if name != _TYPE}
    if structure is None:
        raise SynclError(f"{source}: unknown structure {kind!r}; was it written by another syncl?")
    try:
        restored: object = structure(**fields)
    except TypeError as error:
        raise SynclError(f"{source}: {kind}: {error}; was it written by another syncl?") from error
    return restored


def _structures(base: type) -> dict[str, type]:
    """All structures defined so far by name; a tracker in use has defined those of its state."""
    found = {base.__name__: base}
    derived: type
    for derived in base.__subclasses__():
        found |= _structures(derived)
    return found
