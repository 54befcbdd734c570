"""Names of backbone and neck parameters in published checkpoints, and ours.

All functions are pure and strict: they take the names found below the backbone's (or neck's) prefix and
return {published name: our name}, or raise for the first name they do not know. `published_vovnet_names` goes
the other way; ResNet and FPN names are the same on both sides.
"""

import re
from collections.abc import Iterable

from syncl.errors import SynclError

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_AFFINE = r"(?:weight|bias)"
_RESNET = re.compile(
    rf"conv1\.weight|bn1\.{_NORM}"
    rf"|layer\d+\.\d+\.(?:conv\d\.weight|bn\d\.{_NORM}|downsample\.(?:0\.weight|1\.{_NORM})"
    rf"|conv2\.conv_offset\.{_AFFINE})"
)
_OLD_OFFSET = re.compile(rf"(layer\d+\.\d+\.conv2)_offset\.({_AFFINE})")
_FPN = re.compile(rf"(?:lateral|fpn)_convs\.\d+\.(?:conv\.{_AFFINE}|bn\.{_NORM})")
_PUBLISHED_STEM = re.compile(rf"stem\.stem_(\d+)/(conv\.weight|norm\.{_NORM})")
_PUBLISHED_LAYER = re.compile(
    rf"stage(\d+)\.OSA\1_(\d+)\.(?:layers\.(\d+)\.OSA\1_\2_\3|concat\.OSA\1_\2_concat)"
    rf"/(conv\.weight|norm\.{_NORM})"
)
_PUBLISHED_ATTENTION = re.compile(rf"stage(\d+)\.OSA\1_(\d+)\.ese\.fc\.({_AFFINE})")
_OUR_STEM = re.compile(rf"stem\.(\d+)\.(conv\.weight|norm\.{_NORM})")
_OUR_LAYER = re.compile(rf"stage(\d+)\.(\d+)\.(?:layers\.(\d+)|concat)\.(conv\.weight|norm\.{_NORM})")
_OUR_ATTENTION = re.compile(rf"stage(\d+)\.(\d+)\.ese\.fc\.({_AFFINE})")


def resnet_names(names: Iterable[str]) -> dict[str, str]:
    """Map mmdetection or torchvision ResNet names to ours.

    They are equal, but for the deformable offsets of mmdetection before 2.0 (`conv2_offset`).

    Raises:
        SynclError: at a name no ResNet has.
    """
    mapping = {}
    for name in names:
        ours = _OLD_OFFSET.sub(r"\1.conv_offset.\2", name)
        if not _RESNET.fullmatch(ours):
            raise _unknown(name, "ResNet", "layer1.0.conv1.weight")
        mapping[name] = ours
    return mapping


def fpn_names(names: Iterable[str]) -> dict[str, str]:
    """Map mmdetection FPN or PETR CP-FPN names to ours (which are equal).

    Raises:
        SynclError: at a name no pyramid has.
    """
    mapping = {}
    for name in names:
        if not _FPN.fullmatch(name):
            raise _unknown(name, "FPN", "lateral_convs.0.conv.weight")
        mapping[name] = name
    return mapping


def vovnet_names(names: Iterable[str]) -> dict[str, str]:
    """Map published VoVNet names (`stage3.OSA3_2.layers.0.OSA3_2_0/conv.weight`) to ours.

    Raises:
        SynclError: at a name no VoVNet has.
    """
    return {name: _our_vovnet_name(name) for name in names}


def published_vovnet_names(names: Iterable[str]) -> dict[str, str]:
    """Map our VoVNet names (`stage3.1.layers.0.conv.weight`) to the published ones.

    Raises:
        SynclError: at a name our VoVNet does not have.
    """
    return {name: _published_vovnet_name(name) for name in names}


def _our_vovnet_name(name: str) -> str:
    if found := _PUBLISHED_STEM.fullmatch(name):
        index, leaf = found.groups()
        return f"stem.{int(index) - 1}.{leaf}"
    if found := _PUBLISHED_LAYER.fullmatch(name):
        stage, block, layer, leaf = found.groups()
        part = "concat" if layer is None else f"layers.{layer}"
        return f"stage{stage}.{int(block) - 1}.{part}.{leaf}"
    if found := _PUBLISHED_ATTENTION.fullmatch(name):
        stage, block, leaf = found.groups()
        return f"stage{stage}.{int(block) - 1}.ese.fc.{leaf}"
    raise _unknown(name, "VoVNet", "stage3.OSA3_2.layers.0.OSA3_2_0/conv.weight")


def _published_vovnet_name(name: str) -> str:
    if found := _OUR_STEM.fullmatch(name):
        index, leaf = found.groups()
        return f"stem.stem_{int(index) + 1}/{leaf}"
    if found := _OUR_LAYER.fullmatch(name):
        stage, block, layer, leaf = found.groups()
        unit = f"OSA{stage}_{int(block) + 1}"
        part = f"concat.{unit}_concat" if layer is None else f"layers.{layer}.{unit}_{layer}"
        return f"stage{stage}.{unit}.{part}/{leaf}"
    if found := _OUR_ATTENTION.fullmatch(name):
        stage, block, leaf = found.groups()
        return f"stage{stage}.OSA{stage}_{int(block) + 1}.ese.fc.{leaf}"
    raise _unknown(name, "VoVNet", "stage3.1.layers.0.conv.weight")


def _unknown(name: str, network: str, example: str) -> SynclError:
    return SynclError(
        f"{name}: no {network} parameter has this name (expected names like {example}); "
        "check that the checkpoint is of this network and that its prefix was removed"
    )
