"""YAML values that know where they stand, so that every complaint names file, field and value."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np
import yaml
from numpy.typing import NDArray

from syncl.errors import SynclError, did_you_mean, shown

_LARGEST = sys.float_info.max
_DEEPEST = 32
_MOST_REPEATED = 5_000_000


@dataclass(frozen=True)
class Node:
    """A value in a YAML file.

    Attributes:
        path: the file.
        place: where in it, such as "cameras.front.intrinsics".
        value: the plain Python value.
    """

    path: Path
    place: str
    value: object

    def fail(self, problem: str) -> NoReturn:
        """Raise a `SynclError` that names file and place."""
        raise SynclError(f"{self.path}: {self.place + ': ' if self.place else ''}{problem}")

    def expected(self, what: str) -> NoReturn:
        """Raise a `SynclError` that shows the value and says what it should be."""
        self.fail(f"is {shown(self.value)}, expected {what}")

    def fields(self, required: Collection[str] = (), optional: Collection[str] = ()) -> dict[str, Node]:
        """The entries of a mapping with known names."""
        entries = self.entries()
        for name in entries:
            if name not in required and name not in optional:
                known = (*required, *optional)
                self.fail(f"unknown field '{name}'; known are {', '.join(known)}{did_you_mean(name, known)}")
        for name in required:
            if name not in entries:
                self.fail(f"field '{name}' is missing")
        return entries

    def entries(self) -> dict[str, Node]:
        """The entries of a mapping with free names."""
        if not isinstance(self.value, dict):
            self.expected("a mapping of names to values")
        for name in self.value:
            if not isinstance(name, str):
                self.fail(f"the name {name!r} is not a text; write it in quotes")
        prefix = f"{self.place}." if self.place else ""
        return {name: Node(self.path, prefix + name, value) for name, value in self.value.items()}

    def items(self) -> Iterator[Node]:
        """The items of a list."""
        if not isinstance(self.value, list):
            self.expected("a list")
        for number, value in enumerate(self.value):
            yield Node(self.path, f"{self.place}[{number}]", value)

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            # YAML reads 0012 as a number.
            self.expected("a text (write numbers in quotes)")
        return self.value

    def number(self) -> float:
        """A finite number."""
        value = self.value
        if isinstance(value, str):
            # YAML 1.1 takes 1e-3 (without a point) for a text.
            try:
                value = float(value)
            except ValueError:
                self.expected("a number")
        # Whole numbers may be too large for any float, so comparing is all that may be done with them.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            self.expected("a finite number")
        return float(value)

    def count(self) -> int:
        """A whole number above zero."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 1:
            self.expected("a whole number above 0")
        return self.value

    def numbers(self, *lengths: int) -> NDArray[np.float64]:
        """A list of numbers, as many as one of `lengths`."""
        items = list(self.items())
        if len(items) not in lengths:
            self.expected(f"a list of {' or '.join(map(str, lengths))} numbers")
        return np.array([item.number() for item in items])

    def matrix(self, rows: int, columns: int) -> NDArray[np.float64]:
        """A matrix as a list of rows."""
        lines = list(self.items())
        if len(lines) != rows:
            self.expected(f"a {rows}x{columns} matrix as a list of rows")
        return np.stack([line.numbers(columns) for line in lines])


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Plain values only; a name that occurs twice in a mapping is an error, where YAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """As YAML's own, but for repeated names."""
        texts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        name, count = max(texts.items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise SynclError(f"line {node.start_mark.line + 1}: '{name}' occurs twice")
        mapping: dict[object, object] = super().construct_mapping(node, deep)
        return mapping

    def get_single_node(self) -> yaml.Node | None:
        """As YAML's own, but for values that are repeated (`*name`) without end."""
        root: yaml.Node | None = super().get_single_node()
        sizes: dict[int, int] = {}
        repeated = [0]

        def size(node: yaml.Node, depth: int) -> int:
            if depth > _DEEPEST:  # It holds itself: `_check_depth` has seen all else.
                raise SynclError(f"line {node.start_mark.line + 1}: nested more than {_DEEPEST} deep")
            if isinstance(node, yaml.ScalarNode):
                return 1
            if id(node) not in sizes:
                pairs = isinstance(node, yaml.MappingNode)
                children = chain.from_iterable(node.value) if pairs else node.value
                sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
            else:
                repeated[0] += sizes[id(node)]
            if repeated[0] > _MOST_REPEATED:
                raise SynclError(f"line {node.start_mark.line + 1}: too much is repeated by *name")
            return sizes[id(node)]

        if root is not None:
            size(root, 0)
        return root


def _check_depth(text: str) -> None:
    """Refuse values nested too deep before they are composed: some versions of YAML's C code then crash."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise SynclError(f"line {event.start_mark.line + 1}: nested more than {_DEEPEST} deep")


def read_yaml(path: Path, described_in: str = "docs/recordings.md") -> Node:
    """Read a YAML file, whose contents a page describes.

    Raises:
        SynclError: it is missing, not YAML, or repeats a name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SynclError(f"{path}: there is no such file; {described_in} shows what it holds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SynclError(f"{path}: cannot be read ({error})") from error
    if not text.strip():
        raise SynclError(f"{path}: is empty; {described_in} shows what it holds")
    try:
        _check_depth(text)
        return Node(path, "", yaml.load(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise SynclError(f"{path}:{line} not valid YAML ({getattr(error, 'problem', error)})") from error
    except SynclError as error:
        raise SynclError(f"{path}: {error}") from None
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SynclError(
            f"{path}: a value is no number or date, not what its tag says, or nested too deep ({error!r})"
        ) from error
