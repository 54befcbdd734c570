"""Checkpoints of BEVFormer (fundamentalvision/BEVFormer): base, small and tiny."""

from collections.abc import Mapping
from math import prod
from typing import cast

from torch import Tensor
from typing_extensions import override

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Rule
from syncl.checkpoints.names import AFFINE, DECODER_LAYERS, branch_rules
from syncl.detectors import BevformerConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.trackers.model import ModelConfig

_LAYER = r"transformer.encoder.layers.\1."
_PARTS = r"(sampling_offsets|attention_weights)"


def _norm(ours: str, number: int) -> Rule:
    return Rule(rf"bev_encoder\.layers\.(\d+)\.{ours}\.{AFFINE}", rf"{_LAYER}norms.{number}.\2")


def _attention(ours: str, inner: str, outer: str) -> tuple[Rule, ...]:
    """Rules of one deformable attention, whose output projection is beside the rest or one level out."""
    pattern = ours.replace(".", r"\.").replace("N", r"(\d+)")
    return (
        Rule(rf"{pattern}\.attention\.{_PARTS}\.{AFFINE}", rf"{inner}.\2.\3"),
        Rule(rf"{pattern}\.attention\.value_projection\.{AFFINE}", rf"{inner}.value_proj.\2"),
        Rule(rf"{pattern}\.attention\.output_projection\.{AFFINE}", rf"{outer}.output_proj.\2"),
    )


ENCODER: tuple[Rule, ...] = (
    Rule(r"bev_encoder\.bev_embedding\.weight", "bev_embedding.weight"),
    Rule(r"bev_encoder\.row_embedding\.weight", "positional_encoding.row_embed.weight"),
    Rule(r"bev_encoder\.column_embedding\.weight", "positional_encoding.col_embed.weight"),
    Rule(r"bev_encoder\.camera_embedding", "transformer.cams_embeds"),
    Rule(r"bev_encoder\.level_embedding", "transformer.level_embeds"),
    Rule(rf"bev_encoder\.motion_encoder\.4\.{AFFINE}", r"transformer.can_bus_mlp.norm.\1"),
    Rule(rf"bev_encoder\.motion_encoder\.(\d)\.{AFFINE}", r"transformer.can_bus_mlp.\1.\2"),
    *_attention("bev_encoder.layers.N.temporal_attention", _LAYER + "attentions.0", _LAYER + "attentions.0"),
    *_attention(
        "bev_encoder.layers.N.spatial_attention",
        _LAYER + "attentions.1.deformable_attention",
        _LAYER + "attentions.1",
    ),
    Rule(rf"bev_encoder\.layers\.(\d+)\.feed_forward\.expand\.{AFFINE}", rf"{_LAYER}ffns.0.layers.0.0.\2"),
    Rule(rf"bev_encoder\.layers\.(\d+)\.feed_forward\.contract\.{AFFINE}", rf"{_LAYER}ffns.0.layers.1.\2"),
    _norm("temporal_norm", 0),
    _norm("spatial_norm", 1),
    _norm("feed_forward_norm", 2),
)

_CROSS = r"transformer.decoder.layers.\1.attentions.1"

HEAD: tuple[Rule, ...] = (
    *ENCODER,
    *DECODER_LAYERS,
    *_attention("layers.N.cross_attention", _CROSS, _CROSS),
    *branch_rules(MMDET3D_0_CODE, shared=False),
    # Positional half first, content half second, there as here.
    Rule(r"query_embedding\.weight", "query_embedding.weight"),
    Rule(rf"reference_points\.{AFFINE}", r"transformer.reference_points.\1"),
)

# By the cells of the view.
_RECIPES = {
    200 * 200: "bevformer_r101_900x1600",
    150 * 150: "bevformer_r101_720x1280",
    50 * 50: "bevformer_r50_450x800",
}


class BevformerAdapter(Adapter):
    """BEVFormer's detector: backbone, neck and head."""

    name = "bevformer"
    title = "BEVFormer detector"
    recipe = "bevformer_r101_900x1600"
    detectors = (BevformerConfig,)

    def parts(self, _config: ModelConfig, /) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        return (Part(HEAD),)

    @override
    def advice(self, published: Mapping[str, Tensor], config: ModelConfig, /) -> str:
        view = published.get("pts_bbox_head.bev_embedding.weight")
        wanted = prod(cast(BevformerConfig, config.detector).bev.shape)
        if view is None or len(view) == wanted:
            return ""
        recipe = _RECIPES.get(len(view))
        return f"; its view has {len(view)} cells, the recipe's {wanted}" + (
            f": choose --recipe {recipe}" if recipe else ""
        )
