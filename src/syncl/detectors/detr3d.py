"""DETR3D: 3D object detection from multi-view images via 3D-to-2D queries (Wang et al., CoRL 2021).

Each query's reference point is projected into every camera; features sampled there, weighted by the query,
are its cross-attention. Every decoder layer predicts a box relative to its reference point and hands a
refined reference to the next layer.

Parallel decoders (method, section 3.1): cross-attention looks at one query at a time, so the C-decoder is all
of it that is left without self-attention. Each decoder refines its own references, from its own boxes, and
samples there.

Letters: B batch, C cameras, Q queries, L decoder layers, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.detectors.base import (
    NUSCENES_RANGE,
    Detector,
    DetectorMemory,
    Features,
    PointRange,
    ReferenceRange,
    check_calibration,
)
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.proposals import ProposalConfig, build_proposal_head, look_nearby
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import (
    STANDARD,
    DecoderLayer,
    Groups,
    apply_to_groups,
    repeat_groups,
    split_groups,
)
from syncl.layers.numerics import inverse_sigmoid, mlp, prior_bias
from syncl.layers.sampling import sample_features
from syncl.structures import Frame, Predictions, Queries


@dataclass(frozen=True)
class Detr3dConfig:
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
        proposals: auxiliary image head that starts some of the object queries; None as published.
        lifted_tracks: whether the positional part of track queries says where they are, in the way of queries
            lifted from proposals, so that self-attention can tell which proposal shows which track; needs
            proposals. As published, tracks keep learned positions, which know nothing of place.
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
    proposals: ProposalConfig | None = None
    lifted_tracks: bool = False

    def build(self) -> "Detr3d":
        """Build the module."""
        return Detr3d(self)


@dataclass(frozen=True)
class Detr3dFeatures(Features):
    """Feature levels [B, C, D, H_l, W_l] to sample from."""

    levels: tuple[Tensor, ...]


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

    def forward(
        self, x: Tensor, positions: Tensor, reference_logits: Tensor, samples: Tensor, visible: Tensor
    ) -> Tensor:
        """The update to add to the query states.

        Args:
            x: [B, Q, D].
            positions: [B, Q, D].
            reference_logits: [B, Q, 3] inverse sigmoid of the references in the unit cube.
            samples: [B, C, Q, L, D] features at the projections.
            visible: [B, C, Q] which projections count.
        """
        weights = self.attention_weights(x + positions).unflatten(-1, (self.cameras, self.levels)).sigmoid()
        weights = weights * visible.transpose(1, 2)[..., None]
        attended = torch.einsum("bqcl,bcqld->bqd", weights, samples)
        update = self.dropout(self.output_projection(attended))
        out: Tensor = update + self.position_encoder(reference_logits)
        return out


class Detr3d(Detector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    def __init__(self, config: Detr3dConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.dim = config.dim
        self.query_count = config.queries
        if config.lifted_tracks and config.proposals is None:
            raise SynclError("detector.lifted_tracks=true needs detector.proposals")
        self.positions_follow_references = config.lifted_tracks
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        dim, levels = config.dim, len(self.image_encoder.strides)
        self.query_embedding = nn.Embedding(config.queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 3)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, config.heads, config.hidden, config.dropout) for _ in range(config.layers)
        )
        self.cross_attentions = nn.ModuleList(
            Detr3dCrossAttention(dim, config.cameras, levels, config.dropout) for _ in range(config.layers)
        )
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(config.layers)
        )
        self.box_branches = nn.ModuleList(self._box_branch() for _ in range(config.layers))
        self.proposal_head = build_proposal_head(
            config.proposals, config.queries, dim, len(config.classes), self.image_encoder.strides
        )
        self._initialise()

    def _box_branch(self) -> nn.Module:
        """What turns a layer's states into a box code, its centre as an offset in logit space."""
        return mlp(self.dim, self.dim, self.dim, CODE_SIZE)

    def _start(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """The references the first layer starts from, in metres and in unit coordinates."""
        return references, self.point_range.normalise(references)

    def _initialise(self) -> None:
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Detr3dFeatures:  # noqa: ARG002
        """Feature levels of all cameras, and proposals where configured."""
        if frame.images.shape[1] != self.config.cameras:
            raise SynclError(
                f"this DETR3D has attention weights for {self.config.cameras} cameras, the frame has "
                f"{frame.images.shape[1]} ({', '.join(frame.rig.names)}); mask missing ones in camera_valid "
                "or train a recipe with detector.cameras set to the rig's"
            )
        frame = self.image_encoder.pad(frame)
        projections = check_calibration(frame)
        levels = self.image_encoder(frame)
        proposals = None
        if self.proposal_head is not None:
            proposals = self.proposal_head(
                levels[self.proposal_head.config.level],
                projections,
                frame.rig.image_from_camera,
                frame.camera_valid,
                frame.image_size[0],
            )
        return Detr3dFeatures(projections, frame.camera_valid, frame.image_size, proposals, levels)

    def initial_queries(self, features: Features) -> Queries:
        """Learned queries; the first ones start from proposals where configured."""
        streams = features.camera_valid.shape[0]
        positions, embeddings = self.query_embedding.weight.split(self.dim, dim=1)
        references = self.point_range.to_metres(self.reference_points(positions).sigmoid())
        positions, embeddings, references = (
            x.expand(streams, -1, -1) for x in (positions, embeddings, references)
        )
        proposals = features.proposals
        if proposals is not None and self.proposal_head is not None:
            count = proposals.references.shape[1]
            lifted = self.proposal_head.positions(self.point_range.normalise(proposals.references))
            positions = torch.cat([positions[:, :count] + lifted, positions[:, count:]], dim=1)
            embeddings = torch.cat(
                [embeddings[:, :count] + proposals.embeddings, embeddings[:, count:]], dim=1
            )
            references = torch.cat([proposals.references, references[:, count:]], dim=1)
        valid = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        return Queries(embeddings, positions, references, valid, self.query_count)

    def decode(
        self, queries: Queries, features: Features, groups: Groups = STANDARD
    ) -> tuple[Predictions, ...]:
        """Decode with iterative refinement of reference points, which are detached between layers."""
        if not isinstance(features, Detr3dFeatures):
            raise TypeError(f"Detr3d.decode takes Detr3dFeatures, got {type(features).__name__}")
        queries = look_nearby(self.proposal_head, queries, features.proposals)
        x = repeat_groups(queries.embeddings, groups)
        positions = repeat_groups(queries.positions, groups)
        start, unit = self._start(queries.references)
        references, units = [start] * len(groups), [unit] * len(groups)
        sizes = [queries.log_sizes] * len(groups)
        valid = queries.valid if queries.count > queries.object_count else None
        outputs: list[list[tuple[Tensor, ...]]] = [[] for _ in groups]
        for layer, cross, classify, regress in zip(
            self.layers, self.cross_attentions, self.class_branches, self.box_branches
        ):
            sampled = self._sample(references, features)
            reference_logits = [inverse_sigmoid(unit) for unit in units]
            x = layer(
                x,
                positions,
                valid,
                groups,
                lambda x, p, g, cross=cross, r=reference_logits, s=sampled: cross(x, p, r[g], *s[g]),
            )
            parts = zip(
                apply_to_groups(classify, x, groups),
                apply_to_groups(regress, x, groups),
                split_groups(x, groups),
            )
            for group, (logits, delta, state) in enumerate(parts):
                refined = (delta[..., :3] + reference_logits[group]).sigmoid()
                code = torch.cat([self.point_range.to_metres(refined), delta[..., 3:]], dim=-1)
                code, sizes[group] = accumulate_sizes(code, sizes[group], first=not outputs[group])
                outputs[group].append((logits, code, state, references[group]))
                units[group] = refined.detach()
                references[group] = self.point_range.to_metres(units[group])
        return tuple(_predictions(layers, queries) for layers in outputs)

    def _sample(self, references: list[Tensor], features: Detr3dFeatures) -> list[tuple[Tensor, Tensor]]:
        """Samples [B, C, Q, L, D] and visibility [B, C, Q] at each group's references, in one look-up."""
        samples, inside = sample_features(
            features.levels, torch.cat(references, dim=1), features.image_from_vehicle, features.image_size
        )
        visible = inside & features.camera_valid[..., None]
        count = len(references)
        return list(zip(samples.chunk(count, dim=2), visible.chunk(count, dim=2)))

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """DETR3D's positions are learned and stay, unless tracks are lifted like proposals."""
        if self.proposal_head is None or not self.config.lifted_tracks:
            return positions
        return self.proposal_head.positions(self.point_range.normalise(references))


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
