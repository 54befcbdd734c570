"""Checkpoints of StreamPETR (exiawsh/StreamPETR, `StreamPETRHead` and the auxiliary `FocalHead`).

Their box code is ours, in the LIDAR_TOP frame; no value changes.
"""

import torch
from torch import Tensor

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Ignored, Rule
from syncl.checkpoints.names import (
    AFFINE,
    DECODER_LAYERS,
    RANGE_CONSTANTS,
    TOKEN_ATTENTION,
    TRAINING_CONSTANTS,
    branch_rules,
)
from syncl.checkpoints.petr import branches_shared
from syncl.detectors import StreamPetrConfig
from syncl.geometry.mmdet3d import MMDET3D_1_CODE
from syncl.layers.frustum import depth_bins
from syncl.trackers.model import ModelConfig


def _norm_rules(ours: str, published: str) -> tuple[Rule, ...]:
    """Rules of a motion-aware layer norm (`MLN` there)."""
    pattern = ours.replace(".", r"\.")
    return (
        Rule(rf"{pattern}\.reduce\.{AFFINE}", rf"{published}.reduce.0.\1"),
        Rule(rf"{pattern}\.scale\.{AFFINE}", rf"{published}.gamma.\1"),
        Rule(rf"{pattern}\.shift\.{AFFINE}", rf"{published}.beta.\1"),
    )


HEAD: tuple[Rule, ...] = (
    *DECODER_LAYERS,
    *TOKEN_ATTENTION,
    *_norm_rules("tokens.camera_norm", "spatial_alignment"),
    *_norm_rules("motion_content_norm", "ego_pose_memory"),
    *_norm_rules("motion_position_norm", "ego_pose_pe"),
    Rule(rf"tokens\.content_encoder\.(\d)\.{AFFINE}", r"memory_embed.\1.\2"),
    Rule(rf"tokens\.position_encoder\.(\d)\.{AFFINE}", r"position_encoder.\1.\2"),
    Rule(rf"tokens\.feature_gate\.(reduce|expand)\.{AFFINE}", r"featurized_pe.conv_\1.\2"),
    Rule(rf"query_position\.(\d)\.{AFFINE}", r"query_embedding.\1.\2"),
    Rule(rf"time_encoder\.(\d)\.{AFFINE}", r"time_embedding.\1.\2"),
    Rule(r"reference_points\.weight", "reference_points.weight"),
    Rule(r"starting_points", "pseudo_reference_points.weight"),
)

# Optional, because only training needs the head, and some files are saved without it.
FOCAL_HEAD: tuple[Rule, ...] = tuple(
    Rule(ours, published, optional=True)
    for ours, published in (
        (rf"class_tower\.([01])\.{AFFINE}", r"shared_cls.\1.\2"),
        (rf"box_tower\.([01])\.{AFFINE}", r"shared_reg.\1.\2"),
        (rf"classes\.{AFFINE}", r"cls.\1"),
        (rf"centerness\.{AFFINE}", r"centerness.\1"),
        (rf"sides\.{AFFINE}", r"ltrb.\1"),
        (rf"centre\.{AFFINE}", r"center2d.\1"),
    )
)


class StreamPetrAdapter(Adapter):
    """StreamPETR's detector: backbone, neck and head."""

    name = "streampetr"
    title = "StreamPETR detector"
    recipe = "streampetr_r50_256x704"
    detectors = (StreamPetrConfig,)
    ignored = (
        TRAINING_CONSTANTS,
        RANGE_CONSTANTS,
        Ignored(r"img_roi_head\..*", "the auxiliary 2D head, which only training uses"),
    )

    def parts(self, config: ModelConfig, /) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        head = Part((*HEAD, *branch_rules(MMDET3D_1_CODE, branches_shared(config))))
        return Part(FOCAL_HEAD, "detector.focal_head.", "img_roi_head."), head

    def constants(self, config: ModelConfig, /) -> dict[str, Tensor]:
        """Weights of loss and cost, ranges and depths."""
        detector = config.detector
        if not isinstance(detector, StreamPetrConfig):
            return {}
        weights = torch.tensor([2.0] * 2 + [1.0] * 8)
        depths = depth_bins(detector.depth_count, detector.depth_start_m, float(detector.position_range[3]))
        return {
            "pts_bbox_head.code_weights": weights,
            "pts_bbox_head.match_costs": weights.clone(),
            "pts_bbox_head.pc_range": torch.tensor(detector.point_range),
            "pts_bbox_head.position_range": torch.tensor(detector.position_range),
            "pts_bbox_head.coords_d": depths.float(),
        }
