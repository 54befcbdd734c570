"""StreamPETR: object-centric temporal modelling for multi-view 3D detection (Wang et al., ICCV 2023).

The best queries of each frame enter a memory of a few frames. In the next frame the newest of them are
decoded again beside the learned queries (propagated queries); the others are further keys of self-attention.
What moved meanwhile (object, time, vehicle) is told to both by a motion-aware layer normalisation. References
stay fixed through the layers.

Parallel decoders (method, section 3.1): the C-decoder leaves out self-attention as a whole, memory keys
included, because attention to remembered objects takes part in telling duplicates apart just as attention
to present queries does. Propagated queries are object queries: both decoders decode them.

Letters: B batch, S tokens, Q queries, P propagated queries, M memory slots, D channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.base import (
    NUSCENES_RANGE,
    Detector,
    DetectorMemory,
    Features,
    PointRange,
    ReferenceRange,
    check_calibration,
)
from syncl.detectors.denoising import denoising_mask, split_predictions
from syncl.detectors.focal_head import FocalHead, FocalHeadConfig, ImagePredictions
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.object_memory import ObjectMemory
from syncl.detectors.proposals import ProposalConfig, build_proposal_head, look_nearby, propose
from syncl.detectors.ray_tokens import RayTokens, attended_cameras
from syncl.detectors.token_decoding import TokenFeatures, check_level, decode_tokens, predict_boxes
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.attention import Attention
from syncl.layers.conditioning import MotionNorm
from syncl.layers.decoder import STANDARD, DecoderLayer, Groups
from syncl.layers.numerics import mlp, prior_bias
from syncl.layers.positional import encode_harmonics, encode_points, sinusoid
from syncl.structures import Frame, Predictions, Queries

# Velocity (2), age (1) and a 3 x 4 pose, each with sine and cosine at six frequencies.
_OCTAVES = 6
_MOTION = 15


@dataclass(frozen=True)
class StreamPetrConfig:
    """Sizes of a StreamPETR. The defaults are the published ones for 900 queries.

    Attributes:
        image: backbone and neck; one level of the neck is attended.
        classes: class names in logit order.
        queries: number of learned queries.
        propagated: newest memory slots decoded as queries again.
        memory_slots: objects remembered.
        objects_a_frame: how many queries of a frame enter the memory.
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
        proposals: auxiliary image head that starts some of the learned queries; None as published.
        attended_level: index of the neck level that queries attend; the finest as published.
        lifted_tracks: whether track queries say where they are in the way of queries lifted from proposals as
            well, whose places the decoder knows how to read; needs proposals.
        focal_head: auxiliary head of training that looks for 2D boxes; it changes nothing else.
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    queries: int = 644
    propagated: int = 256
    memory_slots: int = 1024
    objects_a_frame: int = 256
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
    proposals: ProposalConfig | None = None
    attended_level: int = 0
    lifted_tracks: bool = False
    focal_head: FocalHeadConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.propagated <= self.memory_slots:
            raise SynclError(
                f"propagated={self.propagated} must be between 0 and memory_slots={self.memory_slots}"
            )
        if not 0 < self.objects_a_frame <= self.queries + self.propagated:
            raise SynclError(
                f"objects_a_frame={self.objects_a_frame} must be between 1 and the number of queries, "
                f"{self.queries + self.propagated}"
            )

    def build(self) -> "StreamPetr":
        """Build the module."""
        return StreamPetr(self)


@dataclass(frozen=True)
class StreamPetrFeatures(TokenFeatures):
    """Image tokens and what the memory brings to a frame.

    Attributes:
        propagated: the P propagated queries.
        temporal_keys: [B, M - P, D] content plus position of the other slots.
        temporal_values: [B, M - P, D] their content.
        memory: what was remembered before the frame.
        image_predictions: of the focal head, in training only.
    """

    propagated: Queries
    temporal_keys: Tensor
    temporal_values: Tensor
    memory: ObjectMemory
    image_predictions: ImagePredictions | None


