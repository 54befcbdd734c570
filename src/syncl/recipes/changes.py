"""Settings changed by their names: `--set training.steps=500`, and recipe files that say what differs."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from syncl.checkpoints.limits import described, fitted
from syncl.checkpoints.upgrades import replacement
from syncl.errors import SynclError, did_you_mean, shown
from syncl.files import parse_json

Config = TypeVar("Config")


def apply_changes(config: Config, changes: tuple[str, ...]) -> Config:
    """A configuration with settings such as `training.steps=500` changed.

    Values are read as JSON (numbers, true, false, null, "text", [lists]); anything else is text. Settings
    inside a part that is left out (null) put it in, everything else of it as it is by default.

    Raises:
        SynclError: if a name does not exist, with the names there are, or a value has the wrong type.
    """
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator or not name:
            raise SynclError(f"--set {change!r}: write NAME=VALUE, such as training.steps=500")
        config = change_setting(config, name.split("."), _parse(text), f"--set {change!r}")
    return config


def change_setting(config: Config, path: Sequence[str], value: object, source: str) -> Config:
    """A configuration with another value of the setting at this path.

    Args:
        config: what it is changed in.
        path: names from the outside in, such as ("training", "steps").
        value: with tuples for lists.
        source: who asks for it, for messages.

    Raises:
        SynclError: if a name does not exist, with the names there are, or a value has the wrong type.
    """

    def close() -> str:
        name, names = ".".join(path), tuple(_names(config))
        whole = [known for known in names if known.endswith(f".{name}")]
        return did_you_mean(whole[0] if whole else name, names)

    return _replace(config, path, value, source, close)


def _parse(text: str) -> object:
    try:
        return as_tuples(parse_json(text))
    except SynclError:
        return text


def as_tuples(value: object) -> object:
    """A value read from a file, with tuples for its lists, as configurations have them."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


def _names(config: object) -> Iterator[str]:
    """Every setting in a configuration, such as `training.steps`."""
    if dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            yield field.name
            yield from (f"{field.name}.{name}" for name in _names(getattr(config, field.name)))


def _replace(
    config: Config, path: Sequence[str], value: object, source: str, close: Callable[[], str]
) -> Config:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise SynclError(
            f"{source}: {path[0]!r} is inside a plain value, {shown(config)}, not inside settings"
        )
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        known = replacement(type(config).__name__, path[0]) or f"settings: {', '.join(names)}"
        raise SynclError(f"{source}: no setting {path[0]!r} there; {known}{close()}")
    expected = typing.get_type_hints(type(config))[path[0]]
    if len(path) > 1:
        part = getattr(config, path[0])
        inner = _replace(_by_default(expected) if part is None else part, path[1:], value, source, close)
        return dataclasses.replace(config, **{path[0]: inner})
    accepted, converted = fitted(value, expected)
    if not accepted:
        raise SynclError(f"{source}: {shown(value)} is not {_wanted(value, expected)}")
    return dataclasses.replace(config, **{path[0]: converted})


def _by_default(expected: object) -> object:
    """The part that an optional setting of this type may hold; None where it is none, or has no defaults."""
    kinds = [kind for kind in typing.get_args(expected) if dataclasses.is_dataclass(kind)]
    if len(kinds) != 1 or any(_required(field) for field in dataclasses.fields(kinds[0])):
        return None
    return typing.cast(Callable[[], object], kinds[0])()


def _required(field: dataclasses.Field[object]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _wanted(value: object, expected: object) -> str:
    """What a setting takes, in words, and how to write it."""
    words = described(expected)
    if "group of settings" in words:
        words += "; change a setting inside it, NAME.SETTING=VALUE, or write it whole in a recipe file"
    choices = typing.get_args(expected) if typing.get_origin(expected) is typing.Literal else ()
    return words + did_you_mean(str(value), tuple(map(str, choices)))
