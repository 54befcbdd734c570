"""Configurations to JSON and back, by the names of their dataclasses."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import TypeVar

from syncl.checkpoints.limits import described, fitted
from syncl.checkpoints.upgrades import Json, upgrade
from syncl.errors import SynclError, did_you_mean, shown
from syncl.own_code import own_classes

Config = TypeVar("Config")
_TYPE = "type"


def encode_config(config: object, place: str = "a configuration") -> Json:
    """A configuration as JSON values; dataclasses become objects that carry their class name as `type`.

    Raises:
        SynclError: a value that no file can hold, naming its place.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields: dict[str, Json] = {_TYPE: type(config).__name__}
        for field in dataclasses.fields(config):
            fields[field.name] = encode_config(getattr(config, field.name), f"{place}.{field.name}")
        return fields
    if isinstance(config, (tuple, list)):
        return [encode_config(item, f"{place}[{number}]") for number, item in enumerate(config)]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise SynclError(
        f"{place}: {shown(config)} is a {type(config).__name__}, which no file can hold; a configuration is "
        "a dataclass of numbers, texts, truth values, None, tuples of these, and such dataclasses"
    )


def decode_config(value: Json, expected: type[Config], known: Iterable[type], source: str) -> Config:
    """The configuration of class `expected` that `encode_config` turned into `value`.

    Values that an older version wrote are read by the rules of `checkpoints.upgrades`.

    Args:
        value: JSON values.
        expected: class the outermost object must have.
        known: classes that may occur inside beside your own that commands know, each name once.
        source: where the value comes from, for messages.

    Raises:
        SynclError: if a class or field is unknown or missing, or two classes share a name, naming it.
    """
    registry: dict[str, type] = {}
    for cls in (expected, *known, *own_classes()):
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
        return tuple(_decode(item, registry, f"{source}[{number}]") for number, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    name = value.get(_TYPE)
    cls = registry.get(name) if isinstance(name, str) else None
    if cls is None:
        raise SynclError(
            f"{source}: unknown configuration type {name!r}; if it is a class of your own, name its file, "
            "syncl --with FILE.py COMMAND, or pass it to load_model(..., types=(...,)); else a newer syncl "
            f"wrote this{did_you_mean(str(name), registry)}"
        )
    current = upgrade(cls.__name__, {key: item for key, item in value.items() if key != _TYPE}, source)
    declared = dataclasses.fields(cls)
    unknown = sorted(current.keys() - {field.name for field in declared})
    if unknown:
        close = did_you_mean(unknown[0], (field.name for field in declared))
        raise SynclError(
            f"{source}: {name} has no field {', '.join(unknown)}{close or '; did a newer syncl write it?'}"
        )
    missing = [field.name for field in declared if field.name not in current and _is_required(field)]
    if missing:
        raise SynclError(f"{source}: {name} lacks the field {', '.join(missing)}")
    hints = _hints(cls)
    values = {}
    for key, item in current.items():
        decoded = _decode(item, registry, f"{source}.{key}")
        fits, values[key] = fitted(decoded, hints.get(key, object))
        if not fits:
            raise SynclError(
                f"{source}.{key}: {shown(decoded)} is no value of {name}.{key} ({described(hints[key])})"
            )
    try:
        built: object = cls(**values)
    except (TypeError, ValueError) as error:
        raise SynclError(f"{source}: {name}: {error}") from error
    return built


def _hints(cls: type) -> dict[str, object]:
    """Types of a configuration's fields; a user's own may name types that exist for type checkers only."""
    try:
        return typing.get_type_hints(cls)
    except NameError:
        return {}


def _is_required(field: "dataclasses.Field[object]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
