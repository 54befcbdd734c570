"""Checkpoints of DETR3D (WangYueFt/detr3d)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from syncl.checkpoints.adapter import Adapter, require_detector
from syncl.checkpoints.mapping import Entry, Rule, rule_entries
from syncl.checkpoints.names import (
    AFFINE,
    DECODER_LAYERS,
    SAMPLING_ATTENTION,
    TRAINING_CONSTANTS,
    branch_rules,
    image_encoder_entries,
)
from syncl.detectors import Detr3dConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.trackers.model import ModelConfig

HEAD: tuple[Rule, ...] = (
    *DECODER_LAYERS,
    *SAMPLING_ATTENTION,
    *branch_rules(MMDET3D_0_CODE, shared=False),
    # Positional half first, content half second, there as here.
    Rule(r"query_embedding\.weight", "query_embedding.weight"),
    Rule(rf"reference_points\.{AFFINE}", r"transformer.reference_points.\1"),
)


class Detr3dAdapter(Adapter):
    """DETR3D's detector: backbone, neck and head."""

    name = "detr3d"
    title = "DETR3D detector"
    recipe = "detr3d_r101_900x1600"
    ignored = (TRAINING_CONSTANTS,)

    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        """See `Adapter.entries`."""
        require_detector(self, config, Detr3dConfig)
        names = tuple(names)
        return [
            *image_encoder_entries(names, config.detector.image),
            *rule_entries(names, HEAD, "detector.", "pts_bbox_head."),
        ]

    def constants(self, _config: ModelConfig, /) -> dict[str, Tensor]:
        """The loss' code weights."""
        return {"pts_bbox_head.code_weights": torch.tensor([1.0] * 8 + [0.2] * 2)}
