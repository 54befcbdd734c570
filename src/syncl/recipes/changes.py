"""Changing single settings of a recipe by their dotted names."""

import dataclasses
import typing
from typing import TypeVar

from syncl.checkpoints.limits import fitted
from syncl.checkpoints.upgrades import replacement
from syncl.errors import SynclError, shown
from syncl.files import parse_json

Config = TypeVar("Config")


def apply_changes(config: Config, changes: tuple[str, ...]) -> Config:
    """A configuration with settings such as `training.steps=500` changed.

    Values are read as JSON (numbers, true, false, null, "text", [lists]); anything else is text.

    Raises:
        SynclError: if a name does not exist, with the names there are, or a value has the wrong type.
    """
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator or not name:
            raise SynclError(f"--set {change!r}: write NAME=VALUE, such as training.steps=500")
        config = _replace(config, name.split("."), _parse(text), change)
    return config


def _parse(text: str) -> object:
    try:
        return _tuples(parse_json(text))
    except SynclError:
        return text


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _replace(config: Config, path: list[str], value: object, change: str) -> Config:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise SynclError(f"--set {change!r}: {path[0]!r} is inside a plain value, not inside settings")
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        known = replacement(type(config).__name__, path[0]) or f"settings: {', '.join(names)}"
        raise SynclError(f"--set {change!r}: no setting {path[0]!r} there; {known}")
    if len(path) > 1:
        inner = _replace(getattr(config, path[0]), path[1:], value, change)
        return dataclasses.replace(config, **{path[0]: inner})
    expected = typing.get_type_hints(type(config))[path[0]]
    accepted, converted = fitted(value, expected)
    if not accepted:
        raise SynclError(f"--set {change!r}: {shown(value)} is not a {_name(expected)}")
    return dataclasses.replace(config, **{path[0]: converted})


def _name(expected: object) -> str:
    return getattr(expected, "__name__", None) or str(expected)
