"""Changing single settings of a recipe by their dotted names."""

import dataclasses
import types
import typing
from typing import TypeVar

from syncl.checkpoints.upgrades import replacement
from syncl.errors import SynclError
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
    accepted, converted = _convert(value, expected)
    if not accepted:
        raise SynclError(f"--set {change!r}: {value!r} is not a {_name(expected)}")
    return dataclasses.replace(config, **{path[0]: converted})


def _convert(value: object, expected: object) -> tuple[bool, object]:
    """Whether a value fits a type hint, and the value as that type (whole numbers become floats)."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Literal:
        return value in arguments, value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            accepted, converted = _convert(value, option)
            if accepted:
                return True, converted
        return False, value
    if origin is tuple:
        if not isinstance(value, tuple):
            return False, value
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        results = [_convert(item, hint) for item, hint in zip(value, arguments)]
        fits = len(value) == len(arguments) and all(accepted for accepted, _ in results)
        return fits, tuple(item for _, item in results)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return True, float(value)
    if expected is int and isinstance(value, bool):
        return False, value
    if expected in (None, type(None)):
        return value is None, value
    return isinstance(expected, type) and isinstance(value, expected), value


def _name(expected: object) -> str:
    return getattr(expected, "__name__", None) or str(expected)
