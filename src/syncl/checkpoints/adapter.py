"""What every adapter of a published checkpoint format has in common."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from syncl.checkpoints.limits import check_finite, model_shapes
from syncl.checkpoints.mapping import (
    Conversion,
    Entry,
    Ignored,
    Rule,
    read_entries,
    rule_entries,
    write_entries,
)
from syncl.checkpoints.names import RUNNING_AVERAGES, TRAINING_CONSTANTS, image_encoder_entries
from syncl.errors import SynclError
from syncl.trackers.model import ModelConfig

# mmdetection before 2.0 kept the offsets of deformable convolutions beside them.
_OLD_OFFSETS = re.compile(r"(layer\d+\.\d+\.conv2)_offset\.")
# Parts of our models that no published detector has; they are new when a model is made from one.
_OURS_ALONE = re.compile(r"detector\.proposal_head\..*|(?!detector\.).*")


class Part(NamedTuple):
    """Rules of one module: the prefixes its names have here and in the published file."""

    rules: tuple[Rule, ...]
    ours: str = "detector."
    published: str = "pts_bbox_head."


class Adapter:
    """One published format: which parameter of ours is which of theirs.

    Attributes:
        name: as in `syncl convert --from NAME`.
        title: what such a file is, in words.
        recipe: the recipe a file of this format is for unless the user names another.
        detectors: classes of configurations of which the model's detector must have one, exactly.
        head: what the format holds besides backbone and neck, where that is the same for every model.
        ignored: published names that stay unused.
        code_weights: of the loss, which the originals store although they are no weights; may be empty.
        code_weights_name: where they store them.
    """

    name: str
    title: str
    recipe: str
    detectors: tuple[type, ...]
    head: tuple[Part, ...] = ()
    ignored: tuple[Ignored, ...] = (TRAINING_CONSTANTS,)
    code_weights: tuple[float, ...] = (1.0,) * 8 + (0.2,) * 2
    code_weights_name = "pts_bbox_head.code_weights"

    def parts(self, _config: ModelConfig, /) -> tuple[Part, ...]:
        """What the format holds besides backbone and neck, for the model of this configuration."""
        return self.head

    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        """Entries of all parameters the format holds, for the model of this configuration.

        Args:
            names: of the model's state dict.
            config: the model's.

        Raises:
            SynclError: if the format is not for such a model.
        """
        if type(config.detector) not in self.detectors:
            found, *known = (
                kind.__name__.removesuffix("Config") for kind in (type(config.detector), *self.detectors)
            )
            wanted = " or a ".join(known)
            raise SynclError(
                f"format {self.name} ({self.title}) is for a {wanted}, the model's detector is a {found}; "
                "choose another --recipe with --from, another format with --to"
            )
        names = tuple(names)
        entries = image_encoder_entries(names, config.detector.image)
        for part in self.parts(config):
            entries += rule_entries(names, *part)
        return entries

    def constants(self, _config: ModelConfig, /) -> dict[str, Tensor]:
        """Published entries that are not weights, with the values the originals' configurations give them."""
        return {self.code_weights_name: torch.tensor(self.code_weights)} if self.code_weights else {}

    def converted(self, config: ModelConfig) -> ModelConfig:
        """The configuration of a model filled from this format: the recipe's, but for what belongs to the
        published weights and not to the recipe.
        """
        return config

    def ignored_for(self, _config: ModelConfig, /) -> tuple[Ignored, ...]:
        """Published names that stay unused by this model."""
        return self.ignored

    def read(self, published: Mapping[str, Tensor], config: ModelConfig, source: str) -> Conversion:
        """Our parameters from a published checkpoint's.

        Args:
            published: its parameters, unwrapped.
            config: the model to fill.
            source: file name for messages.

        Raises:
            SynclError: if the two do not fit, naming the first differences.
        """
        shapes = model_shapes(config, source)
        renamed = {_OLD_OFFSETS.sub(r"\1.conv_offset.", name): tensor for name, tensor in published.items()}
        entries = self._complete_entries(shapes, config)
        try:
            conversion = read_entries(
                renamed, entries, shapes, (*self.ignored_for(config), RUNNING_AVERAGES), source
            )
        except SynclError as error:
            raise SynclError(f"{error}{self.advice(published, config)}") from error
        check_finite(conversion.weights, source)
        return conversion

    def advice(self, _published: Mapping[str, Tensor], _config: ModelConfig, /) -> str:
        """What may be done about a file that does not fit, where that can be told; it ends the message."""
        return ""

    def write(self, weights: Mapping[str, Tensor], config: ModelConfig) -> Conversion:
        """A published checkpoint's parameters from ours.

        Raises:
            SynclError: if the format is not for such a model.
        """
        conversion = write_entries(weights, self._complete_entries(weights, config))
        conversion.weights.update(self.constants(config))
        return conversion

    def _complete_entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        names = tuple(names)
        entries = self.entries(names, config)
        covered = {entry.ours for entry in entries}
        lacking = self.lacking(name for name in names if name not in covered)
        if lacking:
            raise SynclError(
                f"format {self.name} has no place for {', '.join(lacking[:5])} of this model; "
                "check that the recipe is for this format"
            )
        return entries

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Which of our parameters without entry ought to have one."""
        return [name for name in names if not _OURS_ALONE.fullmatch(name)]
