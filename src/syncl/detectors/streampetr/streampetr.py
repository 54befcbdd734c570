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
from typing_extensions import override

from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.detectors.streampetr.focal_head import FocalHead, FocalHeadConfig
from syncl.detectors.streampetr.object_memory import ObjectMemory
from syncl.detectors.streampetr.ray_tokens import RayTokens, attended_cameras
from syncl.detectors.token_detector import TokenDetector, TokenDetectorConfig, TokenFeatures
from syncl.errors import SynclError
from syncl.layers.conditioning import MotionNorm
from syncl.layers.decoder import TokenSequence
from syncl.layers.numerics import mlp
from syncl.layers.positional import encode_harmonics, encode_points, sinusoid
from syncl.structures import Frame, Predictions, Queries, object_queries
from syncl.structures.queries import in_front
from syncl.structures.tensors import TensorStructure

# Velocity (2), age (1) and a 3 x 4 pose, each with sine and cosine at six frequencies.
_OCTAVES = 6
_MOTION = 15


@dataclass(frozen=True)
class StreamPetrConfig(TokenDetectorConfig):
    """Sizes of a StreamPETR, as published for 900 queries; see `TokenDetectorConfig` for the rest.

    Attributes:
        propagated: newest memory slots decoded as queries again, behind the learned ones.
        memory_slots: objects remembered.
        objects_a_frame: how many queries of a frame enter the memory.
        focal_head: auxiliary head of training that looks for 2D boxes; it changes nothing else.
    """

    queries: int = 644
    propagated: int = 256
    memory_slots: int = 1024
    objects_a_frame: int = 256
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
        return self.with_aids(StreamPetr, self.queries)


@dataclass(frozen=True)
class StreamPetrFeatures(TokenFeatures):
    """Image tokens and what the memory brings to a frame.

    Attributes:
        propagated: the P propagated queries.
        temporal_keys: [B, M - P, D] content plus position of the other slots.
        temporal_values: [B, M - P, D] their content.
        memory: what was remembered before the frame.
    """

    propagated: Queries
    temporal_keys: Tensor
    temporal_values: Tensor
    memory: ObjectMemory

    @property
    @override
    def temporal(self) -> tuple[Tensor, Tensor]:
        return self.temporal_keys, self.temporal_values


