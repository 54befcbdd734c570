"""Detectors that attend one sequence of image tokens, as the whole PETR family does.

References stay fixed through the layers: every layer predicts its boxes from the same points.

Letters: B batch, G groups, S tokens, M memory keys, Q queries, L decoder layers, D channels, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.aids.aided import AidedConfig
from syncl.detectors.base import Detector
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.interaction import Interaction, interact
from syncl.detectors.passed import Features, own
from syncl.detectors.reference_range import NUSCENES_RANGE, PointRange, ReferenceRange
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import (
    STANDARD,
    Groups,
    TokenLayer,
    apply_to_groups,
    repeat_groups,
    split_groups,
    token_layers,
)
from syncl.layers.numerics import at_full_precision, mlp, prior_bias
from syncl.structures import Predictions, Queries


@dataclass(frozen=True)
class TokenDetectorConfig(AidedConfig):
    """Sizes that the whole family has. The defaults are the published PETR's with a V2-99.

    Attributes:
        image: backbone and neck; one level of the neck is attended.
        classes: class names in logit order.
        queries: number of learned object queries.
        dim: query and feature channels.
        heads: attention heads.
        layers: decoder layers.
        hidden: hidden channels of the feed-forward networks.
        dropout: in attention and feed-forward.
        depth_count: depths Z along a viewing ray.
        depth_start_m: first depth.
        position_range: range that position coordinates are normalised with, metres.
        point_range: range of reference points, metres, vehicle frame.
        shared_branches: one class and one box branch for all layers (as published) or one each a layer.
        attended_level: index of the neck level that queries attend; the finest as published.
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    queries: int = 900
    dim: int = 256
    heads: int = 8
    layers: int = 6
    hidden: int = 2048
    dropout: float = 0.1
    depth_count: int = 64
    depth_start_m: float = 1.0
    position_range: PointRange = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
    point_range: PointRange = NUSCENES_RANGE
    shared_branches: bool = True
    attended_level: int = 0


@dataclass(frozen=True)
class TokenFeatures(Features):
    """Image tokens of a frame, in the order camera, row, column.

    Attributes:
        keys: [B, S, D] content plus position.
        values: [B, S, D] content.
        token_valid: [B, S] bool, False = ignored; None if all are attended.
    """

    keys: Tensor
    values: Tensor
    token_valid: Tensor | None

    @property
    def temporal(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, M, D] of earlier frames, which self-attention of every query may look at."""
        return None

    def velocities(self, regressed: Tensor) -> Tensor:
        """Velocities [B, Q, 2] in m/s of what the heads regress for them."""
        return regressed


class TokenDetector(Detector):
    """Image encoder, decoder and heads of the family; tokens and queries are a subclass's."""

    positions_follow_references = True

    def __init__(self, config: TokenDetectorConfig) -> None:
        super().__init__()
        self.classes = config.classes
        self.dim = config.dim
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        levels = len(self.image_encoder.strides)
        if not 0 <= config.attended_level < levels:
            raise SynclError(f"attended_level={config.attended_level}: the neck has {levels} levels")

    def add_decoder(self, config: TokenDetectorConfig) -> None:
        """Add decoder layers and the heads behind them; constructors call it when they have the rest."""
        dim = config.dim
        self.layers = token_layers(config.layers, dim, config.heads, config.hidden, config.dropout)
        self.output_norm = nn.LayerNorm(dim)
        branches = 1 if config.shared_branches else config.layers
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(branches)
        )
        self.box_branches = nn.ModuleList(self.box_branch() for _ in range(branches))

    def box_branch(self) -> nn.Module:
        """What turns states into box codes, the centre as an offset in logits of the unit cube."""
        return mlp(self.dim, self.dim, self.dim, CODE_SIZE)

    @override
    def initialise(self) -> None:
        for layer in cast(Iterable[TokenLayer], self.layers):
            for part in (layer.self_attention, layer.feed_forward):
                for parameter in part.parameters():
                    if parameter.dim() > 1:
                        nn.init.xavier_uniform_(parameter)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """Decode against the tokens; see `Detector.decode`.

        Boxes are made for the interaction of states without the output norm, unless it asks for it.
        """
        tokens = own(TokenFeatures, features, self)
        memory = tokens.temporal
        x = repeat_groups(queries.embeddings, groups)
        positions = repeat_groups(queries.positions, groups)
        common = seen_beside(queries.looked_at, memory)
        reference_logits = self.point_range.logits_of(queries.references)
        states = []
        for number, layer in enumerate(self.layers):
            own_mask = None if interaction is None else interaction.mask(number)
            mask = common if own_mask is None else seen_beside(own_mask, memory)
            x = layer(x, positions, mask, groups, tokens, memory)
            if interaction is not None and "standard" in groups:
                standard = split_groups(x, groups)[groups.index("standard")]
                codes = standard[..., :0]
                if interaction.boxes != "none":
                    seen = self.head_states(standard) if interaction.boxes == "heads" else standard
                    delta = at_full_precision(self.box_branches[self._branch(number)], seen)
                    codes = self._codes(delta, reference_logits, tokens)
                x = interact(interaction, number, x, codes, groups)
            states.append(x)
        return self._predictions(states, queries, tokens, groups)

    @override
    def head_states(self, states: Tensor) -> Tensor:
        """Behind the output norm."""
        normed: Tensor = self.output_norm(states)
        return normed

    def _predictions(
        self, states: list[Tensor], queries: Queries, tokens: TokenFeatures, groups: Groups
    ) -> tuple[Predictions, ...]:
        """What the heads say of the states of every layer, behind the output norm; one a group."""
        reference_logits = self.point_range.logits_of(queries.references)
        states = [self.head_states(state) for state in states]
        outputs: list[list[tuple[Tensor, ...]]] = [[] for _ in groups]
        for number, state in enumerate(states):
            branch = self._branch(number)
            heads = zip(
                apply_to_groups(self.class_branches[branch], state, groups),
                apply_to_groups(self.box_branches[branch], state, groups),
                split_groups(state, groups),
            )
            for group, (logits, delta, part) in enumerate(heads):
                outputs[group].append((logits, self._codes(delta, reference_logits, tokens), part))
        references = queries.references.expand(len(states), -1, -1, -1)
        stacked = [tuple(torch.stack(part) for part in zip(*per_layer)) for per_layer in outputs]
        return tuple(
            Predictions(logits, codes, embeddings, references, queries.valid, queries.object_count)
            for logits, codes, embeddings in stacked
        )

    def _codes(self, delta: Tensor, reference_logits: Tensor, tokens: TokenFeatures) -> Tensor:
        """Codes [B, Q, 10] in metres of a box branch's output and the logits [B, Q, 3] of the references."""
        centre = self.point_range.metres_at(delta[..., :3] + reference_logits)
        return torch.cat([centre, delta[..., 3:8], tokens.velocities(delta[..., 8:])], dim=-1)

    def _branch(self, layer: int) -> int:
        """A list of one branch serves all layers."""
        return min(layer, len(self.class_branches) - 1)


def seen_beside(mask: Tensor | None, memory: tuple[Tensor, Tensor] | None) -> Tensor | None:
    """A mask [B, Q] or [B, Q, Q] of self-attention with M memory keys, seen by all, behind the queries."""
    if mask is None or memory is None:
        return mask
    return torch.cat([mask, mask.new_ones(*mask.shape[:-1], memory[0].shape[1])], dim=-1)
