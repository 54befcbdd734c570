"""Checkpoints of CC-3DT (SysCV/vis4d): the image network that embeds boxes, and VeloLSTM.

Its motion model numbers boxes x y z h w l yaw; height and length change places here.
"""

from torch import Tensor

from syncl.checkpoints.mapping import Change, Rule
from syncl.checkpoints.names import AFFINE

_ORDER = (0, 1, 2, 5, 4, 3, 6)


def _rows(tensor: Tensor) -> Tensor:
    return tensor[list(_ORDER)]


def _columns(tensor: Tensor) -> Tensor:
    return tensor[:, list(_ORDER)] if tensor.dim() == 2 else tensor


BOX_ROWS, BOX_COLUMNS = Change(_rows, _rows), Change(_columns, _columns)
_GATES = r"((?:weight|bias)_(?:ih|hh)_l\d)"

VELO_LSTM: tuple[Rule, ...] = (
    Rule(rf"step_features\.{AFFINE}", r"vel2feat.\1", BOX_COLUMNS),
    Rule(r"score_features\.weight", "conf2feat.weight"),
    Rule(rf"foresight\.{_GATES}", r"pred_lstm.\1"),
    Rule(r"step_weights\.weight", "pred2atten.weight", BOX_ROWS),
    Rule(rf"judgement\.{_GATES}", r"refine_lstm.\1"),
    Rule(r"trust\.weight", "conf2atten.weight", BOX_ROWS),
)

# A convolution and its norm take two of three places there are between the layers here.
SIMILARITY_HEAD: tuple[Rule, ...] = (
    *(Rule(rf"convolutions\.{3 * number}\.weight", f"convs.{number}.weight") for number in range(4)),
    *(Rule(rf"convolutions\.{3 * number + 1}\.{AFFINE}", rf"convs.{number}.norm.\1") for number in range(4)),
    Rule(rf"hidden\.{AFFINE}", r"fcs.0.0.\1"),
    Rule(rf"embedding\.{AFFINE}", r"fc_embed.\1"),
)

# The backbone has torchvision's names there as here.
IMAGE_NETWORK: tuple[Rule, ...] = (
    Rule(r"backbone\.(.*\.num_batches_tracked)", r"basemodel.\1", optional=True),
    Rule(r"backbone\.(.*)", r"basemodel.\1"),
    Rule(rf"neck\.lateral_convs\.(\d)\.conv\.{AFFINE}", r"fpn.inner_blocks.\1.0.\2"),
    Rule(rf"neck\.fpn_convs\.(\d)\.conv\.{AFFINE}", r"fpn.layer_blocks.\1.0.\2"),
)
