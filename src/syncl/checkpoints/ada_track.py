"""Checkpoints of ADA-Track (dsx0511/ADA-Track): tracker and detector, on DETR3D or on PETR.

On DETR3D the head has MUTR3D's branches; on PETR one class, box and affinity branch serves all layers and is
stored six times.
"""

from dataclasses import replace

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Change, Ignored, Rule
from syncl.checkpoints.mutr3d import HEAD, QUERIES
from syncl.checkpoints.names import AFFINE, PUBLISHED_BRANCHES, TRAINING_CONSTANTS, branch_rules
from syncl.checkpoints.petr import TRANSFORMER, branches_shared
from syncl.checkpoints.pf_track import TRACKER_QUERIES
from syncl.detectors import Mutr3dDetr3dConfig, PetrConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE, CodeLayout
from syncl.trackers import AdaTrackConfig
from syncl.trackers.model import ModelConfig

# A pair's numbers are x, y, z, width, length, height, heading there.
_PAIR = CodeLayout((0, 1, 2, 4, 3, 5, 6), (1,) * 7)
_PAIR_COLUMNS = Change(lambda weight: _PAIR.to_library(weight), lambda weight: _PAIR.from_library(weight))

_LAYER = r"transformer.decoder.asso_layers.\1"
_IN_ATTENTION = {
    "query": "lin_query",
    "key": "lin_key",
    "value": "lin_value",
    "skip": "lin_skip",
    "edge_bias": "lin_edge_attn",
    "edge_update": "lin_edge",
    "gate": "lin_edge_gate",
}
_BEHIND_ATTENTION = {
    "attention_norm": "norm2",
    r"feed_forward\.expand": "lin1",
    r"feed_forward\.contract": "lin2",
    "feed_forward_norm": "norm3",
    "edge_norm": "norm_e1",
    r"edge_feed_forward\.expand": "lin_e1",
    r"edge_feed_forward\.contract": "lin_e2",
    "edge_feed_forward_norm": "norm_e2",
}
ASSOCIATION: tuple[Rule, ...] = (
    Rule(r"layers\.(\d+)\.pair_embedding\.weight", rf"{_LAYER}.embedding_edge.weight", _PAIR_COLUMNS),
    Rule(r"layers\.(\d+)\.pair_embedding\.bias", rf"{_LAYER}.embedding_edge.bias"),
    *(
        Rule(rf"layers\.(\d+)\.attention\.{ours}\.{AFFINE}", rf"{_LAYER}.decoder_layer.cross_attn.{name}.\2")
        for ours, name in _IN_ATTENTION.items()
    ),
    *(
        Rule(rf"layers\.(\d+)\.{ours}\.{AFFINE}", rf"{_LAYER}.decoder_layer.{name}.\2")
        for ours, name in _BEHIND_ATTENTION.items()
    ),
)


def _affinity_rule(shared: bool) -> Rule:
    copies = (
        tuple(rf"asso_branches.{other}.\2.\3" for other in range(1, PUBLISHED_BRANCHES)) if shared else ()
    )
    layer = "(0)" if shared else r"(\d+)"
    return Rule(rf"affinity_branches\.{layer}\.(\d)\.{AFFINE}", r"asso_branches.\1.\2.\3", copies=copies)


class AdaTrackAdapter(Adapter):
    """ADA-Track on DETR3D or PETR, or the detector inside it."""

    name = "ada_track"
    title = "ADA-Track on DETR3D or PETR"
    recipe = "ada-track_detr3d_r101_900x1600"
    detectors = (Mutr3dDetr3dConfig, PetrConfig)
    code_weights_name = "criterion.code_weights"
    ignored = (
        TRAINING_CONSTANTS,
        Ignored(
            r"query_interact\..*", "MUTR3D's query interaction, which the original builds and never runs"
        ),
    )

    def parts(self, config: ModelConfig, /) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        shared = isinstance(config.detector, PetrConfig) and branches_shared(config)
        if isinstance(config.detector, PetrConfig):
            detector = (
                Part((*TRANSFORMER, *branch_rules(MMDET3D_0_CODE, shared))),
                Part(TRACKER_QUERIES, published=""),
            )
        else:
            detector = Part(HEAD), Part(QUERIES, published="")
        return *detector, Part((*ASSOCIATION, _affinity_rule(shared)), "association.")

    def ignored_for(self, config: ModelConfig, /) -> tuple[Ignored, ...]:
        """See `Adapter.ignored_for`: other trackers leave the association unused."""
        if isinstance(config.tracker, AdaTrackConfig):
            return self.ignored
        names = r"pts_bbox_head\.(?:transformer\.decoder\.asso_layers|asso_branches)\..*"
        return *self.ignored, Ignored(names, "the association, which the recipe's tracker does not have")

    def converted(self, config: ModelConfig) -> ModelConfig:
        """Published weights regress the centre of a box's bottom face; see `Adapter.converted`."""
        detector = config.detector
        if not isinstance(detector, Mutr3dDetr3dConfig | PetrConfig):
            return config
        return replace(config, detector=replace(detector, bottom_centres=True))
