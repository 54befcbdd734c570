"""Images to feature maps: normaliser, backbone and neck, all cameras in one batch."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from syncl.backbones import BackboneConfig, NeckConfig
from syncl.errors import SynclError
from syncl.layers.grid_mask import GridMask
from syncl.layers.normaliser import NormaliserConfig
from syncl.structures import Frame


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Backbone, neck and pixel statistics of a detector.

    Attributes:
        backbone: the image backbone.
        neck: the feature pyramid; its output channels are the detector's feature channels.
        normaliser: pixel mean, deviation and channel order.
        grid_mask: probability of masking a training image batch with a grid (0 = never).
    """

    backbone: BackboneConfig
    neck: NeckConfig
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    grid_mask: float = 0.0

    def build(self) -> "ImageEncoder":
        """Build the module."""
        return ImageEncoder(self)


class ImageEncoder(nn.Module):
    """Images [B, C, 3, H, W] to pyramid levels [B, C, D, H / stride, W / stride], finest first."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.normaliser = config.normaliser.build()
        self.grid_mask = GridMask(config.grid_mask) if config.grid_mask > 0 else None
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(self.backbone.channels, self.backbone.strides)
        self.strides = self.neck.strides

    def forward(self, frame: Frame) -> tuple[Tensor, ...]:
        """Feature levels of all cameras.

        Raises:
            SynclError: if the image size is not divisible by the finest stride.
        """
        height, width = frame.image_size
        finest = self.strides[0]
        if height % finest or width % finest:
            raise SynclError(
                f"images of {height} x {width} pixels cannot be used: "
                f"both sides must be divisible by {finest}"
            )
        images = self.normaliser(frame.images)
        if self.training and self.grid_mask is not None:
            images = self.grid_mask(images)
        streams, cameras = images.shape[:2]
        levels = self.neck(self.backbone(images.flatten(0, 1)))
        return tuple(level.unflatten(0, (streams, cameras)) for level in levels)
