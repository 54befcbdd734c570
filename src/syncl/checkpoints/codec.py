"""Configurations to JSON and back, by the names of their dataclasses."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from syncl.errors import SynclError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Config = TypeVar("Config")
_TYPE = "type"


def encode_config(config: object) -> Json:
    """A configuration as JSON values; dataclasses become objects that carry their class name as `type`."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields: dict[str, Json] = {_TYPE: type(config).__name__}
        for field in dataclasses.fields(config):
            fields[field.name] = encode_config(getattr(config, field.name))
        return fields
    if isinstance(config, (tuple, list)):
        return [encode_config(item) for item in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise TypeError(f"a configuration cannot hold {type(config).__name__}")


def decode_config(value: Json, expected: type[Config], known: Iterable[type], source: str) -> Config:
    """The configuration of class `expected` that `encode_config` turned into `value`.

    Args:
        value: JSON values.
        expected: class the outermost object must have.
        known: classes that may occur inside, each name once.
        source: where the value comes from, for messages.

    Raises:
        SynclError: if a class or field is unknown or missing, or two classes share a name, naming it.
    """
    registry: dict[str, type] = {}
    for cls in (expected, *known):
        first = registry.setdefault(cls.__name__, cls)
        if first is not cls:
            raise SynclError(
                f"two configuration classes are called {cls.__name__}, of {first.__module__} and of "
                f"{cls.__module__}; rename yours"
            )
    decoded = _decode(value, registry, source)
    if not isinstance(decoded, expected):
        raise SynclError(f"{source}: expected a {expected.__name__}, found {type(decoded).__name__}")
    return decoded


def _decode(value: Json, registry: Mapping[str, type], source: str) -> object:
    if isinstance(value, list):
        return tuple(_decode(item, registry, source) for item in value)
    if not isinstance(value, dict):
        return value
    name = value.get(_TYPE)
    cls = registry.get(name) if isinstance(name, str) else None
    if cls is None:
        raise SynclError(
            f"{source}: unknown configuration type {name!r}; if it is a class of your own, pass it to "
            "load_model(..., types=(...,)); else a newer syncl wrote this"
        )
    fields = {key: _decode(item, registry, source) for key, item in value.items() if key != _TYPE}
    declared = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(fields) - declared)
    if unknown:
        fields_text = ", ".join(unknown)
        raise SynclError(f"{source}: {name} has no field {fields_text}; written by another version of syncl?")
    try:
        built: object = cls(**fields)
    except TypeError as error:
        raise SynclError(f"{source}: {name}: {error}") from error
    return built