class StreamPetr(Detector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    positions_follow_references = True
    starting_points: Tensor
    at_rest: Tensor

    def __init__(self, config: StreamPetrConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.dim = config.dim
        self.query_count = config.queries + config.propagated
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        check_level(config.attended_level, self.image_encoder.strides)
        if config.lifted_tracks and config.proposals is None:
            raise SynclError("detector.lifted_tracks=true needs detector.proposals")
        dim = config.dim
        self.tokens = RayTokens(dim, config.depth_count, config.depth_start_m, config.position_range)
        self.query_position = mlp(3 * (dim // 2), dim, dim)
        self.reference_points = nn.Embedding(config.queries, 3)
        # Unit coordinates of a stream's propagated queries in its first frame: fixed, but saved as weights.
        self.register_buffer("starting_points", torch.rand(config.propagated, 3))
        self.motion_content_norm = MotionNorm(dim, 2 * _OCTAVES * _MOTION)
        self.motion_position_norm = MotionNorm(dim, 2 * _OCTAVES * _MOTION)
        self.time_encoder = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        pose = torch.eye(4)[:3].flatten()
        self.register_buffer("at_rest", torch.cat([torch.zeros(3), pose]), persistent=False)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, config.heads, config.hidden, config.dropout) for _ in range(config.layers)
        )
        self.cross_attentions = nn.ModuleList(
            Attention(dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_norm = nn.LayerNorm(dim)
        branches = 1 if config.shared_branches else config.layers
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(branches)
        )
        self.box_branches = nn.ModuleList(mlp(dim, dim, dim, CODE_SIZE) for _ in range(branches))
        self.proposal_head = build_proposal_head(
            config.proposals, config.queries, dim, len(config.classes), self.image_encoder.strides
        )
        self.focal_head: FocalHead | None = None
        if config.focal_head is not None:
            levels = len(self.image_encoder.strides)
            self.focal_head = FocalHead(config.focal_head, dim, len(config.classes), levels)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.uniform_(self.reference_points.weight, 0, 1)
        for layer in self.layers:
            for parameter in layer.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    def initial_memory(self, streams: int) -> ObjectMemory:
        """Nothing remembered."""
        return ObjectMemory.empty(
            streams, self.config.memory_slots, self.reference_points.weight.new_zeros(self.dim)
        )

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> StreamPetrFeatures:
        """Tokens of all cameras, and the memory brought to the frame's place and time."""
        # As in the original, tokens of the padding are attended.
        frame = self.image_encoder.pad(frame)
        projections = check_calibration(frame)
        levels = self.image_encoder(frame)
        attended = levels[self.config.attended_level]
        keys, values = self.tokens(attended, projections, frame)
        if memory is None:
            memory = self.initial_memory(frame.batch_size)
        if not isinstance(memory, ObjectMemory):
            raise TypeError(f"StreamPetr remembers ObjectMemory, got {type(memory).__name__}")
        memory = memory.entered(frame, self.point_range.to_metres(self.starting_points))
        recalled = memory.recalled(frame)
        contents = self.motion_content_norm(recalled.embeddings, encode_harmonics(recalled.motion, _OCTAVES))
        positions = self._positions(recalled.references, recalled.motion, recalled.age_s)
        first = self.config.propagated
        propagated = Queries(
            contents[:, :first],
            positions[:, :first],
            recalled.references[:, :first],
            torch.ones_like(recalled.age_s[:, :first], dtype=torch.bool),
            first,
        )
        return StreamPetrFeatures(
            projections,
            frame.camera_valid,
            frame.image_size,
            propose(self.proposal_head, frame, levels, projections),
            keys=keys,
            values=values,
            token_valid=attended_cameras(frame.camera_valid, attended.shape[-2:].numel()),
            propagated=propagated,
            temporal_keys=(contents + positions)[:, first:],
            temporal_values=contents[:, first:],
            memory=memory,
            image_predictions=self._look_for_boxes(levels),
        )

    def _look_for_boxes(self, levels: tuple[Tensor, ...]) -> ImagePredictions | None:
        if self.focal_head is None or not self.training:
            return None
        predictions: ImagePredictions = self.focal_head(levels[self.focal_head.config.level])
        return predictions

    def initial_queries(self, features: Features) -> Queries:
        """Learned queries, the first ones replaced by proposals where configured, then propagated ones."""
        if not isinstance(features, StreamPetrFeatures):
            raise TypeError(f"StreamPetr takes StreamPetrFeatures, got {type(features).__name__}")
        streams = features.camera_valid.shape[0]
        references = self.point_range.to_metres(self.reference_points.weight).expand(streams, -1, -1)
        contents = references.new_zeros(streams, self.config.queries, self.dim)
        proposals = features.proposals
        if proposals is None or self.proposal_head is None:
            queries = self.present_queries(references, contents)
        else:
            count = proposals.references.shape[1]
            references = torch.cat([proposals.references, references[:, count:]], dim=1)
            queries = self.present_queries(
                references, torch.cat([proposals.embeddings, contents[:, count:]], dim=1)
            )
            lifted = self.proposal_head.positions(self.point_range.normalise(proposals.references))
            lifted = functional.pad(lifted, (0, 0, 0, self.config.queries - count))
            queries = replace(queries, positions=queries.positions + lifted)
        return replace(queries.with_tracks(features.propagated), object_count=self.query_count)

    def present_queries(self, references: Tensor, contents: Tensor) -> Queries:
        """Object queries of the present frame, without motion, at references [B, N, 3] (metres)."""
        motion = encode_harmonics(self.at_rest, _OCTAVES)
        valid = torch.ones(references.shape[:2], dtype=torch.bool, device=references.device)
        contents = self.motion_content_norm(contents, motion)
        return Queries(contents, self._present_positions(references), references, valid, valid.shape[1])

    def decode(
        self, queries: Queries, features: Features, groups: Groups = STANDARD
    ) -> tuple[Predictions, ...]:
        """Decode all layers against tokens and memory; every layer predicts from the same references."""
        if not isinstance(features, StreamPetrFeatures):
            raise TypeError(f"StreamPetr takes StreamPetrFeatures, got {type(features).__name__}")
        seen = None
        if queries.count > queries.object_count:
            seen = torch.cat(
                [queries.valid, torch.ones_like(features.temporal_keys[..., 0], dtype=torch.bool)], dim=1
            )
        return self._decode(queries, features, groups, seen)

    def decode_noised(
        self, queries: Queries, noised: Tensor, features: Features, groups: Groups = STANDARD
    ) -> tuple[tuple[Predictions, ...], Predictions]:
        """See `Detector.decode_noised`."""
        if not isinstance(features, StreamPetrFeatures):
            raise TypeError(f"StreamPetr takes StreamPetrFeatures, got {type(features).__name__}")
        references = noised.flatten(1, 2)
        extra = self.present_queries(references, references.new_zeros(*references.shape[:2], self.dim))
        seen = denoising_mask(
            queries.valid, noised.shape[1], noised.shape[2], features.temporal_keys.shape[1]
        )
        together = self._decode(queries.with_tracks(extra), features, groups, seen)
        parts = [split_predictions(predictions, queries.count) for predictions in together]
        return tuple(own for own, _ in parts), parts[groups.index("standard")][1]

    def _decode(
        self, queries: Queries, features: StreamPetrFeatures, groups: Groups, seen: Tensor | None
    ) -> tuple[Predictions, ...]:
        queries = look_nearby(self.proposal_head, queries, features.proposals)
        states = decode_tokens(
            queries,
            features,
            groups,
            self.layers,
            self.cross_attentions,
            self.dropout,
            seen,
            (features.temporal_keys, features.temporal_values),
        )
        states = [self.output_norm(state) for state in states]
        return predict_boxes(
            states, queries, groups, self.class_branches, self.box_branches, self.point_range
        )

    def remember(
        self,
        memory: DetectorMemory | None,  # noqa: ARG002
        frame: Frame,
        features: Features,
        predictions: Predictions,
    ) -> ObjectMemory:
        """The frame's best queries (track queries among them) in front of the memory, without gradient."""
        if not isinstance(features, StreamPetrFeatures):
            raise TypeError(f"StreamPetr takes StreamPetrFeatures, got {type(features).__name__}")
        scores = predictions.logits[-1].detach().amax(-1).masked_fill(~predictions.valid, float("-inf"))
        best = scores.topk(self.config.objects_a_frame, dim=1).indices[..., None]

        def take(tensor: Tensor) -> Tensor:
            return tensor.detach().gather(1, best.expand(-1, -1, tensor.shape[-1]))

        codes = predictions.codes[-1]
        return features.memory.pushed(
            frame, take(predictions.embeddings[-1]), take(codes[..., :3]), take(codes[..., 8:10])
        )

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:  # noqa: ARG002
        """Tracks were moved to the present by their tracker, so they enter like present queries."""
        placed = self._present_positions(references)
        if self.proposal_head is None or not self.config.lifted_tracks:
            return placed
        return placed + self.proposal_head.positions(self.point_range.normalise(references))

    def _present_positions(self, references: Tensor) -> Tensor:
        age_s = torch.zeros((), dtype=torch.float64, device=references.device)
        return self._positions(references, self.at_rest, age_s)

    def _positions(self, references: Tensor, motion: Tensor, age_s: Tensor) -> Tensor:
        """Positional part of references in metres, told how object, vehicle and time moved since."""
        place = self.query_position(encode_points(self.point_range.normalise(references), self.dim // 2))
        moved = self.motion_position_norm(place, encode_harmonics(motion, _OCTAVES))
        # Ages are encoded in float64, as in the original, and rounded afterwards.
        out: Tensor = moved + self.time_encoder(sinusoid(age_s, self.dim).to(moved.dtype))
        return out
