"""Checkpoints of PF-Track (TRI-ML/PF-Track): its single-frame PETR detectors and its trackers.

PF-Track keeps what makes queries outside the head. A single-frame file (`f1_...`) has no learned query
contents; the tracker's (`f3_...`) has, and past and future reasoning besides. A recipe with the PF-Track
tracker takes all of a tracker's file; one with another tracker takes the detector of either.

Its code can also put DETR3D under the tracker. The published trackers are on PETR, and its DETR3D makes
queries of points as PETR does, unlike the DETR3D here; such a file, of somebody's own training, is refused.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Conversion, Ignored, Rule, box_rows
from syncl.checkpoints.names import AFFINE, DECODER_LAYERS, TOKEN_ATTENTION, branch_rules
from syncl.checkpoints.petr import QUERIES, TRANSFORMER, branches_shared
from syncl.detectors import PetrConfig
from syncl.errors import SynclError
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.trackers import PfTrackConfig
from syncl.trackers.model import ModelConfig

TRACKER_QUERIES: tuple[Rule, ...] = (
    *QUERIES,
    # Zero in a detector, so a model made from a file without it starts out equal.
    Rule(r"query_content\.weight", "query_feat_embedding.weight", optional=True),
)

# The layers of the reasoning's decoders have the detector's names.
_DECODER: tuple[Rule, ...] = (*DECODER_LAYERS, *TOKEN_ATTENTION)
_REASONING_HEADS: tuple[Rule, ...] = (
    Rule(rf"past\.class_branch\.(\d)\.{AFFINE}", r"track_cls.\1.\2"),
    Rule(rf"past\.box_branch\.6\.{AFFINE}", r"track_reg.6.\1", box_rows(MMDET3D_0_CODE)),
    Rule(rf"past\.box_branch\.(\d)\.{AFFINE}", r"track_reg.\1.\2"),
    Rule(rf"future\.motion_branch\.(\d)\.{AFFINE}", r"future_reg.\1.\2"),
    Rule(rf"time_encoder\.embedding\.(\d)\.{AFFINE}", r"ts_query_embed.\1.\2"),
)
_REASONING_PARTS = ("past.", "future.", "time_encoder.")
# Weights of cameras and feature levels, which only DETR3D's cross-attention has.
_DETR3D_MARK = "pts_bbox_head.transformer.decoder.layers.0.attentions.1.attention_weights.weight"


# Past and future reasoning.
REASONING = (
    Part(_REASONING_HEADS, "", "STReasoner."),
    Part(_DECODER, "past.over_time.", "STReasoner.hist_temporal_"),
    Part(_DECODER, "past.over_objects.", "STReasoner.spatial_"),
    Part(_DECODER, "future.decoder.", "STReasoner.fut_temporal_"),
)


class PfTrackAdapter(Adapter):
    """A PF-Track tracker on PETR, or the PETR inside it."""

    name = "pf_track"
    title = "PF-Track on PETR"
    recipe = "pf-track_petr_v99_320x800"
    detectors = (PetrConfig,)
    code_weights_name = "criterion.code_weights"

    def read(self, published: Mapping[str, Tensor], config: ModelConfig, source: str) -> Conversion:
        """See `Adapter.read`.

        Raises:
            SynclError: also if the file is of PF-Track on DETR3D.
        """
        if _DETR3D_MARK in published:
            raise SynclError(
                f"{source} is of PF-Track on DETR3D (it has {_DETR3D_MARK}), which this format does not "
                "read: the published trackers (f3_all, f3_fullres_all) are on PETR, and its DETR3D encodes "
                "queries from points, unlike the DETR3D here. Train PF-Track on DETR3D here, or convert a "
                "plain DETR3D with --from detr3d"
            )
        return super().read(published, config, source)

    def ignored_for(self, config: ModelConfig, /) -> tuple[Ignored, ...]:
        """See `Adapter.ignored_for`: what only PF-Track's tracker needs is unused by others."""
        ignored: tuple[Ignored, ...] = self.ignored
        if not getattr(config.detector, "learned_contents", False):
            ignored += (
                Ignored(
                    r"query_feat_embedding\.weight",
                    "learned query contents, which the recipe's detector does not have",
                ),
            )
        if not isinstance(config.tracker, PfTrackConfig):
            ignored += (
                Ignored(
                    r"STReasoner\..*", "past and future reasoning, which the recipe's tracker does not have"
                ),
            )
        return ignored

    def parts(self, config: ModelConfig, /) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        head = Part((*TRANSFORMER, *branch_rules(MMDET3D_0_CODE, branches_shared(config))))
        reasoning = REASONING if isinstance(config.tracker, PfTrackConfig) else ()
        return head, Part(TRACKER_QUERIES, published=""), *reasoning

    def lacking(self, names: Iterable[str]) -> list[str]:
        """See `Adapter.lacking`: reasoning has its entries, too."""
        names = tuple(names)
        return super().lacking(names) + [name for name in names if name.startswith(_REASONING_PARTS)]
