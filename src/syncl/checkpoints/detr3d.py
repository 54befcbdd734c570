"""Checkpoints of DETR3D (WangYueFt/detr3d)."""

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import Rule
from syncl.checkpoints.names import AFFINE, DECODER_LAYERS, SAMPLING_ATTENTION, branch_rules
from syncl.detectors import Detr3dConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE

HEAD: tuple[Rule, ...] = (
    *DECODER_LAYERS,
    *SAMPLING_ATTENTION,
    *branch_rules(MMDET3D_0_CODE, shared=False),
    # Positional half first, content half second, there as here.
    Rule(r"query_embedding\.weight", "query_embedding.weight"),
    Rule(rf"reference_points\.{AFFINE}", r"transformer.reference_points.\1"),
)


class Detr3dAdapter(Adapter):
    """DETR3D's detector: backbone, neck and head."""

    name = "detr3d"
    title = "DETR3D detector"
    recipe = "detr3d_r101_900x1600"
    detectors = (Detr3dConfig,)
    head = (Part(HEAD),)
