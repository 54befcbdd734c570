"""Moving parameters between our names and a published format's, in both directions and strictly.

A format is described by entries, one for each of our parameters: the published name, how the tensor changes,
and under which further names the original stores the same tensor again. Reading uses or accounts for every
published name and fills every parameter of ours, or says which are new; anything else is an error.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.geometry.mmdet3d import CodeLayout

_SHOWN = 6


@dataclass(frozen=True)
class Change:
    """What happens to a tensor on the way: `read` from the published form, `write` to it."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


KEEP = Change(lambda tensor: tensor, lambda tensor: tensor)
# A 1x1 convolution's weight [O, I, 1, 1] and a linear layer's [O, I]; biases are equal.
POINTWISE = Change(
    lambda tensor: tensor[..., 0, 0] if tensor.dim() == 4 and tensor.shape[2:] == (1, 1) else tensor,
    lambda tensor: tensor[..., None, None] if tensor.dim() == 2 else tensor,
)


def box_rows(layout: CodeLayout) -> Change:
    """The last linear layer (weight or bias) of a branch that regresses a foreign box code."""
    return Change(
        lambda tensor: layout.to_library(tensor, dim=0) if len(tensor) == len(layout.source) else tensor,
        lambda tensor: layout.from_library(tensor, dim=0),
    )


@dataclass(frozen=True)
class Entry:
    """One of our parameters and where a published format keeps it.

    Attributes:
        ours: name in our model's state dict.
        published: name in the published checkpoint.
        change: how the tensor changes.
        copies: further published names of the same tensor; written all, read and checked where present.
        optional: it may be missing in a published checkpoint and is new then.
    """

    ours: str
    published: str
    change: Change = KEEP
    copies: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Rule:
    """Entries by pattern.

    Attributes:
        ours: regular expression our name has to match in full.
        published: the published name, with the groups of the match as `\\1`, `\\2`, ...
        change: how the tensors change.
        copies: templates of further published names.
        optional: see `Entry`.
    """

    ours: str
    published: str
    change: Change = KEEP
    copies: tuple[str, ...] = ()
    optional: bool = False

    def entry(self, name: str, ours_prefix: str, published_prefix: str) -> Entry | None:
        """The entry of our parameter `ours_prefix + name`, None if the rule is not about it."""
        found = re.fullmatch(self.ours, name)
        if found is None:
            return None
        published, *copies = (
            published_prefix + found.expand(template) for template in (self.published, *self.copies)
        )
        return Entry(ours_prefix + name, published, self.change, tuple(copies), self.optional)


@dataclass(frozen=True)
class Ignored:
    """Published names that are knowingly left unused.

    Attributes:
        pattern: regular expression the whole name matches.
        reason: why, in words.
    """

    pattern: str
    reason: str


def rule_entries(
    names: Iterable[str], rules: Sequence[Rule], ours_prefix: str, published_prefix: str
) -> list[Entry]:
    """Entries of all `names` below `ours_prefix` that some rule is about; the first such rule counts."""
    entries = []
    for name in names:
        if not name.startswith(ours_prefix):
            continue
        inner = name.removeprefix(ours_prefix)
        candidates = (rule.entry(inner, ours_prefix, published_prefix) for rule in rules)
        entry = next((candidate for candidate in candidates if candidate is not None), None)
        if entry is not None:
            entries.append(entry)
    return entries


@dataclass(frozen=True)
class Conversion:
    """What came of reading or writing a published format.

    Attributes:
        weights: the parameters, by target name.
        new: our parameters the published checkpoint does not have (reading), or cannot hold (writing).
        ignored: published names left unused, with the reason.
    """

    weights: dict[str, Tensor]
    new: tuple[str, ...]
    ignored: dict[str, str]


def read_entries(
    published: Mapping[str, Tensor],
    entries: Sequence[Entry],
    shapes: Mapping[str, torch.Size],
    ignored: Sequence[Ignored],
    source: str,
) -> Conversion:
    """Our parameters from a published checkpoint.

    Args:
        published: its parameters.
        entries: of our parameters that the format has.
        shapes: of all our parameters; those without entry are new.
        ignored: which published names may stay unused.
        source: file name for messages.

    Raises:
        SynclError: naming the first missing or unknown names, differing shapes and copies that are not equal.
    """
    weights: dict[str, Tensor] = {}
    missing, mismatched, unequal = [], [], []
    for entry in entries:
        tensor = published.get(entry.published)
        if tensor is None:
            if not entry.optional:
                missing.append(entry.published)
            continue
        changed = entry.change.read(tensor)
        if changed.shape != shapes[entry.ours]:
            wanted = tuple(shapes[entry.ours])
            mismatched.append(f"{entry.published} has shape {tuple(tensor.shape)}, the model needs {wanted}")
            continue
        weights[entry.ours] = changed.clone()
        unequal += [
            f"{copy} differs from {entry.published}"
            for copy in entry.copies
            if copy in published and not torch.equal(published[copy], tensor)
        ]
    known = {name for entry in entries for name in (entry.published, *entry.copies)}
    unused, unknown = _account(sorted(set(published) - known), ignored)
    problems = [
        *_phrase("shapes differ", mismatched),
        *_phrase("missing", missing),
        *_phrase("not known in this format", unknown),
        *_phrase("stored several times with different values", unequal),
    ]
    if problems:
        raise SynclError(f"{source} does not fit: {'; '.join(problems)}")
    return Conversion(weights, tuple(name for name in shapes if name not in weights), unused)


def write_entries(weights: Mapping[str, Tensor], entries: Sequence[Entry]) -> Conversion:
    """A published checkpoint from our parameters; `new` lists those it has no place for."""
    published: dict[str, Tensor] = {}
    for entry in entries:
        tensor = entry.change.write(weights[entry.ours]).clone()
        for name in (entry.published, *entry.copies):
            published[name] = tensor
    written = {entry.ours for entry in entries}
    return Conversion(published, tuple(name for name in weights if name not in written), {})


def _account(names: Sequence[str], ignored: Sequence[Ignored]) -> tuple[dict[str, str], list[str]]:
    """Unused names with their reasons, and those nothing accounts for."""
    unused, unknown = {}, []
    for name in names:
        reason = next((rule.reason for rule in ignored if re.fullmatch(rule.pattern, name)), None)
        if reason is None:
            unknown.append(name)
        else:
            unused[name] = reason
    return unused, unknown


def _phrase(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return [f"{title}: {', '.join(items[:_SHOWN])}{more}"]
