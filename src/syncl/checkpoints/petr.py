"""Checkpoints of PETR, the first version (megvii-research/PETR, `PETRHead`)."""

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Rule
from syncl.checkpoints.names import AFFINE, DECODER_LAYERS, TOKEN_ATTENTION, TOKEN_ENCODERS, branch_rules
from syncl.detectors import PetrConfig, StreamPetrConfig
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
    detectors = (PetrConfig,)

    def parts(self, config: ModelConfig, /) -> tuple[Part, ...]:
        """See `Adapter.parts`."""
        return (Part((*TRANSFORMER, *QUERIES, *branch_rules(MMDET3D_0_CODE, branches_shared(config)))),)


def branches_shared(config: ModelConfig) -> bool:
    """Whether one class and one box branch serve all layers of a model of PETR's family."""
    return isinstance(config.detector, PetrConfig | StreamPetrConfig) and config.detector.shared_branches
