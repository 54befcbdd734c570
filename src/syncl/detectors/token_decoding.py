"""Decoding queries against one sequence of image tokens, as the whole PETR family does.

Letters: B batch, G groups, S tokens, M memory keys, Q queries, L decoder layers, D channels, K classes.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from syncl.detectors.base import Features, ReferenceRange
from syncl.errors import SynclError
from syncl.layers.attention import Attention
from syncl.layers.decoder import DecoderLayer, Groups, apply_to_groups, repeat_groups, split_groups
from syncl.layers.numerics import inverse_sigmoid
from syncl.structures import Predictions, Queries


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


def check_level(level: int, strides: tuple[int, ...]) -> None:
    """Refuse an attended level that a neck with these strides does not have.

    Raises:
        SynclError: naming the level and how many there are.
    """
    if not 0 <= level < len(strides):
        raise SynclError(f"attended_level={level}: the neck has {len(strides)} levels")


def decode_tokens(
    queries: Queries,
    features: TokenFeatures,
    groups: Groups,
    layers: nn.ModuleList,
    cross_attentions: nn.ModuleList,
    dropout: nn.Dropout,
    self_valid: Tensor | None,
    memory: tuple[Tensor, Tensor] | None = None,
) -> list[Tensor]:
    """Query states [G B, Q, D] after every layer, group behind group.

    Args:
        queries: all of a frame.
        features: its tokens.
        groups: which decoders run.
        layers: L `DecoderLayer`.
        cross_attentions: L `Attention`.
        dropout: of the cross-attention update.
        self_valid: mask of self-attention, see `DecoderLayer.forward`.
        memory: temporal keys and values [B, M, D] of self-attention.
    """
    x = repeat_groups(queries.embeddings, groups)
    positions = repeat_groups(queries.positions, groups)
    states = []
    for layer, cross in zip(layers, cross_attentions):
        attention = cast(Attention, cross)
        keys, values = attention.project(features.keys, features.values)

        def attend(
            x: Tensor,
            position: Tensor,
            _: int,
            attention: Attention = attention,
            keys: Tensor = keys,
            values: Tensor = values,
        ) -> Tensor:
            update: Tensor = dropout(attention.attend(x + position, keys, values, features.token_valid))
            return update

        x = cast(DecoderLayer, layer)(x, positions, self_valid, groups, attend, memory)
        states.append(x)
    return states


def predict_boxes(
    states: list[Tensor],
    queries: Queries,
    groups: Groups,
    class_branches: nn.ModuleList,
    box_branches: nn.ModuleList,
    point_range: ReferenceRange,
) -> tuple[Predictions, ...]:
    """Predictions of each group from the normalised states of every layer.

    Every layer predicts its centre as an offset from the same reference points, in logits of the unit cube. A
    list of one branch serves all layers.
    """
    reference_logits = inverse_sigmoid(point_range.normalise(queries.references))
    outputs: list[list[tuple[Tensor, ...]]] = [[] for _ in groups]
    for index, state in enumerate(states):
        branch = min(index, len(class_branches) - 1)
        heads = zip(
            apply_to_groups(class_branches[branch], state, groups),
            apply_to_groups(box_branches[branch], state, groups),
            split_groups(state, groups),
        )
        for group, (logits, delta, part) in enumerate(heads):
            centre = (delta[..., :3] + reference_logits).sigmoid()
            code = torch.cat([point_range.to_metres(centre), delta[..., 3:]], dim=-1)
            outputs[group].append((logits, code, part))
    references = queries.references.expand(len(states), -1, -1, -1)
    stacked = [tuple(torch.stack(part) for part in zip(*per_layer)) for per_layer in outputs]
    return tuple(
        Predictions(logits, codes, embeddings, references, queries.valid, queries.object_count)
        for logits, codes, embeddings in stacked
    )
