"""Residual stages as BEVDet builds them."""

from torch import nn

from syncl.backbones.resnet import BasicBlock


def residual_stage(channels: int, width: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """Basic blocks, [N, channels, H, W] to [N, width, H / stride, W / stride].

    As published, the first one's shortcut is a 3x3 convolution with a bias and without a norm, always.
    """
    first = BasicBlock(channels, width, stride)
    first.downsample = nn.Conv2d(channels, width, 3, stride, padding=1)
    return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))
