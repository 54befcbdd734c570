"""Names that parameters had in model files of earlier versions."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

Value = TypeVar("Value")

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
