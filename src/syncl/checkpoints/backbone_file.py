"""Checkpoints of other networks of which only the image backbone is used, to start a detector from.

Such as the FCOS3D weights that the published detectors start from, or ImageNet's ResNet or ConvNeXt.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from syncl.backbones import ConvNeXtConfig
from syncl.checkpoints.adapter import Adapter
from syncl.checkpoints.convnext import as_timm_names
from syncl.checkpoints.mapping import Conversion, Entry, Ignored
from syncl.checkpoints.names import image_encoder_entries
from syncl.trackers.model import ModelConfig

_PUBLISHED = "img_backbone."
# `backbone.` in mmdetection's own detectors, nothing in a file that holds a backbone alone.
_OTHER = "backbone."
_BARE = re.compile(r"(?:conv1|bn1|layer\d|stem|stage\d|stages|output_norms)\.")
_OURS = "detector.image_encoder.backbone."


class BackboneAdapter(Adapter):
    """The image backbone of any network; everything else of the model is new."""

    name = "backbone"
    title = "image backbone, alone or inside another network"
    recipe = "detr3d_r101_900x1600"
    code_weights = ()
    ignored = (Ignored(rf"(?!{re.escape(_PUBLISHED)}).*", "not the image backbone"),)

    def entries(self, names: Iterable[str], config: ModelConfig) -> list[Entry]:
        """See `Adapter.entries`."""
        entries = image_encoder_entries(names, config.detector.image, _PUBLISHED, "unused.")
        return [entry for entry in entries if entry.ours.startswith(_OURS)]

    def read(self, published: Mapping[str, Tensor], config: ModelConfig, source: str) -> Conversion:
        """See `Adapter.read`; the backbone is found under any of its usual prefixes."""
        if isinstance(config.detector.image.backbone, ConvNeXtConfig):
            published = as_timm_names(
                {
                    name.removeprefix(_PUBLISHED).removeprefix(_OTHER): tensor
                    for name, tensor in published.items()
                }
            )
        return super().read(
            {_with_prefix(name): tensor for name, tensor in published.items()}, config, source
        )

    def lacking(self, names: Iterable[str]) -> list[str]:  # noqa: ARG002
        """Nothing: a backbone file never has more."""
        return []


def _with_prefix(name: str) -> str:
    if name.startswith(_OTHER):
        return _PUBLISHED + name.removeprefix(_OTHER)
    return _PUBLISHED + name if _BARE.match(name) else name
