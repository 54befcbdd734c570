"""Checkpoints of PF-Track (TRI-ML/PF-Track): its single-frame PETR detectors and its trackers.

PF-Track keeps what makes queries outside the head. A single-frame file (`f1_...`) has no learned query
contents; the tracker's (`f3_...`) has, and past and future reasoning besides.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from syncl.checkpoints.adapter import Adapter, require_detector
from syncl.checkpoints.mapping import Entry, Ignored, Rule, rule_entries
from syncl.checkpoints.names import TRAINING_CONSTANTS, branch_rules, image_encoder_entries
from syncl.checkpoints.petr import QUERIES, TRANSFORMER, branches_shared
from syncl.detectors import PetrConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.trackers.model import ModelConfig

TRACKER_QUERIES: tuple[Rule, ...] = (
    *QUERIES,
    # Zero in a detector, so a model made from a file without it starts out equal.
    Rule(r"query_content\.weight", "query_feat_embedding.weight", optional=True),
)


class PfTrackAdapter(Adapter):
    """The PETR detector inside a PF-Track checkpoint."""

    name = "pf_track"
    title = "PF-Track on PETR"
    recipe = "petr_v99_320x800_q500"
    ignored = (
        TRAINING_CONSTANTS,
        Ignored(
            r"query_feat_embedding\.weight",
            "learned query contents, which the recipe's detector does not have",
        ),
        Ignored(r"STReasoner\..*", "past and future reasoning, which the recipe's tracker does not have"),
    )

    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        """See `Adapter.entries`."""
        require_detector(self, config, PetrConfig)
        names = tuple(names)
        head = (*TRANSFORMER, *branch_rules(MMDET3D_0_CODE, branches_shared(config)))
        return [
            *image_encoder_entries(names, config.detector.image),
            *rule_entries(names, head, "detector.", "pts_bbox_head."),
            *rule_entries(names, TRACKER_QUERIES, "detector.", ""),
        ]

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss' code weights."""
        return {"criterion.code_weights": torch.tensor([1.0] * 8 + [0.2] * 2)}
