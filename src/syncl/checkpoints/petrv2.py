"""Checkpoints of PETRv2 (megvii-research/PETR, `PETRv2Head`).

Their box code has mmdetection3d's old order and heading. Our module puts its task heads' outputs into our
order itself, so only the rows that regress the heading change.
"""

import torch
from torch import Tensor

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.mapping import POINTWISE, Change, Rule
from syncl.checkpoints.names import AFFINE
from syncl.checkpoints.petr import QUERIES, TRANSFORMER
from syncl.detectors import Petrv2Config


def _turn_heading(rows: Tensor) -> Tensor:
    """Rows of the old heading's sin and cos as rows of ours, and back: sin = -cos', cos = -sin'."""
    return torch.stack([-rows[1], -rows[0]])


HEADING = Change(_turn_heading, _turn_heading)

HEAD: tuple[Rule, ...] = (
    *TRANSFORMER,
    *QUERIES,
    Rule(rf"feature_gate\.(reduce|expand)\.{AFFINE}", r"fpe.conv_\1.\2", POINTWISE),
    Rule(rf"class_branches\.(\d+)\.(\d)\.{AFFINE}", r"cls_branches.\1.\2.\3"),
    Rule(rf"box_branches\.(\d+)\.trunk\.0\.{AFFINE}", r"reg_branches.\1.reg_branch.0.\2"),
    Rule(rf"box_branches\.(\d+)\.trunk\.2\.{AFFINE}", r"reg_branches.\1.reg_branch.3.\2"),
    Rule(rf"box_branches\.(\d+)\.heads\.3\.2\.{AFFINE}", r"reg_branches.\1.task_heads.3.2.\2", HEADING),
    Rule(rf"box_branches\.(\d+)\.heads\.(\d)\.(\d)\.{AFFINE}", r"reg_branches.\1.task_heads.\2.\3.\4"),
)


class Petrv2Adapter(Adapter):
    """PETRv2's detector: backbone, neck and head."""

    name = "petrv2"
    title = "PETRv2 detector"
    recipe = "petrv2_v99_320x800"
    detectors = (Petrv2Config,)
    code_weights = (1.0,) * 10
    head = (Part(HEAD),)
