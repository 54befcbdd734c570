"""What became of configurations' fields and parameters' names that older versions wrote into files.

`UPGRADES` has the rules by class. A field that a file lacks takes the class's default where no rule says
otherwise, so a new field whose default means what was done before needs none.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from syncl.errors import SynclError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Value = TypeVar("Value")
Fields: TypeAlias = dict[str, Json]


@dataclass(frozen=True)
class Renamed:
    """`old` is called `new` now."""

    old: str
    new: str

    def apply(self, fields: Fields, where: str) -> Fields:
        """The fields as the class has them now; those of a file that has them already stay as they are.

        Args:
            fields: JSON values by name.
            where: file and class, for messages.

        Raises:
            SynclError: if a value has no meaning any more, naming the field.
        """
        if self.old not in fields:
            return fields
        if self.new in fields:
            raise SynclError(f"{where}: field {self.old} is called {self.new} now, and both are there")
        return {self.new if name == self.old else name: value for name, value in fields.items()}

    def replacement(self, field: str) -> str | None:
        """How a field of older versions is written now, in words; None = this is not about that field."""
        return f"it is called {self.new} now" if field == self.old else None


@dataclass(frozen=True)
class Nested:
    """`fields` are inside the field `into` now, a configuration of class `type_name`, under the same names.

    A file with some of them only has that class's defaults for the others.
    """

    fields: tuple[str, ...]
    into: str
    type_name: str

    def apply(self, fields: Fields, where: str) -> Fields:
        """See `Renamed.apply`."""
        inner = {name: fields[name] for name in self.fields if name in fields}
        if not inner:
            return fields
        if self.into in fields:
            raise SynclError(
                f"{where}: field {next(iter(inner))} is inside {self.into} now, and both are there"
            )
        outer = {name: value for name, value in fields.items() if name not in inner}
        return {**outer, self.into: {"type": self.type_name, **inner}}

    def replacement(self, field: str) -> str | None:
        """See `Renamed.replacement`."""
        return f"it is called {self.into}.{field} now" if field in self.fields else None


@dataclass(frozen=True)
class Dropped:
    """`field` is no more; of its values only `meant` asked for what is done now. `why` says what is done."""

    field: str
    meant: Json
    why: str

    def apply(self, fields: Fields, where: str) -> Fields:
        """See `Renamed.apply`."""
        if self.field not in fields:
            return fields
        if fields[self.field] != self.meant:
            raise SynclError(
                f"{where}: field {self.field} = {fields[self.field]!r} can no longer be had "
                f"({self.why}); only {self.meant!r} is understood"
            )
        return {name: value for name, value in fields.items() if name != self.field}

    def replacement(self, field: str) -> str | None:
        """See `Renamed.replacement`."""
        return f"it is gone: {self.why}" if field == self.field else None


Upgrade: TypeAlias = Renamed | Nested | Dropped
_NOISE = Nested(("drop_probability", "carry_score", "false_positive_ratio"), "noise", "ClipNoise")

UPGRADES: Mapping[str, tuple[Upgrade, ...]] = {
    "Mutr3dConfig": (_NOISE,),
    "PfTrackConfig": (_NOISE,),
    "UnrollConfig": (Dropped("context_gradients", False, "context frames run without gradients"),),
}


def upgrade(type_name: str, fields: Fields, source: str) -> Fields:
    """Fields of a configuration of class `type_name` as this version has them; rules apply in their order.

    Raises:
        SynclError: if a value has no meaning any more, naming file, class and field.
    """
    for rule in UPGRADES.get(type_name, ()):
        fields = rule.apply(fields, f"{source}: {type_name}")
    return fields


def replacement(type_name: str, field: str) -> str | None:
    """What became of a field of older versions, in words; None where no rule names it."""
    found = (rule.replacement(field) for rule in UPGRADES.get(type_name, ()))
    return next((text for text in found if text is not None), None)


# Old pattern and new name. Decoder layers used to stand beside their cross-attentions.
_RENAMED: tuple[tuple[str, str], ...] = ((r"\bcross_attentions\.(\d+)\.", r"layers.\1.cross_attention."),)


def current_name(name: str, known: Collection[str]) -> str:
    """The name that a model with these `known` names has for a file's `name`.

    Names that the model knows, and those it knows under no other name either, stay.
    """
    if name in known:
        return name
    renamed = name
    for pattern, replacement in _RENAMED:
        renamed = re.sub(pattern, replacement, renamed)
    return renamed if renamed in known else name


def current_names(weights: Mapping[str, Value], known: Collection[str]) -> dict[str, Value]:
    """A file's entries under the names of a model that knows `known`."""
    return {current_name(name, known): value for name, value in weights.items()}
