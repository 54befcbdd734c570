"""DETR3D: 3D object detection from multi-view images via 3D-to-2D queries (Wang et al., CoRL 2021).

Each query's reference point is projected into every camera; features sampled there, weighted by the query,
are its cross-attention. Every decoder layer predicts a box relative to its reference point and hands a
refined reference to the next layer.

Parallel decoders (method, section 3.1): cross-attention looks at one query at a time, so the C-decoder is all
of it that is left without self-attention. Each decoder refines its own references, from its own boxes, and
samples there.

Letters: B batch, C cameras, Q queries, L decoder layers, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.aids import AidedConfig
from syncl.detectors.base import (
    NUSCENES_RANGE,
    Detector,
    DetectorMemory,
    Features,
    Interaction,
    PointRange,
    ReferenceRange,
    check_calibration,
    interact,
    own,
)
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import (
    STANDARD,
    DecoderLayer,
    Groups,
    apply_to_groups,
    decoder_layers,
    repeat_groups,
    split_groups,
)
from syncl.layers.numerics import at_full_precision, inverse_sigmoid, mlp, prior_bias
from syncl.layers.sampling import Taps, tables_of, taps_of, weighted_samples
from syncl.structures import Frame, Predictions, Queries, object_queries


@dataclass(frozen=True)
class Detr3dConfig(AidedConfig):
    """Sizes of a DETR3D. The defaults are the published R101 configuration's.

    Attributes:
        image: backbone and neck; all neck levels are sampled.
        classes: class names in logit order.
        queries: number of object queries.
        dim: query and feature channels.
        heads: self-attention heads.
        layers: decoder layers.
        hidden: hidden channels of the feed-forward networks.
        dropout: in attention and feed-forward.
        cameras: cameras of the rig the weights are for (each has attention weights of its own).
        point_range: range of reference points, metres, vehicle frame (x, y, z minima, then maxima).
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    queries: int = 900
    dim: int = 256
    heads: int = 8
    layers: int = 6
    hidden: int = 512
    dropout: float = 0.1
    cameras: int = 6
    point_range: PointRange = NUSCENES_RANGE

    def build(self) -> "Detr3d":
        """Build the module."""
        return self.with_aids(Detr3d, self.queries)


@dataclass(frozen=True)
class Detr3dFeatures(Features):
    """Feature levels [B, C, D, H_l, W_l] to sample from."""

    levels: tuple[Tensor, ...]


class Sight(NamedTuple):
    """What queries see at their reference points.

    Attributes:
        reference_logits: [B, Q, 3] inverse sigmoid of the references in the unit cube.
        taps: which features lie at the projections.
        tables: the features, one table a level.
    """

    reference_logits: Tensor
    taps: Taps
    tables: tuple[Tensor, ...]


class Anchors(NamedTuple):
    """Where a layer predicts from.

    Attributes:
        references: [B, Q, 3] metres.
        logits: [B, Q, 3] the same as inverse sigmoid in the unit cube.
        log_sizes: [B, Q, 3] which layers add to; None = their sizes are whole.
    """

    references: Tensor
    logits: Tensor
    log_sizes: Tensor | None


