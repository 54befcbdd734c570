"""Checkpoints of MUTR3D (a1600012888/MUTR3D): detector, query interaction and memory bank.

Box regression is cut differently there: centre with size (x, y, log w, log l, z, log h), heading (sin y',
cos y') and velocity come from branches of their own, and object queries start from sizes w, l, h. The rows of
the last layers are converted, as for the other formats (`geometry.mmdet3d`).
"""

from dataclasses import replace

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Ignored, Rule, box_rows
from syncl.checkpoints.names import AFFINE, ATTENTION, DECODER_LAYERS, SAMPLING_ATTENTION, TRAINING_CONSTANTS
from syncl.detectors import Mutr3dDetr3dConfig
from syncl.geometry.mmdet3d import CodeLayout
from syncl.trackers.model import ModelConfig

_SIZE_ROWS = box_rows(CodeLayout((1, 0, 2), (1, 1, 1)))
_PLACE_ROWS = box_rows(CodeLayout((0, 1, 4, 3, 2, 5), (1, 1, 1, 1, 1, 1)))
_HEADING_ROWS = box_rows(CodeLayout((1, 0), (-1, -1)))


HEAD: tuple[Rule, ...] = (
    *DECODER_LAYERS,
    *SAMPLING_ATTENTION,
    Rule(rf"class_branches\.(\d+)\.(\d)\.{AFFINE}", r"cls_branches.\1.\2.\3"),
    Rule(rf"box_branches\.(\d+)\.place\.4\.{AFFINE}", r"reg_branches.\1.4.\2", _PLACE_ROWS),
    Rule(rf"box_branches\.(\d+)\.place\.(\d)\.{AFFINE}", r"reg_branches.\1.\2.\3"),
    Rule(rf"box_branches\.(\d+)\.heading\.4\.{AFFINE}", r"direction_branches.\1.4.\2", _HEADING_ROWS),
    Rule(rf"box_branches\.(\d+)\.heading\.(\d)\.{AFFINE}", r"direction_branches.\1.\2.\3"),
    Rule(rf"box_branches\.(\d+)\.velocity\.(\d)\.{AFFINE}", r"velo_branches.\1.\2.\3"),
    Rule(r"level_embedding", "level_embeds"),
    Rule(r"camera_embedding", "cam_embeds"),
)

# The tracker there holds what makes object queries.
QUERIES: tuple[Rule, ...] = (
    Rule(r"query_embedding\.weight", "query_embedding.weight"),
    Rule(rf"reference_points\.{AFFINE}", r"reference_points.\1"),
    Rule(rf"query_sizes\.{AFFINE}", r"bbox_size_fc.\1", _SIZE_ROWS),
)


def _perceptron(ours: str, published: str) -> tuple[Rule, Rule]:
    """Two linear layers: modules 0 and 2 here, attributes numbered 1 and 2 there."""
    return (
        Rule(rf"{ours}\.0\.{AFFINE}", rf"{published}1.\1"),
        Rule(rf"{ours}\.2\.{AFFINE}", rf"{published}2.\1"),
    )


QUERY_INTERACTION: tuple[Rule, ...] = (
    Rule(rf"attention\.{ATTENTION}", r"self_attn.\1"),
    Rule(rf"attention_norm\.{AFFINE}", r"norm1.\1"),
    *_perceptron("feed_forward", "linear"),
    Rule(rf"feed_forward_norm\.{AFFINE}", r"norm2.\1"),
    *_perceptron("position_update", "linear_pos"),
    Rule(rf"position_norm\.{AFFINE}", r"norm_pos.\1"),
    *_perceptron("content_update", "linear_feat"),
    Rule(rf"content_norm\.{AFFINE}", r"norm_feat.\1"),
)

MEMORY_BANK: tuple[Rule, ...] = (
    Rule(rf"attention\.{ATTENTION}", r"temporal_attn.\1"),
    Rule(rf"attention_norm\.{AFFINE}", r"temporal_norm1.\1"),
    *_perceptron("feed_forward", "temporal_fc"),
    Rule(rf"feed_forward_norm\.{AFFINE}", r"temporal_norm2.\1"),
    Rule(rf"save_projection\.{AFFINE}", r"save_proj.\1"),
)


# Of a `Mutr3d` tracker's own parameters.
TRACKING = (
    Part(QUERY_INTERACTION, "query_interaction.", "query_interact."),
    Part(MEMORY_BANK, "memory_bank.", "memory_bank."),
)


class Mutr3dAdapter(Adapter):
    """MUTR3D as a whole, or its single-frame detector."""

    name = "mutr3d"
    title = "MUTR3D on DETR3D"
    recipe = "mutr3d_detr3d_r101_900x1600"
    detectors = (Mutr3dDetr3dConfig,)
    head = (Part(HEAD), Part(QUERIES, published=""), *TRACKING)
    code_weights_name = "criterion.code_weights"
    ignored = (
        TRAINING_CONSTANTS,
        Ignored(
            r"(?:query_interact|memory_bank)\..*", "a tracking module the recipe's tracker does not have"
        ),
        Ignored(r"radar_encoder\..*", "the radar encoder, which the original does not use either"),
    )

    def converted(self, config: ModelConfig) -> ModelConfig:
        """Published weights regress the centre of a box's bottom face; see `Adapter.converted`."""
        detector = config.detector
        if not isinstance(detector, Mutr3dDetr3dConfig):
            return config
        return replace(config, detector=replace(detector, bottom_centres=True))
