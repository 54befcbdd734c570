"""BEVFormer: a bird's-eye view learned from multi-camera images over time (Li et al., ECCV 2022).

Image features become a view of the ground around the vehicle (`bev_encoder`), into which the last frame's
view enters, moved with the vehicle. Object queries look at that view where their reference points are, and
every decoder layer refines them (`refining_detector`). What lasts between frames is the view, without
gradient.

Letters: B streams, C cameras, N cells of the view (row by row), Q queries, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.bevformer.bev_encoder import BevEncoder, BevEncoderConfig
from syncl.detectors.bevformer.bev_memory import BevMemory, turned
from syncl.detectors.bevformer.vehicle_motion import NUMBERS, VehicleMotion
from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.detectors.refining_detector import (
    Anchors,
    Look,
    RefiningDetector,
    RefiningDetectorConfig,
    SamplingLayer,
)
from syncl.layers.attention import Attention
from syncl.layers.decoder import FeedForward
from syncl.layers.deformable_attention import DeformableAttention
from syncl.structures import Frame, Predictions, ToldFrame

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

    def precomputed(self, frame: Frame, memory: DetectorMemory | None) -> dict[str, Tensor]:
        """See `Detector.precomputed`: what is said of the vehicle's motion, and how far it went, metres."""
        motion = VehicleMotion.of(frame)
        if isinstance(memory, BevMemory):
            numbers = motion.since(memory.place, memory.valid)
        else:
            numbers = motion.since(motion.place, torch.zeros_like(motion.metre, dtype=torch.bool))
        return {"motion": numbers, "shift_m": motion.shift(numbers, (1.0, 1.0))}


@dataclass(frozen=True)
class BevFeatures(Features):
    """The view of a frame.

    Attributes:
        bev: [B, N, D].
        place: [B, 4] float64 where the vehicle is: x, y, z in the map (m), heading (degrees); a step that is
            told its motion does not know.
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
        attended = attention.attend(sight.values, self.shapes, locations, weights)
        out: Tensor = self.dropout(attention.output_projection(attended))
        return out


class Bevformer(RefiningDetector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    told_inputs = MappingProxyType(
        {
            "motion": "[1, 18] the vehicle's place, rotation, readings and heading as BEVFormer sees them; "
            "place and heading in degrees as changes since the frame before, in float64, 0 where the stream "
            "starts anew",
            "shift_m": "[1, 2] how far the vehicle went along its present x and y since the frame before",
        }
    )

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
        """See `Detector.fix_shapes`: all cells look at every camera, also at those that do not see them."""
        super().fix_shapes()
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.fixed_shapes = True

    @override
    def precomputed(self, frame: Frame, memory: DetectorMemory | None) -> dict[str, Tensor]:
        return self.config.precomputed(frame, memory)

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
        told = frame.told if isinstance(frame, ToldFrame) else self.precomputed(frame, before)
        encoder, shape, centre = self.bev_encoder, self.config.bev.shape, self.config.bev.rotation_centre
        numbers, (shift_x, shift_y) = told["motion"], told["shift_m"].unbind(-1)
        low_x, low_y, _, high_x, high_y, _ = self.config.point_range
        bev = encoder(
            self.image_encoder(frame),
            encoder.look_up(projections, frame.camera_valid, frame.image_size, self.fixed_shapes),
            numbers,
            turned(before.bev, shape, numbers[:, -1], centre),
            before.valid,
            torch.stack([shift_x / (high_x - low_x), shift_y / (high_y - low_y)], dim=-1),
        )
        place = before.place if isinstance(frame, ToldFrame) else VehicleMotion.of(frame).place
        return BevFeatures(projections, frame.camera_valid, frame.image_size, (), bev, place)

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