class Detr3dCrossAttention(nn.Module):
    """Weighted sum of the features at a reference point's projections (DETR3D, equation 5).

    Weights are independent sigmoids for each camera and level, not a softmax.
    """

    def __init__(self, dim: int, cameras: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.cameras = cameras
        self.levels = levels
        self.attention_weights = nn.Linear(dim, cameras * levels)
        self.output_projection = nn.Linear(dim, dim)
        self.position_encoder = nn.Sequential(
            nn.Linear(3, dim),
            nn.LayerNorm(dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.xavier_uniform_(self.output_projection.weight)
        nn.init.zeros_(self.output_projection.bias)

    def forward(self, x: Tensor, positions: Tensor, sight: Sight) -> Tensor:
        """The update [B, Q, D] to add to query states [B, Q, D] with these positional parts [B, Q, D]."""
        weights = self.attention_weights(x + positions).unflatten(-1, (self.cameras, self.levels)).sigmoid()
        attended = weighted_samples(sight.tables, sight.taps, weights)
        update = self.dropout(self.output_projection(attended))
        out: Tensor = update + self.position_encoder(sight.reference_logits)
        return out


class SamplingLayer(DecoderLayer):
    """A decoder layer whose queries look at the images where they stand."""

    cross_attention: Detr3dCrossAttention

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, groups: Groups, sights: Sequence[Sight]
    ) -> Tensor:
        """One layer; see `among_themselves` for arguments and shapes. `sights` are one a group."""
        parts, placements = self.among_themselves(x, positions, mask, groups)
        seen = [
            self.cross_attention(part, position, sight)
            for part, position, sight in zip(parts, placements, sights)
        ]
        return self.concluded(parts, seen)


class Detr3d(Detector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    positions_follow_references = False

    def __init__(self, config: Detr3dConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.dim = config.dim
        self.query_count = config.queries
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        dim, levels = config.dim, len(self.image_encoder.strides)
        self.query_embedding = nn.Embedding(config.queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 3)
        self.layers = decoder_layers(
            config.layers,
            lambda: SamplingLayer(dim, config.heads, config.hidden, config.dropout),
            lambda: Detr3dCrossAttention(dim, config.cameras, levels, config.dropout),
        )
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(config.layers)
        )
        self.box_branches = nn.ModuleList(self.box_branch() for _ in range(config.layers))
        self.initialise()

    @override
    def initialise(self) -> None:
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    def box_branch(self) -> nn.Module:
        """What turns a layer's states into a box code, its centre as an offset in logit space."""
        return mlp(self.dim, self.dim, self.dim, CODE_SIZE)

    def start(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor | None]:
        """References in metres and in unit coordinates that the first layer starts from, and log sizes."""
        return queries.references, self.point_range.normalise(queries.references), None

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Detr3dFeatures:
        """Feature levels of all cameras."""
        if frame.images.shape[1] != self.config.cameras:
            raise SynclError(
                f"this DETR3D has attention weights for {self.config.cameras} cameras, the frame has "
                f"{frame.images.shape[1]} ({', '.join(frame.rig.names)}); mask missing ones in camera_valid "
                "or train a recipe with detector.cameras set to the rig's"
            )
        frame = self.image_encoder.pad(frame)
        projections = check_calibration(frame)
        levels = self.image_encoder(frame)
        return Detr3dFeatures(projections, frame.camera_valid, frame.image_size, (), levels)

    @override
    def initial_queries(self, features: Features) -> Queries:
        """Learned queries, whose positional part says where they start."""
        streams = features.camera_valid.shape[0]
        positions, embeddings = self.query_embedding.weight.split(self.dim, dim=1)
        unit = at_full_precision(self.reference_points, positions).sigmoid()
        return object_queries(
            embeddings.expand(streams, -1, -1),
            positions.expand(streams, -1, -1),
            self.point_range.to_metres(unit).expand(streams, -1, -1),
        )

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """Decode with iterative refinement of reference points, which are detached between layers.

        An interaction sees the boxes of a layer's own states, and those refine the references; the heads
        report what they make of the states behind it.
        """
        images = own(Detr3dFeatures, features, self)
        x = repeat_groups(queries.embeddings, groups)
        positions = repeat_groups(queries.positions, groups)
        start, unit, sizes = self.start(queries)
        anchors = [Anchors(start, inverse_sigmoid(unit), sizes) for _ in groups]
        tables = tables_of(images.levels, start.dtype)
        outputs: list[list[tuple[Tensor, ...]]] = [[] for _ in groups]
        for number, layer in enumerate(self.layers):
            classify, regress = self.class_branches[number], self.box_branches[number]
            mask = None if interaction is None else interaction.mask(number)
            mask = queries.looked_at if mask is None else mask
            x = layer(x, positions, mask, groups, [self._look(group, images, tables) for group in anchors])
            refined: dict[int, Anchors] = {}
            if interaction is not None and "standard" in groups:
                standard = groups.index("standard")
                delta = at_full_precision(regress, split_groups(x, groups)[standard])
                code, refined[standard] = self._boxes(delta, anchors[standard], number)
                x = interact(interaction, number, x, code, groups)
            parts = zip(
                apply_to_groups(classify, x, groups),
                apply_to_groups(regress, x, groups),
                split_groups(x, groups),
            )
            for group, (logits, delta, state) in enumerate(parts):
                code, following = self._boxes(delta, anchors[group], number)
                outputs[group].append((logits, code, state, anchors[group].references))
                anchors[group] = refined.get(group, following)
        return tuple(_predictions(layers, queries) for layers in outputs)

    def _look(self, anchors: Anchors, images: Detr3dFeatures, tables: tuple[Tensor, ...]) -> Sight:
        """What a group sees at its references."""
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in images.levels)
        taps = taps_of(
            anchors.references, images.image_from_vehicle, images.camera_valid, images.image_size, shapes
        )
        return Sight(anchors.logits, taps, tables)

    def _boxes(self, delta: Tensor, anchors: Anchors, layer: int) -> tuple[Tensor, Anchors]:
        """Box codes [B, Q, 10] of a box branch's output, and what the next layer predicts from."""
        unit = (delta[..., :3] + anchors.logits).sigmoid()
        code = torch.cat([self.point_range.to_metres(unit), delta[..., 3:]], dim=-1)
        code, sizes = accumulate_sizes(code, anchors.log_sizes, first=layer == 0)
        unit = unit.detach()
        return code, Anchors(self.point_range.to_metres(unit), inverse_sigmoid(unit), sizes)

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """DETR3D's positions are learned and stay."""
        return positions


def accumulate_sizes(code: Tensor, log_sizes: Tensor | None, first: bool) -> tuple[Tensor, Tensor | None]:
    """A code whose size numbers are updates of `log_sizes` [B, Q, 3], made absolute, and the next layer's.

    Without sizes the code's own numbers are absolute already. As in MUTR3D, gradients pass from the second
    layer back to the first one's update, but not across later layers.
    """
    if log_sizes is None:
        return code, None
    updated = log_sizes + code[..., 3:6]
    code = torch.cat([code[..., :3], updated, code[..., 6:]], dim=-1)
    return code, updated if first else updated.detach()


def _predictions(layers: list[tuple[Tensor, ...]], queries: Queries) -> Predictions:
    logits, codes, states, references = (torch.stack(part) for part in zip(*layers))
    return Predictions(logits, codes, states, references, queries.valid, queries.object_count)