class StreamPetr(TokenDetector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    starting_points: Tensor
    at_rest: Tensor

    def __init__(self, config: StreamPetrConfig) -> None:
        super().__init__(config)
        self.config = config
        self.query_count = config.queries + config.propagated
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
        self.add_decoder(config)
        self.focal_head: FocalHead | None = None
        if config.focal_head is not None:
            levels = len(self.image_encoder.strides)
            self.focal_head = FocalHead(config.focal_head, dim, len(config.classes), levels)
        self.initialise()

    @override
    def initialise(self) -> None:
        nn.init.uniform_(self.reference_points.weight, 0, 1)
        super().initialise()

    @override
    def initial_memory(self, streams: int) -> ObjectMemory:
        """Nothing remembered."""
        return ObjectMemory.empty(
            streams, self.config.memory_slots, self.reference_points.weight.new_zeros(self.dim)
        )

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> StreamPetrFeatures:
        """Tokens of all cameras, and the memory brought to the frame's place and time."""
        # As in the original, tokens of the padding are attended.
        frame = self.image_encoder.pad(frame)
        levels = self.image_encoder(frame)
        attended = levels[self.config.attended_level]
        keys, values = self.tokens(attended, frame)
        if memory is None:
            memory = self.initial_memory(frame.batch_size)
        starting_points = self.point_range.to_metres(self.starting_points)
        entered = own(ObjectMemory, memory, self).entered(frame, starting_points)
        return self.remembering(
            frame,
            entered,
            TokenSequence(keys, values, self._attended(frame.camera_valid, attended.shape[-2:].numel())),
            self._look_for_boxes(levels),
        )

    def remembering(
        self,
        frame: Frame,
        memory: ObjectMemory,
        tokens: TokenSequence,
        auxiliary: tuple[TensorStructure, ...] = (),
    ) -> StreamPetrFeatures:
        """Features of a frame's tokens and a memory that has entered it.

        Args:
            frame: whose tokens they are.
            memory: of the same streams.
            tokens: of all cameras.
            auxiliary: see `Features`.
        """
        recalled = memory.recalled(frame)
        contents = self.motion_content_norm(recalled.embeddings, encode_harmonics(recalled.motion, _OCTAVES))
        positions = self._positions(recalled.references, recalled.motion, recalled.age_s)
        first = self.config.propagated
        propagated = object_queries(contents[:, :first], positions[:, :first], recalled.references[:, :first])
        return StreamPetrFeatures(
            frame.rig.image_from_vehicle,
            frame.camera_valid,
            frame.image_size,
            auxiliary=auxiliary,
            keys=tokens.keys,
            values=tokens.values,
            token_valid=tokens.token_valid,
            propagated=propagated,
            temporal_keys=(contents + positions)[:, first:],
            temporal_values=contents[:, first:],
            memory=memory,
        )

    def _attended(self, camera_valid: Tensor, cells: int) -> Tensor | None:
        if not self.fixed_shapes and (camera_valid.is_meta or bool(camera_valid.all())):
            return None
        return attended_cameras(camera_valid, cells)

    def _look_for_boxes(self, levels: tuple[Tensor, ...]) -> tuple[TensorStructure, ...]:
        if self.focal_head is None or not self.training:
            return ()
        return (self.focal_head(levels[self.focal_head.config.level]),)

    @override
    def initial_queries(self, features: Features) -> Queries:
        """Learned queries, then propagated ones."""
        return self._with_propagated(features, *self._learned(features))

    @override
    def lifted_queries(self, features: Features, references: Tensor, contents: Tensor, /) -> Queries:
        learned, nothing = self._learned(features)
        return self._with_propagated(features, in_front(references, learned), in_front(contents, nothing))

    def _learned(self, features: Features) -> tuple[Tensor, Tensor]:
        """References [B, Q, 3] (metres) and contents [B, Q, D] that learned queries start with."""
        streams = features.camera_valid.shape[0]
        references = self.point_range.to_metres(self.reference_points.weight).expand(streams, -1, -1)
        return references, references.new_zeros(*references.shape[:2], self.dim)

    def _with_propagated(self, features: Features, references: Tensor, contents: Tensor) -> Queries:
        queries = self._present_queries(references, contents)
        propagated = own(StreamPetrFeatures, features, self).propagated
        return replace(queries.followed_by(propagated), object_count=self.query_count)

    @override
    def queries_at(self, codes: Tensor, contents: Tensor | None = None) -> Queries:
        if contents is None:
            contents = codes.new_zeros(*codes.shape[:2], self.dim)
        return self._present_queries(codes[..., :3], contents)

    def _present_queries(self, references: Tensor, contents: Tensor) -> Queries:
        """Object queries of the present frame, without motion, at references [B, N, 3] (metres)."""
        contents = self.motion_content_norm(contents, encode_harmonics(self.at_rest, _OCTAVES))
        return object_queries(contents, self._present_positions(references), references)

    @override
    def remember(
        self, memory: DetectorMemory | None, frame: Frame, features: Features, predictions: Predictions
    ) -> ObjectMemory:
        """The frame's best queries (track queries among them) in front of the memory, without gradient."""
        scores = predictions.logits[-1].detach().amax(-1).masked_fill(~predictions.valid, float("-inf"))
        best = scores.topk(self.config.objects_a_frame, dim=1).indices[..., None]

        def take(tensor: Tensor) -> Tensor:
            return tensor.detach().gather(1, best.expand(-1, -1, tensor.shape[-1]))

        codes = predictions.codes[-1]
        return own(StreamPetrFeatures, features, self).memory.pushed(
            frame, take(predictions.embeddings[-1]), take(codes[..., :3]), take(codes[..., 8:10])
        )

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """Tracks were moved to the present by their tracker, so they enter like present queries."""
        return self._present_positions(references)

    def _present_positions(self, references: Tensor) -> Tensor:
        return self._positions(references, self.at_rest, self.at_rest[2])

    def _positions(self, references: Tensor, motion: Tensor, age_s: Tensor) -> Tensor:
        """Positional part of references in metres, told how object, vehicle and time moved since."""
        place = self.query_position(encode_points(self.point_range.normalise(references), self.dim // 2))
        moved = self.motion_position_norm(place, encode_harmonics(motion, _OCTAVES))
        # Ages are encoded in float64, as in the original, and rounded afterwards.
        out: Tensor = moved + self.time_encoder(sinusoid(age_s, self.dim).to(moved.dtype))
        return out
