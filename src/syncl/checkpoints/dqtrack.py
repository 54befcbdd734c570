"""Checkpoints of DQTrack (NVlabs/DQTrack) on PETRv2 or DETR3D: the detector's entries, and the association's.

Names and shapes alone were looked at; the original's code and weights are not for commercial use.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor
from typing_extensions import override

from syncl.checkpoints import detr3d, petrv2
from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Ignored, Rule
from syncl.checkpoints.names import AFFINE, ATTENTION, TRAINING_CONSTANTS
from syncl.detectors import Detr3dConfig, Petrv2Config
from syncl.trackers.model import ModelConfig


def _residual(ours: str, published: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{ours}\.expand\.{AFFINE}", rf"{published}.linear1.\1"),
        Rule(rf"{ours}\.contract\.{AFFINE}", rf"{published}.linear2.\1"),
        Rule(rf"{ours}\.norm\.{AFFINE}", rf"{published}.norm.\1"),
    )


ASSOCIATION: tuple[Rule, ...] = (
    *_residual("track_branch", "tracklet_trans"),
    *_residual("object_branch", "detector_trans"),
    Rule(rf"attention\.{ATTENTION}", r"query_inter.self_attn.\1"),
    Rule(rf"attention_norm\.{AFFINE}", r"query_inter.norm1.\1"),
    *_residual("feed_forward", "query_inter.ffn"),
    Rule(rf"distance_embedding\.{AFFINE}", r"rel_dist_embed.0.\1"),
    *_residual("distance_branch", "rel_dist_embed.1"),
    Rule(rf"affinity\.{AFFINE}", r"embed_trans.\1"),
)
_PUBLISHED = {
    False: ("PETRv2", "dqtrack_petrv2_v99_320x800"),
    True: ("DETR3D", "dqtrack_detr3d_r101_900x1600"),
}
_HEADS = {Petrv2Config: petrv2.HEAD, Detr3dConfig: detr3d.HEAD}


class DqTrackAdapter(Adapter):
    """DQTrack as a whole, on either of its detectors that are here."""

    name = "dqtrack"
    title = "DQTrack on PETRv2 or DETR3D"
    recipe = "dqtrack_petrv2_v99_320x800"
    detectors = tuple(_HEADS)
    ignored = (
        TRAINING_CONSTANTS,
        Ignored(r"zero_val\.weight", "a parameter of the original without any function"),
    )

    def parts(self, config: ModelConfig) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        return Part(_HEADS[type(config.detector)]), Part(ASSOCIATION, "association.", "")

    def lacking(self, names: Iterable[str]) -> list[str]:
        """See `Adapter.lacking`: the association has its entries, too."""
        names = tuple(names)
        return super().lacking(names) + [name for name in names if name.startswith("association.")]

    @override
    def advice(self, published: Mapping[str, Tensor], config: ModelConfig, /) -> str:
        if "query_embed_det.weight" in published:
            return "; it is DQTrack on UVTR or BEVStereo, detectors that are not here"
        on_detr3d = "pts_bbox_head.query_embedding.weight" in published
        if on_detr3d == isinstance(config.detector, Detr3dConfig):
            return ""
        name, recipe = _PUBLISHED[on_detr3d]
        return f"; it is DQTrack on {name}: choose --recipe {recipe}"
