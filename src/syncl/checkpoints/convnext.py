"""ConvNeXt's parameters under the names of those who publish them: its authors, mmpretrain and torchvision.

Ours are timm's (`backbones.convnext`). A classifier's last norm is not the norm of an output: it normalises
means over places. It is left out.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_AFFINE = r"(weight|bias)"
# Stages as published are counted from 0.
_RENAMED = (
    # The authors' own, and mmpretrain's.
    (rf"downsample_layers\.0\.([01])\.{_AFFINE}", r"stem.\1.\2"),
    (rf"downsample_layers\.([1-3])\.([01])\.{_AFFINE}", r"stages.\1.downsample.\2.\3"),
    (rf"stages\.(\d)\.(\d+)\.(?:dwconv|depthwise_conv)\.{_AFFINE}", r"stages.\1.blocks.\2.conv_dw.\3"),
    (rf"stages\.(\d)\.(\d+)\.(?:pwconv|pointwise_conv)([12])\.{_AFFINE}", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
    (rf"stages\.(\d)\.(\d+)\.norm\.{_AFFINE}", r"stages.\1.blocks.\2.norm.\3"),
    (r"stages\.(\d)\.(\d+)\.gamma", r"stages.\1.blocks.\2.gamma"),
)
_OUTPUT_NORM = re.compile(rf"norm([0-3])\.{_AFFINE}")
# torchvision counts stem, stages and what lies between them on.
_FEATURES = re.compile(r"features\.([0-7])\.(\d+)\.(.+)")
_IN_BLOCK = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}


def as_timm_names(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same parameters under timm's names, in the shapes that they have there; others stay as they are."""
    found = {}
    for name, tensor in published.items():
        ours = timm_name(name)
        if ours.startswith("stages.") and ours.endswith(".gamma"):
            tensor = tensor.flatten()
        elif ".mlp.fc" in ours and ours.endswith("weight"):
            # Some have 1x1 convolutions there.
            tensor = tensor.flatten(1)
        found[ours] = tensor
    return found


def timm_name(name: str) -> str:
    """timm's name of a parameter of anybody's ConvNeXt; another name as it is."""
    if found := _FEATURES.fullmatch(name):
        index, block, leaf = int(found[1]), found[2], found[3]
        if index == 0:
            return f"stem.{block}.{leaf}"
        if index % 2 == 0:
            return f"stages.{index // 2}.downsample.{block}.{leaf}"
        place = f"stages.{index // 2}.blocks.{block}"
        if leaf == "layer_scale":
            return f"{place}.gamma"
        number, _, leaf = leaf.removeprefix("block.").partition(".")
        return f"{place}.{_IN_BLOCK.get(number, number)}.{leaf}"
    if found := _OUTPUT_NORM.fullmatch(name):
        return f"output_norms.{int(found[1]) + 1}.{found[2]}"
    for pattern, ours in _RENAMED:
        if matched := re.fullmatch(pattern, name):
            return matched.expand(ours)
    return name
