"""BEVFormer: a bird's-eye view learned from multi-camera images over time (Li et al., ECCV 2022).

Image features become a view of the ground around the vehicle (`bev_encoder`), into which the last frame's
view enters, moved with the vehicle. Object queries look at that view where their reference points are, and
every decoder layer refines them (`refining_detector`). What lasts between frames is the view, without
gradient.

Letters: B streams, C cameras, N cells of the view (row by row), Q queries, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.base import DetectorMemory, Features, own
from syncl.detectors.bevformer.bev_encoder import BevEncoder, BevEncoderConfig
from syncl.detectors.bevformer.bev_memory import BevMemory, turned
from syncl.detectors.bevformer.vehicle_motion import NUMBERS, VehicleMotion
from syncl.detectors.refining_detector import (
    Anchors,
    Look,
    RefiningDetector,
    RefiningDetectorConfig,
    SamplingLayer,
)
from syncl.errors import SynclError
from syncl.layers.attention import Attention
from syncl.layers.decoder import FeedForward
from syncl.layers.deformable_attention import DeformableAttention, deformable_attention
from syncl.structures import Frame, Predictions

_POINTS = 4


@dataclass(frozen=True)
class BevformerConfig(RefiningDetectorConfig):
    """Sizes of a BEVFormer, base by default; see `RefiningDetectorConfig` for the rest.

    Attributes:
        bev: the view and its encoder.
    """

    bev: BevEncoderConfig = field(default_factory=BevEncoderConfig)

    def build(self) -> "Bevformer":
        """Build the module."""
        return self.with_aids(Bevformer, self.queries)


@dataclass(frozen=True)
class BevFeatures(Features):
    """The view of a frame.

    Attributes:
        bev: [B, N, D].
        place: [B, 4] float64 where the vehicle is: x, y, z in the map (m), heading (degrees).
    """

    bev: Tensor
    place: Tensor


class BevSight(NamedTuple):
    """What queries look at.

    Attributes:
        references: [B, Q, 2] in units of the view.
        values: [B, N, H, D / H] the view as the layer's heads see it.
    """

    references: Tensor
    values: Tensor


class BevCrossAttention(nn.Module):
    """Deformable attention of queries to the view around their reference points (section 3.5)."""

    def __init__(self, dim: int, heads: int, shape: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.shapes = (shape,)
        self.attention = DeformableAttention(dim, heads, levels=1, points=_POINTS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, sight: BevSight) -> Tensor:
        """The update [B, Q, D] to add to query states [B, Q, D] with these positional parts [B, Q, D]."""
        attention, queries = self.attention, x + positions
        references = sight.references[:, :, None, None, None]
        locations = references + attention.offsets(queries, self.shapes)
        weights = attention.logits(queries).softmax(-1)
        attended = deformable_attention(sight.values, self.shapes, locations, weights)
        out: Tensor = self.dropout(attention.output_projection(attended))
        return out


class Bevformer(RefiningDetector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    def __init__(self, config: BevformerConfig) -> None:
        super().__init__(config)
        self.config = config
        self.bev_encoder = BevEncoder(
            config.bev,
            dim=config.dim,
            heads=config.heads,
            hidden=config.hidden,
            dropout=config.dropout,
            levels=len(self.image_encoder.strides),
            cameras=config.counted_cameras(),
            numbers=NUMBERS,
            point_range=config.point_range,
        )
        self.add_decoder(
            config, lambda: BevCrossAttention(config.dim, config.heads, config.bev.shape, config.dropout)
        )
        self.initialise()

    @override
    def initialise(self) -> None:
        super().initialise()
        for module in (*self.bev_encoder.modules(), *self.layers.modules()):
            if module is self.bev_encoder.motion_encoder or isinstance(module, (Attention, FeedForward)):
                for parameter in module.parameters():
                    if parameter.dim() > 1:
                        nn.init.xavier_uniform_(parameter)

    @override
    def initial_memory(self, streams: int) -> BevMemory:
        """Nothing seen."""
        return BevMemory.empty(streams, self.bev_encoder.bev_embedding.weight)

    @override
    def fix_shapes(self) -> None:
        """Refused: how many cells a camera sees is known when it has been looked."""
        raise SynclError(
            "BEVFormer attends, of each camera, the cells that it sees, whose number differs from frame to "
            "frame, so it has no step of fixed shapes"
        )

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> BevFeatures:
        """The view of a frame, into which the last one enters.

        Raises:
            SynclError: if the rig has another number of cameras than the weights know.
        """
        self.check_cameras(frame)
        frame = self.image_encoder.pad(frame)
        projections = frame.rig.image_from_vehicle
        before = self.initial_memory(frame.batch_size) if memory is None else own(BevMemory, memory, self)
        motion, encoder = VehicleMotion.of(frame), self.bev_encoder
        numbers = motion.since(before.place, before.valid)
        low_x, low_y, _, high_x, high_y, _ = self.config.point_range
        shape, centre = self.config.bev.shape, self.config.bev.rotation_centre
        bev = encoder(
            self.image_encoder(frame),
            encoder.look_up(projections, frame.camera_valid, frame.image_size),
            numbers,
            turned(before.bev, shape, numbers[:, -1], centre),
            before.valid,
            motion.shift(numbers, (high_x - low_x, high_y - low_y)),
        )
        return BevFeatures(projections, frame.camera_valid, frame.image_size, (), bev, motion.place)

    @override
    def looking(self, features: Features, dtype: torch.dtype) -> Look:
        bev = own(BevFeatures, features, self).bev

        def look(layer: int, anchors: Sequence[Anchors]) -> list[BevSight]:
            attention = cast(BevCrossAttention, cast(SamplingLayer, self.layers[layer]).cross_attention)
            values = attention.attention.values(bev)
            return [
                BevSight(self.point_range.normalise(group.references)[..., :2], values) for group in anchors
            ]

        return look

    @override
    def remember(
        self, memory: DetectorMemory | None, frame: Frame, features: Features, predictions: Predictions
    ) -> BevMemory:
        """The frame's view and where it was seen, in place of the last ones."""
        seen = own(BevFeatures, features, self)
        return BevMemory(seen.bev.detach(), seen.place, torch.ones_like(seen.place[:, 0], dtype=torch.bool))
