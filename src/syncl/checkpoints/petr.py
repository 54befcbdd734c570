"""Checkpoints of PETR, the first version (megvii-research/PETR, `PETRHead`)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from syncl.checkpoints.adapter import Adapter, require_detector
from syncl.checkpoints.mapping import Entry, Rule, rule_entries
from syncl.checkpoints.names import (
    AFFINE,
    DECODER_LAYERS,
    TOKEN_ATTENTION,
    TOKEN_ENCODERS,
    TRAINING_CONSTANTS,
    branch_rules,
    image_encoder_entries,
)
from syncl.detectors import PetrConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.trackers.model import ModelConfig

TRANSFORMER: tuple[Rule, ...] = (*DECODER_LAYERS, *TOKEN_ATTENTION, *TOKEN_ENCODERS)
QUERIES: tuple[Rule, ...] = (
    Rule(r"reference_points\.weight", "reference_points.weight"),
    Rule(rf"query_position\.(\d)\.{AFFINE}", r"query_embedding.\1.\2"),
)


class PetrAdapter(Adapter):
    """PETR's detector: backbone, neck and head."""

    name = "petr"
    title = "PETR detector"
    recipe = "petr_v99_320x800"
    ignored = (TRAINING_CONSTANTS,)

    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        """See `Adapter.entries`."""
        require_detector(self, config, PetrConfig)
        names = tuple(names)
        rules = (*TRANSFORMER, *QUERIES, *branch_rules(MMDET3D_0_CODE, branches_shared(config)))
        return [
            *image_encoder_entries(names, config.detector.image),
            *rule_entries(names, rules, "detector.", "pts_bbox_head."),
        ]

    def constants(self, _config: ModelConfig, /) -> dict[str, Tensor]:
        """The loss' code weights."""
        return {"pts_bbox_head.code_weights": torch.tensor([1.0] * 8 + [0.2] * 2)}


def branches_shared(config: ModelConfig) -> bool:
    """Whether one class and one box branch serve all layers of the model's PETR."""
    return not isinstance(config.detector, PetrConfig) or config.detector.shared_branches
