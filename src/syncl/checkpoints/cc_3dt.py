"""Checkpoints of CC-3DT (SysCV/vis4d): the image network that embeds boxes, and VeloLSTM.

They are files of their own, beside the detector's; names are the same in both releases. Its motion model
numbers boxes x y z h w l yaw; height and length change places here.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor
from typing_extensions import override

from syncl.checkpoints.adapter import Adapter, Part
from syncl.checkpoints.limits import check_finite, model_shapes
from syncl.checkpoints.mapping import Change, Conversion, Entry, Ignored, Rule, read_entries, rule_entries
from syncl.checkpoints.names import AFFINE
from syncl.errors import SynclError
from syncl.trackers import Cc3dtConfig
from syncl.trackers.model import ModelConfig

_ORDER = (0, 1, 2, 5, 4, 3, 6)


# Tensors of other sizes are left to the comparison of shapes, biases have no boxes.
def _rows(tensor: Tensor) -> Tensor:
    return tensor[list(_ORDER)] if len(tensor) == len(_ORDER) else tensor


def _columns(tensor: Tensor) -> Tensor:
    return tensor[:, list(_ORDER)] if tensor.shape[1:] == (len(_ORDER),) else tensor


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

# What Lightning puts before every name of a training checkpoint.
_MODEL = "model."
_APPEARANCE = (
    Part(IMAGE_NETWORK, "appearance.encoder.", ""),
    Part(SIMILARITY_HEAD, "appearance.", "qdtrack_head.similarity_head."),
)
_MOTION = (Part(VELO_LSTM, "motion.network.", ""),)
_OF_APPEARANCE = ("basemodel.", "fpn.", "qdtrack_head.")
_OF_MOTION = ("vel2feat.", "pred_lstm.", "pred2atten.", "conf2feat.", "refine_lstm.", "conf2atten.")


class Cc3dtAdapter(Adapter):
    """Either file of CC-3DT, or both in one; the detector is whatever the recipe has, and new."""

    name = "cc_3dt"
    title = "CC-3DT's image network or VeloLSTM"
    recipe = "cc-3dt_bevformer_r101_900x1600"
    code_weights = ()
    ignored = (
        Ignored(
            r"(?:faster_rcnn_head|bbox_3d_head)\..*",
            "of the detector that the image network was trained with",
        ),
    )

    @override
    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        if not isinstance(config.tracker, Cc3dtConfig):
            raise SynclError(
                f"format {self.name} ({self.title}) is for CC-3DT, the recipe's tracker is a "
                f"{type(config.tracker).__name__.removesuffix('Config')}; choose another --recipe"
            )
        names = tuple(names)
        return [entry for part in (*_APPEARANCE, *_MOTION) for entry in rule_entries(names, *part)]

    @override
    def read(self, published: Mapping[str, Tensor], config: ModelConfig, source: str) -> Conversion:
        """See `Adapter.read`; what the file holds none of is new."""
        if all(name.startswith(_MODEL) for name in published):
            published = {name.removeprefix(_MODEL): tensor for name, tensor in published.items()}
        shapes = model_shapes(config, source)
        entries, wanted = self._complete_entries(shapes, config), []
        for what, setting, ours, theirs in (
            ("an image network", "appearance", "appearance.", _OF_APPEARANCE),
            ("VeloLSTM", "motion", "motion.", _OF_MOTION),
        ):
            if not any(name.startswith(theirs) for name in published):
                continue
            asked = [entry for entry in entries if entry.ours.startswith(ours)]
            if not asked:
                raise SynclError(
                    f"{source} holds {what}, of which the recipe's tracker has none "
                    f"(model.tracker.{setting}); choose another --recipe"
                )
            wanted += asked
        if not wanted:
            raise SynclError(
                f"{source} holds neither CC-3DT's image network (basemodel, fpn, qdtrack_head) nor VeloLSTM "
                f"(vel2feat, pred_lstm, ...); its entries are {', '.join(sorted(published)[:5])}, ..."
            )
        conversion = read_entries(published, wanted, shapes, self.ignored, source)
        check_finite(conversion.weights, source)
        return conversion

    @override
    def lacking(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name.startswith(("appearance.", "motion."))]
