"""Pixels to network input: channel order, mean and deviation of the weights' training data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class NormaliserConfig:
    """Pixel statistics, given in the channel order the network sees.

    Attributes:
        mean: per channel, 0 to 255. The default is ImageNet's in RGB.
        std: per channel, 0 to 255.
        channel_order: what the network sees; images themselves are always RGB.
    """

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def build(self) -> "ImageNormaliser":
        """Build the module."""
        return ImageNormaliser(self)


class ImageNormaliser(nn.Module):
    """Normalises uint8 RGB images on the device they are on."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NormaliserConfig) -> None:
        super().__init__()
        self.swap = config.channel_order == "bgr"
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[..., 3, H, W] RGB of 0 to 255 to the same shape: floating point, the network's channel order."""
        if self.swap:
            images = images.flip(-3)
        return (images.to(self.mean.dtype) - self.mean) / self.std
