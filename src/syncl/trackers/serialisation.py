"""A tracker's state as plain values and named tensors, for any file format.

    content, tensors = take_apart(state)
    state = put_together(content, tensors, "where they come from")

`content` is what JSON can hold; a tensor's place in it holds its name.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from syncl.errors import SynclError, shown
from syncl.structures.tensors import TensorStructure
from syncl.trackers.state import TrackState

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
_TYPE = "type"
_TENSOR = "tensor"


def take_apart(state: TrackState) -> tuple[Plain, dict[str, Tensor]]:
    """A state's content and its tensors by dotted names, on the host, each with memory of its own."""
    tensors: dict[str, Tensor] = {}
    return _flatten(state, "state", tensors), tensors


def put_together(content: object, tensors: Mapping[str, Tensor], source: str) -> TrackState:
    """The state that `take_apart` took apart, equal to the last bit.

    Args:
        content: its first result.
        tensors: its second.
        source: where they come from, for messages.

    Raises:
        SynclError: if it is no state, or not one that this version knows.
    """
    state = _restore(content, tensors, _structures(TensorStructure), source)
    if not isinstance(state, TrackState):
        raise SynclError(f"{source}: holds a {type(state).__name__}, not a tracker's state")
    return state


def _flatten(value: object, name: str, tensors: dict[str, Tensor]) -> Plain:
    """Plain values for what is no tensor; tensors go to `tensors` under a dotted name."""
    if isinstance(value, Tensor):
        # Copies, because some formats allow no two tensors to share their memory.
        tensors[name] = value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        return {_TYPE: _TENSOR, "name": name}
    if isinstance(value, TensorStructure):
        fields: dict[str, Plain] = {_TYPE: type(value).__name__}
        for field in dataclasses.fields(value):  # type: ignore[arg-type]
            fields[field.name] = _flatten(getattr(value, field.name), f"{name}.{field.name}", tensors)
        return fields
    if isinstance(value, tuple):
        return [_flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__} ({name})")


def _restore(value: object, tensors: Mapping[str, Tensor], known: Mapping[str, type], source: str) -> object:
    if isinstance(value, list):
        return tuple(_restore(item, tensors, known, source) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get(_TYPE)
    if kind == _TENSOR:
        name = str(value.get("name"))
        if name not in tensors:
            raise SynclError(f"{source}: the tensor {name} is missing; it is not complete")
        return tensors[name]
    structure = known.get(kind) if isinstance(kind, str) else None
    fields = {name: _restore(item, tensors, known, source) for name, item in value.items() if name != _TYPE}
    if structure is None:
        raise SynclError(f"{source}: unknown structure {kind!r}; was it written by another syncl?")
    try:
        restored: object = structure(**fields)
    except TypeError as error:
        raise SynclError(f"{source}: {kind}: {error}; was it written by another syncl?") from error
    for name, hint in typing.get_type_hints(structure).items():
        if not _fits(fields.get(name, getattr(restored, name, None)), hint):
            raise SynclError(f"{source}: {kind}.{name} is {shown(fields.get(name))}; the file is damaged")
    return restored


def _fits(value: object, hint: object) -> bool:
    """Whether a value is of a structure's field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if isinstance(value, tuple) and arguments[-1] is ... else arguments
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is None:
        return value is None
    return not isinstance(hint, type) or isinstance(value, float | int if hint is float else hint)


def _structures(base: type) -> dict[str, type]:
    """All structures defined so far by name; a tracker in use has defined those of its state."""
    found = {base.__name__: base}
    derived: type
    for derived in base.__subclasses__():
        found |= _structures(derived)
    return found
