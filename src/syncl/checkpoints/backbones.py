"""Names of VoVNet's parameters in published checkpoints; ResNet and pyramids keep theirs here."""

import re

from syncl.errors import SynclError

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_STEM = re.compile(rf"stem\.(\d+)\.(conv\.weight|norm\.{_NORM})")
_LAYER = re.compile(rf"stage(\d+)\.(\d+)\.(?:layers\.(\d+)|concat)\.(conv\.weight|norm\.{_NORM})")
_ATTENTION = re.compile(r"stage(\d+)\.(\d+)\.ese\.fc\.(weight|bias)")


def published_vovnet_name(name: str) -> str:
    """The published name, such as `stage3.OSA3_2.layers.0.OSA3_2_0/conv.weight`, of one of our VoVNet's.

    Raises:
        SynclError: at a name our VoVNet does not have.
    """
    if found := _STEM.fullmatch(name):
        index, leaf = found.groups()
        return f"stem.stem_{int(index) + 1}/{leaf}"
    if found := _LAYER.fullmatch(name):
        stage, block, layer, leaf = found.groups()
        unit = f"OSA{stage}_{int(block) + 1}"
        part = f"concat.{unit}_concat" if layer is None else f"layers.{layer}.{unit}_{layer}"
        return f"stage{stage}.{unit}.{part}/{leaf}"
    if found := _ATTENTION.fullmatch(name):
        stage, block, leaf = found.groups()
        return f"stage{stage}.OSA{stage}_{int(block) + 1}.ese.fc.{leaf}"
    raise SynclError(
        f"{name}: no VoVNet parameter has this name (expected names like stage3.1.layers.0.conv.weight)"
    )
