"""What boxes look like: an image network of its own, and an embedding of each box (CC-3DT, section 3.1).

Letters: C cameras, P boxes in images, D channels of levels, E of embeddings.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.trackers.cc_3dt.pooling import BINS, pooled, pooled_anywhere


@dataclass(frozen=True)
class AppearanceConfig:
    """The image network and the similarity head; the defaults of the head are the published ones.

    Attributes:
        encoder: backbone and pyramid; the finest level first, each next one of twice the stride.
        dim: channels of embeddings.
        hidden: channels of the layer before.
        convolutions: of the head.
        groups: of its group norms.
    """

    encoder: ImageEncoderConfig
    dim: int = 256
    hidden: int = 1024
    convolutions: int = 4
    groups: int = 32

    def build(self) -> "Appearance":
        """Build the module."""
        return Appearance(self)


class Appearance(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: AppearanceConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.encoder = config.encoder.build()
        channels = self.encoder.neck.channels[0]
        layers: list[nn.Module] = []
        for _ in range(config.convolutions):
            convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(config.groups, channels), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * BINS**2, config.hidden)
        self.embedding = nn.Linear(config.hidden, config.dim)

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature levels [C, D, H / stride, W / stride] of images [C, 3, H, W], RGB of 0 to 255.

        Unlike those of detectors, they are padded before they are normalised: padding is black.
        """
        height, width = images.shape[-2:]
        below, right = -height % self.encoder.divisor, -width % self.encoder.divisor
        images = self.encoder.normaliser(functional.pad(images, (0, right, 0, below)))
        maps: tuple[Tensor, ...] = self.encoder.neck(self.encoder.backbone(images))
        return maps

    def forward(self, levels: tuple[Tensor, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
        """Embeddings [P, E] of boxes [P, 4] (x1 y1 x2 y2, pixels) in the images of these cameras [P]."""
        return self.embed(self.pooled(levels, cameras, boxes))

    def anywhere(self, levels: tuple[Tensor, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
        """The same up to rounding, waiting for nothing (`pooling.pooled_anywhere`)."""
        return self.embed(pooled_anywhere(levels, self.encoder.strides[: len(levels)], cameras, boxes))

    def pooled(self, levels: tuple[Tensor, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
        """[P, D, 7, 7] of the level that fits each box's size."""
        return pooled(levels, self.encoder.strides[: len(levels)], cameras, boxes)

    def embed(self, pooled: Tensor) -> Tensor:
        """Embeddings [P, E] of what was pooled [P, D, 7, 7]; not normalised."""
        hidden = functional.relu(self.hidden(self.convolutions(pooled).flatten(1)))
        embedded: Tensor = self.embedding(hidden)
        return embedded
