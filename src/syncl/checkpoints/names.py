"""Rules for parameter names that several published formats share."""

import re
from collections.abc import Iterable

from syncl.backbones import VoVNetConfig
from syncl.checkpoints.mapping import KEEP, POINTWISE, Entry, Ignored, Rule, box_rows
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.errors import SynclError
from syncl.geometry.mmdet3d import CodeLayout

_ENCODER = "detector.image_encoder."
# The original heads always hold this many prediction branches, whatever the number of decoder layers.
PUBLISHED_BRANCHES = 6
_COUNTER = "num_batches_tracked"
_OUTPUT_NORMS = "output_norms."

ATTENTION = r"(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"
AFFINE = r"(weight|bias)"


def _layer(ours: str, published: str, leaf: str = AFFINE) -> Rule:
    """Of a module of decoder layers: `layers.N` below the detector here, mmcv's transformer layers there."""
    return Rule(rf"layers\.(\d+)\.{ours}\.{leaf}", rf"transformer.decoder.layers.\1.{published}")


# As used by every head of both families.
DECODER_LAYERS: tuple[Rule, ...] = (
    _layer("self_attention", r"attentions.0.attn.\2", ATTENTION),
    _layer(r"feed_forward\.expand", r"ffns.0.layers.0.0.\2"),
    _layer(r"feed_forward\.contract", r"ffns.0.layers.1.\2"),
    _layer("self_norm", r"norms.0.\2"),
    _layer("cross_norm", r"norms.1.\2"),
    _layer("feed_forward_norm", r"norms.2.\2"),
)

# Cross-attention of the PETR family, and the one LayerNorm behind every layer.
TOKEN_ATTENTION: tuple[Rule, ...] = (
    _layer("cross_attention", r"attentions.1.attn.\2", ATTENTION),
    Rule(rf"output_norm\.{AFFINE}", r"transformer.decoder.post_norm.\1"),
)

# Cross-attention of the DETR3D family.
SAMPLING_ATTENTION: tuple[Rule, ...] = (
    _layer(r"cross_attention\.(attention_weights|position_encoder\.\d)", r"attentions.1.\2.\3"),
    _layer(r"cross_attention\.output_projection", r"attentions.1.output_proj.\2"),
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
RUNNING_AVERAGES = Ignored(
    r"ema_.*",
    "a running average that mmcv's EMAHook keeps beside the weights",
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
    layer, others = ("(0)", range(1, PUBLISHED_BRANCHES)) if shared else (r"(\d+)", range(0))
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
        # Counters are not used by weights with fixed statistics, and some published files drop them;
        # classifiers have no norms of outputs.
        optional = inner.endswith(_COUNTER) or inner.startswith(_OUTPUT_NORMS)
        if part == "neck":
            inner = neck + inner
        elif isinstance(config.backbone, VoVNetConfig):
            inner = backbone + published_vovnet_name(inner)
        else:
            inner = backbone + inner
        entries.append(Entry(name, inner, optional=optional))
    return entries


# Names of VoVNet's parameters; ResNet and pyramids keep theirs.
_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_STEM = re.compile(rf"stem\.(\d+)\.(conv\.weight|norm\.{_NORM})")
_LAYER = re.compile(rf"stage(\d+)\.(\d+)\.(?:layers\.(\d+)|concat)\.(conv\.weight|norm\.{_NORM})")
_ATTENTION = re.compile(r"stage(\d+)\.(\d+)\.ese\.fc\.(weight|bias)")


def published_vovnet_name(name: str) -> str:
    """The published name, such as `stage3.OSA3_2.layers.0.OSA3_2_0/conv.weight`, of one of our VoVNet's.

    Raises:
        SynclError: at a name our VoVNet does not have.
    """
    if found := _STEM.fullmatch(name):
        index, leaf = found.groups()
        return f"stem.stem_{int(index) + 1}/{leaf}"
    if found := _LAYER.fullmatch(name):
        stage, block, layer, leaf = found.groups()
        unit = f"OSA{stage}_{int(block) + 1}"
        part = f"concat.{unit}_concat" if layer is None else f"layers.{layer}.{unit}_{layer}"
        return f"stage{stage}.{unit}.{part}/{leaf}"
    if found := _ATTENTION.fullmatch(name):
        stage, block, leaf = found.groups()
        return f"stage{stage}.OSA{stage}_{int(block) + 1}.ese.fc.{leaf}"
    raise SynclError(
        f"{name}: no VoVNet parameter has this name (expected names like stage3.1.layers.0.conv.weight)"
    )
