"""Rules for parameter names that several published formats share."""

from collections.abc import Iterable

from syncl.backbones import VoVNetConfig
from syncl.checkpoints.backbones import published_vovnet_name
from syncl.checkpoints.mapping import KEEP, POINTWISE, Entry, Ignored, Rule, box_rows
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.geometry.mmdet3d import CodeLayout

_ENCODER = "detector.image_encoder."
# The original heads always hold this many prediction branches, whatever the number of decoder layers.
_PUBLISHED_BRANCHES = 6
_COUNTER = "num_batches_tracked"

ATTENTION = r"(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"
AFFINE = r"(weight|bias)"

# mmcv's transformer layers, as used by every head of both families; ours is `layers.N` below the detector.
DECODER_LAYERS: tuple[Rule, ...] = (
    Rule(
        rf"layers\.(\d+)\.self_attention\.{ATTENTION}", r"transformer.decoder.layers.\1.attentions.0.attn.\2"
    ),
    Rule(
        rf"layers\.(\d+)\.feed_forward\.expand\.{AFFINE}",
        r"transformer.decoder.layers.\1.ffns.0.layers.0.0.\2",
    ),
    Rule(
        rf"layers\.(\d+)\.feed_forward\.contract\.{AFFINE}",
        r"transformer.decoder.layers.\1.ffns.0.layers.1.\2",
    ),
    Rule(rf"layers\.(\d+)\.self_norm\.{AFFINE}", r"transformer.decoder.layers.\1.norms.0.\2"),
    Rule(rf"layers\.(\d+)\.cross_norm\.{AFFINE}", r"transformer.decoder.layers.\1.norms.1.\2"),
    Rule(rf"layers\.(\d+)\.feed_forward_norm\.{AFFINE}", r"transformer.decoder.layers.\1.norms.2.\2"),
)

# Cross-attention of the PETR family, and the one LayerNorm behind every layer.
TOKEN_ATTENTION: tuple[Rule, ...] = (
    Rule(
        rf"layers\.(\d+)\.cross_attention\.{ATTENTION}", r"transformer.decoder.layers.\1.attentions.1.attn.\2"
    ),
    Rule(rf"output_norm\.{AFFINE}", r"transformer.decoder.post_norm.\1"),
)

# Cross-attention of the DETR3D family.
SAMPLING_ATTENTION: tuple[Rule, ...] = (
    Rule(
        rf"layers\.(\d+)\.cross_attention\.(attention_weights|position_encoder\.\d)\.{AFFINE}",
        r"transformer.decoder.layers.\1.attentions.1.\2.\3",
    ),
    Rule(
        rf"layers\.(\d+)\.cross_attention\.output_projection\.{AFFINE}",
        r"transformer.decoder.layers.\1.attentions.1.output_proj.\2",
    ),
)

# PETR's encoders of rays and grid, 1x1 convolutions there and linear layers here.
TOKEN_ENCODERS: tuple[Rule, ...] = (
    Rule(rf"input_projection\.{AFFINE}", r"input_proj.\1", POINTWISE),
    Rule(rf"position_encoder\.(\d)\.{AFFINE}", r"position_encoder.\1.\2", POINTWISE),
    Rule(rf"grid_encoder\.(\d)\.{AFFINE}", r"adapt_pos3d.\1.\2", POINTWISE),
)

TRAINING_CONSTANTS = Ignored(
    r"(?:.*\.)?(?:code_weights|match_costs)", "a constant of the training loss, not a weight"
)
RANGE_CONSTANTS = Ignored(
    r"(?:.*\.)?(?:pc_range|position_range|coords_d)", "a constant that the recipe's settings hold"
)


def branch_rules(layout: CodeLayout, shared: bool) -> tuple[Rule, ...]:
    """Class and box branches; the box branch's last layer is converted from the foreign box code.

    Args:
        layout: the foreign code.
        shared: whether one branch serves all layers; the originals then store it six times.
    """
    layer, others = ("(0)", range(1, _PUBLISHED_BRANCHES)) if shared else (r"(\d+)", range(0))
    return tuple(
        Rule(
            rf"{ours}\.{layer}\.{module}\.{AFFINE}",
            rf"{published}.\1.\2.\3",
            change,
            tuple(rf"{published}.{other}.\2.\3" for other in others),
        )
        for ours, published, module, change in (
            ("class_branches", "cls_branches", r"(\d)", KEEP),
            ("box_branches", "reg_branches", "(4)", box_rows(layout)),
            ("box_branches", "reg_branches", r"(\d)", KEEP),
        )
    )


def image_encoder_entries(
    names: Iterable[str],
    config: ImageEncoderConfig,
    backbone: str = "img_backbone.",
    neck: str = "img_neck.",
) -> list[Entry]:
    """Entries of the image backbone and neck.

    Args:
        names: our model's state dict names.
        config: tells which backbone it is.
        backbone: prefix of the published backbone's names.
        neck: prefix of the published neck's names.
    """
    entries = []
    for name in names:
        part, _, inner = name.removeprefix(_ENCODER).partition(".")
        if not name.startswith(_ENCODER) or part not in ("backbone", "neck"):
            continue
        # Counters are not used by weights with fixed statistics, and some published files drop them.
        optional = inner.endswith(_COUNTER)
        if part == "neck":
            inner = neck + inner
        elif isinstance(config.backbone, VoVNetConfig):
            inner = backbone + published_vovnet_name(inner)
        else:
            inner = backbone + inner
        entries.append(Entry(name, inner, optional=optional))
    return entries
