"""DETR3D: 3D object detection from multi-view images via 3D-to-2D queries (Wang et al., CoRL 2021).

Each query's reference point is projected into every camera; features sampled there, weighted by the query,
are its cross-attention. Decoding is that of `refining_detector`.

With `cameras=None`, which is ours, all cameras share their weights, so a model is for any rig. As published,
a camera's weights also know its lens, without which a size in pixels tells no distance; here each look is
told how many pixels a metre has where the query stands.

Letters: B batch, C cameras, Q queries, L decoder layers, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.detectors.refining_detector import Anchors, Look, RefiningDetector, RefiningDetectorConfig
from syncl.layers.numerics import at_full_precision, mlp
from syncl.layers.sampling import Taps, log_pixel_scales, tables_of, taps_of, weighted_samples
from syncl.structures import Frame


@dataclass(frozen=True)
class Detr3dConfig(RefiningDetectorConfig):
    """Sizes of a DETR3D; see `RefiningDetectorConfig`."""

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
        scales: [B, Q, 1] log of pixels a metre at the references; None = weights of cameras know lenses.
    """

    reference_logits: Tensor
    taps: Taps
    tables: tuple[Tensor, ...]
    scales: Tensor | None


_SCALE_CHANNELS = 32
# Log of 20 pixels a metre: an object 12 m away from a lens of 250 pixels.
_USUAL_SCALE = 3.0


class Detr3dCrossAttention(nn.Module):
    """Weighted sum of the features at a reference point's projections (DETR3D, equation 5).

    Weights are independent sigmoids for each camera and level, not a softmax; without a number of cameras for
    each level, and a look comes with its scale, to which nothing is given at first.
    """

    def __init__(self, dim: int, cameras: int | None, levels: int, dropout: float) -> None:
        super().__init__()
        self.kinds = 1 if cameras is None else cameras
        self.levels = levels
        self.attention_weights = nn.Linear(dim, self.kinds * levels)
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
        self.scale_encoder = None if cameras is not None else mlp(1, _SCALE_CHANNELS, dim)
        if self.scale_encoder is not None:
            for parameter in self.scale_encoder[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, positions: Tensor, sight: Sight) -> Tensor:
        """The update [B, Q, D] to add to query states [B, Q, D] with these positional parts [B, Q, D]."""
        weights = self.attention_weights(x + positions).unflatten(-1, (self.kinds, self.levels)).sigmoid()
        weights = weights.expand(-1, -1, sight.taps.visible.shape[1], -1)
        attended = weighted_samples(sight.tables, sight.taps, weights)
        update = self.dropout(self.output_projection(attended))
        if self.scale_encoder is not None and sight.scales is not None:
            update = update + at_full_precision(self.scale_encoder, sight.scales - _USUAL_SCALE)
        out: Tensor = update + self.position_encoder(sight.reference_logits)
        return out


class Detr3d(RefiningDetector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    def __init__(self, config: Detr3dConfig) -> None:
        super().__init__(config)
        self.config = config
        levels = len(self.image_encoder.strides)
        self.add_decoder(
            config, lambda: Detr3dCrossAttention(config.dim, config.cameras, levels, config.dropout)
        )
        self.initialise()

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Detr3dFeatures:
        """Feature levels of all cameras."""
        self.check_cameras(frame)
        frame = self.image_encoder.pad(frame)
        levels = self.image_encoder(frame)
        return Detr3dFeatures(frame.rig.image_from_vehicle, frame.camera_valid, frame.image_size, (), levels)

    @override
    def looking(self, features: Features, dtype: torch.dtype) -> Look:
        images = own(Detr3dFeatures, features, self)
        tables = tables_of(images.levels, dtype)
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in images.levels)
        projections = images.image_from_vehicle
        rig = (projections, images.camera_valid, images.image_size, shapes)

        def sight(group: Anchors) -> Sight:
            taps = taps_of(group.references, *rig, self.fixed_shapes)
            scales = None
            if self.cameras is None:
                scales = log_pixel_scales(group.references, projections, taps.visible)
            return Sight(group.logits, taps, tables, scales)

        def look(_layer: int, anchors: Sequence[Anchors]) -> list[Sight]:
            return [sight(group) for group in anchors]

        return look
