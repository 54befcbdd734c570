"""Moving and combining frozen dataclasses of tensors."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar, TypeVarTuple, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class TensorStructure:
    """Base of the frozen dataclasses of tensors: moves all tensor fields at once, nested structures too."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to every tensor, in nested structures and tuples too."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        changed = {field.name: _map_value(getattr(self, field.name), function) for field in fields}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on `device`; itself where it all is on the host and stays there."""
        if torch.device(device).type == "cpu" and all(
            tensor.device.type == "cpu" for tensor in _tensors(self)
        ):
            return self
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def detach(self) -> Self:
        """A copy whose tensors carry no gradient history."""
        return self.map(lambda tensor: tensor.detach())

    def pin_memory(self) -> Self:
        """A copy in page-locked memory (called by torch's data loader)."""
        return self.map(lambda tensor: tensor.pin_memory())


Structure = TypeVar("Structure", bound=TensorStructure)
Values = TypeVarTuple("Values")


def named_tensors(structure: TensorStructure) -> dict[str, Tensor]:
    """All tensors of a structure by the names of the fields they are in, `memory.references`, as `map` meets
    them; those of tuples by number.
    """
    found: dict[str, Tensor] = {}

    def note(value: object, name: str) -> None:
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, TensorStructure):
            for field in dataclasses.fields(value):  # type: ignore[arg-type]
                note(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                note(item, f"{name}.{number}")

    note(structure, "")
    return found


def on_host(*values: *Values) -> tuple[*Values]:
    """Tensors and structures with all tensors on the host, without gradient history; nothing is rounded.

    They travel together: whatever their types, the device is waited for once, and not at all where all are on
    the host already.
    """
    away = [tensor for tensor in _tensors(values) if tensor.device.type != "cpu"]
    # The widest first, so that each begins at a multiple of its size.
    away.sort(key=lambda tensor: -tensor.element_size())
    if not away:
        return values
    packed = torch.cat([tensor.detach().flatten().view(torch.uint8) for tensor in away]).cpu()
    sizes = [tensor.numel() * tensor.element_size() for tensor in away]
    arrived = {
        id(tensor): part.view(tensor.dtype).view(tensor.shape)
        for tensor, part in zip(away, packed.split(sizes), strict=True)
    }
    return cast("tuple[*Values]", _map_value(values, lambda tensor: arrived.get(id(tensor), tensor)))


def joined(*parts: Structure) -> Structure:
    """The rows of several structures of one kind, one behind the other."""
    columns = iter(zip(*map(_tensors, parts), strict=True))
    return parts[0].map(lambda _: torch.cat(next(columns)))


def padded(streams: Sequence[Structure]) -> Structure:
    """Structures of rows [N, ...] of B streams as one [B, N, ...], filled up with zeros."""
    columns = iter(zip(*map(_tensors, streams), strict=True))
    return streams[0].map(lambda _: pad_sequence(list(next(columns)), batch_first=True))


def _tensors(value: object) -> list[Tensor]:
    """All tensors of a structure, or of a tuple of some, in the order in which `map` meets them."""
    found: list[Tensor] = []
    _note_tensors(value, found)
    return found


def _note_tensors(value: object, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, TensorStructure | tuple):
        for part in value if isinstance(value, tuple) else vars(value).values():
            _note_tensors(part, found)


def _map_value(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, TensorStructure):
        return value.map(function)
    if isinstance(value, tuple):
        return tuple(_map_value(item, function) for item in value)
    return value
